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
		{400, "IDPCommunicationError", "Couldn't retrieve verification key from your identity provider"},
		{400, "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."},
		{400, "MalformedPolicyDocument", "Syntax errors in policy."},
		{400, "PackedPolicyTooLarge", "Serialized token too large for session"},
		{403, "RegionDisabledException", "STS is not activated in this region for account 123456789012."},
		{400, "Throttling", "Rate exceeded"},
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
        then_assume: {role: "arn:aws:iam::210987654321:role/lake", external_id: acme}`,
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
			{403, "AccessDenied", "User: arn:aws:sts::123456789012:assumed-role/dbt-prod/acme is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::210987654321:role/lake"},
			{400, "ValidationError", "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"},
		},
	}},
	want: issued{kind: "aws_session", id: "arn:aws:sts::210987654321:assumed-role/lake/acme-analytics@16055869479-1", life: 30 * time.Minute},
}}
