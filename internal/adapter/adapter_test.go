package adapter_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

func parse(issuer, dbt, exchange string) (*policy.Policy, error) {
	kind, rule := standin.Identity(exchange)
	source := fmt.Sprintf(`version: 1
identities:
  github: {issuer: "%s", %s}
targets:
  prod:
    dbt: %s
    exchange: %s
    allow:
      - %s
`, issuer, kind, dbt, exchange, strings.Replace(rule, ", ref: refs/heads/main", "", 1))
	return policy.Parse("policy.yml", []byte(source), policy.Catalog{Providers: provider.Specs(), Adapters: adapter.Specs()})
}

// issuer is one for a whole test: making its key takes long.
func issuer(t *testing.T) *standin.Issuer {
	t.Helper()
	i, err := standin.StartIssuer(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.Close)
	return i
}

// grant returns what a real token is granted by a real policy.
func grant(t *testing.T, i *standin.Issuer, dbt, exchange string) policy.Grant {
	t.Helper()
	p, err := parse(i.URL(), dbt, exchange)
	if err != nil {
		t.Fatal(err)
	}
	target, err := p.Target("prod")
	if err != nil {
		t.Fatal(err)
	}
	claims, err := i.Claims(t.Context(), target.Audience(), nil)
	if err != nil {
		t.Fatal(err)
	}
	g, err := p.Authorize("prod", claims, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func node(t *testing.T, source string) *yaml.Node {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(source), &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Content) == 0 {
		t.Fatal("there is no block: internal/standin/fixtures.go may lack one")
	}
	return doc.Content[0]
}

// flow writes a node on one line, strings quoted.
func flow(n *yaml.Node) string {
	var parts []string
	switch {
	case n.Kind == yaml.SequenceNode:
		for _, c := range n.Content {
			parts = append(parts, flow(c))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case n.Kind == yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			parts = append(parts, n.Content[i].Value+": "+flow(n.Content[i+1]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case n.Tag == "!!str":
		return fmt.Sprintf("%q", n.Value)
	}
	return n.Value
}

func checkUsage(t *testing.T, err error, want string) {
	t.Helper()
	got := ""
	if err != nil {
		got = err.Error()
		if c := fault.ClassOf(err); c != fault.Usage {
			t.Errorf("class is %v, want %v", c, fault.Usage)
		}
	}
	if got != want {
		t.Errorf("error is\n%s\nwant\n%s", got, want)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ dbtType, provider, err string }{
		{dbtType: "snowflake", provider: "oidc"},
		{dbtType: "snowflake", provider: "aws"},
		{dbtType: "bigquery", provider: "gcp"},
		{dbtType: "duckdb", provider: "aws"},
		{dbtType: "athena", provider: "aws"},
		{dbtType: "snowflake", provider: "gcp", err: fmt.Sprintf(`type "snowflake" does not support provider "gcp", valid providers are %q`, adapter.Specs()["snowflake"].Providers)},
		{dbtType: "bigquery", provider: "oidc", err: `type "bigquery" does not support provider "oidc", valid providers are ["gcp"]`},
		{dbtType: "duckdb", provider: "", err: fmt.Sprintf(`type "duckdb" does not support provider "", valid providers are %q`, adapter.Specs()["duckdb"].Providers)},
		{dbtType: "athena", provider: "AWS", err: fmt.Sprintf(`type "athena" does not support provider "AWS", valid providers are %q`, adapter.Specs()["athena"].Providers)},
		{dbtType: "Snowflake", provider: "oidc", err: fmt.Sprintf(`unknown type "Snowflake", valid types are %q`, adapter.Types())},
		{dbtType: "", provider: "oidc", err: fmt.Sprintf(`unknown type "", valid types are %q`, adapter.Types())},
	} {
		t.Run(tt.dbtType+"_"+tt.provider, func(t *testing.T) {
			t.Parallel()
			checkUsage(t, adapter.Check(tt.dbtType, tt.provider), tt.err)
		})
	}
}

// TestEveryPair holds, for all that this build has, what is common to it: no
// secret in a key, every secret in a variable that is masked, every other
// login gone, and nothing written that a policy may write too.
func TestEveryPair(t *testing.T) {
	t.Parallel()
	i := issuer(t)
	for dbtType, spec := range adapter.Specs() {
		for _, name := range spec.Providers {
			t.Run(dbtType+"_"+name, func(t *testing.T) {
				t.Parallel()
				c := standin.Credential(dbtType, name)
				g := grant(t, i, standin.PairBlock(dbtType, name), standin.Exchange(dbtType, name))
				r, err := adapter.Route(dbtType, name, g.Exchange(), g.DBT().Block)
				if err != nil {
					t.Fatal(err)
				}
				in := adapter.Input{Facts: g, Type: dbtType, Block: g.DBT().Block, Credential: c}
				if !r.Only {
					checkPair(t, in, spec, c.Secrets())
				}
				if r.Kind != route.None && r.Kind != route.Lease { // dbt gets the broker's secret in place of the credential
					in.Route = standin.Address()
					lead := in.Route.Secret
					if slices.Contains([]route.Kind{route.AzureTokenFile, route.GoogleADC, route.PasswordFile}, r.Kind) {
						lead = secret.New(in.Route.File) // which holds it
					}
					checkPair(t, in, spec, []secret.Value{lead})
				}
			})
		}
	}
}

func checkPair(t *testing.T, in adapter.Input, spec policy.Adapter, secrets []secret.Value) {
	t.Helper()
	out, err := adapter.Render(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range out.Keys {
		if strings.Contains(flow(k.Value), "marked") {
			t.Errorf("key %s holds a secret", k.Name)
		}
		for name := range strings.SplitSeq(flow(k.Value), "env_var('") {
			if name, _, ok := strings.Cut(name, "')"); ok && !slices.ContainsFunc(out.Env, func(v adapter.Variable) bool { return v.Name == name && v.Secret }) {
				t.Errorf("key %s reads %s, which is not set", k.Name, name)
			}
		}
	}
	var given []string
	seen := map[string]bool{}
	for _, v := range out.Env {
		if seen[v.Name] {
			t.Errorf("%s is set twice", v.Name)
		}
		seen[v.Name] = true
		if marked := strings.Contains(v.Value.Reveal(), "marked"); marked != v.Secret {
			t.Errorf("%s is secret: %v, want %v", v.Name, v.Secret, marked)
		}
		if strings.HasPrefix(v.Name, "DBT_ENV_SECRET_") && !v.Secret {
			t.Errorf("%s would have dbt scrub a public value", v.Name)
		}
		given = append(given, v.Value.Reveal())
	}
	for _, s := range secrets {
		if !slices.ContainsFunc(given, func(v string) bool { return strings.Contains(v, s.Reveal()) }) {
			t.Error("a secret of the credential is in no variable")
		}
	}
	for _, key := range slices.Concat(spec.Written, policy.SecretKeys()) {
		if key != "motherduck_token" && !slices.Contains(out.Remove, key) {
			t.Errorf("%s would stay next to the login", key)
		}
	}
}

// TestPolicyRefuses holds that no inline block may carry a login of its own.
func TestPolicyRefuses(t *testing.T) {
	t.Parallel()
	for dbtType, spec := range adapter.Specs() {
		for _, key := range slices.Concat(spec.Written, spec.Secret, policy.SecretKeys()) {
			t.Run(dbtType+"_"+key, func(t *testing.T) {
				t.Parallel()
				block := strings.TrimSuffix(standin.Block(dbtType), "}") + ", " + key + ": hunter2}"
				_, err := parse("https://token.actions.githubusercontent.com", block, standin.Exchange(dbtType, spec.Providers[0]))
				if err == nil || !strings.Contains(err.Error(), key) {
					t.Errorf("error is %v, want one about %s", err, key)
				}
			})
		}
	}
}

// A renderCase is a block and what the provider's credential becomes in it.
// The block's type is its first key.
type renderCase struct {
	name, provider, block, want string
	served                      bool // by a broker
}

func testRender(t *testing.T, cases []renderCase) {
	t.Helper()
	i := issuer(t)
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			block := node(t, tt.block)
			before := flow(block)
			dbtType := block.Content[1].Value
			in := adapter.Input{
				Facts: grant(t, i, "{from: profiles.yml}", standin.Exchange(dbtType, tt.provider)), Type: dbtType, Block: block, Credential: standin.Credential(dbtType, tt.provider),
			}
			if tt.served {
				in.Route = standin.Address()
			}
			out, err := adapter.Render(in)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for _, k := range out.Keys {
				fmt.Fprintf(&got, "%s: %s\n", k.Name, flow(k.Value))
			}
			for _, v := range out.Env {
				if v.Secret {
					fmt.Fprintf(&got, "%s (secret)\n", v.Name)
				} else {
					fmt.Fprintf(&got, "%s=%s\n", v.Name, v.Value.Reveal())
				}
			}
			if diff := cmp.Diff(tt.want, got.String()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if after := flow(block); after != before {
				t.Errorf("the user's block became %s", after)
			}
		})
	}
}

// A placeCase is a block and why no credential may go where it leads. The
// audience is that of an ID token that is itself the login.
type placeCase struct{ name, provider, audience, block, err string }

func testPlaces(t *testing.T, cases []placeCase) {
	t.Helper()
	i := issuer(t)
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			block := node(t, tt.block)
			dbtType := block.Content[1].Value
			if tt.err != "" {
				prefix := fmt.Sprintf("dbt output of type %q: ", dbtType)
				tt.err = prefix + strings.ReplaceAll(tt.err, "\n", "\n"+prefix) // each fault on its line
			}
			checkUsage(t, adapter.CheckPlaces(dbtType, tt.provider, tt.audience, block), tt.err)
			// The same again where the credential is already there.
			g := grant(t, i, "{from: profiles.yml}", standin.Exchange(dbtType, tt.provider))
			if (tt.provider == "oidc" || tt.audience != "") && tt.audience != g.Audience() {
				return
			}
			_, err := adapter.Render(adapter.Input{Facts: g, Type: dbtType, Block: block, Credential: standin.Credential(dbtType, tt.provider)})
			checkUsage(t, err, tt.err)
		})
	}
}

