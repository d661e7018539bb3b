package provider_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

const (
	prodRole = "arn:aws:iam::123456789012:role/dbt-prod"
	cluster  = "acme.abc123.eu-central-1.redshift.amazonaws.com"
	database = "orders.abc123.eu-central-1.rds.amazonaws.com"
)

// parsed returns a policy with the one target prod.
func parsed(t *testing.T, issuer, target string) (*policy.Policy, error) {
	t.Helper()
	text := fmt.Sprintf("version: 1\nidentities:\n  github: {issuer: %q, kind: github}\ntargets:\n  prod:\n    %s\n    allow: [{repository_id: \"487920697\"}]\n", issuer, strings.ReplaceAll(target, "\n", "\n    "))
	return policy.Parse("policy", []byte(text), policy.Catalog{Providers: provider.Specs(), Adapters: adapter.Specs()})
}

// TestRDS: a token that the database accepts, and nothing of the session that
// has signed it.
func TestRDS(t *testing.T) {
	t.Parallel()
	issuer, err := standin.StartIssuer(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	sts, err := standin.StartSTS(standin.STSConfig{IssuerURL: issuer.URL(), Roles: map[string]standin.Role{prodRole: {Audience: "sts.amazonaws.com"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sts.Close)
	p, err := parsed(t, issuer.URL(), fmt.Sprintf("exchange: {aws: {role: %q, region: eu-central-1, endpoint: %q}}", prodRole, sts.URL()))
	if err != nil {
		t.Fatal(err)
	}
	claims, err := issuer.Claims(t.Context(), "sts.amazonaws.com", nil)
	if err != nil {
		t.Fatal(err)
	}
	grant, err := p.Authorize("prod", claims, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	env := exchange.Env{HTTP: web.NewClient(web.NewTransport()), Now: time.Now}
	w := typed("postgres", "aws", credential.Warehouse{Host: database, Port: 5432, User: "dbt", Database: "analytics"})
	c, err := provider.Exchange(t.Context(), env, grant, w, secret.New(issuer.Sign("sts.amazonaws.com", nil)))
	if err != nil {
		t.Fatal(err)
	}
	session := sts.Sessions()[0]
	if _, err := sts.AuthenticateRDS(c.Password.Reveal(), database+":5432", "dbt", "eu-central-1"); err != nil {
		t.Error(err)
	}
	if c.Kind != "database_login" || c.ID != session.SessionARN || c.User != "dbt" || c.AWS != nil {
		t.Errorf("the credential is a %s of %s for %q", c.Kind, c.ID, c.User)
	}
	if left := time.Until(c.Expiry); left > 15*time.Minute || c.Expiry.After(session.Expiration) {
		t.Errorf("it lives %s, the session to %s", left, session.Expiration)
	}
	if part := leaked(c.Password.Reveal(), []string{session.SecretAccessKey}); part != "" {
		t.Errorf("%q of the session's key is in the token", part)
	}
}

// TestCheckWarehouse: what an exchange block says is held to the place that
// the credential is for.
func TestCheckWarehouse(t *testing.T) {
	t.Parallel()
	const (
		aws  = `{aws: {role: "` + prodRole + `", region: eu-central-1}}`
		here = `{aws: {role: "` + prodRole + `", region: eu-central-1, redshift_endpoint: "http://127.0.0.1:1"}}`
		idc  = `{identity_center: {region: eu-central-1, application: "arn:aws:sso::123456789012:application/ssoins-1234567890abcdef/apl-1234567890abcdef", role: "` + prodRole + `"}}`
		jwt  = `{identity_center: {region: eu-central-1, audience: redshift.acme.example}}`
	)
	rs := func(host, cluster string) credential.Warehouse {
		return typed("redshift", "aws", credential.Warehouse{Host: host, Port: 5439, Redshift: credential.Redshift{Cluster: cluster}})
	}
	person := typed("redshift", "identity_center", credential.Warehouse{Host: cluster, Port: 5439, Redshift: credential.Redshift{Cluster: "acme"}})
	pg := func(host string, port int, user string) credential.Warehouse {
		return typed("postgres", "aws", credential.Warehouse{Host: host, Port: port, User: user})
	}
	for _, tt := range []struct {
		name, exchange string
		warehouse      credential.Warehouse
		err            string
	}{
		{name: "a cluster", exchange: aws, warehouse: rs(cluster, "acme")},
		{name: "a cluster with another endpoint", exchange: here, warehouse: rs(cluster, "acme")},
		{name: "a cluster behind a name of one's own", exchange: aws, warehouse: rs("r.acme.example", "acme")},
		{name: "no cluster", exchange: aws, warehouse: rs("r.acme.example", ""), err: `host "r.acme.example" does not name the cluster or workgroup: set cluster_id or serverless_work_group`},
		{name: "a cluster elsewhere", exchange: aws, warehouse: rs("acme.abc123.us-east-1.redshift.amazonaws.com", "acme"), err: `host "acme.abc123.us-east-1.redshift.amazonaws.com" is in region "us-east-1", but the region of the exchange (line 7 of the policy) is "eu-central-1"`},
		{name: "another endpoint for nothing", exchange: here, warehouse: typed("athena", "aws", credential.Warehouse{}), err: "redshift_endpoint is for type redshift only"},
		{name: "RDS", exchange: aws, warehouse: pg(database, 5432, "dbt")},
		{name: "RDS in capitals", exchange: aws, warehouse: pg(strings.ToUpper(database), 5432, "dbt")},
		{name: "a stand-in for RDS", exchange: aws, warehouse: pg("127.0.0.1", 5432, "dbt")},
		{name: "RDS without a user", exchange: aws, warehouse: pg(database, 5432, ""), err: "an RDS token requires host, port and user in the dbt output"},
		{name: "RDS without a port", exchange: aws, warehouse: pg(database, 0, "dbt"), err: "an RDS token requires host, port and user in the dbt output"},
		{name: "RDS elsewhere", exchange: aws, warehouse: pg("orders.abc123.us-east-1.rds.amazonaws.com", 5432, "dbt"), err: `host "orders.abc123.us-east-1.rds.amazonaws.com" is in region "us-east-1", but the region of the exchange (line 7 of the policy) is "eu-central-1"`},
		{name: "RDS in China", exchange: aws, warehouse: pg("orders.abc123.rds.cn-north-1.amazonaws.com.cn", 5432, "dbt"), err: `host "orders.abc123.rds.cn-north-1.amazonaws.com.cn" is in region "cn-north-1", but the region of the exchange (line 7 of the policy) is "eu-central-1"`},
		{name: "a name of one's own for RDS", exchange: aws, warehouse: pg("db.acme.example", 5432, "dbt"), err: `host "db.acme.example" is not an endpoint of RDS, and a token is valid for one endpoint only`},
		{name: "a host that begins alike", exchange: aws, warehouse: pg(database+".evil.example", 5432, "dbt"), err: `host "` + database + `.evil.example" is not an endpoint of RDS, and a token is valid for one endpoint only`},
		{name: "Athena as a person", exchange: idc, warehouse: typed("athena", "identity_center", credential.Warehouse{})},
		{name: "Athena as a person, without a role", exchange: `{identity_center: {region: eu-central-1, application: "arn:aws:sso::123456789012:application/ssoins-1/apl-1"}}`, warehouse: typed("athena", "identity_center", credential.Warehouse{}), err: `type "athena" needs role`},
		{name: "Athena as a person, without an application", exchange: jwt, warehouse: typed("athena", "identity_center", credential.Warehouse{}), err: `type "athena" needs application`},
		{name: "Redshift as a person", exchange: jwt, warehouse: person},
		{name: "Redshift as a person, with a role", exchange: idc, warehouse: person, err: `application is not supported by type "redshift", which exchanges the ID token itself`},
		{name: "Redshift as a person, without an audience", exchange: `{identity_center: {region: eu-central-1}}`, warehouse: person, err: `type "redshift" requires audience, one of the AuthorizedAudiencesList of its Identity Center application`},
		{name: "Redshift as a person, with AWS's audience", exchange: `{identity_center: {region: eu-central-1, audience: sts.amazonaws.com}}`, warehouse: person,
			err: `audience: "sts.amazonaws.com" is the audience of AWS: the warehouse that got such a token could use it there`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, err := parsed(t, "https://token.actions.githubusercontent.com", "dbt: {from: profiles.yml}\nexchange: "+tt.exchange)
			if err != nil {
				t.Fatal(err)
			}
			target, err := p.Target("prod")
			if err != nil {
				t.Fatal(err)
			}
			if tt.err != "" {
				tt.err = fmt.Sprintf("provider %q: %s", target.Provider(), tt.err)
			}
			got := ""
			if err := provider.Check(target.Provider(), target.Exchange(), tt.warehouse); err != nil {
				got = err.Error()
				if c := fault.ClassOf(err); c != fault.Usage {
					t.Errorf("class is %v, want %v", c, fault.Usage)
				}
			}
			if got != tt.err {
				t.Errorf("error is\n%s\nwant\n%s", got, tt.err)
			}
		})
	}
}

// TestLifetimesOfLogins: a login of a database has another range than a session.
func TestLifetimesOfLogins(t *testing.T) {
	t.Parallel()
	const (
		aws = "\nexchange: {aws: {role: \"" + prodRole + "\", region: eu-central-1}}"
		rs  = "dbt: {type: redshift, host: " + cluster + ", port: 5439, dbname: analytics, schema: marts}" + aws
	)
	for _, tt := range []struct{ name, target, dbtType, err string }{
		{name: "an hour", target: rs + "\nlifetime: 1h", dbtType: "redshift"},
		{name: "longer", target: rs + "\nlifetime: 2h", err: `lifetime is 2h, provider "aws" gives 15m to 1h at type "redshift"`},
		{name: "shorter", target: rs + "\nlifetime: 10m", err: `lifetime is 10m, provider "aws" gives 15m to 1h at type "redshift"`},
		{name: "a limit below the least", target: rs + "\nmax_lifetime: 10m", err: `max_lifetime is 10m, provider "aws" gives at least 15m at type "redshift"`},
		{name: "two hours of a session", target: "dbt: {type: athena, schema: marts}" + aws + "\nlifetime: 2h", dbtType: "athena"},
		{name: "of a type that is not known yet", target: "dbt: {from: profiles.yml}" + aws + "\nlifetime: 2h", dbtType: "redshift", err: `target "prod": lifetime is 2h, provider "aws" gives 15m to 1h at type "redshift"`},
		{name: "of RDS", target: "dbt: {from: profiles.yml}" + aws + "\nlifetime: 15m", dbtType: "postgres", err: `target "prod": lifetime: provider "aws" cannot be asked for one at type "postgres": remove this line`},
		{name: "of an ID token", target: "dbt: {from: profiles.yml}\nexchange: {identity_center: {region: eu-central-1, audience: redshift.acme.example}}\nlifetime: 15m", dbtType: "redshift",
			err: `target "prod": lifetime: provider "identity_center" cannot be asked for one at type "redshift": remove this line`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, err := parsed(t, "https://token.actions.githubusercontent.com", tt.target)
			if err == nil && tt.dbtType != "" {
				target, terr := p.Target("prod")
				if terr != nil {
					t.Fatal(terr)
				}
				err = target.CheckLifetimes(tt.dbtType, string(adapter.Asks(tt.dbtType, target.Provider()).Login))
			}
			got := ""
			if err != nil {
				got = err.Error()
				if c := fault.ClassOf(err); c != fault.Usage {
					t.Errorf("class is %v, want %v", c, fault.Usage)
				}
			}
			// A policy's fault comes after its place, before the line.
			if tt.dbtType == "" {
				_, got, _ = strings.Cut(got, "\n")
				got, _, _ = strings.Cut(got, "\n")
				_, got, _ = strings.Cut(got, " ")
			}
			if got != tt.err {
				t.Errorf("error is\n%s\nwant\n%s", got, tt.err)
			}
		})
	}
}
