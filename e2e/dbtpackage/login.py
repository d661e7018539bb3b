"""Logs in to the warehouse once, with the client that dbt has for it, by the profile of this run."""

import os
import re

import yaml

with open(os.path.join(os.environ["DBT_PROFILES_DIR"], "profiles.yml")) as file:
    profile = yaml.safe_load(file)["shop"]
output = profile["outputs"][os.environ.get("DBT_TARGET", profile.get("target"))]
for key, value in output.items():
    if isinstance(value, str):
        output[key] = re.sub(r"\{\{\s*env_var\(['\"](\w+)['\"].*?\}\}", lambda m: os.environ[m[1]], value)


def postgres():
    import psycopg2

    return psycopg2.connect(
        host=output["host"], port=output["port"], user=output["user"], password=output["password"], dbname=output["dbname"],
        application_name=output.get("application_name", ""), sslmode=output.get("sslmode", "prefer"),
    )


def trino():
    import trino

    return trino.dbapi.connect(
        host=output["host"], port=output["port"], user=output["user"], client_tags=output["client_tags"],
        http_scheme=output.get("http_scheme", "https"), auth=trino.auth.JWTAuthentication(output["jwt_token"]),
        verify=output.get("cert", True),
    )


def clickhouse():
    from clickhouse_connect import dbapi

    return dbapi.connect(host=output["host"], port=output["port"], username=output["user"], password=output["password"])


cursor = {"postgres": postgres, "trino": trino, "clickhouse": clickhouse}[output["type"]]().cursor()
cursor.execute("select 1")
cursor.fetchall()
