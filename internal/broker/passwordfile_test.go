package broker_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// TestPasswordFile: the file has one line for one server and user, which
// another library reads as intended.
func TestPasswordFile(t *testing.T) {
	t.Parallel()
	const token = "db.example:5432/?Action=connect&X-Amz-Signature=0a1b"
	for _, tt := range []struct {
		name     string
		upstream route.Upstream
		c        credential.Credential
		line     string
		err      string
	}{
		{name: "a token for a password", upstream: route.Upstream{Host: "db.example", Port: 5432, User: "dbt", Database: "dw"},
			c: credential.Credential{Token: secret.New("ya29.token")}, line: "db.example:5432:dw:dbt:ya29.token\n"},
		{name: "a user of the credential", upstream: route.Upstream{Host: "db.example", Port: 5432, User: "somebody", Database: "dw"},
			c: credential.Credential{User: "dbt@acme.iam", Token: secret.New("ya29.token")}, line: "db.example:5432:dw:dbt@acme.iam:ya29.token\n"},
		{name: "colons", upstream: route.Upstream{Host: "fd00::3", Port: 6432, User: `acme\dbt`, Database: "a:b"},
			c: credential.Credential{Password: secret.New(token)}, line: `fd00\:\:3:6432:a\:b:acme\\dbt:db.example\:5432/?Action=connect&X-Amz-Signature=0a1b` + "\n"},
		{name: "a database that dbt knows alone", upstream: route.Upstream{Host: "db.example", Port: 5432, User: "dbt"},
			c: credential.Credential{Password: secret.New("p")}, line: "db.example:5432:*:dbt:p\n"},
		{name: "no user", upstream: route.Upstream{Host: "db.example", Port: 5432},
			c: credential.Credential{Password: secret.New("p")}, err: "start broker: the credential has no user and password"},
		{name: "no password", upstream: route.Upstream{Host: "db.example", Port: 5432, User: "dbt"}, err: "start broker: the credential has no user and password"},
		{name: "another line", upstream: route.Upstream{Host: "db.example", Port: 5432, User: "dbt"},
			c: credential.Credential{Password: secret.New("p\n*:*:*:*:p")}, err: "start broker: the user, the database or the password contains a line break or NUL"},
		{name: "no server", c: credential.Credential{User: "dbt", Password: secret.New("p")}, err: "start broker: the database has no host or port"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.c.Expiry = time.Now().Add(time.Hour)
			b, err := broker.Start(broker.Config{
				Target: "prod", Route: route.Route{Kind: route.PasswordFile, Upstream: tt.upstream}, Dir: t.TempDir(), Now: time.Now,
				Current: func(context.Context) (credential.Credential, error) { return tt.c, nil },
			})
			if tt.err != "" {
				if err == nil || err.Error() != tt.err {
					t.Errorf("error is %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			if b.Address().Host != "" || b.Address().File == "" {
				t.Errorf("it is served at %+v, want only a file", b.Address())
			}
			text, err := os.ReadFile(b.Address().File)
			if err != nil || string(text) != tt.line {
				t.Errorf("the file is %q, %v, want %q", text, err, tt.line)
			}
			if info, err := os.Stat(b.Address().File); err != nil || runtime.GOOS != "windows" && info.Mode() != 0o600 { // libpq takes no other
				t.Errorf("its mode is %v, %v", info.Mode(), err)
			}
			libpqReads(t, b.Address().File, tt.upstream, tt.c)
		})
	}
}

// libpqReads checks that libpq's clients find c's password in the file, only
// for the upstream.
func libpqReads(t *testing.T, file string, upstream route.Upstream, c credential.Credential) {
	t.Helper()
	user, database := c.User, upstream.Database
	if user == "" {
		user = upstream.User
	}
	if database == "" {
		database = "any"
	}
	for host, known := range map[string]bool{upstream.Host: true, "evil.example": false} {
		config, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%d user='%s' database=%s passfile=%s sslmode=disable",
			host, upstream.Port, strings.ReplaceAll(user, `\`, `\\`), database, file))
		if err != nil {
			t.Fatal(err)
		}
		want := ""
		if known {
			want = c.Password.Reveal()
			if c.Password.IsZero() {
				want = c.Token.Reveal()
			}
		}
		if config.Password != want {
			t.Errorf("the password for %s is %q, want %q", host, config.Password, want)
		}
	}
}

// TestPasswordFileIsRewritten: the file is replaced before each expiry, by a
// rename, and stays as it is while renewals fail.
func TestPasswordFileIsRewritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		const life = 5 * time.Second
		var down atomic.Bool
		issued := 0
		issue := func(context.Context) (credential.Credential, error) {
			if down.Load() {
				return credential.Credential{}, context.DeadlineExceeded
			}
			issued++
			time.Sleep(200 * time.Millisecond) // how long an exchange takes
			return credential.Credential{User: "dbt", Token: secret.New(fmt.Sprint("token-", issued)), Expiry: time.Now().Add(life)}, nil
		}
		first, _ := issue(t.Context())
		keeper := broker.NewKeeper(first, keeps(issue, time.Now))
		b, err := broker.Start(broker.Config{
			Target: "prod", Route: route.Route{Kind: route.PasswordFile, Upstream: route.Upstream{Host: "db.example", Port: 5432}}, Dir: dir, Now: time.Now,
			Current: keeper.Current, Failed: func(err error) { t.Errorf("rewrite: %v", err) },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		expiry := map[string]time.Time{fmt.Sprintln("db.example:5432:*:dbt:token-1"): first.Expiry}
		last := ""
		check := func(alive bool) {
			t.Helper()
			text, err := os.ReadFile(b.Address().File)
			if err != nil {
				t.Fatal(err)
			}
			if string(text) != last { // written between two checks, after the exchange
				last = string(text)
				if _, ok := expiry[last]; !ok {
					expiry[last] = time.Now().Add(life - 700*time.Millisecond)
				}
			}
			if got := time.Now().Before(expiry[last]); got != alive {
				t.Errorf("after %d exchanges the file has one that is alive: %v, want %v", issued, got, alive)
			}
		}
		for range 300 { // 30 seconds
			time.Sleep(100 * time.Millisecond)
			check(true)
		}
		if issued < 6 || issued > 12 {
			t.Errorf("%d exchanges of five seconds in thirty", issued)
		}
		down.Store(true)
		time.Sleep(2 * life)
		check(false)
		down.Store(false)
		time.Sleep(30 * time.Second) // longer than the back-off
		check(true)
		if others, err := filepath.Glob(filepath.Join(dir, "pgpass.*")); err != nil || len(others) > 0 {
			t.Errorf("left behind: %q, %v", others, err)
		}
	})
}

// TestAhead: with Ahead the credential is renewed without a request, otherwise
// only on request.
func TestAhead(t *testing.T) {
	t.Parallel()
	for _, ahead := range []bool{true, false} {
		var calls atomic.Int32
		b := start(t, route.Route{Kind: route.TokenEndpoint}, func(c *broker.Config) {
			c.Ahead = ahead
			c.Current = func(context.Context) (credential.Credential, error) {
				calls.Add(1)
				return credential.Credential{Token: secret.New("marked-token"), Expiry: time.Now().Add(time.Second)}, nil
			}
		})
		for deadline := time.Now().Add(5 * time.Minute); ahead && calls.Load() < 3 && time.Now().Before(deadline); {
			time.Sleep(10 * time.Millisecond)
		}
		b.Close()
		if n := calls.Load(); ahead && n < 3 || !ahead && n > 0 {
			t.Errorf("ahead %v: looked at %d times", ahead, n)
		}
	}
}
