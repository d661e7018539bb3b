"""Sends statements to PostgreSQL, each in a session of its own.

Arguments: the driver, the port. On standard input, a JSON list of statements;
on standard output, a JSON list of what became of each: an error, or "".
"""

import asyncio
import json
import os
import sys

driver, port = sys.argv[1:]
login = dict(host="127.0.0.1", port=int(port), user="dbt", password=os.environ["PASSWORD"])


def psycopg2(sql):
    import psycopg2

    connection = psycopg2.connect(dbname="postgres", **login)
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql)
        connection.commit()
    finally:
        connection.close()


def psycopg(sql, **how):
    import psycopg

    with psycopg.connect(dbname="postgres", **login) as connection:
        connection.execute(sql, **how)


def psycopg_prepared(sql):
    psycopg(sql, prepare=True)


def psycopg_binary(sql):
    psycopg(sql, binary=True)


def asyncpg(sql):
    import asyncpg

    async def run():
        connection = await asyncpg.connect(database="postgres", **login)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    asyncio.run(run())


def asyncpg_prepared(sql):
    import asyncpg

    async def run():
        connection = await asyncpg.connect(database="postgres", **login)
        try:
            await connection.fetch(sql)
        finally:
            await connection.close()

    asyncio.run(run())


ends = []
for sql in json.load(sys.stdin):
    try:
        globals()[driver](sql)
        ends.append("")
    except Exception as error:
        ends.append(f"{type(error).__name__}: {error}")
json.dump(ends, sys.stdout)
