select
    event, {{ oidc_dbt_audit.utc(moment('record_time')) }} as record_time, remote_host, session_id, user_name, auth_method,
    iam_auth_guid, application_name
from {{ ref('seed_redshift_logins') }}
