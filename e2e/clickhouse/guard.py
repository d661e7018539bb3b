"""Sends statements to ClickHouse by its own driver, and says what became of each.

Argument: the port. On standard input, a JSON list of statements; "insert" is
the driver's own way to insert rows.
"""

import json
import os
import sys

import clickhouse_connect

ends = []
for sql in json.load(sys.stdin):
    try:
        client = clickhouse_connect.get_client(host="127.0.0.1", port=int(sys.argv[1]), username="dbt", password=os.environ["PASSWORD"], compress=False)
        if sql == "insert":
            client.insert("marts.facts", [[5]], column_names=["n"])
        else:
            client.command(sql)
        ends.append("")
    except Exception as error:
        ends.append(f"{type(error).__name__}: {error}")
json.dump(ends, sys.stdout)
