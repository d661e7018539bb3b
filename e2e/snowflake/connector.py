"""What dbt's connector does besides statements, through the profile that oidc-dbt wrote."""

import os
import sys

import snowflake.connector
import yaml

with open(os.path.join(os.environ["DBT_PROFILES_DIR"], "profiles.yml")) as f:
    output = yaml.safe_load(f)["shop"]["outputs"]["prod"]
folder = sys.argv[1]
connection = snowflake.connector.connect(
    authenticator="oauth",  # what dbt makes of `jwt`
    token=os.environ["DBT_ENV_SECRET_OIDC_TOKEN"],
    **{key: output[key] for key in ("account", "host", "port", "protocol", "role", "database", "warehouse", "schema")},
)
cursor = connection.cursor()

cursor.execute(f"put file://{folder}/up.csv @stage auto_compress=false")
print("put", cursor.fetchone()[6])
cursor.execute(f"get @stage/up.csv file://{folder}/down")
print("get", cursor.fetchone()[2], open(f"{folder}/down/up.csv").read().strip())

print("chunks", sum(row[0] for row in cursor.execute("select chunks")))
print("inline", len(cursor.execute("select range as n, 'a row of some length, so that there is something to send' as text from range(100000)").fetchall()))

cursor.execute("select 'the end'")  # of the session token
print("renewed", cursor.execute("select 1").fetchone()[0])

try:
    cursor.execute("select forever", timeout=1)
except snowflake.connector.errors.ProgrammingError as error:
    print("cancelled", error.errno)
print("after", cursor.execute("select 2").fetchone()[0])
connection.close()
