package adapter_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// TestDirect: without a proxy libpq reads a file, a lease is renewed, any other
// login is read once, and what works only through a proxy is an error. Routes
// that are no proxies are kept.
func TestDirect(t *testing.T) {
	t.Parallel()
	for dbtType, spec := range adapter.Specs() {
		for _, provider := range spec.Providers {
			t.Run(dbtType+"_"+provider, func(t *testing.T) {
				t.Parallel()
				block := node(t, standin.PairBlock(dbtType, provider))
				with, err := adapter.Route(dbtType, provider, policy.Values{}, block)
				if err != nil {
					t.Fatal(err)
				}
				want, fails := with, ""
				switch {
				case !with.Kind.IsProxy():
				case with.Only:
					fails = fmt.Sprintf("type %q with provider %q works only through the proxy", dbtType, provider)
				case provider == "vault":
					want = route.Route{Kind: route.Lease}
				case dbtType == "postgres":
					u := with.Upstream
					want = route.Route{Kind: route.PasswordFile, Upstream: route.Upstream{Host: u.Host, Port: u.Port, User: u.User, Database: u.Database}}
				default:
					want = route.Route{}
				}
				got, err := adapter.Direct(dbtType, provider, policy.Values{}, block)
				checkUsage(t, err, fails)
				if diff := cmp.Diff(want, got); err == nil && diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
			})
		}
	}
}

// TestPasswordFile: dbt's profile has an empty password, which sends libpq to
// the file, and nothing secret is in a variable.
func TestPasswordFile(t *testing.T) {
	t.Parallel()
	i := issuer(t)
	for _, provider := range []string{"aws", "databricks", "entra", "gcp"} {
		g := grant(t, i, standin.Block("postgres"), standin.Exchange("postgres", provider))
		out, err := adapter.Render(adapter.Input{Facts: g, Type: "postgres", Block: g.DBT().Block, Credential: standin.Credential("postgres", provider), Route: route.Address{File: "/tmp/step/pgpass"}})
		if err != nil {
			t.Fatal(err)
		}
		password := ""
		for _, k := range out.Keys {
			if k.Name == "password" {
				password = flow(k.Value)
			}
		}
		file := ""
		for _, v := range out.Env {
			if v.Secret || strings.HasPrefix(v.Name, "DBT_ENV_SECRET_") {
				t.Errorf("%s: the variable %s is secret", provider, v.Name)
			}
			if v.Name == "PGPASSFILE" {
				file = v.Value.Reveal()
			}
		}
		if password != `""` || file != "/tmp/step/pgpass" {
			t.Errorf("%s: password is %s, PGPASSFILE is %q", provider, password, file)
		}
	}
}
