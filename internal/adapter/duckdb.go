package adapter

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// duckdb reads S3 with a secret of DuckDB's own kind. Its values come from
// variables that dbt takes for secrets: the SDKs' own names would put the
// session into the manifest, and a full parse into every run.
//
// The user's entries of `secrets:` with type s3 say endpoint, url_style,
// use_ssl, region and scope, and are completed with the session. One that has
// key material of its own and a scope is left alone: it is for another bucket.
// Where none is completed, one is added. (dbt-duckdb 1.11: secrets)
var duckdb = adapter{
	spec: policy.Adapter{
		Written: []string{"use_credential_provider"},
		Secret:  []string{"key_id"},
	},
	others: []string{"motherduck_token"},
	check: func(block *yaml.Node, _, _ string) error {
		for _, s := range elements(value(block, "secrets")) {
			if !isOurs(s) {
				continue
			}
			if err := checkS3(s); err != nil {
				return fmt.Errorf("secrets of type s3: %w", err)
			}
		}
		return nil
	},
	render: map[string]func(Input) Output{
		"aws": func(in Input) Output {
			aws := in.Credential.AWS
			return Output{
				Keys: []Key{
					{"extensions", withExtension(value(in.Block, "extensions"), "httpfs")},
					{"secrets", withS3(value(in.Block, "secrets"), aws.Region)},
				},
				Env: []Variable{
					{"DBT_ENV_SECRET_OIDC_AWS_ACCESS_KEY_ID", aws.AccessKeyID, true},
					{"DBT_ENV_SECRET_OIDC_AWS_SECRET_ACCESS_KEY", aws.SecretAccessKey, true},
					{"DBT_ENV_SECRET_OIDC_AWS_SESSION_TOKEN", aws.SessionToken, true},
				},
			}
		},
	},
}

// elements returns the elements of a list, none of anything else.
func elements(list *yaml.Node) []*yaml.Node {
	if list == nil || list.Kind != yaml.SequenceNode {
		return nil
	}
	return list.Content
}

// withExtension adds an extension to the user's list.
func withExtension(list *yaml.Node, name string) *yaml.Node {
	out := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: slices.Clone(elements(list))}
	for _, e := range out.Content {
		if e.Value == name || scalar(e, "name") == name {
			return out
		}
	}
	out.Content = append(out.Content, text(name))
	return out
}

// option returns an option of an entry of `secrets:`; DuckDB does not care how
// its name is spelt, USE_SSL say.
func option(s *yaml.Node, name string) *yaml.Node {
	for i := 0; s.Kind == yaml.MappingNode && i+1 < len(s.Content); i += 2 {
		if strings.EqualFold(s.Content[i].Value, name) {
			return s.Content[i+1]
		}
	}
	return nil
}

func optionText(s *yaml.Node, name string) string { return textOf(option(s, name)) }

// isOurs reports whether an entry of `secrets:` gets the session. Without a
// scope an entry with other keys would compete with ours for every bucket.
func isOurs(s *yaml.Node) bool {
	if !strings.EqualFold(scalar(s, "type"), "s3") {
		return false
	}
	keys := optionText(s, "key_id") != "" || optionText(s, "secret") != ""
	return !keys || !hasScope(s)
}

// hasScope reports whether an entry is for certain buckets or paths only.
func hasScope(s *yaml.Node) bool {
	scope := option(s, "scope")
	all := elements(scope)
	if all == nil {
		all = []*yaml.Node{scope}
	}
	for _, e := range all {
		if _, path, _ := strings.Cut(textOf(e), "://"); path == "" && !jinja(textOf(e)) {
			return false // `s3://` is every bucket
		}
	}
	return true
}

var hostPort = regexp.MustCompile(`^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?$`)

// checkS3 is checkEndpoint for the form that DuckDB has: host and port, and
// whether to use TLS.
func checkS3(s *yaml.Node) error {
	endpoint, ssl, verify := optionText(s, "endpoint"), optionText(s, "use_ssl"), optionText(s, "verify_ssl")
	if jinja(endpoint) || jinja(ssl) || jinja(verify) {
		return errors.New("endpoint, use_ssl and verify_ssl must be literals: the credential goes there")
	}
	// The whole of it is held to a pattern: in 127.0.0.1:1@evil.example, what
	// stands before the colon is no host.
	parts := hostPort.FindStringSubmatch(endpoint)
	host := ""
	if parts != nil {
		host = strings.Trim(parts[1], "[]")
	}
	switch {
	case strings.Contains(endpoint, "@"): // what stands before it may be a password
		return errors.New("endpoint holds a login, want host or host:port")
	case endpoint != "" && parts == nil:
		return fmt.Errorf("endpoint is %q, want host or host:port", endpoint)
	case policy.IsLoopback(host):
	case !isTrue(ssl):
		return fmt.Errorf("use_ssl is %q for endpoint %q, want TLS (plain http is for loopback only)", ssl, endpoint)
	case !isTrue(verify):
		return fmt.Errorf("verify_ssl is %q for endpoint %q, want TLS verified", verify, endpoint)
	}
	return nil
}

// isTrue reports whether DuckDB takes a switch that is on by default for on,
// as dbt's YAML or DuckDB itself reads it; in doubt it does not.
func isTrue(s string) bool {
	return slices.Contains([]string{"", "true", "yes", "on", "1", "t", "y"}, strings.ToLower(s))
}

// withS3 returns the user's secrets with the session in those of type s3.
func withS3(list *yaml.Node, region string) *yaml.Node {
	out := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
	found := false
	for _, s := range elements(list) {
		if isOurs(s) {
			s, found = completed(s, region), true
		}
		out.Content = append(out.Content, s)
	}
	if !found {
		s3 := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{text("type"), text("s3")}}
		out.Content = append(out.Content, completed(s3, region))
	}
	return out
}

// s3Logins are the options of an S3 secret that choose an identity, or would
// have DuckDB write it to disk.
var s3Logins = []string{
	"persistent", "storage",
	"key_id", "secret", "session_token", "provider", "chain", "profile", "refresh", "refresh_info", "validation",
	"assume_role_arn", "external_id", "web_identity_token_file",
}

func completed(s3 *yaml.Node, region string) *yaml.Node {
	out := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for i := 0; i+1 < len(s3.Content); i += 2 {
		if !slices.Contains(s3Logins, strings.ToLower(s3.Content[i].Value)) {
			out.Content = append(out.Content, s3.Content[i], s3.Content[i+1])
		}
	}
	if optionText(out, "region") == "" {
		out.Content = append(out.Content, text("region"), text(region))
	}
	for _, pair := range [][2]string{
		{"key_id", "DBT_ENV_SECRET_OIDC_AWS_ACCESS_KEY_ID"},
		{"secret", "DBT_ENV_SECRET_OIDC_AWS_SECRET_ACCESS_KEY"},
		{"session_token", "DBT_ENV_SECRET_OIDC_AWS_SESSION_TOKEN"},
	} {
		out.Content = append(out.Content, text(pair[0]), envVar(pair[1]))
	}
	return out
}
