"""Logs in to PostgreSQL once, as dbt would by the profile of this run."""

import os
import re

import psycopg2
import yaml

with open(os.path.join(os.environ["DBT_PROFILES_DIR"], "profiles.yml")) as file:
    profile = yaml.safe_load(file)["shop"]
output = profile["outputs"][os.environ.get("DBT_TARGET", profile.get("target"))]
for key, value in output.items():
    if isinstance(value, str):
        output[key] = re.sub(r"\{\{\s*env_var\(['\"](\w+)['\"].*?\}\}", lambda m: os.environ[m[1]], value)
connection = psycopg2.connect(
    host=output["host"], port=output["port"], user=output["user"], password=output["password"], dbname=output["dbname"],
    application_name=output.get("application_name", ""), sslmode=output.get("sslmode", "prefer"),
)
with connection.cursor() as cursor:
    cursor.execute("select 1")
