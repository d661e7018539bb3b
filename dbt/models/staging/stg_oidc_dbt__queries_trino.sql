{{ config(enabled=oidc_dbt_audit.reads('trino')) }}
{%- set event = var('oidc_dbt_trino_column') %}

with queries as (
    select
        {{ oidc_dbt_audit.json_text(event, ['metadata', 'queryId']) }} as query_id,
        {{ oidc_dbt_audit.json_text(event, ['createTime']) }} as create_time,
        {{ oidc_dbt_audit.json_text(event, ['context', 'user']) }} as user_name,
        {{ oidc_dbt_audit.json_part(event, ['context', 'clientTags']) }} as client_tags,
        {{ oidc_dbt_audit.json_text(event, ['context', 'queryType']) }} as query_type,
        {{ oidc_dbt_audit.json_text(event, ['metadata', 'query']) }} as query_text
    from {{ source('oidc_dbt_trino', 'events') }}
)

select
    query_id,
    {{ oidc_dbt_audit.from_iso('min(create_time)') }} as started_at,
    min(user_name) as user_name,
    query_id as login_id,
    {{ oidc_dbt_audit.text('min(' ~ oidc_dbt_audit.between_marks('client_tags', '"target=', '"') ~ ')') }} as target,
    {{ oidc_dbt_audit.text('min(' ~ oidc_dbt_audit.between_marks('client_tags', '"run=', '"') ~ ')') }} as run_id,
    min(query_type) as query_type,
    {{ oidc_dbt_audit.sha256('min(query_text)') }} as query_sha256
from queries
where query_id is not null and {{ oidc_dbt_audit.recent(oidc_dbt_audit.from_iso('create_time')) }}
group by query_id
