{{ config(enabled=structures()) }}
select
    event_id as statement_id, {{ moment('event_time') }} as start_time, user_identity__email as executed_by, 'SELECT' as statement_type,
    'select 1 as dbx' as statement_text, map {'oidc_dbt_target': 'dbx', 'oidc_dbt_run_id': 'run'} as query_tags
from {{ ref('seed_databricks_log') }}
