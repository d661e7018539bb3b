{{ config(enabled=oidc_dbt_audit.reads('trino')) }}
{%- set event = var('oidc_dbt_trino_column') %}

-- The HTTP event listener's events: https://trino.io/docs/current/admin/event-listeners-http.html
-- Trino has no sessions: each query is a login. The product puts `run=ID` into the client tags.
with queries as (
    select
        {{ oidc_dbt_audit.json_text(event, ['metadata', 'queryId']) }} as query_id,
        {{ oidc_dbt_audit.json_text(event, ['createTime']) }} as create_time,
        {{ oidc_dbt_audit.json_text(event, ['context', 'user']) }} as user_name,
        {{ oidc_dbt_audit.json_part(event, ['context', 'clientTags']) }} as client_tags,
        {{ oidc_dbt_audit.json_text(event, ['context', 'remoteClientAddress']) }} as client_ip,
        {{ oidc_dbt_audit.json_text(event, ['context', 'source']) }} as client
    from {{ source('oidc_dbt_trino', 'events') }}
)

select
    query_id as login_id,
    {{ oidc_dbt_audit.from_iso('min(create_time)') }} as logged_in_at,
    min(user_name) as user_name,
    {{ oidc_dbt_audit.text_null() }} as session_name,
    {{ oidc_dbt_audit.text_null() }} as principal_subject,
    {%- if var('oidc_dbt_trino_require_run') %}
    {{ oidc_dbt_audit.text('coalesce(min(' ~ oidc_dbt_audit.between_marks('client_tags', '"run=', '"') ~ "), '')") }} as run_id,
    {%- else %}
    {{ oidc_dbt_audit.text('min(' ~ oidc_dbt_audit.between_marks('client_tags', '"run=', '"') ~ ')') }} as run_id,
    {%- endif %}
    {{ oidc_dbt_audit.text_null() }} as factor, -- Trino does not say how it authenticated
    {{ oidc_dbt_audit.text_null() }} as factor_id,
    1 = 0 as is_secret,
    min(client_ip) as client_ip,
    min(client) as client
from queries
where query_id is not null and {{ oidc_dbt_audit.recent(oidc_dbt_audit.from_iso('create_time')) }}
group by query_id
