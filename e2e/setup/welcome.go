package setup

import (
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Welcome tells a client that a test's door has let in what the real
// PostgreSQL said at the session's start. (PostgreSQL: Frontend/Backend
// Protocol, start-up)
func Welcome(client *pgproto3.Backend, server *pgconn.HijackedConn) error {
	client.Send(&pgproto3.AuthenticationOk{})
	for name, value := range server.ParameterStatuses {
		client.Send(&pgproto3.ParameterStatus{Name: name, Value: value})
	}
	client.Send(&pgproto3.BackendKeyData{ProcessID: server.PID, SecretKey: server.SecretKey})
	client.Send(&pgproto3.ReadyForQuery{TxStatus: server.TxStatus})
	return client.Flush()
}
