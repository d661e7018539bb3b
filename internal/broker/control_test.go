package broker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// TestControl: only the secret is an order, and its answer is the end.
func TestControl(t *testing.T) {
	t.Parallel()
	var told refusals
	c, err := broker.NewControl(told.add, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	own := c.Secret().Reveal()
	for _, shown := range []string{"", own[1:], own[1:] + "x", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + own} {
		conn, err := net.Dial("tcp", c.Address())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, shown)
		_ = conn.(*net.TCPConn).CloseWrite()
		if answer, _ := io.ReadAll(conn); len(answer) > 0 { // an error is a reset
			t.Errorf("the answer to %q is %q", shown, answer)
		}
		conn.Close()
	}
	select {
	case <-c.Stopped():
		t.Error("stopped without the secret")
	default:
	}

	// The caller waits for the end of the process, which here does not come.
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-c.Stopped()
		cancel(errors.New("enough"))
	}()
	err = broker.Stop(ctx, c.Address(), c.Secret())
	if want := "end the background process: enough"; err == nil || err.Error() != want {
		t.Errorf("error is %v, want %q", err, want)
	}
	c.Close()
	if got := fmt.Sprint(told.told); got != "[1 3]" {
		t.Errorf("told of %s callers, want [1 3]", got)
	}
	err = broker.Stop(t.Context(), c.Address(), c.Secret())
	if want := "end the background process: it has already ended, and the credential was not renewed since then"; err == nil || err.Error() != want {
		t.Errorf("error is %v, want %q", err, want)
	}
}

// TestStopIsReset: a killed process may have a listener for a moment longer,
// which takes connections and then drops them.
func TestStopIsReset(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}()
	err = broker.Stop(t.Context(), listener.Addr().String(), secret.New("marked"))
	if want := "end the background process: it has already ended, and the credential was not renewed since then"; err == nil || err.Error() != want {
		t.Errorf("error is %v, want %q", err, want)
	}
}

func TestStopGoesNowhereElse(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "example.com:80", "192.0.2.1:80", "localhost:80"} {
		err := broker.Stop(t.Context(), address, secret.New("marked"))
		if want := fmt.Sprintf("end the background process: address is %q, want one on loopback", address); err == nil || err.Error() != want {
			t.Errorf("error is %v, want %q", err, want)
		}
	}
}
