package provider

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

var (
	vaultPath = lazy.MustCompile(`^[A-Za-z0-9_+@-][A-Za-z0-9_.+@-]*(?:/[A-Za-z0-9_+@-][A-Za-z0-9_.+@-]*)*$`)
	vaultRole = lazy.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)
	leaseText = lazy.MustCompile(`^[A-Za-z0-9_.+@/-]+$`)
)

// vaultProvider logs in at a Vault or OpenBao server with the ID token (JWT
// auth method), and reads a secret with the token that it gets. The end of
// that token is the end of the secret's lease.
// (Vault API: auth/jwt, secret/databases, secret/kv, auth/token; OpenBao has the same)
var vaultProvider = provider{
	spec: policy.Provider{
		Keys: []policy.Key{
			{Name: "address", Required: true, Check: checkVaultAddress, Doc: "The server, https or http on loopback, without /v1."},
			{Name: "namespace", Check: matching(vaultPath, 1, 255, "a path such as team/dbt"), Doc: "The namespace (default: the root)."},
			{Name: "auth_path", Check: checkAuthPath, Doc: "Where the JWT auth method is enabled (default: jwt)."},
			{Name: "role", Required: true, Claims: true, Check: matching(vaultRole, 1, 255, "a role's name"), Doc: "The role of the JWT auth method."},
			{Name: "audience", Required: true, Doc: "The ID token's audience, one of the role's bound_audiences."},
			{Name: "secret", Required: true, Claims: true, Check: checkSecretPath, Doc: "The API path that is read: database/creds/ROLE, or of a KV engine secret/data/NAME (version 2), kv/NAME (version 1)."},
			{Name: "ca_cert", Check: checkRoots, Doc: "The certificate authorities that are trusted for this server, instead of the system's: one or more certificates in PEM."},
			{Name: clientCertFile, Check: checkAbsolute, Doc: "The absolute path of a certificate in PEM, with its chain, for a server that asks its clients for one."},
			{Name: clientKeyFile, Check: checkAbsolute, Doc: "The absolute path of that certificate's key in PEM, of mode 0600; the key itself never stands in a policy."},
			{Name: "static", Bool: true, Doc: "Accept a secret that has no lease, and that outlives the run (default: false)."},
		},
		Audience: func(v policy.Values) string { return v.Get("audience") },
		Check: func(v policy.Values, _ time.Duration) []policy.KeyError {
			faults := checkAudience(v, v.Get("audience"), "address")
			cert, key := v.Get(clientCertFile), v.Get(clientKeyFile)
			switch {
			case cert != "" && key == "":
				faults = append(faults, policy.KeyError{Key: clientCertFile, Err: errors.New("needs client_key_file, too")})
			case cert == "" && key != "":
				faults = append(faults, policy.KeyError{Key: clientKeyFile, Err: errors.New("needs client_cert_file, too")})
			case cert != "" && !strings.HasPrefix(v.Get("address"), "https:"):
				faults = append(faults, policy.KeyError{Key: clientCertFile, Err: errors.New("is shown over TLS only: address must be https")})
			}
			return faults
		},
	},
	exchange: readSecret,
	endpoints: func(v policy.Values, _ credential.Warehouse) []string {
		if v.Get("ca_cert") != "" || v.Get(clientCertFile) != "" {
			return nil // connected early, it would be held to the system's roots, and shown no certificate
		}
		return []string{v.Get("address")}
	},
}

// The keys of a client's certificate.
const clientCertFile, clientKeyFile = "client_cert_file", "client_key_file"

// Files returns the paths of files that an exchange reads, by the keys that
// name them. Who writes them is whom the server sees.
func Files(v policy.Values) map[string]string {
	files := map[string]string{}
	for _, key := range []string{clientCertFile, clientKeyFile} {
		if path := v.Get(key); path != "" {
			files[key] = path
		}
	}
	return files
}

func checkAbsolute(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return errors.New("want an absolute path, without . and .. in it")
	}
	return nil
}

// maxPEM bounds a file of PEM: a chain of certificates is under 20 KiB.
const maxPEM = 256 << 10

