package job

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// outputOf returns a pair's target, and its block with further keys in the
// place of its own.
func outputOf(t *testing.T, dbtType, provider, changes string) (*policy.Target, *yaml.Node) {
	t.Helper()
	source := standin.PairBlock(dbtType, provider)
	kind, rule := standin.Identity(standin.Exchange(dbtType, provider))
	text := fmt.Sprintf("version: 1\nidentities:\n  github: {issuer: \"https://id.acme.example\", %s}\ntargets:\n  prod:\n"+
		"    dbt: {from: profiles.yml, output: prod}\n    exchange: %s\n    allow: [%s]\n", kind, standin.Exchange(dbtType, provider), rule)
	p, err := policy.Parse("p.yml", []byte(text), Catalog())
	if err != nil {
		t.Fatal(err)
	}
	target, err := p.Target("prod")
	if err != nil {
		t.Fatal(err)
	}
	var doc, further yaml.Node
	if err := yaml.Unmarshal([]byte(source), &doc); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(changes), &further); err != nil {
		t.Fatal(err)
	}
	if len(doc.Content) == 0 {
		t.Fatalf("%s × %s has no block in internal/standin/fixtures.go", dbtType, provider)
	}
	block := doc.Content[0]
	for i := 0; i < len(further.Content[0].Content); i += 2 {
		key, v := further.Content[0].Content[i], further.Content[0].Content[i+1]
		at := slices.IndexFunc(block.Content, func(n *yaml.Node) bool { return n.Value == key.Value })
		if at < 0 || at%2 == 1 {
			block.Content = append(block.Content, key, v)
		} else {
			block.Content[at+1] = v
		}
	}
	return target, block
}

func faultsOf(t *testing.T, dbtType, provider, changes string) []*policy.BlockError {
	t.Helper()
	target, block := outputOf(t, dbtType, provider, changes)
	p := project{dbtType: dbtType}
	return p.faults(target, block)
}

// TestOneFaultAValue: each fault of the key that says where the
// warehouse is, is reported once, by one of the checks; and of a URL what to
// write.
func TestOneFaultAValue(t *testing.T) {
	t.Parallel()
	places := []string{"host", "server", "account", "port"}
	for _, dbtType := range adapter.Types() {
		for _, provider := range adapter.Specs()[dbtType].Providers {
			if own := faultsOf(t, dbtType, provider, "{}"); len(own) > 0 {
				t.Errorf("%s with %s: its block has the faults %q", dbtType, provider, own)
			}
			_, block := outputOf(t, dbtType, provider, "{}")
			for i := 0; i < len(block.Content); i += 2 {
				key, value := block.Content[i].Value, block.Content[i+1].Value
				if !slices.Contains(places, key) {
					continue
				}
				for _, wrong := range []string{"https://" + value, "https://" + value + "/", value + "/x", value + "@evil.example", "a b", "evil.example:1", "70000000"} {
					got := faultsOf(t, dbtType, provider, fmt.Sprintf("{%s: %q}", key, wrong))
					about := slices.DeleteFunc(slices.Clone(got), func(e *policy.BlockError) bool { return e.Path[0] != key && e.Path[0] != "host" })
					if len(about) > 1 {
						t.Errorf("%s with %s, %s: %s: %q", dbtType, provider, key, wrong, got)
					}
					if url, isURL := strings.CutPrefix(wrong, "https://"); isURL && key == "host" && dbtType != "spark" {
						if want := fmt.Sprintf(`write %q, without https://`, strings.TrimSuffix(url, "/")); len(got) != 1 || !strings.HasSuffix(got[0].Text, want) {
							t.Errorf("%s with %s, %s: %s: %q, want one that ends in %s", dbtType, provider, key, wrong, got, want)
						}
					}
				}
			}
		}
	}
}