func TestRender(t *testing.T) {
	t.Parallel()
	const (
		session  = `key_id: "{{ env_var('DBT_ENV_SECRET_OIDC_AWS_ACCESS_KEY_ID') }}", secret: "{{ env_var('DBT_ENV_SECRET_OIDC_AWS_SECRET_ACCESS_KEY') }}", session_token: "{{ env_var('DBT_ENV_SECRET_OIDC_AWS_SESSION_TOKEN') }}"`
		sessions = "DBT_ENV_SECRET_OIDC_AWS_ACCESS_KEY_ID (secret)\nDBT_ENV_SECRET_OIDC_AWS_SECRET_ACCESS_KEY (secret)\nDBT_ENV_SECRET_OIDC_AWS_SESSION_TOKEN (secret)\n"
		sdk      = "AWS_ACCESS_KEY_ID (secret)\nAWS_SECRET_ACCESS_KEY (secret)\nAWS_SESSION_TOKEN (secret)\nAWS_REGION=eu-central-1\nAWS_DEFAULT_REGION=eu-central-1\n"
		served   = "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:20001/credentials\nAWS_CONTAINER_AUTHORIZATION_TOKEN (secret)\nAWS_EC2_METADATA_DISABLED=true\nAWS_REGION=eu-central-1\nAWS_DEFAULT_REGION=eu-central-1\n"
		httpfs   = "extensions: [\"httpfs\"]\n"
		amazon   = `endpoint: "s3.amazonaws.com", use_ssl: true, verify_ssl: true, `
		theirs   = `key_id: "{{ env_var('K') }}", secret: "{{ env_var('S') }}"`
		here     = `endpoint: "127.0.0.1:20001", use_ssl: false, url_style: "path", key_id: "oidc-dbt", secret: "unused"`
		shown    = `session_token: "{{ env_var('DBT_ENV_SECRET_OIDC_TOKEN') }}"`
		token    = "DBT_ENV_SECRET_OIDC_TOKEN (secret)\n"
	)
	// secrets is a DuckDB block with one entry, as it reads in a profiles.yml.
	secrets := func(entry string) string { return "{type: duckdb, secrets: [" + entry + "]}" }
	testRender(t, []renderCase{
		{name: "Snowflake by the ID token", provider: "oidc", block: standin.Block("snowflake"),
			want: "authenticator: \"workload_identity\"\nworkload_identity_provider: \"OIDC\"\nquery_tag: \"oidc-dbt target=prod\"\ntoken: \"{{ env_var('DBT_ENV_SECRET_OIDC_TOKEN') }}\"\n" + token},
		{name: "Snowflake by AWS, with a query tag", provider: "aws", block: `{type: snowflake, account: acme-prod, query_tag: mine}`,
			want: "authenticator: \"workload_identity\"\nworkload_identity_provider: \"AWS\"\n" + sdk},
		{name: "BigQuery", provider: "gcp", block: standin.Block("bigquery"),
			want: "method: \"oauth-secrets\"\ntoken: \"{{ env_var('DBT_ENV_SECRET_OIDC_TOKEN') }}\"\n" + token + "GOOGLE_CLOUD_PROJECT=acme-dbt\n"},
		{name: "BigQuery that another project pays for", provider: "gcp", block: `{type: bigquery, database: data, execution_project: payer}`,
			want: "method: \"oauth-secrets\"\ntoken: \"{{ env_var('DBT_ENV_SECRET_OIDC_TOKEN') }}\"\n" + token + "GOOGLE_CLOUD_PROJECT=payer\n"},
		{name: "BigQuery with projects that only dbt knows", provider: "gcp", block: `{type: bigquery, project: "{{ env_var('P') }}"}`,
			want: "method: \"oauth-secrets\"\ntoken: \"{{ env_var('DBT_ENV_SECRET_OIDC_TOKEN') }}\"\n" + token},
		{name: "Athena", provider: "aws", block: standin.Block("athena"), want: "region_name: \"eu-central-1\"\n" + sdk},
		{name: "Athena by the broker", provider: "identity_center", served: true, block: standin.Block("athena"), want: "region_name: \"eu-central-1\"\n" + served},
		{name: "Snowflake by AWS and the broker", provider: "aws", served: true, block: `{type: snowflake, account: acme-prod, query_tag: mine}`,
			want: "authenticator: \"workload_identity\"\nworkload_identity_provider: \"AWS\"\n" + served},
		{name: "DuckDB by the broker", provider: "aws", served: true, block: `{type: duckdb}`,
			want: httpfs + `secrets: [{type: "s3", ` + here + `, region: "eu-central-1", ` + shown + "}]\n" + token + served},
		{name: "DuckDB's own store, by the broker", provider: "aws", served: true,
			block: secrets(`{type: s3, PROVIDER: credential_chain, Chain: env, refresh: auto, Endpoint: minio.acme.example, use_ssl: yes, verify_ssl: true, URL_STYLE: vhost, http_proxy: p, Region: here, kms_key_id: k}, {type: s3, ` + theirs + `, scope: s3://theirs}`),
			want:  httpfs + `secrets: [{type: "s3", Region: "here", kms_key_id: "k", ` + here + ", " + shown + `}, {type: "s3", ` + theirs + `, scope: "s3://theirs"}]` + "\n" + token + served},
		{name: "Athena elsewhere", provider: "aws", block: `{type: athena, region_name: us-east-1}`, want: sdk},
		{name: "DuckDB with nothing", provider: "aws", block: `{type: duckdb}`,
			want: httpfs + `secrets: [{type: "s3", region: "eu-central-1", ` + amazon + session + "}]\n" + sessions + sdk},
		{name: "DuckDB with extensions", provider: "aws", block: `{type: duckdb, extensions: [{name: httpfs, repo: core}, spatial]}`,
			want: `extensions: [{name: "httpfs", repo: "core"}, "spatial"]` + "\n" + `secrets: [{type: "s3", region: "eu-central-1", ` + amazon + session + "}]\n" + sessions + sdk},
		{name: "an endpoint is completed", provider: "aws", block: secrets(`{type: s3, endpoint: "127.0.0.1:9000", url_style: path, use_ssl: no, verify_ssl: false, region: here, scope: "s3://a"}`),
			want: httpfs + `secrets: [{type: "s3", endpoint: "127.0.0.1:9000", url_style: "path", use_ssl: "no", verify_ssl: false, region: "here", scope: "s3://a", ` + session + "}]\n" + sessions + sdk},
		{name: "options in any case", provider: "aws", block: secrets(`{type: S3, Provider: credential_chain, KEY_ID: k, Secret: s, REGION: here}`),
			want: httpfs + `secrets: [{type: "S3", REGION: "here", ` + amazon + session + "}]\n" + sessions + sdk},
		{name: "nothing on disk", provider: "aws", block: secrets(`{type: s3, persistent: true, Storage: local_file}`),
			want: httpfs + `secrets: [{type: "s3", region: "eu-central-1", ` + amazon + session + "}]\n" + sessions + sdk},
		{name: "another bucket's keys", provider: "aws", block: secrets(`{type: s3, ` + theirs + `, scope: [s3://theirs]}`),
			want: httpfs + `secrets: [{type: "s3", ` + theirs + `, scope: ["s3://theirs"]}, {type: "s3", region: "eu-central-1", ` + amazon + session + "}]\n" + sessions + sdk},
		{name: "keys for every bucket", provider: "aws", block: secrets(`{type: s3, key_id: k, secret: s}`),
			want: httpfs + `secrets: [{type: "s3", region: "eu-central-1", ` + amazon + session + "}]\n" + sessions + sdk},
		{name: "keys with a scope of nothing", provider: "aws", block: secrets(`{type: s3, key_id: k, secret: s, scope: }`),
			want: httpfs + `secrets: [{type: "s3", scope: , region: "eu-central-1", ` + amazon + session + "}]\n" + sessions + sdk},
		{name: "keys with a scope of everything", provider: "aws", block: secrets(`{type: s3, key_id: k, secret: s, scope: [s3://theirs, "s3://"]}`),
			want: httpfs + `secrets: [{type: "s3", scope: ["s3://theirs", "s3://"], region: "eu-central-1", ` + amazon + session + "}]\n" + sessions + sdk},
		{name: "a secret for something else", provider: "aws", block: secrets(`{type: azure, connection_string: "{{ env_var('C') }}"}`),
			want: httpfs + `secrets: [{type: "azure", connection_string: "{{ env_var('C') }}"}, {type: "s3", region: "eu-central-1", ` + amazon + session + "}]\n" + sessions + sdk},
	})
}

