package login_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/login"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

const sql = "https://database.windows.net/.default"

// azure is a provider whose client may ask for tokens of other resources.
func azure(c *standin.PeopleConfig) { c.Scopes = []string{sql, "session:role:ANALYST"} }

// access asks for an access token as a new process, and compares how it ends: with its scope, or an error.
func (d *desk) access(a *login.Account, scope, want string) (token string) {
	d.t.Helper()
	v, expiry, err := a.AccessToken(d.t.Context(), scope)
	got := ""
	if err == nil {
		token = v.Reveal()
		got = d.idp.Access()[token]
		if life := expiry.Sub(d.clock()); life > 300*time.Second || life < 0 {
			d.t.Errorf("the token lives for %s", life)
		}
	}
	d.compare("access token", got, err, want)
	return token
}

// TestAccessToken: one refresh serves all processes that ask in the same time, scope by scope.
func TestAccessToken(t *testing.T) {
	t.Parallel()
	for _, store := range []string{login.File, login.Keyring} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			d := sit(t, azure)
			d.signIn(false, store, "ann")
			for round := range 3 {
				var all sync.WaitGroup
				for range 20 {
					all.Go(func() { d.access(d.account(), sql, "openid offline_access "+sql) })
				}
				all.Wait()
				if n := d.idp.Refreshes(); n != round+1 {
					t.Errorf("%d refreshes in round %d, want %d", n, round+1, round+1)
				}
				d.later(3 * time.Minute)
			}
			one, two := d.access(d.account(), sql, "openid offline_access "+sql), d.access(d.account(), "session:role:ANALYST", "openid offline_access session:role:ANALYST")
			if again := d.access(d.account(), sql, "openid offline_access "+sql); one != again || one == two {
				t.Error("the token of one scope was not kept with that of another")
			}
			d.token("ann")
		})
	}
}

// TestAccessTokenAgain: a broker that asks again gets a token that lives longer; the ID token is kept.
func TestAccessTokenAgain(t *testing.T) {
	t.Parallel()
	d := sit(t, azure)
	a := d.account()
	if _, err := a.SignIn(t.Context(), d.verifier(), false, login.Memory); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for range 3 {
		seen[d.access(a, sql, "openid offline_access "+sql)] = true
	}
	if _, err := a.Token(t.Context()); err != nil || len(seen) != 3 || d.idp.Refreshes() != 3 {
		t.Errorf("%d tokens by %d refreshes, %v", len(seen), d.idp.Refreshes(), err)
	}
}

// TestAccessTokenReplies: a reply that is no good gives no token, and does not sign the person out.
func TestAccessTokenReplies(t *testing.T) {
	t.Parallel()
	const (
		failed    = `unreachable: refresh the login of identity "engineers": `
		malformed = "unreachable: ask the identity provider: a token in the reply is malformed"
		reply     = failed + "the reply from the identity provider has "
	)
	for _, tt := range []struct {
		name  string
		reply func(answer map[string]any)
		want  string
	}{
		{"no expiry", set("expires_in", nil), reply + "no expires_in: the expiry of its token is unknown"},
		{"expiry in the past", set("expires_in", -1), reply + `an expires_in of "-1", want seconds from now`},
		{"expiry that is absurd", set("expires_in", 1<<40), reply + `an expires_in of "1099511627776", want seconds from now`},
		{"no access token", set("access_token", nil), reply + "no access token"},
		{"another type", set("token_type", "DPoP"), reply + `a token of type "DPoP", want Bearer`},
		{"garbled", set("access_token", "a b"), malformed},
		{"a number", set("access_token", 7), malformed},
		{"an ID token that is an object", set("id_token", map[string]any{"token": "x"}), malformed},
		{"an ID token in its place", func(answer map[string]any) { answer["access_token"] = answer["id_token"] },
			failed + "the access token in the reply is an ID token, which no warehouse must get as a bearer"},
		{"too long", set("access_token", strings.Repeat("a", 70000)), malformed},
		{"a scope less", set("scope", "openid"),
			`exchange_refused: refresh the login of identity "engineers": the access token has the scopes "openid", want "` + sql + `"`},
		{"another resource", set("scope", "https://graph.microsoft.com/User.Read"), `exchange_refused: refresh the login of identity ` +
			`"engineers": the access token has the scopes "https://graph.microsoft.com/User.Read", want "` + sql + `"`},
		{"another person's", nil, `token_rejected: refresh the login of identity "engineers": the ID token is for "mallory", want "ann"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var bad func(map[string]any)
			d := sit(t, func(c *standin.PeopleConfig) {
				azure(c)
				c.Reply = func(answer map[string]any) {
					if bad != nil {
						bad(answer)
					}
				}
			})
			d.signIn(false, login.File, "ann")
			if bad = tt.reply; bad == nil {
				d.idp.SetClaims(map[string]any{"sub": "mallory"})
				d.access(d.account(), sql, tt.want)
				return
			}
			d.access(d.account(), sql, tt.want)
			bad = nil
			d.access(d.account(), sql, "openid offline_access "+sql) // by the refresh token that came with the bad reply
		})
	}
}

func set(field string, value any) func(map[string]any) {
	return func(answer map[string]any) {
		if answer[field] = value; value == nil {
			delete(answer, field)
		}
	}
}

// TestAccessTokenWithout: what a provider may leave out, and how it names what it gives.
func TestAccessTokenWithout(t *testing.T) {
	t.Parallel()
	for _, reply := range []func(map[string]any){
		set("scope", nil), set("id_token", nil), set("scope", "https://database.windows.net/user_impersonation "+sql),
		set("scope", "https://database.windows.net/user_impersonation"),
	} {
		d := sit(t, func(c *standin.PeopleConfig) { azure(c); c.Reply = reply })
		d.signIn(false, login.File, "ann")
		d.access(d.account(), sql, "openid offline_access "+sql)
		d.token("ann") // the ID token is still that of the sign-in, or the new one
	}
}

// TestAccessTokenRefused: what no sign-in helps against is the provider's refusal, all else asks for one.
func TestAccessTokenRefused(t *testing.T) {
	t.Parallel()
	d := sit(t, nil)
	d.access(d.account(), sql, `no_identity: request ID token: not signed in as identity "engineers" ($IDP)`)
	d.signIn(false, login.File, "ann")
	d.access(d.account(), sql, `exchange_refused: refresh the login of identity "engineers": "invalid_scope": `+
		`"Invalid scopes: openid offline_access `+sql+`"`)
	d.token("ann")
	if was, _, err := d.account().SignOut(t.Context()); !was || err != nil {
		t.Error(was, err)
	}
	d.access(d.account(), sql, `no_identity: request ID token: not signed in as identity "engineers" ($IDP)`)
}

// TestManyScopes: what is kept stays small.
func TestManyScopes(t *testing.T) {
	t.Parallel()
	d := sit(t, func(c *standin.PeopleConfig) {
		for i := range 9 {
			c.Scopes = append(c.Scopes, fmt.Sprint("scope:", i))
		}
		c.Reply = func(answer map[string]any) {
			answer["access_token"] = answer["access_token"].(string) + strings.Repeat("a", 30000)
		}
	})
	d.signIn(false, login.Keyring, "ann")
	for i := range 9 {
		if _, _, err := d.account().AccessToken(t.Context(), fmt.Sprint("scope:", i)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(slices.Collect(maps.Keys(d.idp.Access()))); n != 10 {
		t.Errorf("%d access tokens", n)
	}
	d.token("ann")
}
