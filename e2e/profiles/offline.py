"""Runs dbt and SQLFluff in projects whose profiles have no credential, and
prevents all connections.

Reads a list of cases as JSON from standard input, writes what came of each to
standard output. A case is {project, env, dialect}: dbt parses, and where a
dialect is given it also lists, and SQLFluff lints."""

import contextlib
import json
import os
import socket
import sys
import types

import boto3
from click.testing import CliRunner
from dbt.cli.main import dbtRunner
from sqlfluff.cli.commands import cli

sys.modules["pyspark"] = types.ModuleType("pyspark")  # dbt-spark asks here only whether it is there
attempts = []


class Refused(BaseException):
    """Nobody tries again after it, as they would after an OSError."""


def refuse(*args, **kwargs):
    attempts.append(repr(next(a for a in (*args, *kwargs.values()) if isinstance(a, (str, tuple)))))
    raise Refused("there is no network")


def run(case):
    attempts.clear()
    os.chdir(case["project"])
    result = {}
    for command in (["parse", "--no-partial-parse"], ["ls", "--output", "name"])[: 2 if case["dialect"] else 1]:
        done = dbtRunner().invoke(["--no-use-colors", *command])
        if not done.success:
            result["error"] = f"dbt {command[0]}: {done.exception!r}"
            return result
    result["attempts"] = list(attempts)
    if "AWS_ACCESS_KEY_ID" in case["env"]:
        result["aws"] = boto3.Session().get_credentials().access_key
    if case["dialect"]:
        result["ls"] = done.result
        attempts.clear()
        try:
            lint = CliRunner().invoke(cli, ["lint", "--templater", "dbt", "--dialect", case["dialect"], "--processes", "1", "models/customers.sql"])
            status, output = lint.exit_code, f"{lint.output}{lint.exception!r}"
        except Refused:
            status, output = -1, ""
        result["lint"] = {"status": status, "output": output, "attempts": list(attempts)}
    return result


def main():
    socket.socket.connect = socket.socket.connect_ex = refuse
    socket.getaddrinfo = refuse
    environ = dict(os.environ)
    results = []
    # Only the result goes to standard output.
    with contextlib.redirect_stdout(sys.stderr):
        for case in json.load(sys.stdin):
            os.environ.clear()
            os.environ.update(environ | case["env"])
            results.append(run(case))
    json.dump(results, sys.stdout)


main()
