select
    query_id, {{ oidc_dbt_audit.utc(moment('started_at')) }} as started_at, user_name, login_id, target, run_id, query_type, query_sha256
from {{ ref('seed_own_queries') }}
