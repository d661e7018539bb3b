package broker

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// The two requests whose replies open a session. Everything else that a client
// asks for must belong to one: queries, their cancelling, heartbeats, telemetry.
// (snowflake-connector-python 4.8, network.py; gosnowflake, restful.go)
const (
	snowflakeLogin = "/session/v1/login-request"
	snowflakeRenew = "/session/token-request"
)

// Codes of Snowflake's own, which its clients take for final.
const (
	snowflakeBadToken  = "390303" // the OAuth access token is invalid
	snowflakeNoSession = "390104" // log in first
)

// A snowflakeProxy lets clients log in with the route's secret as an OAuth token,
// and replaces it by the current credential. It forwards later requests unchanged,
// with the session token that Snowflake issued.
// Stages and large results lie in cloud storage, whose addresses and
// credentials are in the replies: the client goes there by itself.
type snowflakeProxy struct {
	broker   *Broker
	upstream route.Upstream
	client   *http.Client // for logins
	base     *url.URL
	pass     http.Handler // for all else
	sessions sessions
	atWork   *snowflakeStatements
}

func snowflake(b *Broker) (service, error) {
	u := b.config.Route.Upstream
	transport, base, err := upstream(b.config.Network, u)
	if err != nil {
		return service{}, err
	}
	transport.DisableCompression = true // what the client asks for is what it gets
	s := &snowflakeProxy{broker: b, upstream: u, client: web.NewClient(transport), base: base}
	s.atWork = &snowflakeStatements{tasks: &b.tasks, client: s.client, base: base,
		requests: map[string]*snowflakeStatement{}, results: map[string]*snowflakeStatement{}}
	s.pass = relay{
		transport: transport,
		base:      base,
		lead: func(out *http.Request) {
			if out.URL.Path == snowflakeRenew {
				out.Header.Set("Accept-Encoding", "identity") // its reply is read here
			}
		},
		reply: s.check,
		fail: func(w http.ResponseWriter, err error) {
			status := http.StatusBadGateway // clients ask again, also after a redirect
			if isFinal(err) {
				status = http.StatusOK // clients show the message
			}
			refuseSnowflake(w, status, snowflakeNoSession, web.Cause(err))
		},
	}
	// Clients ask again after a status, and show the message of a reply.
	return service{handler: s, final: http.StatusOK, refuse: func(w http.ResponseWriter, status int, err error) {
		refuseSnowflake(w, status, snowflakeNoSession, err)
	}}, nil
}

func (s *snowflakeProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	session, known := s.sessions.of(r.Header.Get("Authorization"))
	switch {
	case r.Method == http.MethodPost && r.URL.Path == snowflakeLogin:
		reply, err := s.login(w, r)
		if err != nil {
			// Clients show the message of a reply, and try again after a status.
			refuseSnowflake(w, http.StatusOK, snowflakeBadToken, err)
			return
		}
		w.Header().Set("Content-Type", reply.contentType)
		w.WriteHeader(reply.status)
		_, _ = w.Write(reply.body) // the client is gone
	case known:
		admit(w, r)
		if g := s.broker.config.Guard; g != nil {
			if err := checkSnowflake(g, session, r); err != nil {
				denySnowflake(w, err)
				return
			}
		}
		r, ok := s.atWork.begin(r)
		if !ok {
			refuseSnowflake(w, http.StatusServiceUnavailable, snowflakeNoSession, errors.New("the run is over"))
			return
		}
		defer s.atWork.neverLeft(r)
		s.pass.ServeHTTP(w, r)
	default:
		s.broker.turnAway(w)
		refuseSnowflake(w, http.StatusUnauthorized, snowflakeNoSession, errors.New("the session does not belong to this run"))
	}
}

// refuseSnowflake replies as Snowflake does.
func refuseSnowflake(w http.ResponseWriter, status int, code string, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// the client is gone
	_ = json.NewEncoder(w).Encode(map[string]any{"success": false, "code": code, "message": "oidc-dbt: " + err.Error(),
		"data": map[string]any{}})
}

// A loginReply is what Snowflake says to a login.
type loginReply struct {
	status      int
	contentType string
	body        []byte
}

// maxLogin bounds a login, packed or not, and the reply to a renewal: a few
// kilobytes in practice.
const maxLogin = 1 << 20

