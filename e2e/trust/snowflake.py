"""Reads the Snowflake SQL of test cases, in txtar files, by sqlglot."""

import collections
import logging
import re
import sys

import sqlglot
from sqlglot import exp
from sqlglot.dialects.snowflake import Snowflake
from sqlglot.tokens import TokenType

logging.disable(logging.WARNING)  # it warns for each statement that it does not know
BEGINNINGS = re.compile(
    r"^(CREATE (USER|ROLE|SCHEMA|AUTHENTICATION POLICY|SECURITY INTEGRATION) IF NOT EXISTS|ALTER USER|GRANT|SET|USE SCHEMA|SHOW USER|SELECT)\b"
)


def documents(path):
    """The SQL files of a case, and what its scripts give to `snow`."""
    parts = re.split(r"^-- (\S+) --\n", open(path, encoding="utf-8").read(), flags=re.M)
    files = dict(zip(parts[1::2], parts[2::2]))
    for name, text in files.items():
        if name.endswith(".sql") and "databricks_create_role" not in text:
            yield name, text
        for script in re.findall(r"(?:snow sql[^\n]*|^cat) <<'(END_*)'\n(.*?)^\1$", text, flags=re.M | re.S):
            yield name, script[1]


def check(name, statement, counts):
    first = BEGINNINGS.match(statement)
    if not first:
        raise ValueError(f"{name}: a statement begins otherwise: {statement!r}")
    tree = sqlglot.parse_one(statement, read="snowflake")
    if tree is None:
        raise ValueError(f"{name}: nothing is parsed of {statement!r}")
    counts["parsed" if not isinstance(tree, exp.Command) else "tokens only"] += 1
    if not isinstance(tree, exp.Command):
        again = sqlglot.parse_one(tree.sql(dialect="snowflake"), read="snowflake")
        if again != tree:
            raise ValueError(f"{name}: read back otherwise: {statement!r}")


def main():
    counts = collections.Counter()
    for path in sys.argv[1:]:
        for name, text in documents(path):
            tokens = Snowflake().tokenize(text)
            start, depth = None, 0
            for token in tokens + [None]:
                if token is not None and token.token_type == TokenType.STRING:
                    counts["strings"] += 1
                if token is None or token.token_type == TokenType.SEMICOLON:
                    if start is not None:
                        if depth:
                            raise ValueError(f"{path} {name}: parentheses do not match before a semicolon")
                        end = len(text) if token is None else token.start
                        check(f"{path} {name}", text[start:end].strip(), counts)
                    start = None
                    continue
                start = token.start if start is None else start
                depth += {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}.get(token.token_type, 0)
    print(dict(counts))
    if counts["parsed"] < 50 or counts["tokens only"] < 50 or counts["strings"] < 50:
        sys.exit("too little was read: the test shows nothing")


main()
