package provider_test

import "time"

// identityContext is the second hop of a session with a person's identity.
// (IAM Identity Center OIDC API Reference, CreateTokenWithIAM)
var identityContext = hop{
	name: "CreateTokenWithIAM",
	reply: `{"accessToken": "aoaAAAAAGaccessToken0123456789", "tokenType": "Bearer", "expiresIn": 3600, "idToken": "eyJ.identity-center-id-token.0123", "issuedTokenType": "urn:ietf:params:oauth:token-type:access_token",` +
		`"scope": ["sts:identity_context", "openid", "aws"], "awsAdditionalDetails": {"identityContext": "ProvidedContext/of+octocat0123456789=="}}`,
	secrets: []string{"awsAdditionalDetails.identityContext"},
	refusal: `{"error": "$CODE", "error_description": "$MESSAGE"}`,
	refusals: []refusal{
		{400, "invalid_grant", "Invalid grant provided"},
		{400, "invalid_client", "Invalid client provided"},
		{400, "unauthorized_client", "Client is not authorized to use the grant"},
		{400, "access_denied", "User: arn:aws:sts::123456789012:assumed-role/dbt-prod/acme is not authorized to perform: sso-oauth:CreateTokenWithIAM"},
		{400, "expired_token", "Token has expired"},
	},
}

var identityCenter = []fixture{{
	name: "identity-center",
	target: `
    dbt: {type: athena, s3_staging_dir: "s3://acme/athena/", database: awsdatacatalog, schema: marts}
    exchange:
      identity_center:
        region: eu-central-1
        application: arn:aws:sso::123456789012:application/ssoins-1234567890abcdef/apl-1234567890abcdef
        role: arn:aws:iam::123456789012:role/dbt-prod
        then_assume: {role: "arn:aws:iam::123456789012:role/lake", external_id: acme}`,
	hops: []hop{assumeRoleWithWebIdentity, identityContext, {
		name: "AssumeRole",
		reply: `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>` +
			`<AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/lake/acme-analytics@16055869479-1</Arn><AssumedRoleId>AROA987654321EXAMPLE:acme-analytics@16055869479-1</AssumedRoleId></AssumedRoleUser>` +
			`<Credentials><AccessKeyId>ASIAPERSONSESSION123</AccessKeyId><SecretAccessKey>person/SecretAccessKey+0123456789abcdefgh</SecretAccessKey><SessionToken>person+SessionToken/////////wEaDGV1LWNlbnRyYWw==</SessionToken><Expiration>2000-01-01T01:00:00Z</Expiration></Credentials>` +
			`</AssumeRoleResult><ResponseMetadata><RequestId>01234567-89ab-cdef-0123-456789abcdef</RequestId></ResponseMetadata></AssumeRoleResponse>`,
		secrets: []string{"AccessKeyId", "SecretAccessKey", "SessionToken"},
		expiry:  "Expiration",
		refusal: stsError,
		refusals: []refusal{
			{403, "AccessDenied", "User: arn:aws:sts::123456789012:assumed-role/dbt-prod/acme is not authorized to perform: sts:SetContext on resource: arn:aws:iam::123456789012:role/lake"},
			{400, "ValidationError", "Invalid or expired context assertion"},
		},
	}},
	want: issued{kind: "aws_session", id: "arn:aws:sts::123456789012:assumed-role/lake/acme-analytics@16055869479-1", life: time.Hour},
}, {
	// No hops: Redshift exchanges the ID token itself.
	name: "identity-center-redshift",
	target: `
    dbt: {type: redshift, host: acme.abc123.eu-central-1.redshift.amazonaws.com, port: 5439, dbname: analytics, schema: marts}
    exchange:
      identity_center: {region: eu-central-1, audience: redshift.acme.example}`,
	want: issued{kind: "id_token", id: "repo:acme/analytics:environment:production", life: 5 * time.Minute},
}}
