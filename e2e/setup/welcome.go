package setup

import (
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Welcome tells a client that a test's gateway has let in what the real
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

// Replies passes on what the server says until its end. They are read by the
// library: where writing a start-up takes it 15 ms it begins to read behind our
// back, and a copy of the bare connection would miss what it has got by then.
func Replies(client *pgproto3.Backend, server *pgconn.HijackedConn) error {
	for {
		message, err := server.Frontend.Receive()
		if err != nil {
			return err
		}
		client.Send(message)
		if server.Frontend.ReadBufferLen() > 0 {
			continue
		}
		if err := client.Flush(); err != nil {
			return err
		}
	}
}
