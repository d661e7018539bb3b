with events as (
    select * from {{ ref('stg_oidc_dbt__events') }}
    where (activity not in ('Logoff', 'Query') or outcome = 'stopped') and statement_sha256 is null
),

requests as (
    select
        correlation_uid,
        min(event_at) as decided_at,
        max(event_at) as last_event_at,
        max(decision) as decision,
        max(case when activity <> 'Logoff' then outcome end) as recorded_outcome,
        max(case when activity = 'Logoff' then event_at end) as stopped_at,
        max(target) as target,
        max(provider) as provider,
        max(rule_number) as rule_number,
        max(rule_line) as rule_line,
        max(mismatches) as mismatches,
        max(policy_origin) as policy_origin,
        max(policy_sha256) as policy_sha256,
        max(identity_name) as identity_name,
        max(identity_kind) as identity_kind,
        max(issuer) as issuer,
        max(subject) as subject,
        max(repository) as repository,
        max(run_id) as run_id,
        max(run_attempt) as run_attempt,
        max(git_ref) as git_ref,
        max(environment) as environment,
        max(workflow_ref) as workflow_ref,
        max(actor) as actor,
        max(actor_uid) as actor_uid,
        max(actor_kind) as actor_kind,
        max(agent_hint) as agent_hint,
        max(error_class) as error_class,
        max(error_message) as error_message
    from events
    group by correlation_uid
)

select
    requests.*,
    case
        when recorded_outcome is not null then recorded_outcome
        when decision = 'denied' then 'denied'
        when last_event_at > {{ oidc_dbt_audit.ago(var('oidc_dbt_delay_minutes') | int * 60) }} then 'pending'
        else 'unknown' -- the job was killed, or the line was lost: treat it as if a credential had been issued
    end as outcome
from requests
