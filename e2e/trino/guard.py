"""Sends statements to Trino by its own driver, and says what became of each.

Arguments: the port, the CA's file, how values are bound. On standard input, a
JSON list of statements with their values.
"""

import json
import os
import sys

import trino

port, ca, legacy = sys.argv[1:]
ends = []
for sql, values in json.load(sys.stdin):
    connection = trino.dbapi.connect(
        host="127.0.0.1", port=int(port), user="acme", http_scheme="https", verify=ca, catalog="memory", schema="marts",
        auth=trino.auth.JWTAuthentication(os.environ["TOKEN"]), legacy_prepared_statements={"true": True, "false": False, "none": None}[legacy],
    )
    cursor = connection.cursor()
    try:
        cursor.execute(sql, values) if values else cursor.execute(sql)
        cursor.fetchall()
        ends.append("")
    except Exception as error:
        ends.append(f"{type(error).__name__}: {error}")
json.dump(ends, sys.stdout)
