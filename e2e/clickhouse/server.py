"""ClickHouse's HTTP interface over chdb, which is ClickHouse's own engine as a library.

It has no logins: a server in front checks those. Arguments: port, data folder, and ClickHouse's configuration where
there is one. Of the settings that a request may have, it takes the comment of the query log, readonly=1, and two limits,
which it sets before readonly, as ClickHouse does."""

import gzip
import os
import re
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import chdb
from chdb import session

place = sys.argv[2] + "".join("?config-file=" + file for file in sys.argv[3:])
engine = session.Session(place)
LIMITS = ("max_execution_time", "max_bytes_to_read")
others = {}  # sessions, by their settings
one_at_a_time = threading.Lock()
FORMAT = re.compile(r"\s+FORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)
INSERT = re.compile(r"^\s*(INSERT\s+INTO\s+.*?)\s+FORMAT\s+(\w+)\s*$", re.IGNORECASE | re.DOTALL)


def session_with(params):
    """Returns a session with the settings of a request, and whether it is read-only."""
    settings = tuple((name, params[name]) for name in LIMITS if name in params)
    settings += (("readonly", "1"),) if params.get("readonly") == "1" else ()
    with one_at_a_time:
        if settings and settings not in others:
            others[settings] = chdb.connect(place)
            for name, value in settings:
                others[settings].query(f"SET {name} = {int(value)}")
    return others.get(settings, engine), params.get("readonly") == "1"


def run(sql, data, database, comment, engine, readonly):
    """Returns what a statement gives, in its own format."""
    insert = INSERT.match(sql)
    if insert and data:
        with tempfile.NamedTemporaryFile(suffix=".bin") as file:
            file.write(data)
            file.flush()
            sql = f"{insert[1]} SELECT * FROM file('{file.name}', '{insert[2]}')"
            with one_at_a_time:
                engine.query(f"USE `{database}`")
                return engine.query(sql, "TSV").bytes()
    form = FORMAT.search(sql)
    with one_at_a_time:
        if database:
            engine.query(f"USE `{database}`")
        if not readonly:
            engine.query("SET log_comment = '{}'".format(comment.replace("\\", "\\\\").replace("'", "\\'")))
        return engine.query(FORMAT.sub("", sql) if form else sql, form[1] if form else "TSV").bytes()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.do_POST()

    def do_POST(self):
        url = urlsplit(self.path)
        params = {k: v[-1] for k, v in parse_qs(url.query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if url.path == "/ping":
            return self.answer(200, b"Ok.\n")
        query, data = params.get("query"), body
        if query is None:
            query, data = body.decode(), b""
        try:
            out = run(query, data, params.get("database", "default"), params.get("log_comment", ""), *session_with(params))
        except Exception as e:
            code = re.search(r"Code: (\d+)", str(e))
            return self.answer(500, str(e).encode(), X_ClickHouse_Exception_Code=code[1] if code else "1000")
        self.answer(200, out, X_ClickHouse_Summary="{}", X_ClickHouse_Timezone="UTC", X_ClickHouse_Format=params.get("default_format", ""))

    def log_message(self, *args):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
