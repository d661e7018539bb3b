select
    event_id, {{ moment('event_timestamp') }} as event_timestamp, user_name, client_ip, reported_client_type,
    first_authentication_factor, first_authentication_factor_id, is_success
from {{ ref('seed_snowflake_logins') }}
