"""Prints what the package says of each login: its key, user, time, and why no record explains it."""

import json

import duckdb

audit = duckdb.connect("shop.duckdb", read_only=True)
logins = audit.sql("""
    select logins.factor_id as key, logins.user_name as user, strftime(logins.logged_in_at, '%H:%M:%S') as at,
        logins.client as client, coalesce(unmatched.reason, '') as reason,
        exists (select 1 from audit.oidc_dbt__login_matches as m where m.login_key = logins.login_key) as matched
    from audit.oidc_dbt__logins as logins
    left join audit.oidc_dbt__unmatched_logins as unmatched using (login_key)
    order by logins.logged_in_at
""")
print(json.dumps([dict(zip(logins.columns, row)) for row in logins.fetchall()]))
