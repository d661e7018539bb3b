{{ config(materialized='view') }}
{{ oidc_dbt_audit.union_of_logs('queries', [
    'query_id', 'started_at', 'user_name', 'login_id', 'target', 'run_id', 'query_type', 'query_sha256',
]) }}
