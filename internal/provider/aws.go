package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

const awsAudience = "sts.amazonaws.com"

var (
	roleARN   = lazy.MustCompile(`^arn:aws(?:-[a-z]+)*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]+$`)
	policyARN = lazy.MustCompile(`^arn:aws(?:-[a-z]+)*:iam::(?:[0-9]{12}|aws):policy/[A-Za-z0-9_+=,.@/-]+$`)
	region    = lazy.MustCompile(`^[a-z]+(?:-[a-z]+)+-[0-9]+$`)
	session   = lazy.MustCompile(`^[A-Za-z0-9_+=,.@-]+$`)
	assumed   = lazy.MustCompile(`^arn:aws(?:-[a-z]+)*:sts::[0-9]{12}:assumed-role/[A-Za-z0-9_+=,.@-]+/[A-Za-z0-9_+=,.@-]+$`)
	external  = lazy.MustCompile(`^[A-Za-z0-9_+=,.@:/-]+$`)
)

// awsProvider exchanges the ID token for a session of a role, and, if asked to,
// that session for one of a second role. At Redshift and at PostgreSQL (RDS,
// Aurora) it exchanges the session in turn for a login of the database, and
// hands on only the login.
var awsProvider = provider{
	spec: policy.Provider{
		Doc: "AWS: a session of a role, by AssumeRoleWithWebIdentity.",
		Keys: []policy.Key{
			{Name: "role", Required: true, Claims: true, Example: "arn:aws:iam::123456789012:role/dbt",
				Check: exchange.Matching(roleARN, 1, 600, "arn:aws:iam::ACCOUNT:role/NAME"), Doc: "The ARN of the role to assume."},
			{Name: "region", Required: true, Example: "eu-central-1",
				Check: exchange.Matching(region, 1, 32, "a region such as eu-central-1"),
				Doc:   "The region of the STS endpoint and of the warehouse."},
			{Name: "audience", Example: "sts.amazonaws.com",
				Check: exchange.Named("sts.amazonaws.com"), Doc: "The ID token's audience (default: sts.amazonaws.com)."},
			{Name: "session_name", Example: "dbt-${environment}", Claims: true,
				Check: exchange.Matching(session, 2, 64, "2 to 64 of letters, digits and _+=,.@-"),
				Doc:   "The role session's name, which CloudTrail shows (default: repository and run)."},
			{Name: "session_policy", Example: "{\"Version\":\"2012-10-17\",\"Statement\":[]}",
				Check: checkSessionPolicy, Doc: "An inline IAM policy in JSON that narrows what the role may do."},
			{Name: "policy_arns", List: true, Example: "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess",
				Check: exchange.Matching(policyARN, 1, 600, "arn:aws:iam::ACCOUNT:policy/NAME"),
				Doc:   "Managed policies that narrow what the role may do, at most ten."},
			{Name: "then_assume", Doc: "A second role, assumed by the first.", Keys: secondRole},
			{Name: "endpoint", Example: "https://sts.eu-central-1.amazonaws.com",
				Check: exchange.CheckURL, Doc: "Another STS endpoint, https or http on loopback (default: the region's)."},
			{Name: "redshift_endpoint", Example: "https://redshift.eu-central-1.amazonaws.com",
				Check: exchange.CheckURL,
				Doc:   "For type redshift: another endpoint of its API, https or http on loopback (default: the region's)."},
		},
		Audience:  awsAudienceOf,
		Lifetimes: &policy.Lifetimes{Min: 15 * time.Minute, Max: 12 * time.Hour, Default: time.Hour},
		Logins: map[string]*policy.Lifetimes{
			string(credential.RedshiftLogin): {Min: 15 * time.Minute, Max: time.Hour, Default: time.Hour},
			string(credential.RDSLogin):      nil, // it lives 15 minutes
		},
		Check: func(v policy.Values, lifetime time.Duration) []policy.KeyError {
			faults := append(exchange.CheckAudience(v, awsAudienceOf(v), "endpoint"),
				checkPartition(v, "role", "then_assume.role", "policy_arns")...)
			if v.Get("endpoint") == "" {
				if err := v.CheckAudience(awsAudienceOf(v), exchange.STSURL(v.Get("region"))); err != nil {
					faults = append(faults, policy.KeyError{Key: "audience", Err: err})
				}
			}
			if v.Get("then_assume.role") != "" && lifetime > time.Hour {
				faults = append(faults, policy.KeyError{Key: "lifetime", Err: errors.New("AWS limits sessions of a role chain " +
					"(then_assume) to 1h")})
			}
			faults = append(faults, checkTags(v)...)
			if n := len(v.List("policy_arns")); n > 10 {
				faults = append(faults, policy.KeyError{Key: "policy_arns", Err: fmt.Errorf("has %d policies, AWS allows at "+
					"most 10", n)})
			}
			return faults
		},
	},
	check:    checkAWSLogin,
	exchange: exchangeAWS,
	endpoints: func(v policy.Values, w credential.Warehouse) []string {
		list := []string{awsSTS(v)}
		if w.Asks.Login == credential.RedshiftLogin {
			list = append(list, redshiftEndpoint(v, v.Get("region"), w.Redshift))
		}
		return list
	},
}

