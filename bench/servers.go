//go:build unix

package main

import (
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

const (
	subject   = "repo:acme/analytics:environment:production"
	account   = "66666666-7777-8888-9999-000000000000" // at Databricks
	principal = "11111111-2222-3333-4444-555555555555" // at Databricks; also Entra ID's client
)

// closers stop what was started, in reverse order.
type closers []func()

func (c *closers) add(f func()) { *c = append(*c, f) }

func (c closers) close() {
	for _, f := range slices.Backward(c) {
		f()
	}
}

// policyOf returns a policy with one target; keys are fetched from front.
func policyOf(issuer, front, dbt, exchange string) string {
	return fmt.Sprintf("version: 1\nidentities:\n  github: {issuer: %q, kind: github, jwks_uri: %q}\ntargets:\n"+
		"  prod:\n    dbt: %s\n    exchange: %s\n    allow:\n"+
		"      - {repository: acme/analytics, repository_id: \"487920697\", environment: production, ref: refs/heads/main}\n",
		issuer, keysURL(front), dbt, exchange)
}

func keysURL(issuer string) string { return issuer + "/.well-known/jwks" }

func startSTS(issuer *standin.Issuer, c *closers) (*standin.STS, error) {
	sts, err := standin.StartSTS(standin.STSConfig{IssuerURL: issuer.URL(), Roles: map[string]standin.Role{
		role: {Audience: "sts.amazonaws.com", Claims: map[string][]string{"sub": {subject}}},
	}})
	if err == nil {
		c.add(sts.Close)
	}
	return sts, err
}

func startGoogle(issuer *standin.Issuer, c *closers) (*standin.Google, error) {
	google, err := standin.StartGoogle(standin.GoogleConfig{IssuerURL: issuer.URL(), Provider: pool})
	if err == nil {
		c.add(google.Close)
	}
	return google, err
}

func startAuthServer(issuer *standin.Issuer, c *closers) (*standin.TokenService, error) {
	tokens, err := standin.StartAuthServer(standin.AuthServerConfig{
		IssuerURL: issuer.URL(), Audience: "https://auth.example",
		Clients: map[string]standin.AuthClient{"dbt-prod": {Subject: subject}},
	})
	if err == nil {
		c.add(tokens.Close)
	}
	return tokens, err
}

func startDatabricks(issuer *standin.Issuer, c *closers) (*standin.TokenService, error) {
	databricks, err := standin.StartDatabricks(standin.DatabricksConfig{
		Account:  account,
		Policies: []standin.FederationPolicy{{ServicePrincipal: principal, Issuer: issuer.URL(), Subject: subject}},
	})
	if err == nil {
		c.add(databricks.Close)
	}
	return databricks, err
}

func startEntra(issuer *standin.Issuer, c *closers) (*standin.TokenService, error) {
	entra, err := standin.StartEntra(standin.EntraConfig{
		Tenant: "acme.example", Resources: []string{"https://database.windows.net"},
		Applications: map[string][]standin.FederatedCredential{
			principal: {{Issuer: issuer.URL(), Subject: subject, Audience: "api://AzureADTokenExchange"}},
		},
	})
	if err == nil {
		c.add(entra.Close)
	}
	return entra, err
}

// The warehouses answer immediately.

func startClickHouse(c *closers) *httptest.Server {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "1\n") }))
	c.add(server.Close)
	return server
}

func startSnowflake(c *closers) *httptest.Server {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"success":true,"data":{"token":"`+sessionToken+`"}}`)
	}))
	c.add(server.Close)
	return server
}

// startTrino returns the server and the file of its certificate.
func startTrino(root string, c *closers) (server *httptest.Server, ca string, err error) {
	server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"id":"1","data":[[1]],"stats":{"state":"FINISHED"}}`)
	}))
	c.add(server.Close)
	ca = filepath.Join(root, "trino.pem")
	block := pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}
	return server, ca, os.WriteFile(ca, pem.EncodeToMemory(&block), 0o644)
}

// sessionToken is the session token of every login at Snowflake's stand-in.
const sessionToken = "session"

// startDatabase starts a server that speaks PostgreSQL's protocol, accepts any
// password, and answers every query with an empty result.
func startDatabase() (net.Listener, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				backend := pgproto3.NewBackend(conn, conn)
				if _, err := backend.ReceiveStartupMessage(); err != nil {
					return
				}
				backend.Send(&pgproto3.AuthenticationCleartextPassword{})
				for backend.Flush() == nil {
					m, err := backend.Receive()
					if err != nil {
						return
					}
					switch m.(type) {
					case *pgproto3.PasswordMessage:
						backend.Send(&pgproto3.AuthenticationOk{})
					case *pgproto3.Query:
						backend.Send(&pgproto3.EmptyQueryResponse{})
					default:
						return
					}
					backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
				}
			}()
		}
	}()
	return listener, nil
}
