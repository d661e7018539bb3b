-- Statements that a guard has recorded, and the query of the warehouse's log with the same text.
with statements as (
    select
        event_key as statement_key, correlation_uid, event_ms, event_at as recorded_at, target, repository, run_id,
        statement_class, statement_decision, statement_sha256
    from {{ ref('stg_oidc_dbt__events') }}
    where statement_class is not null
),

same_text as (
    select
        statements.statement_key as found_key,
        min(queries.query_id) as query_id,
        min(queries.started_at) as query_started_at,
        count(*) as queries
    from statements
    inner join {{ ref('oidc_dbt__queries') }} as queries on queries.query_sha256 = statements.statement_sha256
    where queries.started_at >= {{ oidc_dbt_audit.from_ms('statements.event_ms - ' ~ (var('oidc_dbt_skew_seconds') | int * 1000)) }}
        and queries.started_at <= {{ oidc_dbt_audit.from_ms('statements.event_ms + 3600000') }}
    group by statements.statement_key
)

select
    statements.*,
    nullif(same_text.query_id, '') as query_id,
    case when nullif(same_text.query_id, '') is not null then same_text.query_started_at end as query_started_at,
    coalesce(same_text.queries, 0) as queries
from statements
left join same_text on same_text.found_key = statements.statement_key
