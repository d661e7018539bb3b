"""A SQL warehouse's Thrift service (TCLIService, as databricks-sql-connector has it) on DuckDB.

It has no logins: a server in front checks those. Argument: port. A statement with SLOW in it takes two seconds."""

import re
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import duckdb
import sqlglot
from databricks.sql.thrift_api.TCLIService import TCLIService
from databricks.sql.thrift_api.TCLIService import ttypes as t
from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.transport.TTransport import TMemoryBuffer

engine = duckdb.connect(":memory:")
engine.execute("attach ':memory:' as lake; create schema lake.marts")
one_at_a_time = threading.Lock()

OK = t.TStatus(statusCode=t.TStatusCode.SUCCESS_STATUS)


def run(sql):
    """Returns the columns and the rows of a statement in Databricks' SQL."""
    if "SLOW" in sql:
        time.sleep(2)
    sql = re.sub(r"/\*.*?\*/", "", sql, flags=re.S).strip()
    if "information_schema" in sql:  # nothing is there yet: each server serves one run
        return ["table_name", "table_type", "file_format", "table_owner", "databricks_table_type"], []
    if sql.upper().startswith("SHOW SCHEMAS"):
        return ["databaseName"], [["marts"]]
    sql = re.sub(r"^insert overwrite\b", "insert into", sql, flags=re.I)
    sql = re.sub(r"\busing delta\b", "", sql)
    with one_at_a_time:
        cursor = engine.execute(sqlglot.transpile(sql, read="databricks", write="duckdb")[0])
        return [c[0] for c in cursor.description or []], cursor.fetchall()


def handle():
    return t.THandleIdentifier(guid=uuid.uuid4().bytes, secret=uuid.uuid4().bytes)


class Warehouse:
    def OpenSession(self, req):
        return t.TOpenSessionResp(status=OK, serverProtocolVersion=t.TProtocolVersion.SPARK_CLI_SERVICE_PROTOCOL_V8,
                                  sessionHandle=t.TSessionHandle(sessionId=handle()), canUseMultipleCatalogs=True)

    def CloseSession(self, req):
        return t.TCloseSessionResp(status=OK)

    def CloseOperation(self, req):
        return t.TCloseOperationResp(status=OK)

    def ExecuteStatement(self, req):
        operation = t.TOperationHandle(operationId=handle(), operationType=t.TOperationType.EXECUTE_STATEMENT, hasResultSet=True)
        try:
            names, rows = run(req.statement)
        except Exception as e:
            failed = t.TStatus(statusCode=t.TStatusCode.ERROR_STATUS, errorMessage=str(e))
            return t.TExecuteStatementResp(status=failed)
        columns, values = [], []
        for i, name in enumerate(names):
            kind, value = column([r[i] for r in rows])
            entry = t.TTypeEntry(primitiveEntry=t.TPrimitiveTypeEntry(type=kind))
            columns.append(t.TColumnDesc(columnName=name, typeDesc=t.TTypeDesc(types=[entry]), position=i + 1))
            values.append(value)
        return t.TExecuteStatementResp(status=OK, operationHandle=operation, directResults=t.TSparkDirectResults(
            operationStatus=t.TGetOperationStatusResp(status=OK, operationState=t.TOperationState.FINISHED_STATE),
            resultSetMetadata=t.TGetResultSetMetadataResp(status=OK, schema=t.TTableSchema(columns=columns), resultFormat=t.TSparkRowSetType.COLUMN_BASED_SET),
            resultSet=t.TFetchResultsResp(status=OK, hasMoreRows=False, results=t.TRowSet(startRowOffset=0, rows=[], columns=values)),
            closeOperation=t.TCloseOperationResp(status=OK)))


def column(values):
    """Returns the type of a column and its values: booleans, integers or text."""
    nulls = bytearray((len(values) + 7) // 8)
    for i, v in enumerate(values):
        if v is None:
            nulls[i // 8] |= 1 << i % 8
    nulls = bytes(nulls)
    kinds = {type(v) for v in values if v is not None}
    if kinds == {bool}:
        return t.TTypeId.BOOLEAN_TYPE, t.TColumn(boolVal=t.TBoolColumn(values=[bool(v) for v in values], nulls=nulls))
    if kinds == {int}:
        return t.TTypeId.BIGINT_TYPE, t.TColumn(i64Val=t.TI64Column(values=[v or 0 for v in values], nulls=nulls))
    return t.TTypeId.STRING_TYPE, t.TColumn(stringVal=t.TStringColumn(values=["" if v is None else str(v) for v in values], nulls=nulls))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        asked, answer = TMemoryBuffer(self.rfile.read(int(self.headers["Content-Length"]))), TMemoryBuffer()
        TCLIService.Processor(Warehouse()).process(TBinaryProtocol(asked), TBinaryProtocol(answer))
        body = answer.getvalue()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-thrift")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
