"""Logs in as often as asked, by the variables that schemachange and snow pass on to the connector."""

import os
import sys
import time

import snowflake.connector

KEYS = ("account", "user", "role", "host", "port", "protocol", "authenticator", "workload_identity_provider", "token", "token_file_path")
for i in range(int(sys.argv[1])):
    if i > 0:
        time.sleep(31)  # longer than a token lives
    found = {key: os.environ["SNOWFLAKE_" + key.upper()] for key in KEYS if "SNOWFLAKE_" + key.upper() in os.environ}
    connection = snowflake.connector.connect(**found)
    print(found["authenticator"], connection.cursor().execute("select 1").fetchone()[0])
    connection.close()
