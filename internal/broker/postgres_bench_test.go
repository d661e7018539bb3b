package broker_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// BenchmarkPostgres compares a session through the proxy with one that its
// client encrypts itself, in one run: a query of one row, a result of
// 1,000,000, COPY of 100 MB each way, a login by SCRAM, and 64 sessions at once.
// The server is a bare one, so that the way there is most of the time.
func BenchmarkPostgres(b *testing.B) {
	server := startPostgres(b, askSCRAM("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"), "127.0.0.1")
	proxy := start(b, pgRoute(server), pgCredential)
	ways := []struct{ name, to string }{
		{"direct", fmt.Sprintf("host=127.0.0.1 port=%d user=dbt password=%s database=analytics sslmode=verify-full sslrootcert=%s", server.port, pgPassword, server.ca)},
		{"proxy", fmt.Sprintf("host=127.0.0.1 port=%d user=dbt password=%s database=analytics sslmode=disable", proxy.Address().Port, proxy.Address().Secret.Reveal())},
	}
	text := bytes.Repeat(append(bytes.Repeat([]byte{'z'}, 99), '\n'), 1_000_000)
	compare(b, "8 sessions of 1,000 round trips", roundTrips(b, ways[0].to, 8), roundTrips(b, ways[1].to, 8))
	copying := func(way string) func(b *testing.B) {
		conn := pgLogIn(b, way)
		b.Cleanup(func() { conn.Close(context.Background()) })
		return func(b *testing.B) {
			if _, err := conn.CopyFrom(context.Background(), bytes.NewReader(text), "copy in"); err != nil {
				b.Fatal(err)
			}
		}
	}
	compare(b, "COPY in", copying(ways[0].to), copying(ways[1].to))
	for _, work := range []struct {
		name  string
		bytes int64
		do    func(conn *pgconn.PgConn) error
	}{
		{"round trip", 0, func(conn *pgconn.PgConn) error { return readAll(conn, "who") }},
		{"1,000,000 rows", 100_000_000, func(conn *pgconn.PgConn) error { return readAll(conn, "rows 1000000") }},
		{"COPY out", 100_000_000, func(conn *pgconn.PgConn) error {
			_, err := conn.CopyTo(context.Background(), io.Discard, "copy out 1000000")
			return err
		}},
		{"COPY in", 100_000_000, func(conn *pgconn.PgConn) error {
			_, err := conn.CopyFrom(context.Background(), bytes.NewReader(text), "copy in")
			return err
		}},
	} {
		for _, way := range ways {
			b.Run(work.name+"/"+way.name, func(b *testing.B) {
				conn := pgLogIn(b, way.to)
				defer conn.Close(context.Background())
				b.SetBytes(work.bytes)
				for b.Loop() {
					if err := work.do(conn); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
	for _, way := range ways {
		b.Run("login/"+way.name, func(b *testing.B) {
			for b.Loop() {
				if err := pgLogIn(b, way.to).Close(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("64 sessions of 1,000 round trips/"+way.name, func(b *testing.B) {
			all := roundTrips(b, way.to, 64)
			for b.Loop() {
				all(b)
			}
		})
	}
}

func pgLogIn(b *testing.B, way string) *pgconn.PgConn {
	b.Helper()
	conn, err := pgconn.Connect(b.Context(), way)
	if err != nil {
		b.Fatal(err)
	}
	return conn
}

func readAll(conn *pgconn.PgConn, query string) error {
	results := conn.Exec(context.Background(), query)
	for results.NextResult() {
		for r := results.ResultReader(); r.NextRow(); {
		}
	}
	return results.Close()
}

// roundTrips opens sessions, and returns what has each make 1,000 round trips.
func roundTrips(b *testing.B, way string, sessions int) func(b *testing.B) {
	b.Helper()
	conns := make([]*pgconn.PgConn, sessions)
	for i := range conns {
		conns[i] = pgLogIn(b, way)
	}
	b.Cleanup(func() {
		for _, conn := range conns {
			conn.Close(context.Background())
		}
	})
	return func(b *testing.B) {
		var all sync.WaitGroup
		for _, conn := range conns {
			all.Go(func() {
				for range 1000 {
					if err := readAll(conn, "who"); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
	}
}
