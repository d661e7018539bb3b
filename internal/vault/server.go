package vault

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/hashicorp/vault/api"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// A server is a Vault or OpenBao server, and who we are there.
type server struct {
	client  *api.Client
	pinned  bool           // the server has authorities of its own
	shows   bool           // the server is shown a certificate
	secrets []secret.Value // that it has been sent: its words may echo them
}

// newServer returns a client that knows nothing but its arguments. The library
// reads the VAULT_ variables in any case; what it took from them (token,
// namespace, further headers, wrapping) is replaced.
func newServer(env exchange.Env, l credential.Lease) (server, error) {
	config := &api.Config{
		Address: l.Address, HttpClient: env.HTTP, DisableRedirects: true,
		// web.Retry bounds the tries, as it does everywhere.
		CheckRetry: func(context.Context, *http.Response, error) (bool, error) { return false, nil },
	}
	var pool *x509.CertPool
	if l.CACert != "" {
		var err error
		if pool, err = roots(l.CACert); err != nil {
			return server{}, fmt.Errorf("read ca_cert: %w", err)
		}
		config.HttpClient = web.NewClient(env.Network.Trusting(pool))
	}
	if l.ClientCert != "" {
		certificate, err := clientCertificate(l)
		if err != nil {
			return server{}, err
		}
		config.HttpClient = web.NewClient(env.Network.Showing(certificate, pool))
	}
	client, err := api.NewClient(config)
	if err != nil {
		return server{}, fault.New(fault.Usage, errors.New("create a Vault client: a VAULT_ environment variable is malformed"),
			"unset it: these variables are not used, but a malformed one stops the client")
	}
	client.SetHeaders(http.Header{api.RequestHeaderName: {"true"}})
	if l.Namespace != "" {
		client.SetNamespace(l.Namespace)
	}
	client.SetWrappingLookupFunc(func(string, string) string { return "" })
	client.SetToken(l.Token.Reveal())
	return server{client: client, pinned: l.CACert != "", shows: l.ClientCert != "", secrets: []secret.Value{l.Token}}, nil
}

// ask sends a request, as often as it takes, and returns what is in the reply.
// What a try began whose reply was lost ends with the login: a second lease is
// under the same token, and a second token is never used.
func (s server) ask(ctx context.Context, hint func(words string) string,
	send func(context.Context) (*api.Response, error)) (*api.Secret, error) {
	return web.Retry(ctx, func(ctx context.Context) (*api.Secret, error) {
		resp, err := send(ctx)
		if resp != nil {
			defer resp.Body.Close()
		}
		if err != nil {
			return nil, s.fault(err, hint)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return nil, s.fault(err, hint)
		}
		s, err := api.ParseSecret(bytes.NewReader(body))
		if err != nil || s == nil {
			return nil, exchange.Foreign("Vault", "unexpected reply from Vault")
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

// fault tells a refusal by the server from an unusable reply, and marks what
// another try may cure. api.ResponseError holds all of a reply that is not
// JSON: only the words of its `errors` are used.
func (s server) fault(err error, hint func(words string) string) error {
	var reply *api.ResponseError
	if !errors.As(err, &reply) {
		return s.noReply(err)
	}
	words := ""
	if !reply.RawError {
		words = strings.Join(strings.Fields(strings.Join(reply.Errors, "; ")), " ")
	}
	late := func(part string) bool { return strings.Contains(words, part) }
	switch {
	case reply.StatusCode == http.StatusNotFound && !reply.RawError && words == "":
		return fault.New(fault.Refused, errors.New("not found"), hint(""))
	case words == "" && reply.StatusCode == http.StatusPreconditionFailed:
		return web.Temporary(exchange.Unreachable("Vault replied with status %d", reply.StatusCode))
	case words == "":
		return exchange.Replied("Vault", reply.StatusCode)
	case passing(reply.StatusCode):
		return web.Temporary(exchange.Unreachable("Vault replied with status %d: %s", reply.StatusCode, exchange.Quoted(words, s.secrets)))
	case reply.StatusCode == http.StatusBadRequest && slices.ContainsFunc(keysLate, late):
		return web.Temporary(exchange.IssuerUnreachable("Vault", words, s.secrets))
	}
	return exchange.Refused("", words, hint(words), s.secrets...)
}

// noReply also knows of the keys about certificates.
func (s server) noReply(err error) error {
	switch {
	case web.RefusesTLS(err) && s.shows:
		return fault.New(fault.Unreachable, web.Cause(err),
			"the server must accept the certificate in client_cert_file: check that its CA is in the listener's "+
				"tls_client_ca_file and that it has not expired")
	case web.RefusesTLS(err):
		return fault.New(fault.Unreachable, web.Cause(err),
			"set client_cert_file and client_key_file if the server requires a client certificate; it must support TLS 1.2 or later")
	case !web.UnknownAuthority(err):
		return exchange.NoReply(err)
	case s.pinned:
		return fault.New(fault.Unreachable, web.Cause(err),
			"ca_cert must be the CA that issued the server's certificate, or the certificate itself if it is self-signed")
	}
	return fault.New(fault.Unreachable, web.Cause(err), "set ca_cert to the CA's certificate; or "+web.Hint(err))
}