// TestAllFaultsAtOnce: each with its place in the block, whichever check finds it.
func TestAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		dbtType, provider, changes string
		keys                       []string
	}{
		{"bigquery", "gcp", "{project: '', compute_region: 'a/b', api_endpoint: 'http://evil.example'}", []string{"project", "compute_region", "api_endpoint"}},
		{"clickhouse", "vault", "{host: 'a b', port: x, secure: false, verify: false, driver: x}", []string{"host", "port", "secure", "verify"}},
		{"databricks", "databricks", "{host: 'https://acme.cloud.databricks.com', http_path: 'a b', connection_parameters: {_port: x, access_token: x, _tls_no_verify: true, auth_type: x}}",
			[]string{"host", "http_path", "connection_parameters._port", "connection_parameters._tls_no_verify", "connection_parameters.auth_type"}},
		{"fabric", "entra", "{host: evil.example, database: 'a;b', encrypt: false, trust_cert: true, driver: 'a;b', fabric_base_api_uri: 'http://x', purview_endpoint: 'https://evil.example'}",
			[]string{"database", "encrypt", "trust_cert", "host", "driver", "fabric_base_api_uri", "purview_endpoint"}},
		{"postgres", "vault", "{host: 'a b', port: x, sslmode: disable, database: 'a=b'}", []string{"host", "database", "sslmode", "port"}},
		{"redshift", "vault", "{host: 'a b', port: x, sslmode: disable, dbname: 'a=b'}", []string{"host", "database", "sslmode", "port"}},
		{"snowflake", "oidc", "{account: 'a/b', host: evil.example, port: x, protocol: ftp, proxy_host: 'u@p', proxy_port: y, s3_stage_vpce_dns_name: evil.example}",
			[]string{"account", "port", "proxy_port", "proxy_host", "s3_stage_vpce_dns_name", "host", "protocol"}},
		{"spark", "vault", "{method: thrift, host: 'a b', port: x, use_ssl: false}", []string{"port", "host", "use_ssl"}},
		{"spark", "aws", "{method: session, server_side_parameters: {fs.s3a.endpoint: x, fs.s3a.impl: y, '{{ x }}': z}}",
			[]string{"server_side_parameters.fs.s3a.endpoint", "server_side_parameters.fs.s3a.impl", "server_side_parameters.{{ x }}"}},
		{"sqlserver", "entra", "{host: evil.example, database: 'a;b', encrypt: false, trust_cert: true, driver: 'a;b', port: x, backend: z}",
			[]string{"database", "encrypt", "trust_cert", "host", "driver", "port", "backend"}},
		{"trino", "oidc", "{host: 'a b', port: x, http_scheme: http, cert: false}", []string{"host", "port", "http_scheme", "cert"}},
		{"duckdb", "aws", "{secrets: [{type: s3, use_ssl: false, endpoint: a}, {type: 'a b'}], settings: {'a b': 1, secret_directory: x, enable_server_cert_verification: false}}",
			[]string{"secrets.0", "settings", "secrets.1.type", "settings.secret_directory", "settings.enable_server_cert_verification"}},
		{"postgres", "vault", "{dbname: marts, port: x}", []string{"database", "port"}},
	} {
		t.Run(tt.dbtType+"_"+tt.provider, func(t *testing.T) {
			t.Parallel()
			var keys []string
			faults := faultsOf(t, tt.dbtType, tt.provider, tt.changes)
			for _, e := range faults {
				keys = append(keys, e.Where())
			}
			if !slices.Equal(keys, tt.keys) {
				t.Errorf("faults of %q, want %q:\n%q", keys, tt.keys, faults)
			}
		})
	}
}

// TestPlaceOfAnAlias: a fault of a key is at its value, by whichever of its
// names the block has it.
func TestPlaceOfAnAlias(t *testing.T) {
	t.Parallel()
	block := "      type: postgres\n      host: localhost\n      port: 5432\n      schema: marts\n      dbname: host=evil.example\n"
	text := fmt.Sprintf("version: 1\ntargets:\n  prod:\n    dbt:\n%s    exchange: %s\n    allow: [{repository_id: \"1\", ref: refs/heads/main}]\n",
		block, standin.Exchange("postgres", "vault"))
	p, err := policy.Parse("p.yml", []byte(text), Catalog())
	if err != nil {
		t.Fatal(err)
	}
	target, err := p.Target("prod")
	if err != nil {
		t.Fatal(err)
	}
	own := project{dbtType: "postgres"}
	err = target.CheckBlock(func(block *yaml.Node) []*policy.BlockError { return own.faults(target, block) })
	want := "parse policy \"p.yml\": 1 error\np.yml:9:15: database is a connection string (…), want a database's name\n" +
		"        dbname: host=evil.example\n                ^"
	if err == nil || err.Error() != want {
		t.Errorf("error is\n%v\nwant\n%s", err, want)
	}
}
