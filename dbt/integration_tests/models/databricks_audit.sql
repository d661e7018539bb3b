{{ config(enabled=structures()) }}
select
    event_id, {{ moment('event_time') }} as event_time, source_ip_address, user_agent, service_name, action_name,
    struct_pack(email := user_identity__email, subject_name := user_identity__subject_name) as user_identity,
    struct_pack(status_code := cast(response__status_code as int)) as response
from {{ ref('seed_databricks_log') }}
