select {{ json('event') }} as event from {{ ref('seed_trino_events') }}
