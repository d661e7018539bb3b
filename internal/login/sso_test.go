package login_test

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/login"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

const (
	startURL = "https://acme.awsapps.com/start"
	analyst  = "arn:aws:iam::123456789012:role/aws-reserved/sso.amazonaws.com/eu-central-1/AWSReservedSSO_Analyst_0123456789abcdef"
	annsID   = "93a4b822-e0a1-70ae-9c3f-0c2b1a8d7e6f"
)

// An awsDesk is a person at a terminal, who signs in at IAM Identity Center.
type awsDesk struct {
	*desk
	sso     *standin.SSO
	sts     *standin.STS
	cache   string
	session string // the policy's name for the AWS CLI's sso-session
}

func sitAtAWS(t *testing.T, change func(*standin.SSOConfig)) *awsDesk {
	t.Helper()
	d := &awsDesk{
		desk:  &desk{t: t, state: t.TempDir(), now: time.Now(), shown: make(chan string, 8)},
		cache: filepath.Join(t.TempDir(), ".aws", "sso", "cache"),
	}
	d.browse = d.visit
	var err error
	// AWS's clock is the desk's but for signatures, which the SDK makes by the machine's.
	if d.sts, err = standin.StartSTS(standin.STSConfig{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.sts.Close)
	config := standin.SSOConfig{
		StartURL: startURL, Region: "eu-central-1", Assigned: map[string]string{"123456789012/Analyst": analyst},
		User: "ann@acme.example", UserID: annsID, Now: d.clock,
	}
	if change != nil {
		change(&config)
	}
	if d.sso, err = standin.StartSSO(d.sts, config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.sso.Close)
	return d
}

// account is what one process has.
func (d *awsDesk) account() *login.Account {
	env := d.env()
	env.AWS = d.cache
	return login.New(env, policy.Identity{
		Name: "sso", Issuer: d.sso.Issuer(), Kind: "people", Audience: "oidc-dbt",
		AWSSSO: &policy.AWSSSO{StartURL: startURL, Region: "eu-central-1", Account: "123456789012", Role: "Analyst", Session: d.session,
			Endpoint: d.sso.URL()},
	})
}

func (d *awsDesk) verifier() *idtoken.Verifier {
	return idtoken.NewVerifier(web.NewClient(web.NewTransport()), time.Now, idtoken.Issuer{URL: d.sso.Issuer()})
}

// compare holds what came of something to what should.
func (d *awsDesk) compare(what, got string, err error, want string) {
	d.t.Helper()
	if err != nil {
		got = fmt.Sprintf("%s: %v", fault.ClassOf(err), err)
	}
	got = strings.NewReplacer(d.sso.URL(), "$SSO", filepath.Join(d.cache, fileOf(startURL)), "START").Replace(got)
	if got != want {
		d.t.Errorf("%s:\n%s\nwant\n%s", what, got, want)
	}
}

func (d *awsDesk) signIn(device bool, want string) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), 5*time.Minute)
	defer cancel()
	claims, err := d.account().SignIn(ctx, d.verifier(), device, login.Keyring)
	user, _ := claims.String("https://sts.amazonaws.com/>identity_store_user_id")
	d.compare("sign in", user, err, want)
}

// token asks for one as a new process, and verifies it.
func (d *awsDesk) token(want string) {
	d.t.Helper()
	token, err := d.account().Token(d.t.Context())
	user := ""
	if err == nil {
		var claims idtoken.Claims
		claims, err = d.verifier().Verify(d.t.Context(), token, "oidc-dbt")
		user, _ = claims.String("https://sts.amazonaws.com/>identity_store_user_id")
	}
	d.compare("token", user, err, want)
}

// fileOf is the file of a key: a session's start URL or name, or a registration's.
func fileOf(key string) string {
	sum := sha1.Sum([]byte(key))
	return hex.EncodeToString(sum[:]) + ".json"
}

