{{ config(enabled=structures()) }}
select
    insertid as job_id, {{ moment('"timestamp"') }} as creation_time, principalemail as user_email, 'SELECT' as statement_type,
    'select 1 as bq' as query, [struct_pack("key" := 'oidc_run_id', "value" := 'run')] as labels
from {{ ref('seed_bigquery_log') }}
