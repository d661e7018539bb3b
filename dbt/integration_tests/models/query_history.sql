select query_id, query_text, query_type, session_id, user_name, query_tag, {{ moment('start_time') }} as start_time
from {{ ref('seed_snowflake_queries') }}
