with migrated as (
    select
        repository,
        min(valid_from) as first_credential_at,
        max(valid_from) as last_credential_at,
        count(distinct coalesce(run_id, correlation_uid)) as runs
    from {{ ref('oidc_dbt__credentials') }}
    group by repository
),

stored as (
    {%- if var('oidc_dbt_inventory') %}
    select distinct
        repository,
        lower({{ oidc_dbt_audit.text('stored_user') }}) as stored_user,
        coalesce({{ oidc_dbt_audit.text('key_id') }}, '') as key_id
    from {{ source('oidc_dbt_own', 'inventory') }}
    {%- else %}
    -- Without a list of what is stored where: the users that a repository has had credentials for.
    select distinct repository, lower(warehouse_user) as stored_user, '' as key_id
    from {{ ref('oidc_dbt__credentials') }}
    where warehouse_user is not null and not is_secret
    union all
    select distinct credentials.repository as repository, users.user_pattern as stored_user, '' as key_id
    from {{ ref('oidc_dbt__credentials') }} as credentials
    inner join {{ ref('stg_oidc_dbt__users') }} as users on users.target = credentials.target
    where credentials.warehouse_user is null or lower(credentials.warehouse_user) <> users.user_pattern
    {%- endif %}
),

repositories as (
    select distinct repository from (
        select repository from migrated
        union all
        select repository from stored
    ) as every_repository
),

-- A password or key is used by a login that no recorded credential explains. Where the log does not say how a login was
-- authenticated (Trino's), it may have been.
key_logins as (
    select logins.log_kind as log_kind, logins.login_id as login_id, lower(logins.user_name) as user_name,
        logins.factor_id as factor_id, logins.logged_in_at as logged_in_at
    from {{ ref('oidc_dbt__logins') }} as logins
    left join (
        select distinct log_kind, login_id from {{ ref('oidc_dbt__login_matches') }} where factor_fits
    ) as matched on matched.log_kind = logins.log_kind and matched.login_id = logins.login_id
    where (logins.is_secret or nullif(logins.factor, '') is null) and nullif(matched.login_id, '') is null
),

last_use as (
    select
        stored.repository as repository, stored.stored_user as stored_user, stored.key_id as key_id, count(*) as key_logins,
        max(key_logins.logged_in_at) as last_key_login_at
    from stored
    cross join key_logins
    where {{ oidc_dbt_audit.like_user('key_logins.user_name', 'stored.stored_user') }}
        and (stored.key_id = '' or stored.key_id = key_logins.factor_id)
    group by stored.repository, stored.stored_user, stored.key_id
),

-- Repositories that still need a key, because they have no credential of their own yet.
waiting as (
    select stored.stored_user as stored_user, stored.key_id as key_id, count(*) as repositories_waiting
    from stored
    left join migrated on migrated.repository = stored.repository
    where nullif(migrated.repository, '') is null
    group by stored.stored_user, stored.key_id
),

fleet as (
    select
        repositories.repository as repository,
        nullif(stored.stored_user, '') as stored_user,
        nullif(stored.key_id, '') as key_id,
        nullif(migrated.repository, '') is not null as is_migrated,
        case when nullif(migrated.repository, '') is not null then migrated.first_credential_at end as first_credential_at,
        case when nullif(migrated.repository, '') is not null then migrated.last_credential_at end as last_credential_at,
        coalesce(migrated.runs, 0) as runs,
        coalesce(last_use.key_logins, 0) as key_logins,
        case when coalesce(last_use.key_logins, 0) > 0 then last_use.last_key_login_at end as last_key_login_at,
        coalesce(waiting.repositories_waiting, 0) as repositories_waiting
    from repositories
    left join stored on stored.repository = repositories.repository
    left join migrated on migrated.repository = repositories.repository
    left join last_use
        on last_use.repository = stored.repository and last_use.stored_user = stored.stored_user and last_use.key_id = stored.key_id
    left join waiting on waiting.stored_user = stored.stored_user and waiting.key_id = stored.key_id
)

select
    repository || ':' || coalesce(stored_user, '') || ':' || coalesce(key_id, '') as fleet_key,
    fleet.*,
    case
        when not is_migrated then 'migrate'
        when stored_user is null then 'done'
        when repositories_waiting > 0 then 'migrate the others'
        when key_logins > 0 and last_key_login_at >= {{ oidc_dbt_audit.ago(var('oidc_dbt_quiet_days') | int * 86400) }} then 'still used'
        else 'delete now'
    end as advice
from fleet
