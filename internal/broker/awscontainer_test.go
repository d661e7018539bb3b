package broker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

var awsContainer = route.Route{Kind: route.AWSContainer}

// session is an AWS session that ends at expiry.
func session(name string, expiry time.Time) credential.Credential {
	return credential.Credential{Kind: "aws_session", ID: name, Expiry: expiry, AWS: &credential.AWS{
		AccessKeyID: secret.New("ASIA" + name), SecretAccessKey: secret.New("marked-key"), SessionToken: secret.New("marked/token=="), Region: "eu-central-1",
	}}
}

// gives has the broker serve one credential.
func gives(cred credential.Credential) func(*broker.Config) {
	return func(c *broker.Config) {
		c.Current = func(context.Context) (credential.Credential, error) { return cred, nil }
	}
}

// ask asks for container credentials as an SDK does.
func ask(t testing.TB, b *broker.Broker, method, path, authorization string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+address(b)+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Header.Get("Content-Type") + ", " + resp.Header.Get("Cache-Control"); got != "application/json, no-store" {
		t.Errorf("headers are %s", got)
	}
	return resp.StatusCode, string(text)
}

func TestAWSContainer(t *testing.T) {
	t.Parallel()
	var told refusals
	zone := time.FixedZone("", 2*60*60)
	b := start(t, awsContainer, gives(session("1", time.Date(2100, 1, 2, 5, 4, 5, 6, zone))), func(c *broker.Config) { c.Refused = told.add })
	own := b.Address().Secret.Reveal()
	for _, tt := range []struct {
		name, method, path, authorization string
		status                            int
		body                              string
	}{
		{"good", "GET", "/credentials", own, 200, `{"AccessKeyId":"ASIA1","Expiration":"2100-01-02T03:04:05Z","SecretAccessKey":"marked-key","Token":"marked/token=="}`},
		{"the query chooses nothing", "GET", "/credentials?role=admin", own, 200, `{"AccessKeyId":"ASIA1","Expiration":"2100-01-02T03:04:05Z","SecretAccessKey":"marked-key","Token":"marked/token=="}`},
		{"no authorization", "GET", "/credentials", "", 401, `{"code":"AccessDenied","message":"oidc-dbt: the authorization token does not belong to this run"}`},
		{"another one", "GET", "/credentials", own + "x", 401, `{"code":"AccessDenied","message":"oidc-dbt: the authorization token does not belong to this run"}`},
		{"as a bearer", "GET", "/credentials", "Bearer " + own, 401, `{"code":"AccessDenied","message":"oidc-dbt: the authorization token does not belong to this run"}`},
		{"no authorization, another path", "GET", "/", "", 401, `{"code":"AccessDenied","message":"oidc-dbt: the authorization token does not belong to this run"}`},
		{"another path", "GET", "/credentials/", own, 404, `{"code":"NotFound","message":"oidc-dbt: credentials are at /credentials"}`},
		{"another method", "POST", "/credentials", own, 405, `{"code":"MethodNotAllowed","message":"oidc-dbt: want GET"}`},
	} {
		status, body := ask(t, b, tt.method, tt.path, tt.authorization)
		if status != tt.status || body != tt.body+"\n" {
			t.Errorf("%s: status %d, %s want %d, %s", tt.name, status, body, tt.status, tt.body)
		}
	}
	b.Close()
	if got := fmt.Sprint(told.told); got != "[1 3]" {
		t.Errorf("told of %s callers, want [1 3]: the first at once, the others at the end", got)
	}
}

func TestAWSContainerWithoutSession(t *testing.T) {
	t.Parallel()
	dead := session("1", time.Now().Add(-time.Minute))
	for _, tt := range []struct {
		name    string
		current func(context.Context) (credential.Credential, error)
		message string
	}{
		{"down", func(context.Context) (credential.Credential, error) {
			return credential.Credential{}, errors.New("request ID token: down")
		}, "request ID token: down"},
		{"slow", broker.NewKeeper(dead, keeps(func(ctx context.Context) (credential.Credential, error) {
			<-ctx.Done() // the test's end
			return credential.Credential{}, ctx.Err()
		}, time.Now)).Current, `renew the credential with \"vault\": not available after 900ms`},
		{"no session", func(context.Context) (credential.Credential, error) {
			return credential.Credential{Token: secret.New("marked-token")}, nil
		}, "the credential is not an AWS session"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var started atomic.Bool // what Start asks for is there
			b := start(t, awsContainer, func(c *broker.Config) {
				c.Current = func(ctx context.Context) (credential.Credential, error) {
					if !started.Swap(true) {
						return session("0", time.Now().Add(time.Hour)), nil
					}
					return tt.current(ctx)
				}
			})
			status, body := ask(t, b, "GET", "/credentials", b.Address().Secret.Reveal())
			if want := `{"code":"NoCredentials","message":"oidc-dbt: ` + tt.message + "\"}\n"; status != 503 || body != want {
				t.Errorf("status %d, %s want 503, %s", status, body, want)
			}
		})
	}
}