// partitions are AWS's, by the beginning of their regions' names. Nothing of
// one works in another. (AWS: ARNs and partitions; botocore, partitions.json)
var partitions = []struct{ region, name string }{
	{"cn-", "aws-cn"}, {"us-gov-", "aws-us-gov"}, {"us-isob-", "aws-iso-b"}, {"us-isof-", "aws-iso-f"}, {"us-iso-", "aws-iso"},
	{"eu-isoe-", "aws-iso-e"}, {"eusc-", "aws-eusc"}, {"", "aws"},
}

// partitionOf returns the partition of a region.
func partitionOf(region string) string {
	for _, p := range partitions {
		if strings.HasPrefix(region, p.region) {
			return p.name
		}
	}
	return ""
}

// checkPartition holds the ARNs under the keys to the partition of `region`.
func checkPartition(v policy.Values, keys ...string) (faults []policy.KeyError) {
	if v.Get("region") == "" {
		return nil // which is a fault already
	}
	want := partitionOf(v.Get("region"))
	for _, key := range keys {
		for _, arn := range v.List(key) {
			if fields := strings.SplitN(arn, ":", 3); len(fields) == 3 && fields[1] != want {
				faults = append(faults, policy.KeyError{Key: key,
					Err: fmt.Errorf("is in partition %q, but region %q is in %q: they must be in the same partition",
						fields[1], v.Get("region"), want)})
				break
			}
		}
	}
	return faults
}

func awsAudienceOf(v policy.Values) string {
	if a := v.Get("audience"); a != "" {
		return a
	}
	return awsAudience
}

func checkSessionPolicy(text string) error {
	switch {
	case len(text) > 2048:
		return fmt.Errorf("is %d characters long, AWS allows at most 2048", len(text))
	case json.Unmarshal([]byte(text), &map[string]any{}) != nil:
		return errors.New("want a JSON object")
	}
	return nil
}

func exchangeAWS(ctx context.Context, env exchange.Env, r exchange.Request) (credential.Credential, error) {
	var login func(context.Context, exchange.Env, exchange.Request, credential.Credential) (credential.Credential, error)
	switch r.Warehouse.Asks.Login {
	case credential.RedshiftLogin:
		login = redshiftLogin
	case credential.RDSLogin:
		login = rdsLogin
	default:
		return assumeRoles(ctx, env, r, seconds(exchange.Lifetime(r.Grant, time.Hour)))
	}
	session, err := assumeRoles(ctx, env, r, aws.Int32(shortest))
	if err == nil {
		err = exchange.Usable(session, env.Now())
	}
	if err != nil {
		return credential.Credential{}, err
	}
	return login(ctx, env, r, session)
}

// assumeRoles returns a session of `role` or, where it is given, of
// `then_assume`; life is in seconds, nil for AWS's default.
func assumeRoles(ctx context.Context, env exchange.Env, r exchange.Request, life *int32) (credential.Credential, error) {
	v := r.Grant.Exchange()
	if v.Get("then_assume.role") == "" {
		return assumeRoleWithWebIdentity(ctx, env, r,
			&sts.AssumeRoleWithWebIdentityInput{DurationSeconds: life, Policy: sessionPolicy(v), PolicyArns: policyARNs(v)})
	}
	first, err := firstSession(ctx, env, r)
	if err != nil {
		return credential.Credential{}, err
	}
	return assumeRole(ctx, env, r, first, &sts.AssumeRoleInput{
		RoleArn: aws.String(v.Get("then_assume.role")), DurationSeconds: life, Policy: sessionPolicy(v), PolicyArns: policyARNs(v),
	})
}

func seconds(d time.Duration) *int32 {
	if d == 0 {
		return nil
	}
	return aws.Int32(int32(d / time.Second))
}

func sessionPolicy(v policy.Values) *string {
	if p := v.Get("session_policy"); p != "" {
		return &p
	}
	return nil
}

func policyARNs(v policy.Values) (list []types.PolicyDescriptorType) {
	for _, arn := range v.List("policy_arns") {
		list = append(list, types.PolicyDescriptorType{Arn: aws.String(arn)})
	}
	return list
}