// clientCertificate reads what is shown to the server, anew for each of our
// clients: whoever issues it may replace it in a long run. The errors, of class
// Usage, quote nothing of the files.
func clientCertificate(l credential.Lease) (c tls.Certificate, err error) {
	wrong := func(key, path string, err error) error {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return fault.New(fault.Usage, fmt.Errorf("read %s %q: %w", key, path, err), "")
	}
	cert, err := disk.Read(l.ClientCert, maxPEM)
	if err != nil {
		return c, wrong(clientCertFile, l.ClientCert, err)
	}
	key, err := disk.ReadSecret(l.ClientKey, maxPEM)
	if err != nil {
		return c, wrong(clientKeyFile, l.ClientKey, err)
	}
	if c, err = tls.X509KeyPair(cert, key); err != nil {
		return c, wrong(clientKeyFile, l.ClientKey, errors.New("want the unencrypted key, in PEM, of the certificate that client_cert_file has first"))
	}
	return c, nil
}

// checkVaultAddress refuses what leads to the API, to which the client adds
// /v1, or to the web interface.
func checkVaultAddress(value string) error {
	u, err := web.CheckURL(value)
	if err != nil {
		return err
	}
	for _, end := range []string{"/v1", "/ui"} {
		if at := strings.Index(u.Path+"/", end+"/"); at >= 0 {
			return fmt.Errorf("has %s in it: write the server's address without it, %q", end, u.Scheme+"://"+u.Host+u.Path[:at])
		}
	}
	return nil
}

func checkAuthPath(value string) error {
	if name, ok := strings.CutPrefix(value, "auth/"); ok {
		return fmt.Errorf("begins with auth/, which the client adds: write %q", strings.TrimSuffix(name, "/login"))
	}
	return matching(vaultPath, 1, 255, "the path of a JWT auth method, without auth/")(value)
}

func checkSecretPath(value string) error {
	if path, ok := strings.CutPrefix(strings.TrimPrefix(value, "/"), "v1/"); ok && vaultPath.MatchString(path) {
		return fmt.Errorf("begins with v1/, which the client adds: write %q", path)
	}
	return matching(vaultPath, 1, 511, "an API path such as database/creds/dbt, without v1/")(value)
}

func authPath(v policy.Values) string {
	if p := v.Get("auth_path"); p != "" {
		return p
	}
	return "jwt"
}

// checkRoots does not repeat the text: who pastes a key in the certificate's
// place must not find it in the log.
func checkRoots(text string) error {
	_, err := roots(text)
	return err
}

// roots reads certificates in PEM, and nothing else.
func roots(text string) (*x509.CertPool, error) {
	want := errors.New("want certificates in PEM, -----BEGIN CERTIFICATE----- and so on")
	pool := x509.NewCertPool()
	rest := []byte(text)
	for len(bytes.TrimSpace(rest)) > 0 {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return nil, want
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, want
		}
		pool.AddCert(c)
	}
	return pool, nil
}

// A vault is a server, and who we are there.
type vault struct {
	client  *api.Client
	pinned  bool           // the server has authorities of its own
	shows   bool           // the server is shown a certificate
	secrets []secret.Value // that it has been sent: its words may echo them
}

// newVault returns a client that knows nothing but its arguments. The library
// reads the VAULT_ variables in any case; whatever it took from them (token,
// namespace, further headers, wrapping) is replaced.
func newVault(env Env, l credential.Lease) (vault, error) {
	config := &api.Config{
		Address: l.Address, HttpClient: env.HTTP, DisableRedirects: true,
		// web.Retry bounds the tries, as it does everywhere.
		CheckRetry: func(context.Context, *http.Response, error) (bool, error) { return false, nil },
	}
	var pool *x509.CertPool
	if l.CACert != "" {
		var err error
		if pool, err = roots(l.CACert); err != nil {
			return vault{}, fmt.Errorf("read ca_cert: %w", err)
		}
		config.HttpClient = web.NewClient(env.Network.Trusting(pool))
	}
	if l.ClientCert != "" {
		certificate, err := clientCertificate(l)
		if err != nil {
			return vault{}, err
		}
		config.HttpClient = web.NewClient(env.Network.Showing(certificate, pool))
	}
	client, err := api.NewClient(config)
	if err != nil {
		return vault{}, fault.New(fault.Usage, errors.New("make a client: one of the VAULT_ variables of the environment is malformed"),
			"remove it: none is used, but the client does not start with it")
	}
	client.SetHeaders(http.Header{api.RequestHeaderName: {"true"}})
	if l.Namespace != "" {
		client.SetNamespace(l.Namespace)
	}
	client.SetWrappingLookupFunc(func(string, string) string { return "" })
	client.SetToken(l.Token.Reveal())
	return vault{client: client, pinned: l.CACert != "", shows: l.ClientCert != "", secrets: []secret.Value{l.Token}}, nil
}

