"""Sends statements to Snowflake by its own connector, and says what became of each.

Argument: the port. On standard input, a JSON list of statements, each with how
many statements the connector is to say that there are.
"""

import json
import os
import sys

import snowflake.connector

ends = []
connection = snowflake.connector.connect(
    authenticator="oauth", token=os.environ["TOKEN"], account="acme-prod", host="127.0.0.1", port=int(sys.argv[1]), protocol="http",
    user="DBT_PROD", role="TRANSFORMER", database="ANALYTICS", warehouse="W", schema="MARTS",
)
for sql, count in json.load(sys.stdin):
    try:
        cursor = connection.cursor()
        if count == "ast":
            cursor.execute(sql, _dataframe_ast="CgQ=")
        elif count == "async":
            cursor.execute_async(sql)
        elif count == "describe":
            cursor.describe(sql)
        else:
            cursor.execute(sql, num_statements=count)
        ends.append("")
    except Exception as error:
        ends.append(f"{type(error).__name__} {getattr(error, 'sqlstate', '')}: {error}")
json.dump(ends, sys.stdout)
