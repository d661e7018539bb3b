select
    {{ moment('log_time') }} as log_time, user_name, connection_from, session_id, session_line_num, command_tag, error_severity,
    message, application_name
from {{ ref('seed_postgres_log') }}
