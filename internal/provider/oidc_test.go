package provider_test

import "time"

// oidc has no hops: the ID token is the credential, and expires with it.
var oidc = []fixture{{
	name: "oidc",
	target: `
    exchange:
      oidc: {audience: snowflakecomputing.com}
    dbt: {type: snowflake, account: acme-prod, user: DBT_PROD, role: TRANSFORMER, database: ANALYTICS, warehouse: TRANSFORMING, schema: marts}`,
	want: issued{kind: "id_token", id: "repo:acme/analytics:environment:production", life: 5 * time.Minute},
}}
