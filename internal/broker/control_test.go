package broker_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// proof is what a caller shows for an order: the secret itself crosses no wire.
func proof(c *broker.Control, order string) string {
	mac := hmac.New(sha256.New, []byte(c.Secret().Reveal()))
	io.WriteString(mac, order)
	return hex.EncodeToString(mac.Sum(nil))
}

func given(c *broker.Control, o broker.Order) bool {
	select {
	case <-c.Given(o):
		return true
	default:
		return false
	}
}

// TestControl: only who knows the secret gives an order, and its answer is the end.
func TestControl(t *testing.T) {
	t.Parallel()
	var told refusals
	c, err := broker.NewControl(told.add, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	halt := proof(c, "halt")
	shown := []string{"", halt[1:], halt[1:] + "x", proof(c, "accepted"), proof(c, "HALT"), c.Secret().Reveal() + c.Secret().Reveal(),
		"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + halt}
	for _, shown := range shown {
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
	if err := broker.Ask(t.Context(), broker.Answer, c.Address(), c.Secret()); err != nil {
		t.Errorf("asked whether it is alive: %v", err)
	}
	if given(c, broker.End) || given(c, broker.Halt) {
		t.Error("an order was given without the secret")
	}

	// The caller waits for the end of the process, which here does not come.
	for _, order := range []broker.Order{broker.End, broker.Halt} {
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			<-c.Given(order)
			cancel(errors.New("enough"))
		}()
		if err := broker.Ask(ctx, order, c.Address(), c.Secret()); err == nil || err.Error() != "enough" {
			t.Errorf("%s: error is %v, want %q", order, err, "enough")
		}
		if order == broker.End && given(c, broker.Halt) {
			t.Error("a quiet end is a halt")
		}
	}
	conn, err := net.Dial("tcp", c.Address()) // given again, an order is accepted
	if err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, len(halt))
	if _, err = io.WriteString(conn, halt); err == nil {
		_, err = io.ReadFull(conn, answer)
	}
	if conn.Close(); err != nil || string(answer) != proof(c, "accepted") {
		t.Errorf("the answer to a second halt is %q, %v", answer, err)
	}
	c.Close()
	if got, want := fmt.Sprint(told.told), fmt.Sprintf("[1 %d]", len(shown)-1); got != want {
		t.Errorf("told of %s callers, want %s", got, want)
	}
	if err := broker.Ask(t.Context(), broker.Halt, c.Address(), c.Secret()); !errors.Is(err, broker.ErrGone) {
		t.Errorf("error is %v, want %v", err, broker.ErrGone)
	}
}

// TestAnotherHasThePort: what listens there and does not know the secret has
// accepted nothing, and learns nothing that the run would believe.
func TestAnotherHasThePort(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answer func(shown string) string
		err    string
	}{
		"nothing":   {func(string) string { return "" }, "what listens there does not know the secret"},
		"a part":    {func(string) string { return "HTTP/1.1 400 Bad Request\r\n\r\n" }, "what listens there does not know the secret"},
		"the order": {func(shown string) string { return shown }, "what listens there does not know the secret"},
		"a reset":   {nil, "it has already ended"}, // a killed process may have a listener for a moment longer
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listener, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			marked := secret.New("marked")
			go func() {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				if tt.answer == nil {
					_ = conn.(*net.TCPConn).SetLinger(0)
					return
				}
				shown := make([]byte, hex.EncodedLen(sha256.Size))
				if _, err := io.ReadFull(conn, shown); err != nil || strings.Contains(string(shown), marked.Reveal()) {
					t.Errorf("it is shown %q, %v", shown, err)
				}
				_, _ = io.WriteString(conn, tt.answer(string(shown)))
			}()
			err = broker.Ask(t.Context(), broker.Halt, listener.Addr().String(), marked)
			if err == nil || err.Error() != tt.err {
				t.Errorf("error is %v, want %q", err, tt.err)
			}
		})
	}
}

func TestAskGoesNowhereElse(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "example.com:80", "192.0.2.1:80", "localhost:80"} {
		err := broker.Ask(t.Context(), broker.Halt, address, secret.New("marked"))
		if want := fmt.Sprintf("address is %q, want one on loopback", address); err == nil || err.Error() != want {
			t.Errorf("error is %v, want %q", err, want)
		}
	}
}
