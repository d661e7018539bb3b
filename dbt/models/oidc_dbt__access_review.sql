with decisions as (
    select * from {{ ref('oidc_dbt__decisions') }} where decision is not null and target is not null
),

grants as (
    select
        target,
        coalesce(identity_name, '') as identity_name,
        coalesce(repository, '') as repository,
        coalesce(rule_number, 0) as rule_number,
        max(provider) as provider,
        max(identity_kind) as identity_kind,
        max(rule_line) as rule_line,
        max(policy_origin) as policy_origin,
        count(distinct policy_sha256) as policies,
        count(distinct actor) as actors,
        sum(case when decision = 'allowed' then 1 else 0 end) as allowed_requests,
        sum(case when decision = 'denied' then 1 else 0 end) as denied_requests,
        sum(case when outcome in ('issued', 'renewed') then 1 else 0 end) as credentials_issued,
        sum(case when outcome = 'unknown' then 1 else 0 end) as unknown_outcomes,
        sum(case when actor_kind = 'agent' or agent_hint is not null then 1 else 0 end) as agent_requests,
        min(decided_at) as first_used_at,
        max(decided_at) as last_used_at
    from decisions
    group by target, coalesce(identity_name, ''), coalesce(repository, ''), coalesce(rule_number, 0)
){% if var('oidc_dbt_reviews') %},

reviews as (
    select target, rule_number, max(reviewed_at) as reviewed_at, max(reviewer) as reviewer
    from {{ ref(var('oidc_dbt_reviews')) }}
    group by target, rule_number
){% endif %}

select
    grants.*,
    last_used_at < {{ oidc_dbt_audit.ago(var('oidc_dbt_unused_days') | int * 86400) }} as is_unused,
    {%- if var('oidc_dbt_reviews') %}
    nullif(reviews.reviewer, '') as reviewer,
    case when nullif(reviews.reviewer, '') is not null then cast(reviews.reviewed_at as {{ dbt.type_timestamp() }}) end as reviewed_at,
    grants.rule_number > 0 and (
        nullif(reviews.reviewer, '') is null
        or cast(reviews.reviewed_at as {{ dbt.type_timestamp() }}) < cast({{ oidc_dbt_audit.ago(var('oidc_dbt_review_days') | int * 86400) }} as {{ dbt.type_timestamp() }})
    ) as is_review_due
    {%- else %}
    {{ oidc_dbt_audit.text_null() }} as reviewer,
    {{ oidc_dbt_audit.text_null() }} as reviewed_at,
    grants.rule_number > 0 as is_review_due
    {%- endif %}
from grants
{%- if var('oidc_dbt_reviews') %}
left join reviews on reviews.target = grants.target and reviews.rule_number = grants.rule_number
{%- endif %}
