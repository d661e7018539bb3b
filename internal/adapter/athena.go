package adapter

import (
	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
)

// athena finds the session by boto3's own variables: the key id would be a
// connection's key, and change in every run. (dbt-athena 1.11)
var athena = adapter{
	spec: policy.Adapter{
		Required: []string{"schema"},
		Aliases:  map[string]string{"catalog": "database"},
		Written: []string{
			"aws_access_key_id", "aws_profile_name", "assume_role_arn", "assume_role_external_id",
			"assume_role_session_name", "assume_role_duration_seconds",
		},
		Literal:  []string{"endpoint_url", "region_name"},
		NoClaims: []string{"endpoint_url", "region_name"},
		Given:    map[string][]string{"aws": {"region_name"}, "identity_center": {"region_name"}},
	},
	mappings: []string{"seed_s3_upload_args", "lf_tags_database"},
	identities: map[string]map[string]string{
		"aws_profile_name": {"aws": "role", "identity_center": "role"},
		"assume_role_arn":  {"aws": "then_assume", "identity_center": "then_assume"},
	},
	check: func(block *yaml.Node, _, _ string) error {
		_, err := checkEndpoint("endpoint_url", scalar(block, "endpoint_url"))
		return err
	},
	render: map[string]func(Input) Output{"aws": athenaSession, "identity_center": athenaSession},
	routes: map[string]func(*yaml.Node) (route.Route, error){"aws": awsContainer, "identity_center": awsContainer},
}

func athenaSession(in Input) Output {
	if region := scalar(in.Block, "region_name"); region != "" && !policy.IsJinja(region) {
		return Output{}
	}
	return Output{Keys: []Key{{"region_name", text(in.Credential.AWS.Region)}}}
}
