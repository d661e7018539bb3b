package standin

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// SnowflakeConfig is an account with one service user:
// WORKLOAD_IDENTITY = (TYPE = OIDC ISSUER = IssuerURL SUBJECT = Subject).
type SnowflakeConfig struct {
	IssuerURL, Subject string
	Audience           string   // OIDC_AUDIENCE_LIST; "": snowflakecomputing.com
	Next               *url.URL // the server that answers everything but logins
	// Takes says how much longer a statement takes; nil for no longer.
	Takes func(sql string) time.Duration
}

// A Snowflake checks logins by workload identity as Snowflake does: issuer,
// subject, audience, signature and expiry of the ID token. A session that is
// open is not checked again.
type Snowflake struct {
	config SnowflakeConfig
	keys   keyring
	server *httptest.Server

	mu     sync.Mutex
	logins []Attempt
}

// An Attempt is one attempt to log in.
type Attempt struct {
	At     time.Time
	Token  string
	Expiry time.Time // zero without a token that can be read
	Err    error     // nil for one that was accepted
}

// StartSnowflake starts the check of logins on loopback. Close it.
func StartSnowflake(config SnowflakeConfig) (*Snowflake, error) {
	if config.Audience == "" {
		config.Audience = "snowflakecomputing.com"
	}
	s := &Snowflake{config: config, keys: keyring{issuer: config.IssuerURL}}
	server, err := serve(s.handler())
	if err != nil {
		return nil, err
	}
	s.server = server
	return s, nil
}

// Close stops the server.
func (s *Snowflake) Close() { s.server.Close() }

// URL returns the account's address.
func (s *Snowflake) URL() string { return s.server.URL }

// Logins returns all attempts in their order.
func (s *Snowflake) Logins() []Attempt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Attempt(nil), s.logins...)
}

func (s *Snowflake) handler() http.Handler {
	next := httputil.NewSingleHostReverseProxy(s.config.Next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Data  loginData `json:"data"`
			Query string    `json:"sqlText"`
		}
		switch r.URL.Path {
		case "/session/v1/login-request":
			err := peek(r, &in)
			if err == nil {
				err = s.login(r.Context(), in.Data)
			}
			if err != nil {
				reply(w, map[string]any{"success": false, "code": "390144", "message": err.Error(),
					"data": map[string]any{"nextAction": "RETRY_LOGIN"}})
				return
			}
		case "/queries/v1/query-request":
			if s.config.Takes == nil || peek(r, &in) != nil {
				break
			}
			select {
			case <-time.After(s.config.Takes(in.Query)):
			case <-r.Context().Done():
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// peek decodes a request's body, which may be compressed, and puts it back.
func peek(r *http.Request, v any) error {
	raw, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return err
	}
	r.Body = io.NopCloser(bytes.NewReader(raw))
	var plain io.Reader = bytes.NewReader(raw)
	if r.Header.Get("Content-Encoding") == "gzip" {
		if plain, err = gzip.NewReader(plain); err != nil {
			return err
		}
	}
	return json.NewDecoder(plain).Decode(v)
}

// loginData is what the connector sends of a login.
type loginData struct {
	Authenticator string `json:"AUTHENTICATOR"`
	Provider      string `json:"PROVIDER"`
	Token         string `json:"TOKEN"`
}

// login checks a login and notes the attempt.
func (s *Snowflake) login(ctx context.Context, in loginData) error {
	attempt := Attempt{At: time.Now(), Token: in.Token}
	if in.Authenticator != "WORKLOAD_IDENTITY" || !strings.EqualFold(in.Provider, "OIDC") {
		attempt.Err = fmt.Errorf("authenticator %q with provider %q is not enabled for the user",
			in.Authenticator, in.Provider)
	} else {
		attempt.Expiry, attempt.Err = s.verify(ctx, in.Token)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logins = append(s.logins, attempt)
	return attempt.Err
}

// verify checks the ID token. It returns its expiry also if it is refused.
func (s *Snowflake) verify(ctx context.Context, token string) (expiry time.Time, err error) {
	claims := jwt.MapClaims{}
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"RS256", "ES256"}), jwt.WithExpirationRequired(),
		jwt.WithIssuer(s.config.IssuerURL), jwt.WithAudience(s.config.Audience), jwt.WithSubject(s.config.Subject))
	_, err = parser.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) { return s.keys.key(ctx, t) })
	if at, _ := claims.GetExpirationTime(); at != nil {
		expiry = at.Time
	}
	if errors.Is(err, jwt.ErrTokenExpired) {
		return expiry, errors.New("the ID token has expired")
	}
	return expiry, err
}
