"""Loads profiles as dbt does, with the real adapters' credentials classes.

Reads a list of cases as JSON from standard input, writes what came of each to
standard output. A case is {before, after, profiles, output}: before is the
user's own profiles.yml ("" for a policy's block), after the one written."""

import base64
import dataclasses
import importlib.util
import json
import os
import sys
from argparse import Namespace
from unittest import mock

from dbt.adapters.factory import load_plugin
from dbt.clients.yaml_helper import safe_load
from dbt.config.profile import Profile
from dbt.config.renderer import ProfileRenderer
from dbt.flags import set_from_args
from dbt_common.context import set_invocation_context


def difference(before, after, case):
    """What differs other than the chosen outputs and the profiles' targets."""
    lines = []
    if case["dropped"]:
        before = without(before, after)
    for name in sorted(before.keys() | after.keys(), key=repr):
        a, b = before.get(name), after.get(name)
        if name in case["profiles"] and isinstance(b, dict):
            if b.get("target") != case["output"]:
                lines.append(f"{name}: target is {b.get('target')!r}")
            a, b = dict(a or {}, target=None), dict(b, target=None)
            a["outputs"], b["outputs"] = dict(a.get("outputs") or {}), dict(b["outputs"])
            a["outputs"].pop(case["output"], None)
            b["outputs"].pop(case["output"], None)
        if repr(a) != repr(b) and sorted_repr(a) != sorted_repr(b):  # repr: 1, 1.0 and True differ, nan does not
            lines.append(f"{name}: was {a!r}, is {b!r}")
    return lines


def without(a, b):
    """What a has, without the pairs and the marked elements of lists that b does not have: secrets."""
    if isinstance(a, dict) and isinstance(b, dict):
        return {k: without(v, b[k]) for k, v in a.items() if k in b}
    if isinstance(a, list) and isinstance(b, list):
        left = [e for e in a if e in b or not (isinstance(e, str) and "MARKED" in e)]
        if len(left) == len(b):
            return [without(*pair) for pair in zip(left, b)]
    return a


def sorted_repr(v):
    if isinstance(v, dict):
        return "{" + ", ".join(sorted(f"{k!r}: {sorted_repr(e)}" for k, e in v.items())) + "}"
    if isinstance(v, (list, tuple)):
        return "[" + ", ".join(sorted_repr(e) for e in v) + "]"
    return repr(v)


def block_difference(before, after, name, case):
    """Which keys of the chosen output are new, gone and changed."""
    a = before.get(name, {}).get("outputs", {}).get(case["output"])
    if a is None:  # it got that of the first profile
        a = before.get(case["profiles"][0], {}).get("outputs", {}).get(case["output"], {})
    b = after[name]["outputs"][case["output"]]
    return {
        "new": sorted(b.keys() - a.keys()),
        "gone": sorted(a.keys() - b.keys()),
        "changed": sorted(k for k in a.keys() & b.keys() if sorted_repr(a[k]) != sorted_repr(b[k])),
    }


# ANSI is a parameter that newer versions of dbt-spark add.
ANSI = "spark.sql.ansi.enabled"


def microsoft(credentials):
    """What the driver is handed, of which older versions only have the call of pyodbc."""
    if credentials.type == "fabric":
        try:
            from dbt.adapters.fabric.fabric_token_provider import FabricTokenProvider
        except ImportError:
            return by_pyodbc(credentials)
        attributes = FabricTokenProvider(credentials).get_sql_attrs_before()
        token = attributes and attributes[FabricTokenProvider.SQL_COPT_SS_ACCESS_TOKEN][4:].decode("utf-16-le")
        return {"token": token, "authentication": credentials.authentication, "id": credentials.client_id, "secret": credentials.client_secret}
    try:
        from dbt.adapters.sqlserver.sqlserver_auth import get_pyodbc_attrs_before_credentials
        from dbt.adapters.sqlserver.sqlserver_backend import build_common_connection_string_parts
    except ImportError:
        return by_pyodbc(credentials)
    attributes = get_pyodbc_attrs_before_credentials(credentials)
    token = attributes[1256][4:].decode("utf-16-le") if attributes else None
    return {"token": token, "string": ";".join(build_common_connection_string_parts(credentials, credentials.backend.value == "mssql-python"))}


def by_pyodbc(credentials):
    import pyodbc
    from dbt.adapters.contracts.connection import Connection
    from dbt.adapters.factory import FACTORY

    manager = FACTORY.plugins[credentials.type].adapter.ConnectionManager
    with mock.patch.object(pyodbc, "connect") as connect:
        manager.open(Connection(type=credentials.type, name="load", credentials=credentials))
    attributes = connect.call_args.kwargs.get("attrs_before")
    token = attributes[1256][4:].decode("utf-16-le") if attributes else None
    parts = connect.call_args.args[0].split(";")
    keys = {k.lower(): v.strip("{}") for k, _, v in (part.partition("=") for part in parts)}
    return {
        "token": token,
        "authentication": keys.get("authentication"),
        "id": keys.get("uid"),
        "secret": keys.get("pwd"),
        "string": ";".join(part.replace("{", "").replace("}", "") for part in parts if part.split("=")[0] in ("SERVER", "Database", "UID", "PWD", "encrypt", "TrustServerCertificate")),
    }


