package adapter

import (
	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// athena finds the session by boto3's own variables: the key id would be a
// connection's key, and change in every run. (dbt-athena 1.11)
var athena = adapter{
	spec: policy.Adapter{
		Native:   "`session_policy` of the exchange, and a workgroup that enforces its configuration and a limit of bytes scanned",
		Required: []string{"schema"},
		Aliases:  map[string]string{"catalog": "database"},
		Written: []string{
			"aws_access_key_id", "aws_profile_name", "assume_role_arn", "assume_role_external_id",
			"assume_role_session_name", "assume_role_duration_seconds",
		},
		Literal:  []string{"endpoint_url", "region_name"},
		NoClaims: []string{"endpoint_url", "region_name"},
	},
	mappings: []string{"seed_s3_upload_args", "lf_tags_database"},
	check: func(block *yaml.Node, _ pair, _ string) error {
		_, err := checkEndpoint(top("endpoint_url"), scalar(block, "endpoint_url"))
		return err
	},
	pairs: map[string]pair{
		"aws": athenaPair, "identity_center": athenaPair,
		"login": {
			gives: credential.AWSSession, asks: credential.Asks{Login: credential.RoleLogin}, render: athenaSession, route: awsContainer,
			given: []string{"region_name"}, identities: map[string]string{"aws_profile_name": "", "assume_role_arn": ""},
		},
	},
}

// athenaPair is one row: the session of a person is found as any other.
var athenaPair = pair{
	gives: credential.AWSSession, render: athenaSession, route: awsContainer,
	given: []string{"region_name"}, identities: map[string]string{"aws_profile_name": "role", "assume_role_arn": "then_assume"},
}

func athenaSession(in Input) Output {
	if region := scalar(in.Block, "region_name"); region != "" && !policy.IsJinja(region) {
		return Output{}
	}
	return Output{Keys: []Key{{"region_name", text(in.Credential.AWS.Region)}}}
}