func (s *snowflakeProxy) login(w http.ResponseWriter, r *http.Request) (reply loginReply, err error) {
	in, err := readLogin(r)
	if err != nil {
		return reply, fmt.Errorf("read login: %w", err)
	}
	switch {
	case !s.broker.admits(w, r, in.text("TOKEN")):
		return reply, errors.New("the token does not belong to this run")
	case !strings.EqualFold(in.text("ACCOUNT_NAME"), s.upstream.Account):
		return reply, fmt.Errorf("account is %q, want %q", in.text("ACCOUNT_NAME"), s.upstream.Account)
	}
	query, err := restrictSnowflake(s.broker.config.Guard, r.URL.RawQuery, in)
	if err != nil {
		return reply, err
	}
	c, err := s.broker.current(r.Context(), snowflakePatience)
	if err != nil {
		return reply, err
	}
	if reply, err = s.logIn(r, query, in, c); err != nil {
		return reply, err
	}
	if reply.refusesCredential() {
		if next, ok := s.broker.renewed(r.Context(), c); ok {
			if reply, err = s.logIn(r, query, in, next); err != nil {
				return reply, err
			}
		}
	}
	s.sessions.learn(reply.body)
	return reply, nil
}

// logIn sends the login with a credential.
func (s *snowflakeProxy) logIn(r *http.Request, query string, in snowflakeRequest,
	c credential.Credential) (reply loginReply, err error) {
	if err := in.putIn(c, s.upstream.Account, s.broker.config.Now()); err != nil {
		return reply, err
	}
	body, err := in.encode()
	if err != nil {
		return reply, err
	}
	target := *s.base
	target.Path, target.RawQuery = snowflakeLogin, query
	ctx, _ := web.WithBudget(r.Context(), s.broker.config.hurry.of(snowflakePatience))
	reply, err = web.Retry(ctx, func(ctx context.Context) (loginReply, error) {
		out, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(body))
		if err != nil {
			return reply, err
		}
		for _, name := range []string{"Accept", "Content-Type", "User-Agent", "X-Snowflake-Service"} {
			if v := r.Header.Get(name); v != "" {
				out.Header.Set(name, v)
			}
		}
		return s.send(out)
	})
	if err != nil {
		return reply, fmt.Errorf("log in at %s: %w", s.upstream.Host, err)
	}
	return reply, nil
}

// refusesCredential reports whether one of Snowflake's codes says that the
// credential is invalid. (snowflake-connector-python 4.8, network.py)
func (l loginReply) refusesCredential() bool {
	var words struct {
		Success bool   `json:"success"`
		Code    string `json:"code"`
	}
	if l.status == http.StatusUnauthorized || json.Unmarshal(l.body, &words) != nil || words.Success {
		return l.status == http.StatusUnauthorized
	}
	switch words.Code {
	case "390100", "390144", // key pair: the user is gone, or its key
		"390195",           // ID token
		"390303", "390318": // OAuth access token
		return true
	}
	return strings.HasPrefix(words.Code, "3943") // JWT
}

// send sends a login, and reads the reply. After most errors it is tried again,
// after a redirect too: Snowflake sends them at times, by mistake, and has its
// clients ask again. (snowflake-jdbc, pull request 2344)
func (s *snowflakeProxy) send(out *http.Request) (reply loginReply, err error) {
	resp, err := s.client.Do(out)
	switch {
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return reply, web.Cause(err) // it will be the same
	case web.Redirected(err):
		return reply, web.Brief(web.Cause(err))
	case err != nil:
		return reply, web.Failed(err)
	}
	defer resp.Body.Close()
	reply = loginReply{status: resp.StatusCode, contentType: resp.Header.Get("Content-Type")}
	if reply.body, err = io.ReadAll(resp.Body); err != nil {
		return reply, web.Failed(err)
	}
	return reply, nil
}

// check looks at each reply for what there is to know of sessions and statements.
func (s *snowflakeProxy) check(resp *http.Response) error {
	if resp.Request.URL.Path != snowflakeRenew {
		return s.atWork.look(resp)
	}
	body, err := readBounded(resp.Body)
	resp.Body.Close()
	if err != nil {
		return fmt.Errorf("read the reply to the session's renewal: %w", err)
	}
	s.sessions.learn(body)
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

var errTooLarge = fmt.Errorf("larger than %d bytes", maxLogin)

func readBounded(r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, maxLogin+1))
	if err == nil && len(body) > maxLogin {
		err = errTooLarge
	}
	return body, err
}

// A snowflakeRequest is the body of a login: {"data": {"TOKEN": …}}. Other keys
// are forwarded byte for byte.
type snowflakeRequest struct {
	whole, data map[string]json.RawMessage
}

func readLogin(r *http.Request) (in snowflakeRequest, err error) {
	var body io.Reader = r.Body
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
	case "gzip":
		z, err := gzip.NewReader(body)
		if err != nil {
			return in, err
		}
		body = z
	default:
		return in, fmt.Errorf("content encoding is %q, want gzip", encoding)
	}
	text, err := readBounded(body)
	if err != nil {
		return in, err
	}
	return parseLogin(text)
}

func parseLogin(text []byte) (in snowflakeRequest, err error) {
	// The texts are read from the same maps that are sent on, so that both sides
	// see the same value of a duplicate key.
	if err := json.Unmarshal(text, &in.whole); err != nil {
		return in, errNotLogin
	}
	if err := json.Unmarshal(in.whole["data"], &in.data); err != nil || in.data == nil {
		return in, errNotLogin
	}
	return in, nil
}

