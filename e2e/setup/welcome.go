package setup

import (
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Welcome sends a client that a test's gateway has accepted what the real
// PostgreSQL sent at the start of the session. (PostgreSQL: Frontend/Backend
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

// Replies forwards the server's messages until its end. The library reads them:
// if its write of the start-up message takes 15 ms, it starts to read in the
// background, and a copy of the bare connection would miss what it has read.
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