// TestAWSContainerIsAhead: DuckDB asks when a session has expired, and waits for
// a second. The next session must therefore be ready before that.
func TestAWSContainerIsAhead(t *testing.T) {
	t.Parallel()
	renewed := make(chan struct{})
	k := broker.NewKeeper(session("1", time.Now().Add(2*time.Second)), keeps(func(context.Context) (credential.Credential, error) {
		close(renewed)
		return session("2", time.Now().Add(time.Hour)), nil
	}, time.Now))
	b := start(t, awsContainer, func(c *broker.Config) { c.Current = k.Current })
	select {
	case <-renewed:
	case <-time.After(5 * time.Minute):
		t.Fatal("nothing was renewed")
	}
	if _, body := ask(t, b, "GET", "/credentials", b.Address().Secret.Reveal()); !strings.Contains(body, "ASIA") {
		t.Errorf("no session: %s", body)
	}
}

// TestAWSContainerReadInPieces: who reads a session by several requests gets
// one, and who asks on and on gets the next all the same.
func TestAWSContainerReadInPieces(t *testing.T) {
	t.Parallel()
	var current atomic.Pointer[credential.Credential]
	var clock atomic.Int64
	has := func(c credential.Credential) { current.Store(&c) }
	began := time.Now()
	now := func() time.Time { return began.Add(time.Duration(clock.Load())) }
	has(session("1", began.Add(time.Minute)))
	b := start(t, awsContainer, func(c *broker.Config) {
		c.Current = func(context.Context) (credential.Credential, error) { return *current.Load(), nil }
		c.Now = now
	})
	check := func(after time.Duration, want string) {
		t.Helper()
		clock.Add(int64(after))
		if _, body := ask(t, b, "GET", "/credentials", b.Address().Secret.Reveal()); !strings.Contains(body, `"ASIA`+want+`"`) {
			t.Errorf("%s after the start: %s want session %s", now().Sub(began), body, want)
		}
	}
	check(0, "1")
	has(session("2", began.Add(time.Hour)))
	check(100*time.Millisecond, "1")
	check(200*time.Millisecond, "1")
	check(300*time.Millisecond, "2") // a read of its own
	has(session("3", began.Add(time.Hour)))
	for range 11 {
		check(200*time.Millisecond, "2")
	}
	check(200*time.Millisecond, "3")
	has(session("4", now().Add(1200*time.Millisecond)))
	check(300*time.Millisecond, "4")
	has(session("5", began.Add(time.Hour)))
	check(0, "5") // the old one is about to expire
}

// TestAWSContainerStorm: a thousand clients at a session's end are one exchange.
func TestAWSContainerStorm(t *testing.T) {
	t.Parallel()
	var exchanges atomic.Int32
	var late atomic.Bool
	k := broker.NewKeeper(session("1", time.Now().Add(time.Hour)), keeps(func(context.Context) (credential.Credential, error) {
		time.Sleep(100 * time.Millisecond)
		return session(fmt.Sprint(1+exchanges.Add(1)), time.Now().Add(48*time.Hour)), nil
	}, func() time.Time {
		if late.Load() {
			return time.Now().Add(2 * time.Hour)
		}
		return time.Now()
	}))
	b := start(t, awsContainer, func(c *broker.Config) { c.Current = k.Current })
	late.Store(true)
	var wait sync.WaitGroup
	for range 1000 {
		wait.Go(func() {
			if status, body := ask(t, b, "GET", "/credentials", b.Address().Secret.Reveal()); status != 200 || !strings.Contains(body, `"ASIA2"`) {
				t.Errorf("status %d, %s", status, body)
			}
		})
	}
	wait.Wait()
	if n := exchanges.Load(); n != 1 {
		t.Errorf("%d exchanges, want 1", n)
	}
}
