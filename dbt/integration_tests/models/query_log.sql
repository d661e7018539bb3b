{{ config(enabled=(target.type != 'snowflake')) }}
select
    {{ adapter.quote('type') }}, query_id, {{ moment('event_time_microseconds') }} as event_time_microseconds,
    {{ adapter.quote('user') }}, query_kind, query
from {{ ref('seed_clickhouse_queries') }}
