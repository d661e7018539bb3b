"""Parses compiled SQL in its warehouse's dialect. Arguments: folder, dialects.

With several dialects it first compiles the project for each of them, and prevents all connections."""

import contextlib
import logging
import pathlib
import socket
import sys

import sqlglot
from sqlglot import errors

logging.getLogger("sqlglot").setLevel(logging.ERROR)


class Refused(BaseException):
    """Nobody tries again after it, as they would after an OSError."""


def refuse(*args, **kwargs):
    raise Refused(f"there is no network: {args}")


def compile(project, target):
    from dbt.cli.main import dbtRunner

    with contextlib.redirect_stdout(sys.stderr):
        done = dbtRunner().invoke([
            "--no-use-colors", "compile", "--target", target, "--no-introspect", "--no-populate-cache", "--no-partial-parse",
            "--project-dir", project, "--profiles-dir", project, "--target-path", target,
        ])
    if not done.success:
        sys.exit(f"dbt compile for {target}: {done.exception!r}")


def parse(folder, dialect):
    files = sorted(f for f in pathlib.Path(folder).rglob("*.sql") if "oidc_dbt_" in f.name)
    for file in files:
        try:
            statements = [s for s in sqlglot.parse(file.read_text(), read=dialect) if s]
        except errors.ParseError as e:
            sys.exit(f"{file}: {e}")
        if len(statements) != 1 or isinstance(statements[0], sqlglot.exp.Command):
            sys.exit(f"{file}: {len(statements)} statements, or one that is not understood")
    return len(files)


folder, *dialects = sys.argv[1:]
if len(dialects) == 1:
    print(parse(folder + "/target/compiled", dialects[0]))
else:
    socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
    for dialect in dialects:
        compile(folder, dialect)
        print(dialect, parse(f"{folder}/{dialect}/compiled", dialect))
