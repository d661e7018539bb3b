{{ config(enabled=(target.type != 'snowflake')) }}
select
    {{ adapter.quote('type') }}, auth_id, {{ moment('event_time_microseconds') }} as event_time_microseconds,
    {{ adapter.quote('user') }}, auth_type, client_address, interface
from {{ ref('seed_clickhouse_logins') }}
