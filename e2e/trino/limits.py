"""Sends statements to Trino by its own driver, whose session asks for other limits, and says what came of each.

Arguments: the port, the CA's file. On standard input, a JSON list of
statements; on standard output, for each the rows, or the error.
"""

import json
import os
import sys

import trino

port, ca = sys.argv[1:]
connection = trino.dbapi.connect(
    host="127.0.0.1", port=int(port), user="acme", http_scheme="https", verify=ca, catalog="memory", schema="marts",
    auth=trino.auth.JWTAuthentication(os.environ["TOKEN"]), legacy_prepared_statements=True,
    session_properties={"query_max_run_time": "9h", "query_max_scan_physical_bytes": "9PB", "join_distribution_type": "PARTITIONED"},
)
ends = []
for sql in json.load(sys.stdin):
    cursor = connection.cursor()
    try:
        cursor.execute(sql)
        ends.append(json.dumps(cursor.fetchall()))
    except Exception as error:
        ends.append(f"{type(error).__name__}: {error}")
json.dump(ends, sys.stdout)
