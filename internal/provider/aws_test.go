package provider_test

import "time"

// stsError is the form of STS's errors. (AWS STS API Reference, version 2011-06-15)
const stsError = `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>$CODE</Code><Message>$MESSAGE</Message></Error><RequestId>01234567-89ab-cdef-0123-456789abcdef</RequestId></ErrorResponse>`

// assumeRoleWithWebIdentity is the first hop of everything at AWS.
var assumeRoleWithWebIdentity = hop{
	name: "AssumeRoleWithWebIdentity",
	reply: `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult>` +
		`<SubjectFromWebIdentityToken>repo:acme/analytics:environment:production</SubjectFromWebIdentityToken><Audience>sts.amazonaws.com</Audience>` +
		`<AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/dbt-prod/acme-analytics@16055869479-1</Arn><AssumedRoleId>AROA123456789EXAMPLE:acme-analytics@16055869479-1</AssumedRoleId></AssumedRoleUser>` +
		`<Credentials><AccessKeyId>ASIAFIRSTSESSION1234</AccessKeyId><SecretAccessKey>first/SecretAccessKey+0123456789abcdefghi</SecretAccessKey><SessionToken>first+SessionToken//////////wEaDGV1LWNlbnRyYWw==</SessionToken><Expiration>2000-01-01T01:00:00Z</Expiration></Credentials>` +
		`<Provider>arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com</Provider></AssumeRoleWithWebIdentityResult><ResponseMetadata><RequestId>01234567-89ab-cdef-0123-456789abcdef</RequestId></ResponseMetadata></AssumeRoleWithWebIdentityResponse>`,
	secrets: []string{"AccessKeyId", "SecretAccessKey", "SessionToken"},
	expiry:  "Expiration",
	refusal: stsError,
	refusals: []refusal{
		{403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"},
		{400, "InvalidIdentityToken", "No OpenIDConnect provider found in your account for https://token.actions.githubusercontent.com"},
		{400, "ExpiredTokenException", "Token expired: current date/time 946684800 must be before the expiration date/time 946684500"},
		{403, "IDPRejectedClaim", "The identity provider has rejected the claim"},
		{400, "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."},
		{400, "MalformedPolicyDocument", "Syntax errors in policy."},
		{400, "PackedPolicyTooLarge", "Serialized token too large for session"},
		{403, "RegionDisabledException", "STS is not activated in this region for account 123456789012."},
	},
	passing: []refusal{
		{400, "IDPCommunicationError", "Couldn't retrieve verification key from your identity provider"},
		{400, "InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements"},
		{400, "Throttling", "Rate exceeded"},
		{400, "RequestLimitExceeded", "Request limit exceeded"},
		{503, "ServiceUnavailable", "Service is unable to handle request."},
	},
}

var aws = []fixture{{
	name: "aws",
	target: `
    exchange:
      aws: {role: "arn:aws:iam::123456789012:role/dbt-prod", region: eu-central-1}`,
	hops: []hop{assumeRoleWithWebIdentity},
	want: issued{kind: "aws_session", id: "arn:aws:sts::123456789012:assumed-role/dbt-prod/acme-analytics@16055869479-1", life: time.Hour},
}, {
	name: "aws-role-chain",
	target: `
    lifetime: 30m
    exchange:
      aws:
        role: arn:aws:iam::123456789012:role/dbt-prod
        region: eu-central-1
        session_policy: '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}'
        policy_arns: [arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess, arn:aws:iam::210987654321:policy/lake]
        then_assume:
          role: arn:aws:iam::210987654321:role/lake
          external_id: acme
          tags: {"acme:team": data platform, Environment: "${environment}"}
          transitive_tags: [Environment]
          source_identity: true`,
	hops: []hop{assumeRoleWithWebIdentity, {
		name: "AssumeRole",
		reply: `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>` +
			`<AssumedRoleUser><Arn>arn:aws:sts::210987654321:assumed-role/lake/acme-analytics@16055869479-1</Arn><AssumedRoleId>AROA987654321EXAMPLE:acme-analytics@16055869479-1</AssumedRoleId></AssumedRoleUser>` +
			`<Credentials><AccessKeyId>ASIASECONDSESSION123</AccessKeyId><SecretAccessKey>second/SecretAccessKey+0123456789abcdefgh</SecretAccessKey><SessionToken>second+SessionToken/////////wEaDGV1LWNlbnRyYWw==</SessionToken><Expiration>2000-01-01T00:30:00Z</Expiration></Credentials>` +
			`</AssumeRoleResult><ResponseMetadata><RequestId>01234567-89ab-cdef-0123-456789abcdef</RequestId></ResponseMetadata></AssumeRoleResponse>`,
		secrets: []string{"AccessKeyId", "SecretAccessKey", "SessionToken"},
		expiry:  "Expiration",
		refusal: stsError,
		refusals: []refusal{
			{403, "AccessDenied", "User: arn:aws:sts::123456789012:assumed-role/dbt-prod/acme is not authorized to perform: sts:TagSession on resource: arn:aws:iam::210987654321:role/lake"},
			{400, "ValidationError", "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"},
		},
	}},
	want: issued{kind: "aws_session", id: "arn:aws:sts::210987654321:assumed-role/lake/acme-analytics@16055869479-1", life: 30 * time.Minute},
}, {
	name: "aws-rds",
	target: `
    exchange:
      aws: {role: "arn:aws:iam::123456789012:role/dbt-prod", region: eu-central-1}
    dbt: {type: postgres, host: dw.c1a2b3c4d5e6.eu-central-1.rds.amazonaws.com, port: 5432, user: dbt, database: analytics, schema: marts}`,
	hops: []hop{assumeRoleWithWebIdentity},
	want: issued{kind: "database_login", id: "arn:aws:sts::123456789012:assumed-role/dbt-prod/acme-analytics@16055869479-1", user: "dbt", life: 15 * time.Minute},
}, {
	name: "aws-redshift-user",
	target: `
    lifetime: 30m
    dbt: {type: redshift, host: acme.abc123.eu-central-1.redshift.amazonaws.com, port: 5439, user: dbt, dbname: analytics, schema: marts, autocreate: true, db_groups: [readers, writers]}
    exchange:
      aws: {role: "arn:aws:iam::123456789012:role/dbt-prod", region: eu-central-1}`,
	hops: []hop{assumeRoleWithWebIdentity, redshiftHop("GetClusterCredentials", "IAMA:dbt", "2000-01-01T00:30:00Z",
		refusal{403, "AccessDenied", "User: arn:aws:sts::123456789012:assumed-role/dbt-prod/acme is not authorized to perform: redshift:JoinGroup on resource: arn:aws:redshift:eu-central-1:123456789012:dbgroup:acme/writers"},
		refusal{404, "ClusterNotFound", "Cluster acme not found."},
		refusal{400, "UnsupportedOperation", "The operation is not supported."},
		refusal{403, "ExpiredToken", "The security token included in the request is expired"},
		refusal{400, "Throttling", "Rate exceeded"},
	)},
	want: issued{kind: "database_login", id: "arn:aws:sts::123456789012:assumed-role/dbt-prod/acme-analytics@16055869479-1", user: "IAMA:dbt", life: 30 * time.Minute},
}, {
	name: "aws-redshift-role",
	target: `
    dbt: {type: redshift, host: redshift.acme.example, cluster_id: acme, port: 5439, dbname: analytics, schema: marts}
    exchange:
      aws: {role: "arn:aws:iam::123456789012:role/dbt-prod", region: eu-central-1}`,
	hops: []hop{assumeRoleWithWebIdentity, redshiftHop("GetClusterCredentialsWithIAM", "IAMR:dbt-prod", "2000-01-01T01:00:00Z",
		refusal{403, "AccessDenied", "User: arn:aws:sts::123456789012:assumed-role/dbt-prod/acme is not authorized to perform: redshift:GetClusterCredentialsWithIAM on resource: arn:aws:redshift:eu-central-1:123456789012:dbname:acme/analytics"},
	)},
	want: issued{kind: "database_login", id: "arn:aws:sts::123456789012:assumed-role/dbt-prod/acme-analytics@16055869479-1", user: "IAMR:dbt-prod", life: time.Hour},
}, {
	name: "aws-redshift-serverless",
	target: `
    max_lifetime: 20m
    dbt: {type: redshift, host: marts.123456789012.eu-central-1.redshift-serverless.amazonaws.com, port: 5439, dbname: analytics, schema: marts}
    exchange:
      aws: {role: "arn:aws:iam::123456789012:role/dbt-prod", region: eu-central-1}`,
	hops: []hop{assumeRoleWithWebIdentity, {
		name:    "GetCredentials",
		reply:   `{"dbPassword": "serverless/password+0123456789abcdef==", "dbUser": "IAMR:dbt-prod", "expiration": 946686000, "nextRefreshTime": 946686000}`,
		secrets: []string{"dbPassword"},
		expiry:  "expiration",
		also:    []mutation{{"dbUser", nil}, {"dbUser", ""}, {"dbUser", "IAMR:two\nlines"}, {"dbUser", 7}},
		refusal: `{"__type": "$CODE", "message": "$MESSAGE"}`,
		refusals: []refusal{
			{400, "AccessDeniedException", "User: arn:aws:sts::123456789012:assumed-role/dbt-prod/acme is not authorized to perform: redshift-serverless:GetCredentials on resource: arn:aws:redshift-serverless:eu-central-1:123456789012:workgroup/8a5b"},
			{400, "ResourceNotFoundException", "The workgroup marts could not be found."},
			{400, "ValidationException", "Value at 'durationSeconds' failed to satisfy constraint"},
			{403, "InvalidSignatureException", "Signature expired"},
		},
		passing:   []refusal{{400, "ThrottlingException", "Rate exceeded"}, {500, "InternalServerException", "Internal error"}},
		mediaType: "application/x-amz-json-1.1",
	}},
	want: issued{kind: "database_login", id: "arn:aws:sts::123456789012:assumed-role/dbt-prod/acme-analytics@16055869479-1", user: "IAMR:dbt-prod", life: 20 * time.Minute},
}}

// redshiftHop is a request to Redshift. (Redshift API Reference, version 2012-12-01)
func redshiftHop(action, user, expiry string, refusals ...refusal) hop {
	return hop{
		name: action,
		reply: `<` + action + `Response xmlns="http://redshift.amazonaws.com/doc/2012-12-01/"><` + action + `Result>` +
			`<DbUser>` + user + `</DbUser><DbPassword>cluster/password+0123456789abcdef==</DbPassword><Expiration>` + expiry + `</Expiration>` +
			`</` + action + `Result><ResponseMetadata><RequestId>01234567-89ab-cdef-0123-456789abcdef</RequestId></ResponseMetadata></` + action + `Response>`,
		secrets:  []string{"DbPassword"},
		expiry:   "Expiration",
		also:     []mutation{{"DbUser", nil}, {"DbUser", ""}, {"DbUser", "IAM:two\nlines"}},
		refusal:  `<ErrorResponse xmlns="http://redshift.amazonaws.com/doc/2012-12-01/"><Error><Type>Sender</Type><Code>$CODE</Code><Message>$MESSAGE</Message></Error><RequestId>01234567-89ab-cdef-0123-456789abcdef</RequestId></ErrorResponse>`,
		refusals: refusals,
	}
}
