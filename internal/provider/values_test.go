package provider_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
)

// TestValuesThatNeverWork: what the provider would refuse in every run is
// refused when the policy is read.
func TestValuesThatNeverWork(t *testing.T) {
	t.Parallel()
	const (
		role     = "arn:aws:iam::123456789012:role/dbt"
		postgres = "{type: postgres, host: db.acme.example, user: dbt, port: 5432, dbname: d, schema: s}"
		athena   = "{type: athena, region_name: eu-central-1, s3_staging_dir: 's3://b/', database: awsdatacatalog, schema: s}"
		vault    = "role: dbt, audience: vault, secret: database/creds/dbt"
		chain    = `{aws: {role: "` + role + `", region: eu-central-1, then_assume: {role: "` + role + `", `
		entra    = "tenant: 01234567-89ab-cdef-0123-456789abcdef, client_id: 01234567-89ab-cdef-0123-456789abcdef"
	)
	for _, tt := range []struct{ name, dbt, exchange, err string }{
		{"partitions agree", athena, `{aws: {role: "` + role + `", region: eu-central-1}}`, ""},
		{"China", athena, `{aws: {role: "arn:aws-cn:iam::123456789012:role/dbt", region: cn-north-1}}`, ""},
		{"GovCloud", athena, `{aws: {role: "arn:aws-us-gov:iam::123456789012:role/dbt", region: us-gov-west-1}}`, ""},
		{"European sovereign cloud", athena, `{aws: {role: "arn:aws-eusc:iam::123456789012:role/dbt", region: eusc-de-east-1}}`, ""},
		{"a role of China", athena, `{aws: {role: "arn:aws-cn:iam::123456789012:role/dbt", region: eu-central-1}}`,
			`role: is in partition "aws-cn", but region "eu-central-1" is in "aws": they must be in the same partition`},
		{"a region of China", athena, `{aws: {role: "` + role + `", region: cn-northwest-1}}`,
			`role: is in partition "aws", but region "cn-northwest-1" is in "aws-cn": they must be in the same partition`},
		{"a role with a claim", athena, `{aws: {role: "arn:aws-us-gov:iam::123456789012:role/dbt-${environment}", region: us-east-1}}`,
			`role: is in partition "aws-us-gov", but region "us-east-1" is in "aws": they must be in the same partition`},
		{"a second role", athena, `{aws: {role: "` + role + `", region: eu-central-1, then_assume: {role: "arn:aws-us-gov:iam::123456789012:role/lake"}}}`,
			`then_assume.role: is in partition "aws-us-gov", but region "eu-central-1" is in "aws": they must be in the same partition`},
		{"session tags", athena, chain + `tags: {team: data, "acme:cost center": "4711", größe: XL}, transitive_tags: team}}}`, ""},
		{"a tag by a claim", athena, chain + `tags: {env: "acme-${environment}"}}}}`, ""},
		{"a tag by a claim that rules do not bind", athena, chain + `tags: {ref: "${ref}"}}}}`,
			"then_assume.tags.ref: ${ref} requires literal values of the claim in every rule, and rule 1 (line 7) has none; what may be used here: ${environment}, ${repository_id}"},
		{"a tag's key with a claim", athena, chain + `tags: {"${environment}": data}}}}`,
			"then_assume.tags has the key \"${environment}\": want at most 128 of letters, digits, spaces and _.:/=+-@"},
		{"a tag of AWS's", athena, chain + `tags: {"AWS:PrincipalTag": data}}}}`,
			`then_assume.tags has the key "AWS:PrincipalTag": begins with aws:, which AWS reserves`},
		{"a tag with other characters", athena, chain + `tags: {team: "R&D"}}}}`,
			`then_assume.tags.team "R&D": want at most 256 of letters, digits, spaces and _.:/=+-@`},
		{"a tag of the greatest length", athena, chain + `tags: {team: "` + strings.Repeat("ö", 256) + `"}}}}`, ""},
		{"a tag that is too long", athena, chain + `tags: {"` + strings.Repeat("k", 129) + `": data}}}}`,
			`then_assume.tags has the key "` + strings.Repeat("k", 129) + `": want at most 128 of letters, digits, spaces and _.:/=+-@`},
		{"a tag that is a number", athena, chain + `tags: {cost: 4711}}}}`, "then_assume.tags.cost is a number, want a string: put it in quotes"},
		{"a tag without a value", athena, chain + `tags: {cost: ""}}}}`, "then_assume.tags.cost is empty"},
		{"tags in a list", athena, chain + `tags: [team]}}}`, "then_assume.tags is a list, want a mapping"},
		{"no tags", athena, chain + `tags: {}}}}`, "then_assume.tags is empty: remove it"},
		{"tags by letter case", athena, chain + `tags: {Team: a, team: b}}}}`, `then_assume.tags: "Team" and "team" are the same key: AWS ignores letter case`},
		{"too many tags", athena, chain + `tags: {` + manyTags(51) + `}}}}`, "then_assume.tags: has 51 tags, AWS allows at most 50"},
		{"as many tags as there may be", athena, chain + `tags: {` + manyTags(50) + `}}}}`, ""},
		{"a transitive tag that is none", athena, chain + `tags: {team: a}, transitive_tags: [team, Team]}}}`, `then_assume.transitive_tags: "Team" is not a key of tags, valid keys are ["team"]`},
		{"Identity Center's tags", athena, `{identity_center: {region: eu-central-1, role: "` + role + `", application: "arn:aws:sso::123456789012:application/ssoins-1/apl-1", then_assume: {role: "` + role + `", tags: {Team: a, team: b}}}}`,
			`then_assume.tags: "Team" and "team" are the same key: AWS ignores letter case`},
		{"a managed policy", athena, `{aws: {role: "` + role + `", region: eu-central-1, policy_arns: ["arn:aws-cn:iam::aws:policy/AmazonS3ReadOnlyAccess"]}}`,
			`policy_arns: is in partition "aws-cn", but region "eu-central-1" is in "aws": they must be in the same partition`},
		{"Identity Center", athena, `{identity_center: {region: us-gov-west-1, role: "arn:aws-us-gov:iam::123456789012:role/dbt", application: "arn:aws:sso::123456789012:application/ssoins-1/apl-1"}}`,
			`application: is in partition "aws", but region "us-gov-west-1" is in "aws-us-gov": they must be in the same partition`},
		{"AWS's audience as an address", athena, `{aws: {role: "` + role + `", region: eu-central-1, audience: "https://sts.amazonaws.com/"}}`,
			`audience "https://sts.amazonaws.com/": must be a name, not a URL: write "sts.amazonaws.com"`},
		{"an audience of one's own", athena, `{aws: {role: "` + role + `", region: eu-central-1, audience: "https://github.com/acme"}}`, ""},
		{"Snowflake's audience as an address", "{type: snowflake, account: acme-prod, user: DBT, database: d, schema: s}", `{oidc: {audience: "https://snowflakecomputing.com"}}`,
			`audience "https://snowflakecomputing.com": must be a name, not a URL: write "snowflakecomputing.com"`},
		{"an account's address as audience", "{type: snowflake, account: acme-prod, user: DBT, database: d, schema: s}", `{oidc: {audience: "https://acme-prod.snowflakecomputing.com"}}`, ""},
		{"Entra ID's audience as an address", postgres, `{entra: {` + entra + `, audience: "https://AzureADTokenExchange"}}`,
			`audience "https://AzureADTokenExchange": is not Entra ID's spelling: write "api://AzureADTokenExchange"`},
		{"Entra ID's audience without its scheme", postgres, `{entra: {` + entra + `, audience: azureadtokenexchange}}`,
			`audience "azureadtokenexchange": is not Entra ID's spelling: write "api://AzureADTokenExchange"`},
		{"Vault's API", postgres, `{vault: {address: "https://vault.acme.example:8200/v1", ` + vault + `}}`,
			`address "https://vault.acme.example:8200/v1": contains /v1: write the server's address without it, "https://vault.acme.example:8200"`},
		{"Vault's API and more", postgres, `{vault: {address: "https://acme.example/vault/v1/auth/jwt", ` + vault + `}}`,
			`address "https://acme.example/vault/v1/auth/jwt": contains /v1: write the server's address without it, "https://acme.example/vault"`},
		{"Vault's pages", postgres, `{vault: {address: "https://vault.acme.example/ui/", ` + vault + `}}`,
			`address "https://vault.acme.example/ui/": contains /ui: write the server's address without it, "https://vault.acme.example"`},
		{"a client's certificate", postgres, `{vault: {address: "https://vault.acme.example", client_cert_file: /etc/vault/client.pem, client_key_file: /etc/vault/client.key, ` + vault + `}}`, ""},
		{"a client's certificate without its key", postgres, `{vault: {address: "https://vault.acme.example", client_cert_file: /etc/vault/client.pem, ` + vault + `}}`,
			`client_cert_file: requires client_key_file`},
		{"a client's key alone", postgres, `{vault: {address: "https://vault.acme.example", client_key_file: /etc/vault/client.key, ` + vault + `}}`,
			`client_key_file: requires client_cert_file`},
		{"a client's certificate without TLS", postgres, `{vault: {address: "http://127.0.0.1:8200", client_cert_file: /etc/vault/client.pem, client_key_file: /etc/vault/client.key, ` + vault + `}}`,
			`client_cert_file: requires TLS: address must be https`},
		{"a client's key by a relative path", postgres, `{vault: {address: "https://vault.acme.example", client_cert_file: /etc/vault/client.pem, client_key_file: client.key, ` + vault + `}}`,
			`client_key_file "client.key": want an absolute path, without . and .. in it`},
		{"a client's key by a roundabout path", postgres, `{vault: {address: "https://vault.acme.example", client_cert_file: /etc/vault/client.pem, client_key_file: /etc/../client.key, ` + vault + `}}`,
			`client_key_file "/etc/../client.key": want an absolute path, without . and .. in it`},
		{"a client's key itself", postgres, `{vault: {address: "https://vault.acme.example", client_cert_file: /etc/vault/client.pem, client_key_file: "-----BEGIN PRIVATE KEY-----", ` + vault + `}}`,
			`client_key_file holds a secret (…), which a policy must not contain: remove it, the credential comes from the exchange`},
		{"Vault below a path", postgres, `{vault: {address: "https://acme.example/v1s/vault", ` + vault + `}}`, ""},
		{"a path with auth/", postgres, `{vault: {address: "https://vault.acme.example", auth_path: auth/github/login, ` + vault + `}}`,
			`auth_path "auth/github/login": begins with auth/, which the client adds: write "github"`},
		{"a path with auth/ and cel/", postgres, `{vault: {address: "https://vault.acme.example", auth_path: auth/github/cel/login, ` + vault + `}}`,
			`auth_path "auth/github/cel/login": begins with auth/, which the client adds: write "github"`},
		{"a CEL role", postgres, `{vault: {address: "https://vault.acme.example", auth: cel, ` + vault + `}}`, ""},
		{"a role with bound claims, said", postgres, `{vault: {address: "https://vault.acme.example", auth: jwt, ` + vault + `}}`, ""},
		{"another kind of role", postgres, `{vault: {address: "https://vault.acme.example", auth: CEL, ` + vault + `}}`,
			`auth "CEL": valid values are ["jwt" "cel"]`},
		{"a kind of role by a claim", postgres, `{vault: {address: "https://vault.acme.example", auth: "${environment}", ` + vault + `}}`,
			`auth: ${…} is not allowed here: a claim must not choose a host, a URL, an account, an authority or an audience`},
		{"a CEL role in capitals", postgres, `{vault: {address: "https://vault.acme.example", auth: cel, role: DBT-Prod, audience: vault, secret: database/creds/dbt}}`,
			`role: must be in lower case with auth: cel, as the server looks for it: write "dbt-prod"`},
		{"a CEL role in capitals, with a claim", postgres, `{vault: {address: "https://vault.acme.example", auth: cel, role: "DBT-${environment}", audience: vault, secret: database/creds/dbt}}`,
			`role: must be in lower case with auth: cel, as the server looks for it`},
		{"a role in capitals", postgres, `{vault: {address: "https://vault.acme.example", role: DBT-Prod, audience: vault, secret: database/creds/dbt}}`, ""},
		{"a secret with v1/", postgres, `{vault: {address: "https://vault.acme.example", role: dbt, audience: vault, secret: /v1/database/creds/dbt}}`,
			`secret "/v1/database/creds/dbt": begins with v1/, which the client adds: write "database/creds/dbt"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			text := "version: 1\ntargets:\n  prod:\n    dbt: " + tt.dbt + "\n    exchange: " + tt.exchange +
				"\n    allow:\n      - {repository: acme/analytics, repository_id: \"1\", environment: production}\n"
			_, err := policy.Parse("policy", []byte(text), policy.Catalog{Providers: provider.Specs(), Adapters: adapter.Specs()})
			got := ""
			if err != nil {
				_, got, _ = strings.Cut(strings.Split(err.Error(), "\n")[1], ": ")
			}
			if got != tt.err {
				t.Errorf("error is %q, want %q", got, tt.err)
			}
		})
	}
}

func manyTags(n int) string {
	tags := make([]string, n)
	for i := range tags {
		tags[i] = fmt.Sprintf("tag%d: x", i)
	}
	return strings.Join(tags, ", ")
}
