select
    login_id, {{ oidc_dbt_audit.utc(moment('logged_in_at')) }} as logged_in_at, user_name, session_name, principal_subject, run_id, factor, factor_id,
    is_secret = 'true' as is_secret, client_ip, client
from {{ ref('seed_own_logins') }}
