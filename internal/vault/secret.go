package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// nonsense reports whether no lease has so many seconds. More than exchange.LongestLife
// would overflow a Duration in the end.
func nonsense(seconds int) bool {
	return seconds < 0 || int64(seconds) > int64(exchange.LongestLife/time.Second)
}

// Exchange returns the secret as a credential. From the login on, what it
// returns holds the lease, even with an error.
func Exchange(ctx context.Context, env exchange.Env, r exchange.Request) (c credential.Credential, err error) {
	v := r.Grant.Exchange()
	lease := credential.Lease{Address: v.Get("address"), Namespace: v.Get("namespace"), CACert: v.Get("ca_cert"),
		ClientCert: v.Get(clientCertFile), ClientKey: v.Get(clientKeyFile)}
	at, err := newServer(env, lease)
	if err != nil {
		return c, err
	}
	at.secrets = append(at.secrets, r.IDToken)
	asked := env.Now() // before each request: no expiry is later than the server's own
	login, err := at.logIn(ctx, r)
	if err != nil {
		return c, fmt.Errorf("log in: %w", err)
	}
	lease.Token = secret.New(login.ClientToken)
	c.Lease = &lease
	if nonsense(login.LeaseDuration) {
		return c, exchange.Unreachable("log in: the reply has a lease_duration of %d, want seconds from now", login.LeaseDuration)
	}
	lease.Login = termFrom(asked, login.LeaseDuration, login.Renewable)
	at.secrets = append(at.secrets, lease.Token)
	at.client.SetToken(lease.Token.Reveal())

	asked = env.Now()
	path := v.Get("secret")
	reply, err := at.ask(ctx, readHint(r.Grant), func(ctx context.Context) (*api.Response, error) {
		return at.client.Logical().ReadRawWithContext(ctx, path)
	})
	if err == nil {
		err = take(&c, r, reply, asked)
	}
	if err != nil {
		return c, fmt.Errorf("read %q: %w", path, err)
	}
	return c, nil
}

// logIn exchanges the ID token for a token of the server's.
func (s *server) logIn(ctx context.Context, r exchange.Request) (*api.SecretAuth, error) {
	v := r.Grant.Exchange()
	body, err := json.Marshal(map[string]string{"role": v.Get("role"), "jwt": r.IDToken.Reveal()})
	if err != nil {
		return nil, err
	}
	login, err := s.ask(ctx, loginHint(r.Grant), func(ctx context.Context) (*api.Response, error) {
		return s.client.Logical().WriteRawWithContext(ctx, loginPath(v), body)
	})
	if err != nil {
		return nil, err
	}
	if login.Auth == nil || login.Auth.ClientToken == "" {
		return nil, exchange.Unreachable("the reply has no token")
	}
	if strings.ContainsFunc(login.Auth.ClientToken, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, exchange.Unreachable("the token in the reply contains invalid characters")
	}
	return login.Auth, nil
}

// take fills in the credential, and its lease, from the reply that has the secret.
func take(c *credential.Credential, r exchange.Request, reply *api.Secret, asked time.Time) error {
	if reply.Data == nil {
		return exchange.Unreachable("the reply has no data")
	}
	data := unnested(reply.Data)
	if err := fillIn(c, r.Warehouse, data); err != nil {
		return fault.New(fault.Refused, err, "set `secret` to the path of a secret that has these fields")
	}
	v := r.Grant.Exchange()
	path := v.Get("secret")
	c.ID = path
	switch life := reply.LeaseDuration; {
	case reply.LeaseID == "" || life == 0:
		if v.Get("static") != "true" {
			return fault.New(fault.Refused, errors.New("the secret has no lease and outlives the run"),
				"use a path that issues a secret for each run (database/creds/ROLE), or set `static: true` to accept one that "+
					"outlives the run")
		}
		c.Static, c.Expiry = true, rotation(data, asked)
		return nil
	case nonsense(life):
		return exchange.Unreachable("the reply has a lease_duration of %d, want seconds from now", life)
	default:
		c.Lease.ID, c.Lease.Secret = reply.LeaseID, termFrom(asked, life, reply.Renewable)
		c.Expiry = c.Lease.Expiry()
	}
	if strings.HasPrefix(reply.LeaseID, path+"/") && len(reply.LeaseID) <= 512 && leaseText.MatchString(reply.LeaseID) {
		c.ID = reply.LeaseID
	}
	return nil
}

// termFrom reads a reply's lease_duration. A token without an end has 0.
func termFrom(asked time.Time, seconds int, renewable bool) credential.Term {
	if seconds == 0 {
		return credential.Term{}
	}
	return credential.Term{Expiry: asked.Add(time.Duration(seconds) * time.Second), Renewable: renewable}
}

// unnested returns the fields of a secret: a KV engine of version 2 has them
// one level deeper, next to its metadata.
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
	if seconds, err := ttl.Int64(); ok && rotated && err == nil && seconds > 0 && seconds <= int64(exchange.LongestLife/time.Second) {
		return asked.Add(time.Duration(seconds) * time.Second)
	}
	return credential.Never()
}