// ask sends a request, as often as it takes, and returns what is in the reply.
// What a try began whose reply was lost ends with the login: a second lease is
// below the same token, and a second token is used by nobody.
func (v vault) ask(ctx context.Context, hint func(words string) string, send func(context.Context) (*api.Response, error)) (*api.Secret, error) {
	return web.Retry(ctx, func(ctx context.Context) (*api.Secret, error) {
		resp, err := send(ctx)
		if resp != nil {
			defer resp.Body.Close()
		}
		if err != nil {
			return nil, v.fault(err, hint)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return nil, v.fault(err, hint)
		}
		s, err := api.ParseSecret(bytes.NewReader(body))
		if err != nil || s == nil {
			return nil, foreign("Vault", "the reply is not one of Vault")
		}
		return s, nil
	})
}

// passing reports whether a status is one of a moment. 412 is a replica that is behind.
func passing(status int) bool {
	return web.Transient(status) || status == http.StatusPreconditionFailed
}

// keysLate are the words of a login that failed with status 400 because the
// server could not get the issuer's keys in time. (vault-plugin-auth-jwt,
// issues 11 and 306: "fetching keys oidc: get keys failed …", "keyset
// configuration error: Get …/.well-known/openid-configuration: … i/o timeout")
var keysLate = []string{"fetching keys", "get keys failed", "keyset configuration error"}

// fault tells the server's no from nonsense, and marks what another try may
// cure. A reply that is not JSON stands whole in api.ResponseError: only the
// words of its `errors` are used.
func (v vault) fault(err error, hint func(words string) string) error {
	var reply *api.ResponseError
	if !errors.As(err, &reply) {
		return v.noReply(err)
	}
	words := ""
	if !reply.RawError {
		words = strings.Join(strings.Fields(strings.Join(reply.Errors, "; ")), " ")
	}
	late := func(part string) bool { return strings.Contains(words, part) }
	switch {
	case reply.StatusCode == http.StatusNotFound && !reply.RawError && words == "":
		return fault.New(fault.Refused, errors.New("there is nothing"), hint(""))
	case words == "" && reply.StatusCode == http.StatusPreconditionFailed:
		return web.Temporary(unreachable("Vault replies status %d", reply.StatusCode))
	case words == "":
		return replied("Vault", reply.StatusCode)
	case passing(reply.StatusCode):
		return web.Temporary(unreachable("Vault replies status %d, %s", reply.StatusCode, quoted(words, v.secrets)))
	case reply.StatusCode == http.StatusBadRequest && slices.ContainsFunc(keysLate, late):
		return web.Temporary(issuerUnreachable("Vault", words, v.secrets))
	}
	return refused("", words, hint(words), v.secrets...)
}

// noReply also knows of the keys about certificates.
func (v vault) noReply(err error) error {
	switch {
	case web.RefusesTLS(err) && v.shows:
		return fault.New(fault.Unreachable, web.Cause(err), "the server must take the certificate of client_cert_file: compare its authority with the listener's tls_client_ca_file, and its dates with the clock")
	case web.RefusesTLS(err):
		return fault.New(fault.Unreachable, web.Cause(err), "give client_cert_file and client_key_file where the server asks its clients for a certificate; it must speak TLS 1.2 or later")
	case !web.UnknownAuthority(err):
		return noReply(err)
	case v.pinned:
		return fault.New(fault.Unreachable, web.Cause(err), "ca_cert must be the authority of the server's certificate, or that certificate if it is its own")
	}
	return fault.New(fault.Unreachable, web.Cause(err), "give the authority's certificate as ca_cert; or "+web.Hint(err))
}

