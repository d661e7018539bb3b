with decisions as (
    select
        target as asked_target, coalesce(identity_name, '') as asked_identity, coalesce(repository, '') as asked_repository,
        coalesce(rule_number, 0) as matched_rule, -- 0: none matched
        provider as asked_provider, identity_kind as asked_kind, rule_line as matched_line, policy_origin as read_policy, policy_sha256,
        actor, actor_kind, agent_hint, decision, outcome, decided_at
    from {{ ref('oidc_dbt__decisions') }}
    where decision is not null and target is not null
),

grants as (
    select
        asked_target as target,
        asked_identity as identity_name,
        asked_repository as repository,
        matched_rule as rule_number,
        max(asked_provider) as provider,
        max(asked_kind) as identity_kind,
        max(matched_line) as rule_line,
        max(read_policy) as policy_origin,
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
    group by asked_target, asked_identity, asked_repository, matched_rule
){% if var('oidc_dbt_reviews') %},

reviews as (
    select target as reviewed_target, cast(rule_number as {{ dbt.type_bigint() }}) as reviewed_rule, max(reviewed_at) as last_reviewed_at, max(reviewer) as last_reviewer
    from {{ source('oidc_dbt_own', 'reviews') }}
    group by target, cast(rule_number as {{ dbt.type_bigint() }})
){% endif %}

select
    target || ':' || identity_name || ':' || repository || ':' || {{ oidc_dbt_audit.text('rule_number') }} as review_key,
    grants.*,
    last_used_at < {{ oidc_dbt_audit.ago(var('oidc_dbt_unused_days') | int * 86400) }} as is_unused,
    {%- if var('oidc_dbt_reviews') %}
    nullif(reviews.last_reviewer, '') as reviewer,
    case when nullif(reviews.last_reviewer, '') is not null then cast(reviews.last_reviewed_at as {{ dbt.type_timestamp() }}) end as reviewed_at,
    grants.rule_number > 0 and (
        nullif(reviews.last_reviewer, '') is null
        or cast(reviews.last_reviewed_at as {{ dbt.type_timestamp() }}) < cast({{ oidc_dbt_audit.ago(var('oidc_dbt_review_days') | int * 86400) }} as {{ dbt.type_timestamp() }})
    ) as is_review_due
    {%- else %}
    {{ oidc_dbt_audit.text_null() }} as reviewer,
    {{ oidc_dbt_audit.text_null() }} as reviewed_at,
    grants.rule_number > 0 as is_review_due
    {%- endif %}
from grants
{%- if var('oidc_dbt_reviews') %}
left join reviews on reviews.reviewed_target = grants.target and reviews.reviewed_rule = grants.rule_number
{%- endif %}
