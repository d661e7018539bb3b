select session_id, login_event_id from {{ ref('seed_snowflake_sessions') }}