// files returns the cache's files, each with its JSON object.
func (d *awsDesk) files() map[string]map[string]any {
	d.t.Helper()
	all := map[string]map[string]any{}
	paths, _ := filepath.Glob(filepath.Join(d.cache, "*"))
	for _, path := range paths {
		text, err := os.ReadFile(path)
		object := map[string]any{}
		if err == nil {
			err = json.Unmarshal(text, &object)
		}
		info, serr := os.Stat(path)
		if err = errors.Join(err, serr); err != nil {
			d.t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			d.t.Errorf("%s has mode %v", path, info.Mode())
		}
		all[filepath.Base(path)] = object
	}
	return all
}

// put writes a file as another tool of AWS does.
func (d *awsDesk) put(name string, object map[string]any) {
	d.t.Helper()
	text, err := json.Marshal(object)
	if err == nil {
		err = errors.Join(os.MkdirAll(d.cache, 0o755), os.WriteFile(filepath.Join(d.cache, name), text, 0o600))
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// TestAWSBrowser: the files are those that the AWS CLI and botocore read, and no other process has to sign in.
func TestAWSBrowser(t *testing.T) {
	t.Parallel()
	for _, session := range []string{"", "acme"} {
		d := sitAtAWS(t, nil)
		d.session = session
		d.signIn(false, annsID)
		if page := <-d.shown; page != good {
			t.Errorf("the browser shows\n%s", page)
		}
		token, client := fileOf(startURL), fileOf(`{"region": "eu-central-1", "scopes": ["sso:account:access"], "session_name": null, `+
			`"startUrl": "https://acme.awsapps.com/start", "tool": "botocore"}`)
		if session != "" {
			token, client = fileOf("acme"), fileOf(`{"region": "eu-central-1", "scopes": ["sso:account:access"], "session_name": "acme", `+
				`"startUrl": "https://acme.awsapps.com/start", "tool": "botocore"}`)
		}
		files := d.files()
		if got, want := slices.Sorted(maps.Keys(files)), slices.Sorted(slices.Values([]string{token, client})); !slices.Equal(got, want) {
			t.Fatalf("the cache has %q, want %q", got, want)
		}
		for file, keys := range map[string][]string{
			token:  {"accessToken", "clientId", "clientSecret", "expiresAt", "refreshToken", "region", "registrationExpiresAt", "startUrl"},
			client: {"clientId", "clientSecret", "expiresAt", "grantTypes", "scopes"},
		} {
			if got := slices.Sorted(maps.Keys(files[file])); !slices.Equal(got, keys) {
				t.Errorf("%s has the keys %q, want %q", file, got, keys)
			}
		}
		if want := d.clock().Add(time.Hour).UTC().Format("2006-01-02T15:04:05Z"); files[token]["expiresAt"] != want {
			t.Errorf("expiresAt is %v, want %s", files[token]["expiresAt"], want)
		}
		d.token(annsID)
		d.signIn(false, annsID)
		if n := d.sso.Requests("/client/register"); n != 1 {
			t.Errorf("%d registrations, want 1", n)
		}
		said := strings.Join(d.said, "\n")
		for _, secret := range append(d.sso.Issued(), d.sso.Secrets()...) {
			if strings.Contains(said, secret) {
				t.Error("the terminal shows a secret")
			}
		}
		notes, _ := filepath.Glob(filepath.Join(d.state, "logins", "*.json"))
		for _, path := range notes {
			if text, err := os.ReadFile(path); err != nil || strings.Contains(string(text), "aoa") {
				t.Errorf("%v\n%s", err, text)
			}
		}
	}
}

func TestAWSRole(t *testing.T) {
	t.Parallel()
	d := sitAtAWS(t, nil)
	d.signIn(false, annsID)
	a := d.account()
	if _, err := a.Token(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := len(d.sts.Sessions())
	first, err := a.RoleCredentials(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := len(d.sts.Sessions()); got != before {
		t.Error("the first credential is not that of the ID token's request")
	}
	second, err := a.RoleCredentials(t.Context())
	if err != nil || second.AWS.AccessKeyID == first.AWS.AccessKeyID {
		t.Errorf("the second credential is the first one, %v", err)
	}
	const arn = "arn:aws:sts::123456789012:assumed-role/AWSReservedSSO_Analyst_0123456789abcdef/ann@acme.example"
	if first.ID != arn || first.Kind != "aws_session" || first.AWS.Region != "eu-central-1" || time.Until(first.Expiry).Round(time.Minute) != time.Hour {
		t.Errorf("the credential is %q, %s, of %q, until %s", first.ID, first.Kind, first.AWS.Region, first.Expiry)
	}
	if _, ok := d.sts.Session(first.AWS.AccessKeyID.Reveal()); !ok {
		t.Error("AWS does not know the credential")
	}
	other := sit(t, nil)
	_, err = other.account().RoleCredentials(t.Context())
	other.compare("role credentials", "", err,
		`usage: request role credentials: identity "engineers" does not sign in through IAM Identity Center (aws_sso)`)
}

func TestAWSRefusals(t *testing.T) {
	t.Parallel()
	const refused = "no_identity: sign in: refused: "
	second := time.Second
	for _, tt := range []struct {
		name   string
		change func(*standin.SSOConfig)
		device bool
		browse func(d *awsDesk, address string) string
		waited func(d *awsDesk, n int)
		want   string
		waits  []time.Duration
	}{
		{name: "device, approved", device: true, change: func(c *standin.SSOConfig) { c.Interval = 1; c.Approves = true }, want: annsID,
			waits: []time.Duration{second}},
		{name: "device, approved at the third time", device: true, change: func(c *standin.SSOConfig) { c.Interval = 1 }, want: annsID,
			waited: func(d *awsDesk, n int) {
				if n == 3 {
					d.sso.Decide(true)
				}
			}, waits: []time.Duration{second, second, second}},
		{name: "device, slowed", device: true, change: func(c *standin.SSOConfig) { c.Interval = 2 }, want: annsID,
			waited: func(d *awsDesk, n int) {
				switch n {
				case 2:
					d.later(-2 * second)
				case 3:
					d.sso.Decide(true)
				}
			}, waits: []time.Duration{2 * second, 2 * second, 7 * second}},
		{name: "device, denied", device: true, want: refused + `"access_denied"`, waited: func(d *awsDesk, n int) { d.sso.Decide(false) },
			waits: []time.Duration{5 * second}},
		{name: "device, expired", device: true, change: func(c *standin.SSOConfig) { c.CodeLife = 8 * second },
			want: "no_identity: sign in: the code has expired before it was used", waits: []time.Duration{5 * second, 5 * second}},
		{name: "device, of another portal", device: true, change: func(c *standin.SSOConfig) { c.StartURL = "https://other.awsapps.com/start" },
			want: refused + `"invalid_request": "Invalid start url provided"`},
		{name: "browser, of another portal", change: func(c *standin.SSOConfig) { c.StartURL = "https://other.awsapps.com/start" },
			want: refused + `"invalid_request": "Invalid issuerUrl or redirectUris"`},
		{name: "browser, refused", change: func(c *standin.SSOConfig) {
			c.Redirect = func(q url.Values) { q.Del("code"); q.Set("error", "access_denied") }
		}, want: refused + `"access_denied"`},
		{name: "browser, an injected code", browse: func(d *awsDesk, address string) string {
			back := d.stop(address)
			q := back.Query()
			q.Set("code", d.sso.Code("http://"+back.Host+back.Path))
			back.RawQuery = q.Encode()
			return d.visit(back.String())
		}, want: refused + `"invalid_grant": "Invalid grant provided"`},
		{name: "browser, foreign states first", browse: func(d *awsDesk, address string) string {
			back := d.stop(address)
			for _, query := range []string{"", "code=x", "code=x&state=other", back.RawQuery + "&code=x"} {
				if page := d.visit("http://" + back.Host + back.Path + "?" + query); !strings.Contains(page, "This is not the reply") {
					d.t.Errorf("query %q: %s", query, page)
				}
			}
			if page := d.visit("http://" + back.Host + "/callback?" + back.RawQuery); !strings.HasPrefix(page, "404 ") {
				d.t.Errorf("another path: %s", page)
			}
			return d.visit(back.String())
		}, want: annsID},
		{name: "browser, a client that has expired meanwhile", change: func(c *standin.SSOConfig) { c.ClientLife = time.Hour },
			browse: func(d *awsDesk, address string) string {
				back := d.stop(address)
				d.later(2 * time.Hour)
				return d.visit(back.String())
			}, want: refused + `"invalid_client": "Invalid client provided"`},
		{name: "no such permission set", change: func(c *standin.SSOConfig) { c.Assigned = nil },
			want: `exchange_refused: request role credentials: role "Analyst" of account 123456789012: refused: "ForbiddenException": "No access"`},
		{name: "no federation", change: func(c *standin.SSOConfig) { c.NoFederation = true },
			want: `no_identity: request ID token of AWS: "OutboundWebIdentityFederationDisabledException": ` +
				`"Outbound web identity federation is disabled for the account."`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := sitAtAWS(t, tt.change)
			if tt.browse != nil {
				d.browse = func(address string) string { return tt.browse(d, address) }
			}
			if tt.waited != nil {
				d.waited = func(n int) { tt.waited(d, n) }
			}
			d.signIn(tt.device, tt.want)
			if !slices.Equal(d.waits, tt.waits) {
				t.Errorf("the pauses are %v, want %v", d.waits, tt.waits)
			}
			if _, kept := d.files()[fileOf(startURL)]; kept != (tt.want == annsID) {
				t.Errorf("a session was kept: %v", kept)
			}
		})
	}
}

// TestAWSClient: a client that AWS does not know any more is registered anew the
// next time; that of the other flow, or of a registration that ends, at once.
func TestAWSClient(t *testing.T) {
	t.Parallel()
	d := sitAtAWS(t, func(c *standin.SSOConfig) { c.Approves = true; c.ClientLife = time.Hour })
	d.signIn(true, annsID)
	d.signIn(true, annsID)
	if n := d.sso.Requests("/client/register"); n != 1 {
		t.Errorf("%d registrations, want 1", n)
	}
	d.signIn(false, annsID)
	d.later(50 * time.Minute)
	d.signIn(false, annsID)
	if n := d.sso.Requests("/client/register"); n != 3 {
		t.Errorf("%d registrations, want 3", n)
	}
	client := fileOf(`{"region": "eu-central-1", "scopes": ["sso:account:access"], "session_name": null, ` +
		`"startUrl": "https://acme.awsapps.com/start", "tool": "botocore"}`)
	d.put(client, map[string]any{"clientId": "gone", "clientSecret": "gone", "expiresAt": "2099-01-01T00:00:00Z"})
	d.signIn(true, `no_identity: sign in: refused: "invalid_client": "Invalid client provided"`)
	d.signIn(true, annsID)
}

// TestAWSCache: what other tools have left is used where it is this person's, and of this portal.
func TestAWSCache(t *testing.T) {
	t.Parallel()
	const away = `no_identity: request role credentials: not signed in as identity "sso" (https://acme.awsapps.com/start)`
	signedIn := func(d *awsDesk) map[string]any { // by the AWS CLI, that is
		d.signIn(false, annsID)
		object := d.files()[fileOf(startURL)]
		if err := errors.Join(os.RemoveAll(d.cache), os.RemoveAll(filepath.Join(d.state, "logins"))); err != nil {
			d.t.Fatal(err)
		}
		return object
	}
	with := func(object map[string]any, key string, v any) map[string]any {
		object = maps.Clone(object)
		object[key] = v
		return object
	}
	for _, tt := range []struct {
		name string
		lay  func(d *awsDesk, object map[string]any)
		want string
	}{
		{"by start URL", func(d *awsDesk, o map[string]any) { d.put(fileOf(startURL), o) }, annsID},
		{"by a session's name that the policy has", func(d *awsDesk, o map[string]any) { d.session = "acme"; d.put(fileOf("acme"), o) }, annsID},
		{"by a session's name that it does not have", func(d *awsDesk, o map[string]any) { d.put(fileOf("mine"), o) }, annsID},
		{"with times as older tools write them", func(d *awsDesk, o map[string]any) {
			d.put(fileOf(startURL), with(o, "expiresAt", time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05UTC")))
		}, annsID},
		{"the last to end of several", func(d *awsDesk, o map[string]any) {
			d.put(fileOf("a"), with(with(o, "accessToken", "x"), "expiresAt", "2020-01-01T00:00:00Z"))
			d.put(fileOf("b"), o)
		}, annsID},
		{"none", func(*awsDesk, map[string]any) {}, away},
		{"of another portal", func(d *awsDesk, o map[string]any) {
			d.put(fileOf("b"), with(o, "startUrl", "https://evil.example/start"))
		}, away},
		{"of another region", func(d *awsDesk, o map[string]any) { d.put(fileOf("b"), with(o, "region", "us-east-1")) }, away},
		{"of another portal under the name", func(d *awsDesk, o map[string]any) {
			d.put(fileOf(startURL), with(o, "startUrl", "https://evil.example/start"))
		}, `no_identity: read the login of identity "sso": "START" is of start URL "https://evil.example/start" in region "eu-central-1"`},
		{"readable by others", func(d *awsDesk, o map[string]any) {
			d.put(fileOf(startURL), o)
			if err := os.Chmod(filepath.Join(d.cache, fileOf(startURL)), 0o644); err != nil {
				d.t.Fatal(err)
			}
		}, `no_identity: read the login of identity "sso": "START" is accessible to other users (-rw-r--r--), want mode 0600`},
		{"a symbolic link", func(d *awsDesk, o map[string]any) {
			d.put("elsewhere", o)
			if err := os.Symlink("elsewhere", filepath.Join(d.cache, fileOf(startURL))); err != nil {
				d.t.Fatal(err)
			}
		}, `no_identity: read the login of identity "sso": "START" is a symbolic link, want a regular file`},
		{"damaged", func(d *awsDesk, o map[string]any) { d.put(fileOf(startURL), with(o, "accessToken", "")) },
			`no_identity: read the login of identity "sso": "START" holds no session`},
		{"ended, without a refresh token", func(d *awsDesk, o map[string]any) {
			d.put(fileOf(startURL), with(with(o, "expiresAt", "2020-01-01T00:00:00Z"), "refreshToken", ""))
		}, `no_identity: request role credentials: the session of identity "sso" has ended at 2020-01-01T00:00:00Z`},
		{"ended by an administrator", func(d *awsDesk, o map[string]any) { d.put(fileOf(startURL), o); d.sso.End() },
			`no_identity: request role credentials: the session of identity "sso" has ended: "UnauthorizedException": "Session token not found or invalid"`},
		{"no longer assigned", func(d *awsDesk, o map[string]any) { d.put(fileOf(startURL), o); d.sso.Assign(nil) },
			`exchange_refused: request role credentials: role "Analyst" of account 123456789012: refused: "ForbiddenException": "No access"`},
		{"a refresh token that is used up", func(d *awsDesk, o map[string]any) {
			d.put(fileOf(startURL), with(with(o, "expiresAt", "2020-01-01T00:00:00Z"), "refreshToken", "used"))
		}, `no_identity: refresh the login of identity "sso": "invalid_grant": "Invalid grant provided"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := sitAtAWS(t, nil)
			tt.lay(d, signedIn(d))
			before := d.text()
			d.token(tt.want)
			if after := d.text(); after != before {
				t.Errorf("the cache has changed:\n%s\nwant\n%s", after, before)
			}
		})
	}
}

// text is the cache as one text.
func (d *awsDesk) text() (all string) {
	d.t.Helper()
	paths, _ := filepath.Glob(filepath.Join(d.cache, "*"))
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			d.t.Fatal(err)
		}
		all += path + "\n" + string(text) + "\n"
	}
	return all
}

// TestAWSRefresh: a session is refreshed when less than 15 minutes are left, by
// one of many processes, and where it was: the refresh token of before is used up.
func TestAWSRefresh(t *testing.T) {
	t.Parallel()
	d := sitAtAWS(t, nil)
	d.signIn(false, annsID)
	d.later(44 * time.Minute)
	d.token(annsID)
	if n := d.sso.Refreshes(); n != 0 {
		t.Errorf("%d refreshes with 16 minutes left, want none", n)
	}
	for round := range 3 {
		d.later(46 * time.Minute)
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { d.token(annsID) })
		}
		all.Wait()
		if n := d.sso.Refreshes(); n != round+1 {
			t.Errorf("%d refreshes in round %d, want %d", n, round+1, round+1)
		}
	}
	if was, revoked, err := d.account().SignOut(t.Context()); !was || !revoked || err != nil {
		t.Errorf("a refreshed session is not ours any more: %v, %v, %v", was, revoked, err)
	}
}

// TestAWSRefreshFails: a session that lives is used, however AWS is.
func TestAWSRefreshFails(t *testing.T) {
	t.Parallel()
	d := sitAtAWS(t, func(c *standin.SSOConfig) { c.ClientLife = time.Hour })
	d.signIn(false, annsID)
	d.later(50 * time.Minute)
	object := d.files()[fileOf(startURL)]
	object["refreshToken"] = "used"
	d.put(fileOf(startURL), object)
	d.token(annsID)
	d.later(9*time.Minute + 30*time.Second)
	d.token(`no_identity: refresh the login of identity "sso": "invalid_grant": "Invalid grant provided"`)
	d.later(time.Minute) // the registration has ended: nothing is sent with it
	d.token(fmt.Sprintf(`no_identity: request role credentials: the session of identity "sso" has ended at %s`, object["expiresAt"]))
}

func TestAWSSignOut(t *testing.T) {
	t.Parallel()
	const cli = `usage: sign out of identity "sso": the session in "START" is the AWS CLI's`
	d := sitAtAWS(t, nil)
	out := func(want string) {
		t.Helper()
		was, revoked, err := d.account().SignOut(t.Context())
		d.compare("sign out", fmt.Sprint(was, revoked), err, want)
	}
	out("false false")
	d.signIn(false, annsID)
	if !d.account().SignedIn() {
		t.Error("not signed in")
	}
	session := d.files()[fileOf(startURL)]
	out("true true")
	if _, left := d.files()[fileOf(startURL)]; left || d.sso.Requests("/logout") != 1 || d.account().SignedIn() {
		t.Errorf("the session is left: %v, %d requests", left, d.sso.Requests("/logout"))
	}
	d.put(fileOf(startURL), session)
	d.token(`no_identity: request role credentials: the session of identity "sso" has ended: "UnauthorizedException": "Session token not found or invalid"`)
	out(cli)
	d.signIn(false, annsID)
	session["accessToken"] = "of-aws-sso-login-since-then"
	d.put(fileOf(startURL), session)
	out(cli)
	if _, left := d.files()[fileOf(startURL)]; !left {
		t.Error("the AWS CLI's session was removed")
	}
	d.signIn(false, annsID)
	d.sso.End()
	out("true true") // it has ended there already
	d.signIn(false, annsID)
	if err := os.Remove(filepath.Join(d.cache, fileOf(startURL))); err != nil {
		t.Fatal(err)
	}
	out("true false")
	out("false false")
}

func TestAWSMemory(t *testing.T) {
	t.Parallel()
	d := sitAtAWS(t, nil)
	a := d.account()
	if _, err := a.SignIn(t.Context(), d.verifier(), false, login.Memory); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := a.Token(t.Context()); err != nil {
			t.Error(err)
		}
		d.later(57 * time.Minute)
	}
	if !a.InMemory() || d.sso.Refreshes() != 2 {
		t.Errorf("%d refreshes, want 2", d.sso.Refreshes())
	}
	if files, _ := filepath.Glob(filepath.Join(d.cache, "*")); len(files) > 0 {
		t.Errorf("left: %q", files)
	}
}

func TestAWSHosts(t *testing.T) {
	t.Parallel()
	for region, want := range map[string]string{
		"eu-central-1":  "oidc.eu-central-1.amazonaws.com portal.sso.eu-central-1.amazonaws.com sts.eu-central-1.amazonaws.com",
		"us-east-1":     "oidc.us-east-1.amazonaws.com portal.sso.us-east-1.amazonaws.com sts.us-east-1.amazonaws.com",
		"us-gov-west-1": "oidc.us-gov-west-1.amazonaws.com portal.sso.us-gov-west-1.amazonaws.com sts.us-gov-west-1.amazonaws.com",
		"cn-north-1":    "oidc.cn-north-1.amazonaws.com.cn portal.sso.cn-north-1.amazonaws.com.cn sts.cn-north-1.amazonaws.com.cn",
	} {
		if got := strings.Join(login.AWSHosts(policy.AWSSSO{Region: region}), " "); got != want {
			t.Errorf("%s: %s, want %s", region, got, want)
		}
	}
}

// TestAWSReplies: what is not AWS's reply.
func TestAWSReplies(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, path string
		status     int
		body       string
		want       string
	}{
		{"registration without a client", "/client/register", 200, `{}`, "unreachable: sign in: the provider's reply has no client that can be used"},
		{"registration that has expired", "/client/register", 200, `{"clientId":"a","clientSecret":"b","clientSecretExpiresAt":1}`,
			"unreachable: sign in: the provider's reply has no client that can be used"},
		{"registration in HTML", "/client/register", 200, `<html>`, "unreachable: ask IAM Identity Center: unexpected reply, want a JSON object"},
		{"a proxy's page", "/client/register", 403, `<html>`, "unreachable: ask IAM Identity Center: status is 403, want 200"},
		{"a token without an expiry", "/token", 200, `{"accessToken":"a"}`, "unreachable: sign in: the provider's reply has no session that can be used"},
		{"a token with a line break", "/token", 200, `{"accessToken":"a\nb","expiresIn":60}`,
			"unreachable: sign in: the provider's reply has no session that can be used"},
		{"no role credentials", "/federation/credentials", 200, `{}`, "unreachable: request role credentials: the reply has none"},
		{"role credentials of before", "/federation/credentials", 200,
			`{"roleCredentials":{"accessKeyId":"a","secretAccessKey":"b","sessionToken":"c","expiration":1000}}`,
			"unreachable: the credential expired at 1970-01-01T00:00:01Z, and it is NOW now"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := sitAtAWS(t, nil)
			d.transport = &instead{path: tt.path, status: tt.status, body: tt.body}
			d.signIn(false, strings.ReplaceAll(tt.want, "NOW", d.clock().UTC().Format(time.RFC3339)))
		})
	}
}

// instead answers for a path itself, only once where first is set.
type instead struct {
	path   string
	status int
	body   string
	first  bool
	done   atomic.Bool
}

func (i *instead) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path != i.path || i.first && i.done.Swap(true) {
		return http.DefaultTransport.RoundTrip(r)
	}
	return &http.Response{StatusCode: i.status, Body: io.NopCloser(strings.NewReader(i.body)), Header: http.Header{}, Request: r}, nil
}
