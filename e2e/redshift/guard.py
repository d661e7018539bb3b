"""Sends statements by Redshift's own driver, each in a session of its own.

Argument: the port. On standard input, a JSON list of statements; on standard
output, a JSON list of what became of each: an error, or "". "rows" has the
driver insert several rows by one call.
"""

import json
import os
import sys

import redshift_connector

ends = []
for sql in json.load(sys.stdin):
    try:
        with redshift_connector.connect(
            host="127.0.0.1", port=int(sys.argv[1]), database="postgres", user="dbt", password=os.environ["PASSWORD"], ssl=False
        ) as connection:
            cursor = connection.cursor()
            if sql == "rows":
                cursor.executemany("insert into facts values (%s)", [[2], [3]])
            else:
                cursor.execute(sql)
            connection.commit()
        ends.append("")
    except Exception as error:
        ends.append(f"{type(error).__name__}: {error}")
json.dump(ends, sys.stdout)