// nonsense reports whether no lease has so many seconds. More than longestLife
// would overflow a Duration in the end.
func nonsense(seconds int) bool {
	return seconds < 0 || int64(seconds) > int64(longestLife/time.Second)
}

// readSecret is the exchange. From the login on, what it returns holds the
// lease, also beside an error.
func readSecret(ctx context.Context, env Env, r request) (c credential.Credential, err error) {
	g := r.grant
	v := g.Exchange()
	lease := credential.Lease{Address: v.Get("address"), Namespace: v.Get("namespace"), CACert: v.Get("ca_cert"), ClientCert: v.Get(clientCertFile), ClientKey: v.Get(clientKeyFile)}
	server, err := newVault(env, lease)
	if err != nil {
		return c, err
	}
	server.secrets = append(server.secrets, r.idToken)
	body, err := json.Marshal(map[string]string{"role": v.Get("role"), "jwt": r.idToken.Reveal()})
	if err != nil {
		return c, err
	}
	asked := env.Now() // before each request: no expiry is later than the server's own
	login, err := server.ask(ctx, loginHint(g), func(ctx context.Context) (*api.Response, error) {
		return server.client.Logical().WriteRawWithContext(ctx, "auth/"+authPath(v)+"/login", body)
	})
	if err != nil {
		return c, fmt.Errorf("log in: %w", err)
	}
	if login.Auth == nil || login.Auth.ClientToken == "" {
		return c, unreachable("log in: the reply has no token in it")
	}
	if strings.ContainsFunc(login.Auth.ClientToken, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return c, unreachable("log in: the token in the reply has characters that none has")
	}
	lease.Token = secret.New(login.Auth.ClientToken)
	c.Lease = &lease
	if life := login.Auth.LeaseDuration; nonsense(life) {
		return c, unreachable("log in: the reply has a lease_duration of %d, want seconds from now", life)
	}
	lease.Login = termFrom(asked, login.Auth.LeaseDuration, login.Auth.Renewable)
	server.secrets = append(server.secrets, lease.Token)
	server.client.SetToken(lease.Token.Reveal())

	asked = env.Now()
	path := v.Get("secret")
	reply, err := server.ask(ctx, readHint(g), func(ctx context.Context) (*api.Response, error) {
		return server.client.Logical().ReadRawWithContext(ctx, path)
	})
	if err != nil {
		return c, fmt.Errorf("read %q: %w", path, err)
	}
	if reply.Data == nil {
		return c, unreachable("read %q: the reply has no data in it", path)
	}
	data := unnested(reply.Data)
	if err := fillIn(&c, r.warehouse, data); err != nil {
		return c, fault.New(fault.Refused, fmt.Errorf("read %q: %w", path, err), "name a secret in `secret` that has these fields")
	}
	c.ID = path
	switch life := reply.LeaseDuration; {
	case reply.LeaseID == "" || life == 0:
		if v.Get("static") != "true" {
			return c, fault.New(fault.Refused, fmt.Errorf("read %q: the secret has no lease, it outlives the run", path),
				"name a secret engine's path that issues one for each run (database/creds/ROLE); or set `static: true` to accept that nothing ends it")
		}
		c.Static, c.Expiry = true, rotation(data, asked)
		return c, nil
	case nonsense(life):
		return c, unreachable("read %q: the reply has a lease_duration of %d, want seconds from now", path, life)
	default:
		lease.ID, lease.Secret = reply.LeaseID, termFrom(asked, life, reply.Renewable)
		c.Expiry = lease.Expiry()
	}
	if strings.HasPrefix(reply.LeaseID, path+"/") && len(reply.LeaseID) <= 512 && leaseText.MatchString(reply.LeaseID) {
		c.ID = reply.LeaseID
	}
	return c, nil
}

// termFrom reads a reply's lease_duration. A token without an end has 0.
func termFrom(asked time.Time, seconds int, renewable bool) credential.Term {
	if seconds == 0 {
		return credential.Term{}
	}
	return credential.Term{Expiry: asked.Add(time.Duration(seconds) * time.Second), Renewable: renewable}
}

// unnested returns the fields of a secret: a KV engine of version 2 has them
// one level deeper, beside its metadata.
func unnested(data map[string]any) map[string]any {
	inner, ok := data["data"].(map[string]any)
	if _, v2 := data["metadata"].(map[string]any); ok && v2 && len(data) == 2 {
		return inner
	}
	return data
}

