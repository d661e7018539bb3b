package adapter

import (
	"slices"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// duckdb reads S3 with a secret of DuckDB's own kind. Its values are read
// from variables that dbt takes for secrets, which the SDKs' names are not.
// (dbt-duckdb 1.11: secrets)
var duckdb = adapter{
	spec: policy.Adapter{Written: []string{"use_credential_provider"}, Secret: []string{"key_id"}},
	render: map[string]func(Input) Output{
		"aws": func(in Input) Output {
			aws := in.Credential.AWS
			return Output{
				Keys: []Key{{"extensions", withExtension(value(in.Block, "extensions"), "httpfs")}, {"secrets", withS3(value(in.Block, "secrets"), aws.Region)}},
				Env: []Variable{
					{"DBT_ENV_SECRET_OIDC_AWS_ACCESS_KEY_ID", aws.AccessKeyID, true},
					{"DBT_ENV_SECRET_OIDC_AWS_SECRET_ACCESS_KEY", aws.SecretAccessKey, true},
					{"DBT_ENV_SECRET_OIDC_AWS_SESSION_TOKEN", aws.SessionToken, true},
				},
			}
		},
	},
}

// withExtension adds an extension to the user's list.
func withExtension(list *yaml.Node, name string) *yaml.Node {
	out := &yaml.Node{Kind: yaml.SequenceNode}
	if list != nil && list.Kind == yaml.SequenceNode {
		out.Content = slices.Clone(list.Content)
	}
	for _, e := range out.Content {
		if v := value(e, "name"); e.Value == name || v != nil && v.Value == name {
			return out
		}
	}
	out.Content = append(out.Content, text(name))
	return out
}

// withS3 completes the user's secrets of type s3, which say endpoint, region
// or scope, with the session; where there is none, it adds one.
func withS3(list *yaml.Node, region string) *yaml.Node {
	out := &yaml.Node{Kind: yaml.SequenceNode}
	found := false
	if list != nil && list.Kind == yaml.SequenceNode {
		for _, e := range list.Content {
			if t := value(e, "type"); t != nil && t.Value == "s3" {
				e, found = completed(e, region), true
			}
			out.Content = append(out.Content, e)
		}
	}
	if !found {
		out.Content = append(out.Content, completed(&yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{text("type"), text("s3")}}, region))
	}
	return out
}

func completed(s3 *yaml.Node, region string) *yaml.Node {
	out := &yaml.Node{Kind: yaml.MappingNode}
	for i := 0; i+1 < len(s3.Content); i += 2 {
		switch s3.Content[i].Value {
		case "key_id", "secret", "session_token", "provider", "chain", "profile", "refresh":
		default:
			out.Content = append(out.Content, s3.Content[i], s3.Content[i+1])
		}
	}
	if value(s3, "region") == nil {
		out.Content = append(out.Content, text("region"), text(region))
	}
	return withPairs(out, "key_id", "DBT_ENV_SECRET_OIDC_AWS_ACCESS_KEY_ID", "secret", "DBT_ENV_SECRET_OIDC_AWS_SECRET_ACCESS_KEY", "session_token", "DBT_ENV_SECRET_OIDC_AWS_SESSION_TOKEN")
}

func withPairs(n *yaml.Node, pairs ...string) *yaml.Node {
	for i := 0; i+1 < len(pairs); i += 2 {
		n.Content = append(n.Content, text(pairs[i]), envVar(pairs[i+1]))
	}
	return n
}
