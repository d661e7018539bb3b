{%- set loaded = oidc_dbt_audit.ago(0) %}
select {{ json('record') }} as record, {{ loaded }} as loaded_at from {{ ref('seed_records') }}
union all
select {{ json('record') }} as record, {{ loaded }} as loaded_at from {{ ref('seed_statements') }}
