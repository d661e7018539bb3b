{{ config(enabled=oidc_dbt_audit.reads('bigquery')) }}

-- A log sink's table of data access: https://docs.cloud.google.com/bigquery/docs/reference/auditlogs
-- BigQuery has no sessions: each job is a login.
select
    {{ oidc_dbt_audit.text('insertid') }} as login_id,
    {{ oidc_dbt_audit.utc('timestamp') }} as logged_in_at,
    {{ oidc_dbt_audit.text('coalesce(protopayload_auditlog.authenticationinfo.principalemail, protopayload_auditlog.authenticationinfo.principalsubject)') }} as user_name,
    {{ oidc_dbt_audit.text_null() }} as session_name,
    {{ oidc_dbt_audit.text("case when protopayload_auditlog.authenticationinfo.principalsubject like 'principal://%' then protopayload_auditlog.authenticationinfo.principalsubject end") }} as principal_subject,
    {{ oidc_dbt_audit.text_null() }} as run_id,
    case when coalesce(protopayload_auditlog.authenticationinfo.serviceaccountkeyname, '') <> '' then 'service_account_key' else 'token' end as factor,
    {{ oidc_dbt_audit.text(oidc_dbt_audit.between_marks('protopayload_auditlog.authenticationinfo.serviceaccountkeyname', '/keys/', '/')) }} as factor_id,
    coalesce(protopayload_auditlog.authenticationinfo.serviceaccountkeyname, '') <> '' as is_secret,
    {{ oidc_dbt_audit.text('protopayload_auditlog.requestmetadata.callerip') }} as client_ip,
    {{ oidc_dbt_audit.text('protopayload_auditlog.requestmetadata.callersupplieduseragent') }} as client
from {{ source('oidc_dbt_bigquery_log', 'data_access') }}
where protopayload_auditlog.servicename = 'bigquery.googleapis.com'
    and protopayload_auditlog.methodname in ('google.cloud.bigquery.v2.JobService.InsertJob', 'google.cloud.bigquery.v2.JobService.Query')
    and {{ oidc_dbt_audit.recent(oidc_dbt_audit.utc('timestamp')) }}
