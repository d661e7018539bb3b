with first_record as (
    select min(event_at) as recorded_since from {{ ref('stg_oidc_dbt__events') }}
),

logins as (
    select logins.*
    from {{ ref('oidc_dbt__logins') }} as logins
    cross join first_record
    where logins.logged_in_at >= first_record.recorded_since
        -- Records and logs are late: what is new may still be matched.
        and logins.logged_in_at <= {{ oidc_dbt_audit.ago(var('oidc_dbt_delay_minutes') | int * 60) }}
        {%- for client in var('oidc_dbt_ignored_clients') or [] %}
        and not {{ oidc_dbt_audit.like_user("lower(coalesce(logins.client, ''))", oidc_dbt_audit.literal(client | lower)) }}
        {%- endfor %}
),

matched as (
    select log_kind, login_id, max(case when factor_fits then 1 else 0 end) as fits
    from {{ ref('oidc_dbt__login_matches') }}
    group by log_kind, login_id
),

unexplained as (
    select
        logins.login_key as login_key,
        logins.log_kind as log_kind,
        logins.login_id as login_id,
        logins.logged_in_at as logged_in_at,
        logins.user_name as user_name,
        logins.factor as factor,
        logins.factor_id as factor_id,
        logins.is_secret as is_secret,
        logins.session_name as session_name,
        logins.principal_subject as principal_subject,
        logins.run_id as run_id,
        logins.client_ip as client_ip,
        logins.client as client,
        nullif(matched.login_id, '') is not null as has_credential
    from logins
    inner join {{ ref('stg_oidc_dbt__watched_logins') }} as watched on watched.log_kind = logins.log_kind and watched.login_id = logins.login_id
    left join matched on matched.log_kind = logins.log_kind and matched.login_id = logins.login_id
    where nullif(matched.login_id, '') is null or matched.fits = 0
),

-- Allowed requests whose job was killed, or whose record is elsewhere: a login that fits one may be its own.
open_requests as (
    select
        events.target as target,
        events.run_id as run_id,
        {{ oidc_dbt_audit.from_ms('events.event_ms - ' ~ (var('oidc_dbt_skew_seconds') | int * 1000)) }} as login_from,
        {{ oidc_dbt_audit.from_ms('events.event_ms + ' ~ (var('oidc_dbt_unknown_minutes') | int * 60000)) }} as login_until
    from {{ ref('stg_oidc_dbt__events') }} as events
    inner join {{ ref('oidc_dbt__decisions') }} as decisions on decisions.correlation_uid = events.correlation_uid
    where events.decision = 'allowed' and decisions.outcome = 'unknown'
),

fits_unknown as (
    select distinct log_kind, login_id from (
        -- AWS: the session's name ends in the run.
        select unexplained.log_kind as log_kind, unexplained.login_id as login_id
        from unexplained
        cross join open_requests
        where unexplained.logged_in_at >= open_requests.login_from and unexplained.logged_in_at <= open_requests.login_until
            and unexplained.session_name like '%:assumed-role/%'
            -- No LIKE: what a record says is not a pattern.
            and {{ dbt.position("'@' || open_requests.run_id || '-'", "unexplained.session_name || '-'") }} > 0
        union all
        select unexplained.log_kind as log_kind, unexplained.login_id as login_id
        from unexplained
        inner join open_requests on open_requests.run_id = unexplained.run_id
        where unexplained.logged_in_at >= open_requests.login_from and unexplained.logged_in_at <= open_requests.login_until
        union all
        -- Elsewhere: by a user that other runs of the target have had, in the way that they log in.
        select unexplained.log_kind as log_kind, unexplained.login_id as login_id
        from unexplained
        cross join open_requests
        inner join {{ ref('oidc_dbt__credentials') }} as credentials on credentials.target = open_requests.target
        where unexplained.logged_in_at >= open_requests.login_from and unexplained.logged_in_at <= open_requests.login_until
            and unexplained.session_name is null and unexplained.run_id is null
            and (credentials.is_secret or not unexplained.is_secret)
            and (
                lower(credentials.warehouse_user) = lower(unexplained.user_name)
                or lower(credentials.warehouse_principal) = lower(unexplained.user_name)
                or credentials.warehouse_principal = unexplained.principal_subject
            )
        union all
        select unexplained.log_kind as log_kind, unexplained.login_id as login_id
        from unexplained
        cross join open_requests
        inner join {{ ref('stg_oidc_dbt__users') }} as users on users.target = open_requests.target
        where unexplained.logged_in_at >= open_requests.login_from and unexplained.logged_in_at <= open_requests.login_until
            and unexplained.session_name is null and unexplained.run_id is null
            and {{ oidc_dbt_audit.like_user('lower(unexplained.user_name)', 'users.user_pattern') }}
    ) as every_fit
)

select
    logins.login_key as login_key,
    logins.log_kind as log_kind,
    logins.login_id as login_id,
    logins.logged_in_at as logged_in_at,
    logins.user_name as user_name,
    logins.factor as factor,
    logins.factor_id as factor_id,
    logins.is_secret as is_secret,
    logins.session_name as session_name,
    logins.principal_subject as principal_subject,
    logins.run_id as run_id,
    logins.client_ip as client_ip,
    logins.client as client,
    case
        when logins.has_credential then 'another_factor'
        when nullif(fits_unknown.login_id, '') is not null then 'unknown_outcome'
        when logins.run_id = '' then 'no_run'
        else 'no_credential'
    end as reason
from unexplained as logins
left join fits_unknown on fits_unknown.log_kind = logins.log_kind and fits_unknown.login_id = logins.login_id
