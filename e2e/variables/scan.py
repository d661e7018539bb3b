"""Prints, as JSON, which environment variables the installed clients of the warehouses read: client -> names.

Python code is parsed: what is looked up in os.environ or by os.getenv, also by
a constant's name, and each string that looks like a variable with a vendor's
prefix (tables of names, as botocore has). Native libraries are searched for
such strings.
"""
import ast
import json
import pathlib
import re
import sys
import sysconfig

SITE = pathlib.Path(sysconfig.get_paths()["purelib"])

# Where each client's code is, and which prefixes are its variables' in strings that no call shows to be one.
CLIENTS = {
    "aws": (["botocore", "boto3", "s3transfer", "pyathena"], r"AWS_|BOTO"),
    "google": (["google/auth", "google/oauth2", "google/api_core", "google/cloud/_helpers", "google/cloud/client", "google/cloud/_http", "google/cloud/environment_vars", "google/cloud/bigquery", "google/cloud/storage", "google/resumable_media", "google_auth_oauthlib"], r"GOOGLE_|CLOUDSDK_|GCLOUD_|GCE_|STORAGE_|BIGQUERY_"),
    "azure": (["azure/identity", "azure/core", "msal", "msal_extensions"], r"AZURE_|MSI_|IDENTITY_|IMDS_"),
    "databricks": (["databricks/sdk", "databricks/sql"], r"DATABRICKS_|ARM_"),
    "snowflake": (["snowflake/connector"], r"SNOWFLAKE_|SF_"),
    "redshift": (["redshift_connector"], r"REDSHIFT_"),
    "trino": (["trino"], r"TRINO_"),
    "clickhouse": (["clickhouse_connect"], r"CLICKHOUSE_"),
    "spark": (["pyhive", "thrift", "thrift_sasl", "puresasl"], r"HIVE_|SPARK_"),
    "http": (["requests", "urllib3", "httpx", "httpcore", "aiohttp", "certifi"], r"REQUESTS_|CURL_|SSL_"),
}

# What AWS's libraries call their errors and states.
NO_VARIABLES = r"AWS_(?:ERROR|IO|CBOR|CAL|DER|AUTH_(?!SCHEME)|HCMCT|HCMST|H2|HTTP|LIBCRYPTO|OP|SHA256|SIGV4$|SOCKET|COMMON)"

# Shared libraries, and what their strings must begin with to be a variable's name.
LIBRARIES = {
    "postgres": ("psycopg2_binary.libs/libpq*", r"PG[A-Z]+"),
    "duckdb": ("_duckdb*.so", r"(?:DUCKDB|AWS|S3|GCS|AZURE|GOOGLE|MOTHERDUCK)_[A-Z0-9_]+|HTTPS?_PROXY|motherduck_[a-z_]+"),
    "duckdb_extensions": ("duckdb_extension_*/**/*.duckdb_extension*", r"(?!(?:" + NO_VARIABLES + r"))(?:AWS|S3|DUCKDB|GCS|AZURE|MSI|IDENTITY|IMDS|GOOGLE)_[A-Z0-9_]+|SSL_CERT_(?:FILE|DIR)|CURL_CA_[A-Z]+"),
    "sqlserver": ("mssql_py_core/*.so", r"(?:AZURE|MSI|IDENTITY|IMDS|MSSQL|ODBC)_[A-Z0-9_]+"),
}

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{2,}")


def constants(tree):
    """The module's and its classes' names for strings."""
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        if isinstance(getattr(node, "value", None), ast.Constant) and isinstance(node.value.value, str):
            for target in targets:
                if isinstance(target, ast.Name):
                    yield target.id, node.value.value


def looked_up(node):
    """The expression that a node looks up in the environment."""
    def environ(e):
        return isinstance(e, ast.Attribute) and e.attr == "environ" or isinstance(e, ast.Name) and e.id == "environ"

    if isinstance(node, ast.Subscript) and environ(node.value):
        return node.slice
    if isinstance(node, ast.Compare) and any(environ(c) for c in node.comparators):
        return node.left
    if isinstance(node, ast.Call) and node.args:
        f = node.func
        if isinstance(f, ast.Attribute) and (f.attr == "getenv" or environ(f.value)) or isinstance(f, ast.Name) and f.id == "getenv":
            return node.args[0]
    return None


def python(paths, prefix):
    files = []
    for path in paths:
        p = SITE / path
        files += [p.with_suffix(".py")] if p.with_suffix(".py").exists() else sorted(p.rglob("*.py"))
    trees = [(f, ast.parse(f.read_bytes())) for f in files if "/tests/" not in str(f) and "/test/" not in str(f)]
    names = dict(c for _, tree in trees for c in constants(tree))
    shape = re.compile("(?:" + prefix + r")[A-Z0-9_]*")
    found = set()
    for _, tree in trees:
        docs = {id(n.body[0].value) for n in ast.walk(tree) if isinstance(n, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and n.body and isinstance(n.body[0], ast.Expr)}
        for node in ast.walk(tree):
            e = looked_up(node)
            if isinstance(e, ast.Constant) and isinstance(e.value, str):
                found.add(e.value)
            elif isinstance(e, (ast.Name, ast.Attribute)):
                found.add(names.get(e.id if isinstance(e, ast.Name) else e.attr, ""))
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs and shape.fullmatch(node.value):
                found.add(node.value)
    return found


def library(pattern, shape):
    found = set()
    shape = re.compile(shape)
    for path in sorted(SITE.glob(pattern)):
        for text in set(re.findall(rb"[A-Za-z][A-Za-z0-9_]{3,}", path.read_bytes())):
            if shape.fullmatch(text.decode()):
                found.add(text.decode())
    return found


def main():
    found = {client: python(*where) for client, where in CLIENTS.items()}
    found |= {client: library(*where) for client, where in LIBRARIES.items()}
    empty = [client for client, names in found.items() if not names and client not in ("spark", "trino", "redshift")]
    if empty:
        sys.exit(f"found nothing of {empty}: their code is elsewhere now")
    json.dump({client: sorted(n for n in names if NAME.fullmatch(n)) for client, names in sorted(found.items())}, sys.stdout, indent=1)


main()