// TestCheckPlaces has each way to lead a credential astray, by its name.
func TestCheckPlaces(t *testing.T) {
	t.Parallel()
	const snow, own = "snowflakecomputing.com", "https://acme.example"
	s3 := func(options string) string { return "{type: duckdb, secrets: [{type: s3, " + options + "}]}" }
	testPlaces(t, []placeCase{
		{name: "Snowflake", provider: "oidc", audience: snow, block: `{type: snowflake, account: acme-prod}`},
		{name: "Snowflake's own host", provider: "oidc", audience: snow, block: `{type: snowflake, account: acme, host: acme.privatelink.snowflakecomputing.com, protocol: https, proxy_host: proxy.acme.example}`},
		{name: "a stand-in on loopback", provider: "oidc", audience: snow, block: `{type: snowflake, account: acme, host: 127.0.0.1, port: 8080, protocol: http}`},
		{name: "a stand-in as a proxy", provider: "oidc", audience: snow, block: `{type: snowflake, account: acme, host: acme.snowflakecomputing.com, protocol: http, proxy_host: localhost}`},
		{name: "a host of its own with an audience of its own", provider: "oidc", audience: own, block: `{type: snowflake, account: acme, host: snow.acme.example}`},
		{name: "no account", provider: "oidc", audience: snow, block: `{type: snowflake}`, err: `account is "", want an account identifier such as acme-prod`},
		{name: "an account with its domain", provider: "oidc", audience: snow, block: `{type: snowflake, account: acme-prod.snowflakecomputing.com}`, err: `account is "acme-prod.snowflakecomputing.com", but the connector adds the domain: write "acme-prod"`},
		{name: "an account as an address", provider: "oidc", audience: snow, block: `{type: snowflake, account: "https://acme-prod.SnowflakeComputing.com/"}`, err: `account is "https://acme-prod.SnowflakeComputing.com/", but the connector adds the domain: write "acme-prod"`},
		{name: "organization and account with a dot", provider: "oidc", audience: snow, block: `{type: snowflake, account: ACME.PROD}`, err: `account is "ACME.PROD", which names a region "PROD": join an organization and its account with a hyphen, write "ACME-PROD"`},
		{name: "an account and more", provider: "oidc", audience: snow, block: `{type: snowflake, account: acme.prod.eu}`, err: `account is "acme.prod.eu", and "prod" is neither a region nor a cloud: write ORGANIZATION-ACCOUNT, or LOCATOR.REGION.CLOUD`},
		{name: "a locator", provider: "oidc", audience: snow, block: `{type: snowflake, account: xy12345}`},
		{name: "a locator with its region", provider: "oidc", audience: snow, block: `{type: snowflake, account: xy12345.us-east-2.aws}`},
		{name: "a locator of Azure", provider: "oidc", audience: snow, block: `{type: snowflake, account: xy12345.west-europe.azure}`},
		{name: "a locator of a government", provider: "oidc", audience: snow, block: `{type: snowflake, account: xy12345.fhplus.us-gov-west-1.aws}`},
		{name: "private connectivity", provider: "oidc", audience: snow, block: `{type: snowflake, account: acme-prod.privatelink}`},
		{name: "a locator by private connectivity", provider: "oidc", audience: snow, block: `{type: snowflake, account: xy12345.eu-central-1.privatelink}`},
		{name: "an account that is a host", provider: "oidc", audience: snow, block: `{type: snowflake, account: evil.example/}`, err: `account is "evil.example/", want an account identifier such as acme-prod`},
		{name: "an account in Jinja", provider: "oidc", audience: snow, block: `{type: snowflake, account: "{{ env_var('A') }}"}`, err: "account must be a literal: the login is sent there"},
		{name: "a host in Jinja", provider: "oidc", audience: own, block: `{type: snowflake, account: acme, host: "{# #}evil.example"}`, err: "host must be a literal: the login is sent there"},
		{name: "a foreign host", provider: "oidc", audience: snow, block: `{type: snowflake, account: acme, host: evil.example}`,
			err: `host: host "evil.example" is not one of Snowflake, whose audience "snowflakecomputing.com" the token has: give an audience of its own`},
		{name: "a host that ends alike", provider: "oidc", audience: snow, block: `{type: snowflake, account: acme, host: evilsnowflakecomputing.com}`,
			err: `host: host "evilsnowflakecomputing.com" is not one of Snowflake, whose audience "snowflakecomputing.com" the token has: give an audience of its own`},
		{name: "a host behind a slash", provider: "oidc", audience: snow, block: `{type: snowflake, account: acme, host: evil.example/.snowflakecomputing.com}`,
			err: `host: host "evil.example/.snowflakecomputing.com" is not one of Snowflake, whose audience "snowflakecomputing.com" the token has: give an audience of its own`},
		{name: "a host behind a line's end", provider: "oidc", audience: snow, block: `{type: snowflake, account: acme, host: "evil.example\n.snowflakecomputing.com"}`,
			err: `host: host "evil.example\n.snowflakecomputing.com" is not one of Snowflake, whose audience "snowflakecomputing.com" the token has: give an audience of its own`},
		{name: "a host behind a key that looks alike", provider: "oidc", audience: snow, block: `{type: snowflake, account: acme, !!null host: acme.snowflakecomputing.com, host: evil.example}`,
			err: `host: host "evil.example" is not one of Snowflake, whose audience "snowflakecomputing.com" the token has: give an audience of its own`},
		{name: "a foreign host for what AWS signs", provider: "aws", audience: "sts.amazonaws.com", block: `{type: snowflake, account: acme, host: evil.example}`,
			err: `host: host "evil.example" is not one of Snowflake, whose audience "snowflakecomputing.com" the token has: give an audience of its own`},
		{name: "plain http", provider: "oidc", audience: snow, block: `{type: snowflake, account: acme, protocol: http}`, err: `protocol is "http", want https (http is for loopback only)`},
		{name: "plain http to a host", provider: "oidc", audience: own, block: `{type: snowflake, account: acme, host: snow.acme.example, protocol: http}`, err: `protocol is "http", want https (http is for loopback only)`},
		{name: "plain http to loopback by a foreign proxy", provider: "oidc", audience: own, block: `{type: snowflake, account: acme, host: 127.0.0.1, protocol: http, proxy_host: evil.example}`, err: `protocol is "http", want https (http is for loopback only)`},
		{name: "another protocol", provider: "oidc", audience: snow, block: `{type: snowflake, account: acme, protocol: HTTP}`, err: `protocol is "HTTP", want https`},

		{name: "BigQuery", provider: "gcp", block: `{type: bigquery, project: p, api_endpoint: "https://bigquery-europe.p.googleapis.com"}`},
		{name: "BigQuery on loopback", provider: "gcp", block: `{type: bigquery, database: p, api_endpoint: "http://[::1]:9050"}`},
		{name: "no project", provider: "gcp", block: `{type: bigquery}`, err: "requires project: without it google-auth asks the Resource Manager"},
		{name: "a foreign endpoint", provider: "gcp", block: `{type: bigquery, project: p, api_endpoint: "https://googleapis.com.evil.example"}`,
			err: `api_endpoint: host "googleapis.com.evil.example" does not belong to Google Cloud, but the access token would be sent there`},
		{name: "an endpoint by http", provider: "gcp", block: `{type: bigquery, project: p, api_endpoint: "http://bigquery.googleapis.com"}`,
			err: `api_endpoint is "http://bigquery.googleapis.com", want https (http is for loopback only)`},
		{name: "an endpoint without a scheme", provider: "gcp", block: `{type: bigquery, project: p, api_endpoint: bigquery.googleapis.com}`,
			err: `api_endpoint is "bigquery.googleapis.com", want a URL such as https://host`},
		{name: "an endpoint behind a login", provider: "gcp", block: `{type: bigquery, project: p, api_endpoint: "https://me:hunter2@evil.example"}`,
			err: "api_endpoint holds a secret (…): remove it"},
		{name: "an endpoint in Jinja", provider: "gcp", block: `{type: bigquery, project: p, api_endpoint: "https://{{ env_var('H') }}"}`, err: "api_endpoint must be a literal: the credential is sent there"},

		{name: "Athena", provider: "aws", block: `{type: athena, endpoint_url: "https://athena.eu-central-1.api.aws"}`},
		{name: "Athena by http", provider: "aws", block: `{type: athena, endpoint_url: "http://evil.example"}`, err: `endpoint_url is "http://evil.example", want https (http is for loopback only)`},
		{name: "Athena by a file", provider: "aws", block: `{type: athena, endpoint_url: "file:///etc"}`, err: `endpoint_url is "file:///etc", want a URL such as https://host`},

		{name: "DuckDB", provider: "aws", block: s3(`endpoint: minio.acme.example, use_ssl: true`)},
		{name: "DuckDB on loopback", provider: "aws", block: s3(`endpoint: "[::1]:9000", use_ssl: false, verify_ssl: no`)},
		{name: "DuckDB with other keys for a bucket", provider: "aws", block: s3(`endpoint: minio.acme.example, use_ssl: false, key_id: "{{ env_var('K') }}", secret: "{{ env_var('S') }}", scope: s3://minio`)},
		{name: "DuckDB with no list", provider: "aws", block: `{type: duckdb, secrets: none}`, err: "secrets is a single value, want a list of mappings"},
		{name: "S3 by http", provider: "aws", block: s3(`endpoint: minio.acme.example, use_ssl: false`),
			err: `secrets of type s3: use_ssl is "false" for endpoint "minio.acme.example", want TLS (plain http is for loopback only)`},
		{name: "S3 by http, in capitals", provider: "aws", block: s3(`ENDPOINT: minio.acme.example, Use_SSL: "N"`),
			err: `secrets of type s3: use_ssl is "N" for endpoint "minio.acme.example", want TLS (plain http is for loopback only)`},
		{name: "S3 by http, as a number", provider: "aws", block: s3(`use_ssl: 0x0`),
			err: `secrets of type s3: use_ssl is "0x0" for endpoint "", want TLS (plain http is for loopback only)`},
		{name: "S3 by http, with keys for every bucket", provider: "aws", block: s3(`endpoint: minio.acme.example, use_ssl: false, key_id: k, secret: s, scope: "s3://"`),
			err: `secrets of type s3: use_ssl is "false" for endpoint "minio.acme.example", want TLS (plain http is for loopback only)`},
		{name: "S3 by TLS that is not verified", provider: "aws", block: s3(`endpoint: minio.acme.example, verify_ssl: false`),
			err: `secrets of type s3: verify_ssl is "false" for endpoint "minio.acme.example", want TLS verified`},
		{name: "S3 at a URL", provider: "aws", block: s3(`endpoint: "http://127.0.0.1:9000"`), err: `secrets of type s3: endpoint is "http://127.0.0.1:9000", want host or host:port`},
		{name: "S3 behind a login", provider: "aws", block: s3(`endpoint: "me:hunter2@evil.example"`), err: "secrets of type s3: endpoint contains a login, want host or host:port"},
		{name: "S3 behind a login that looks like loopback", provider: "aws", block: s3(`endpoint: "127.0.0.1:9000@evil.example", use_ssl: false`), err: "secrets of type s3: endpoint contains a login, want host or host:port"},
		{name: "S3 at a port that is none", provider: "aws", block: s3(`endpoint: "127.0.0.1:.evil.example", use_ssl: false`), err: `secrets of type s3: endpoint is "127.0.0.1:.evil.example", want host or host:port`},
		{name: "S3 behind a line's end", provider: "aws", block: s3(`endpoint: "127.0.0.1\nevil.example", use_ssl: false`), err: `secrets of type s3: endpoint is "127.0.0.1\nevil.example", want host or host:port`},
		{name: "S3 behind a backslash", provider: "aws", block: s3(`endpoint: 'localhost\.evil.example', use_ssl: false`), err: `secrets of type s3: endpoint is "localhost\\.evil.example", want host or host:port`},
		{name: "S3 in Jinja", provider: "aws", block: s3(`endpoint: "{{ env_var('E') }}"`), err: "secrets of type s3: endpoint, use_ssl and verify_ssl must be literals: the credential is sent there"},
		{name: "S3 with TLS in Jinja", provider: "aws", block: s3(`use_ssl: "{{ env_var('E') }}"`), err: "secrets of type s3: endpoint, use_ssl and verify_ssl must be literals: the credential is sent there"},
	})
}

