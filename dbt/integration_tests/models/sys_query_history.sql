select
    session_id as query_id, {{ oidc_dbt_audit.utc(moment('record_time')) }} as start_time, user_name as username,
    'oidc-dbt target=rs' as query_label, 'SELECT' as query_type, 'select 1 as rs' as query_text
from {{ ref('seed_redshift_logins') }}
where event = 'authenticated'