// rotation returns when a secret without a lease stops to work: at the
// server's next rotation, which it tells of static roles, else never.
func rotation(data map[string]any, asked time.Time) time.Time {
	ttl, ok := data["ttl"].(json.Number)
	_, rotated := data["last_vault_rotation"].(string)
	if seconds, err := ttl.Int64(); ok && rotated && err == nil && seconds > 0 && seconds <= int64(longestLife/time.Second) {
		return asked.Add(time.Duration(seconds) * time.Second)
	}
	return credential.Never()
}

// A form is what a secret's fields can be to a warehouse.
type form struct {
	kind   credential.Kind
	fields [2][]string // each by any of its names; the second is the secret one
}

// forms are all that a secret's fields can be.
var forms = []form{
	{credential.DatabaseLogin, [2][]string{{"username"}, {"password"}}},
	{credential.KeyPair, [2][]string{{"username"}, {"rsa_private_key", "private_key"}}},
	{credential.ServicePrincipal, [2][]string{{"client_id"}, {"client_secret"}}},
	{credential.AccessToken, [2][]string{nil, {"access_token", "token"}}},
}

// formsFor returns what w can log in with, in the order of its wishes.
func formsFor(w credential.Warehouse) (fitting []form) {
	kinds := w.Asks.Fields
	switch {
	case w.Bearer:
		kinds = []credential.Kind{credential.AccessToken}
	case kinds == nil:
		return forms
	}
	for _, kind := range kinds {
		fitting = append(fitting, forms[slices.IndexFunc(forms, func(f form) bool { return f.kind == kind })])
	}
	return fitting
}

// fillIn makes the fields the credential that the warehouse takes. Its error
// says which fields there are, by name.
func fillIn(c *credential.Credential, w credential.Warehouse, data map[string]any) error {
	field := func(names []string) string {
		for _, name := range names {
			if s, ok := data[name].(string); ok && s != "" {
				return s
			}
		}
		return ""
	}
	var wanted []string
	for _, f := range formsFor(w) {
		user, value := field(f.fields[0]), field(f.fields[1])
		wanted = append(wanted, f.String())
		if value == "" || user == "" && f.fields[0] != nil {
			continue
		}
		if strings.ContainsFunc(user, notInUser) || len(user) > 256 {
			return fmt.Errorf("the field %q has characters that no user has", f.fields[0][0])
		}
		c.Kind, c.User = f.kind, user
		switch f.kind {
		case credential.DatabaseLogin, credential.ServicePrincipal:
			c.Password = secret.New(value)
		case credential.AccessToken:
			c.Token = secret.New(value)
		case credential.KeyPair:
			key, err := keyLine(value)
			if err != nil {
				return err
			}
			c.PrivateKey = key
		}
		return nil
	}
	have := slices.Sorted(maps.Keys(data))
	for i, name := range have {
		have[i] = name[:min(len(name), 64)]
	}
	return fmt.Errorf("the secret has the fields %.20q, want %s", have[:min(len(have), 20)], strings.Join(wanted, ", or "))
}

// String names the fields for an error.
func (f form) String() string {
	var parts []string
	for _, names := range f.fields {
		var quoted []string
		for _, name := range names {
			quoted = append(quoted, fmt.Sprintf("%q", name))
		}
		if names != nil {
			parts = append(parts, strings.Join(quoted, " or "))
		}
	}
	return strings.Join(parts, " and ")
}

// notInUser refuses what a profile would not hold as one plain value: dbt
// renders {{ … }} there.
func notInUser(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("{}%\"'", r) }

// keyLine turns an RSA key in PEM (PKCS #1 or PKCS #8) into PKCS #8 in base64
// on one line, which dbt-snowflake reads as it is.
func keyLine(text string) (secret.Value, error) {
	want := errors.New("the private key is not an unencrypted RSA key in PEM")
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return secret.Value{}, want
	}
	var key any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	default:
		return secret.Value{}, want
	}
	if _, isRSA := key.(*rsa.PrivateKey); err != nil || !isRSA {
		return secret.Value{}, want // the parsers' errors may quote the key
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return secret.Value{}, want
	}
	return secret.New(base64.StdEncoding.EncodeToString(der)), nil
}

