package adapter

import "github.com/oidc-dbt/oidc-dbt/internal/policy"

// athena finds the session by boto3's own variables: the key id would be a
// connection's key, and change in every run. (dbt-athena 1.11)
var athena = adapter{
	spec: policy.Adapter{
		Required: []string{"s3_staging_dir"},
		Written: []string{
			"aws_access_key_id", "aws_profile_name", "assume_role_arn", "assume_role_external_id",
			"assume_role_session_name", "assume_role_duration_seconds",
		},
	},
	render: map[string]func(Input) Output{
		"aws": func(in Input) Output {
			if value(in.Block, "region_name") != nil {
				return Output{}
			}
			return Output{Keys: []Key{{"region_name", text(in.Credential.AWS.Region)}}}
		},
	},
}
