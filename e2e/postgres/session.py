"""Does with libpq, through the proxy that the profile leads to, what dbt may do.

Arguments: the form of login that the server must have seen, its user, and the
superuser's URL past the proxy. Ends with "all is well".
"""

import hashlib
import io
import os
import select
import signal
import sys
import threading
import time

import psycopg2
import psycopg2.errors
import yaml

form, user, direct = sys.argv[1:]
with open(os.path.join(os.environ["DBT_PROFILES_DIR"], "profiles.yml")) as file:
    output = yaml.safe_load(file)["shop"]["outputs"]["prod"]
assert output["sslmode"] == "disable" and output["host"] == "127.0.0.1", output
password = os.environ["DBT_ENV_SECRET_OIDC_PASSWORD"]


def connect(**changes):
    arguments = dict(host=output["host"], port=output["port"], user=output["user"], password=password, dbname="postgres", application_name="dbt", connect_timeout=10)
    connection = psycopg2.connect(**(arguments | changes))
    connection.autocommit = True
    return connection


def refused(want, **changes):
    try:
        connect(**changes)
    except psycopg2.OperationalError as error:
        assert want in str(error), f"{error} has no {want}"
    else:
        raise AssertionError(f"let in with {changes}")


# Who it is, as the server knows.
session = connect()
cursor = session.cursor()
cursor.execute("select current_user, system_user, application_name from pg_stat_activity where pid = pg_backend_pid()")
assert cursor.fetchone() == (user, f"{form}:{user}", "dbt"), "another session"
assert session.info.ssl_in_use is False and session.info.backend_pid > 0
for name in ("postgres", "somebody"):
    with connect(user=name).cursor() as other:
        other.execute("select current_user")
        assert other.fetchone() == (user,), "the client chose its user"
refused("oidc-dbt: the password does not belong to this run", password=password + "x")
refused('oidc-dbt: the database is "template1", want the target\'s "postgres"', dbname="template1")

# Results, and COPY both ways.
cursor.execute("select n, repeat('x', 90) from generate_series(1, 200000) n")
assert len(cursor.fetchall()) == 200000
text = "".join(f"{n}\t{'y' * 80}\n" for n in range(100000))
cursor.execute("create temporary table copied (n int, y text)")
cursor.copy_expert("copy copied from stdin", io.StringIO(text))
back = io.StringIO()
cursor.copy_expert("copy (select * from copied order by n) to stdout", back)
assert hashlib.sha256(back.getvalue().encode()).digest() == hashlib.sha256(text.encode()).digest(), "another text came back"
try:
    cursor.copy_expert("copy copied from stdin", io.StringIO("no number\tx\n"))
except psycopg2.errors.InvalidTextRepresentation:
    pass
else:
    raise AssertionError("nonsense was copied in")

# Cancelling, and going on.
timer = threading.Timer(0.5, session.cancel)
timer.start()
began = time.monotonic()
try:
    cursor.execute("select pg_sleep(30)")
except psycopg2.errors.QueryCanceled:
    assert time.monotonic() - began < 10
else:
    raise AssertionError("the query was not cancelled")
cursor.execute("select 1")

# What the server says by itself.
cursor.execute("listen news")
with connect().cursor() as other:
    other.execute("notify news, 'hello'")
assert select.select([session], [], [], 10)[0], "no news"
session.poll()
assert session.notifies.pop().payload == "hello"

# As many as dbt has threads, at most.
many, lock, failures = [], threading.Lock(), []


def one():
    try:
        connection = connect()
        with connection.cursor() as c:
            c.execute("select pg_backend_pid() from pg_sleep(0.1)")
            assert c.fetchone()[0] == connection.info.backend_pid
        with lock:
            many.append(connection)
    except Exception as error:
        failures.append(error)


threads = [threading.Thread(target=one) for _ in range(64)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failures and len({c.info.backend_pid for c in many}) == 64, failures
for connection in many:
    connection.close()

# The server's end, for a query that runs, and for a session that begins.
superuser = psycopg2.connect(direct)
with superuser.cursor() as c:
    c.execute("select current_setting('data_directory')")
    with open(os.path.join(c.fetchone()[0], "postmaster.pid")) as file:
        server = int(file.readline())
threading.Timer(0.5, os.kill, (server, signal.SIGINT)).start()  # a fast shutdown
try:
    cursor.execute("select pg_sleep(30)")
except psycopg2.OperationalError as error:  # as it is without the proxy
    assert "closed" in str(error) or "terminating connection" in str(error), error
else:
    raise AssertionError("the server is gone, the session is not")
for _ in range(100):
    try:
        os.kill(server, 0)
    except ProcessLookupError:
        break
    time.sleep(0.1)
refused("oidc-dbt: connect to")
print("all is well")