func TestRenderRefusesAPair(t *testing.T) {
	t.Parallel()
	i := issuer(t)
	_, err := adapter.Render(adapter.Input{Facts: grant(t, i, "{from: profiles.yml}", standin.Exchange("bigquery", "gcp")), Type: "athena", Block: node(t, "{type: athena}"), Credential: standin.Credential("bigquery", "gcp")})
	checkUsage(t, err, fmt.Sprintf(`type "athena" does not support provider "gcp", valid providers are %q`, adapter.Specs()["athena"].Providers))
}

// facts are those of a target that says nothing but its provider.
type facts struct {
	adapter.Facts
	provider string
}

func (f facts) Provider() string { return f.provider }

// TestEnvironment: what a target without a dbt block gives a command.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, provider string
		c              credential.Credential
		served         route.Address
		want           string
	}{
		{"nothing", "vault", credential.Credential{}, route.Address{}, ""},
		{"a login", "vault", standin.Credential("", "vault"), route.Address{}, "OIDC_DBT_USER=v-dbt-1\nDBT_ENV_SECRET_OIDC_PASSWORD (secret)\n"},
		{"a key pair", "vault", credential.Credential{Kind: "key_pair", User: "U", PrivateKey: secret.New("marked")}, route.Address{}, "OIDC_DBT_USER=U\nDBT_ENV_SECRET_OIDC_PRIVATE_KEY (secret)\n"},
		{"a service principal", "vault", credential.Credential{Kind: "service_principal", User: "id", Password: secret.New("marked")}, route.Address{}, "AZURE_CLIENT_ID=id\nAZURE_CLIENT_SECRET (secret)\n"},
		{"a bearer", "token_exchange", credential.Credential{Kind: "access_token", Token: secret.New("marked")}, route.Address{}, "DBT_ENV_SECRET_OIDC_TOKEN (secret)\n"},
		{"Google's bearer", "gcp", standin.Credential("", "gcp"), route.Address{}, "CLOUDSDK_AUTH_ACCESS_TOKEN (secret)\n"},
		{"a session", "aws", standin.Credential("", "aws"), route.Address{}, "AWS_ACCESS_KEY_ID (secret)\nAWS_SECRET_ACCESS_KEY (secret)\nAWS_SESSION_TOKEN (secret)\nAWS_REGION=eu-central-1\nAWS_DEFAULT_REGION=eu-central-1\n"},
		{"a session that a broker serves", "aws", standin.Credential("", "aws"), standin.Address(),
			"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:20001/credentials\nAWS_CONTAINER_AUTHORIZATION_TOKEN (secret)\nAWS_EC2_METADATA_DISABLED=true\nAWS_REGION=eu-central-1\nAWS_DEFAULT_REGION=eu-central-1\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := ""
			for _, v := range adapter.Environment(facts{provider: tt.provider}, tt.c, tt.served) {
				if v.Secret {
					got += v.Name + " (secret)\n"
				} else {
					got += v.Name + "=" + v.Value.Reveal() + "\n"
				}
			}
			if got != tt.want {
				t.Errorf("got\n%swant\n%s", got, tt.want)
			}
		})
	}
}
