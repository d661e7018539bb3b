{{ oidc_dbt_audit.union_of_logs('logins', [
    'login_id', 'logged_in_at', 'user_name', 'session_name', 'principal_subject', 'run_id', 'factor', 'factor_id', 'is_secret',
    'client_ip', 'client',
]) }}