def login(credentials):
    """What the adapter itself makes of the keys for its login."""
    if credentials.type == "snowflake":
        args = {"user": credentials.user} | credentials.auth_args()
        if args["private_key"]:  # DER, which the environment has in base64
            args["private_key"] = base64.b64encode(args["private_key"]).decode() == os.environ["DBT_ENV_SECRET_OIDC_PRIVATE_KEY"]
        return args
    if credentials.type == "bigquery":
        try:
            from dbt.adapters.bigquery.credentials import create_google_credentials
        except ImportError:
            from dbt.adapters.bigquery.connections import BigQueryConnectionManager

            create_google_credentials = BigQueryConnectionManager.get_google_credentials
        google = create_google_credentials(credentials)
        return {"class": type(google).__name__, "token": google.token}
    if credentials.type == "athena":
        from dbt.adapters.athena.session import get_boto3_session
        from dbt.adapters.contracts.connection import Connection

        session = get_boto3_session(Connection(type="athena", name=None, credentials=credentials))
        keys = session.get_credentials().get_frozen_credentials()
        return {"key": keys.access_key, "secret": keys.secret_key, "token": keys.token, "region": session.region_name}
    if credentials.type == "postgres":
        return {"user": credentials.user, "password": credentials.password, "sslmode": credentials.sslmode, "sslcert": credentials.sslcert}
    if credentials.type == "redshift":
        from dbt.adapters.redshift import connections

        with mock.patch.object(connections.redshift_connector, "connect") as connect, mock.patch("requests.post") as post:
            post.return_value.json.return_value = {"access_token": "POSTED"}
            if hasattr(connections, "get_connection_method"):
                connections.get_connection_method(credentials)()
            else:
                connections.RedshiftConnectMethodFactory(credentials).get_connect_method()()
        asked = f"{post.call_args.args[0]} {post.call_args.kwargs['data']}" if post.called else None
        return {"asked": asked} | {k: connect.call_args.kwargs.get(k) for k in ("user", "password", "ssl", "sslmode", "iam", "token", "token_type")}
    if credentials.type == "duckdb":
        return {"sql": credentials.secrets_sql() if hasattr(credentials, "secrets_sql") else []}
    if credentials.type == "databricks":
        tags = getattr(credentials, "query_tags", None)
        try:
            manager = credentials.authenticate()  # checks the keys
        except TypeError:  # an older one takes a provider, and returns one of headers
            headers = credentials.authenticate(None)()()
            return {"token": headers["Authorization"].removeprefix("Bearer "), "secret": "", "tags": tags}
        return {"token": manager.token, "secret": manager.client_secret, "tags": tags}
    if credentials.type in ("fabric", "sqlserver"):
        return microsoft(credentials)
    if credentials.type == "clickhouse":
        return {k: getattr(credentials, k) for k in ("driver", "host", "port", "secure", "verify", "user", "password")}
    if credentials.type == "spark":
        return {k: getattr(credentials, k) for k in ("method", "auth", "use_ssl", "user", "password", "token")} | {"parameters": " ".join(f"{k}={v}" for k, v in sorted(credentials.server_side_parameters.items()) if k != ANSI)}
    if credentials.type == "trino":
        return {"class": type(credentials.trino_auth()).__name__, "token": credentials.trino_auth().token, "scheme": credentials.http_scheme.value, "tags": ",".join(credentials.client_tags)}
    raise ValueError(credentials.type)


# Of pyspark's 400 MB dbt-spark asks here only whether it is there. Nothing is
# connected to by pyodbc, which needs a library of the system.
sys.modules["pyspark"] = mock.Mock()
if importlib.util.find_spec("pyodbc"):
    try:
        import pyodbc  # noqa: F401
    except ImportError:
        sys.modules["pyodbc"] = mock.Mock()


def load(case):
    with open(case["after"], encoding="utf-8") as f:
        after = safe_load(f.read())
    result = {"difference": [], "outputs": {}}
    before = {}
    if case["before"]:
        with open(case["before"], encoding="utf-8") as f:
            before = safe_load(f.read())
        result["difference"] = difference(before, after, case)
    for name in case["profiles"]:
        keys = after[name]["outputs"][case["output"]].keys()
        load_plugin(after[name]["outputs"][case["output"]]["type"])
        profile = Profile.from_raw_profiles(after, name, ProfileRenderer({}))
        loaded = profile.credentials  # of dbt-trino's, say, a class that its method chooses
        known = {f.name for f in dataclasses.fields(loaded)} | loaded._ALIASES.keys() | set(loaded._connection_keys()) | {"type", "threads"}
        result["outputs"][name] = {
            "type": loaded.type,
            "target": profile.target_name,
            "threads": profile.threads,
            "unknown": sorted(k for k in keys if k not in known),
            "connection": {k: repr(v) for k, v in loaded.connection_info()},
            "login": login(loaded),
            "block": block_difference(before, after, name, case),
        }
    return result


def main():
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # only the result goes to standard output, where older versions of dbt write events
    set_invocation_context(os.environ)
    set_from_args(Namespace(), None)
    results = []
    for case in json.load(sys.stdin):
        try:
            results.append(load(case))
        except Exception as e:
            results.append({"error": f"{type(e).__name__}: {e}"})
    with out:
        json.dump(results, out)


main()