// errNotLogin does not quote the body, which may contain a password.
var errNotLogin = errors.New("want a JSON object with an object data")

// text returns the text of a key, "" where there is none.
func (in snowflakeRequest) text(key string) string {
	var s string
	if json.Unmarshal(in.data[key], &s) != nil {
		return ""
	}
	return s
}

// putIn makes the login one with the credential.
func (in snowflakeRequest) putIn(c credential.Credential, account string, now time.Time) error {
	authenticator, token := "", c.Token.Reveal()
	delete(in.data, "PROVIDER")
	switch c.Kind {
	case credential.IDToken: // Snowflake: Workload identity federation
		authenticator = "WORKLOAD_IDENTITY"
		in.data["PROVIDER"] = json.RawMessage(`"OIDC"`)
	case credential.AccessToken: // Snowflake: External OAuth
		authenticator = "OAUTH"
	case credential.KeyPair:
		authenticator = "SNOWFLAKE_JWT"
		var err error
		if token, err = signLogin(account, c.User, c.PrivateKey, now); err != nil {
			return fmt.Errorf("sign login: %w", err)
		}
		if in.data["LOGIN_NAME"], err = json.Marshal(c.User); err != nil {
			return err
		}
	default:
		return fmt.Errorf("a credential of kind %q is not a login for Snowflake", c.Kind)
	}
	var err error
	in.data["AUTHENTICATOR"], _ = json.Marshal(authenticator)
	in.data["TOKEN"], err = json.Marshal(token)
	return err
}

func (in snowflakeRequest) encode() (body []byte, err error) {
	if in.whole["data"], err = json.Marshal(in.data); err != nil {
		return nil, err
	}
	return json.Marshal(in.whole)
}

// signedLife is the life of a JWT for a login, which is sent at once.
const signedLife = time.Minute

// signLogin returns a JWT by which Snowflake knows the user with the key.
// (Snowflake: Key-pair authentication, generating a JWT token)
func signLogin(account, user string, privateKey secret.Value, now time.Time) (string, error) {
	der, err := base64.StdEncoding.DecodeString(privateKey.Reveal())
	if err != nil {
		return "", errors.New("the key is not in base64")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return "", errors.New("the key is not in PKCS#8")
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return "", fmt.Errorf("the key is %T, want RSA", parsed)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", err
	}
	subject := strings.ToUpper(account + "." + user)
	fingerprint := sha256.Sum256(public)
	return jwt.Signed(signer).Claims(jwt.Claims{
		Issuer: subject + ".SHA256:" + base64.StdEncoding.EncodeToString(fingerprint[:]), Subject: subject,
		IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(signedLife)),
	}).Serialize()
}

// sessions are those that clients of this run have opened, by the SHA-256 of
// their tokens, with Snowflake's ids. Of 100,000 logins they are fifteen
// megabytes.
type sessions struct {
	mu    sync.Mutex
	known map[[sha256.Size]byte]string
}

// learn takes in the tokens of a reply, if it has some.
func (s *sessions) learn(body []byte) {
	var reply struct {
		Data struct {
			Token        string      `json:"token"`        // of a login
			SessionToken string      `json:"sessionToken"` // of a renewal
			MasterToken  string      `json:"masterToken"`
			SessionID    json.Number `json:"sessionId"`
		} `json:"data"`
	}
	if json.Unmarshal(body, &reply) != nil {
		return // the client cannot use it either
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[[sha256.Size]byte]string{}
	}
	for _, token := range []string{reply.Data.Token, reply.Data.SessionToken, reply.Data.MasterToken} {
		if token != "" {
			s.known[sha256.Sum256([]byte(token))] = reply.Data.SessionID.String()
		}
	}
}

// of returns the id of the session that a request's authorization is of, if it
// is one of them: Snowflake Token="…".
func (s *sessions) of(authorization string) (id string, ok bool) {
	token, ok := strings.CutPrefix(authorization, `Snowflake Token="`)
	if !ok {
		return "", false
	}
	token, ok = strings.CutSuffix(token, `"`)
	if !ok {
		return "", false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id, ok = s.known[sha256.Sum256([]byte(token))]
	return id, ok
}

// snowflakeTokenFile is the file that Snowflake's clients read for a login
// where SNOWFLAKE_TOKEN_FILE_PATH names it. (snowflake-connector-python,
// connection.py, token_file_path)
func snowflakeTokenFile(*Broker) (service, error) {
	return service{file: &file{name: "snowflake-token", content: func(c credential.Credential) ([]byte, error) {
		if c.Token.IsZero() {
			return nil, fmt.Errorf("a credential of kind %q is not a token", c.Kind)
		}
		return []byte(c.Token.Reveal()), nil
	}}}, nil
}