func loginHint(g policy.Grant) func(string) string {
	v := g.Exchange()
	method := "auth/" + authPath(v)
	return func(words string) string {
		switch {
		case strings.Contains(words, "namespace"):
			return fmt.Sprintf("there is no namespace %q", v.Get("namespace"))
		case strings.Contains(words, "role") && strings.Contains(words, "could not be found"):
			return fmt.Sprintf("make the role %s/role/%s", method, v.Get("role"))
		case strings.Contains(words, "audience"):
			return fmt.Sprintf("bound_audiences of %s/role/%s must have %q", method, v.Get("role"), g.Audience())
		case strings.Contains(words, "bound claim"), strings.Contains(words, "bound_claims"), strings.Contains(words, "error validating claims"), strings.Contains(words, "subject"):
			return fmt.Sprintf("bound_claims of %s/role/%s do not hold for subject %q", method, v.Get("role"), g.Claims().Subject())
		case strings.Contains(words, "validating token"), strings.Contains(words, "signature"), strings.Contains(words, "could not load configuration"), strings.Contains(words, "issuer"):
			return fmt.Sprintf("%s/config must have oidc_discovery_url and bound_issuer %s", method, g.Claims().Issuer())
		case strings.Contains(words, "no handler for route"), strings.Contains(words, "permission denied"):
			return fmt.Sprintf("enable the JWT auth method at %s, or name its path in auth_path (and its namespace in namespace)", method)
		}
		return ""
	}
}

func readHint(g policy.Grant) func(string) string {
	v := g.Exchange()
	path := v.Get("secret")
	return func(words string) string {
		switch {
		case words == "":
			return "`secret` is the API's path: a KV engine of version 2 has data/ behind its mount, such as secret/data/NAME"
		case strings.Contains(words, "permission denied"):
			return fmt.Sprintf("a policy of auth/%s/role/%s (token_policies) must allow `read` on %s", authPath(v), v.Get("role"), path)
		case strings.Contains(words, "no handler for route"):
			return fmt.Sprintf("no secrets engine is mounted where %s begins", path)
		case strings.Contains(words, "one use left"):
			return fmt.Sprintf("token_num_uses of auth/%s/role/%s must be 0, or 2 and more: reading the secret is one use, ending it another", authPath(v), v.Get("role"))
		}
		return ""
	}
}

// revokeTimeout bounds a revocation: the runner gives a cancelled job seconds.
const revokeTimeout = 10 * time.Second

// Revoke ends a lease, and with it the credential that was issued under it. It
// does its work also where ctx has ended: that is when it is needed most. A
// lease that has ended is no error.
func Revoke(ctx context.Context, env Env, l credential.Lease) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
	defer cancel()
	server, err := newVault(env, l)
	if err != nil {
		return fmt.Errorf("revoke the lease: %w", err)
	}
	_, err = web.Retry(ctx, func(ctx context.Context) (struct{}, error) {
		err := server.client.Auth().Token().RevokeSelfWithContext(ctx, "")
		if err != nil && !ended(err) {
			return struct{}{}, server.fault(err, revokeHint)
		}
		return struct{}{}, nil
	})
	if err != nil {
		return fmt.Errorf("revoke the lease: %w", err)
	}
	return nil
}

// ended reports whether the server does not know the token any more. Where it
// knows it, and its policies do not let it revoke itself, the words differ:
// Vault adds "invalid token" in the first case, OpenBao counts errors in the second.
func ended(err error) bool {
	var reply *api.ResponseError
	if !errors.As(err, &reply) || reply.StatusCode != http.StatusForbidden || reply.RawError {
		return false
	}
	words := strings.Join(reply.Errors, "\n")
	return words == "permission denied" || strings.Contains(words, "invalid token")
}

func revokeHint(words string) string {
	switch {
	case strings.Contains(words, "batch token"):
		return "set token_type=service on the role: a batch token cannot be revoked, its leases end with it"
	case strings.Contains(words, "permission denied"):
		return "a policy of the role must allow `update` on auth/token/revoke-self, as the policy `default` does"
	}
	return ""
}
