"""Holds three sessions through the proxy that the profile leads to: one that
sleeps, one that is idle, and one that is idle in a transaction. Each says how
it ended, and the program goes on until it is ended itself."""

import os
import threading
import time

import psycopg2
import yaml

with open(os.path.join(os.environ["DBT_PROFILES_DIR"], "profiles.yml")) as file:
    output = yaml.safe_load(file)["shop"]["outputs"]["prod"]


def connect():
    return psycopg2.connect(
        host=output["host"], port=output["port"], user=output["user"], password=os.environ["DBT_ENV_SECRET_OIDC_PASSWORD"],
        dbname="postgres", application_name="stopped")


idle, transaction, asleep = connect(), connect(), connect()
idle.autocommit = asleep.autocommit = True
for session in (idle, transaction):
    with session.cursor() as cursor:
        cursor.execute("select 1")


def sleep():
    try:
        asleep.cursor().execute("select pg_sleep(3600)")
    except psycopg2.Error as error:
        print("asleep:", error, flush=True)


threading.Thread(target=sleep, daemon=True).start()
while True:
    time.sleep(1)
