package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

const awsAudience = "sts.amazonaws.com"

var (
	roleARN   = regexp.MustCompile(`^arn:aws(?:-[a-z]+)*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]+$`)
	policyARN = regexp.MustCompile(`^arn:aws(?:-[a-z]+)*:iam::(?:[0-9]{12}|aws):policy/[A-Za-z0-9_+=,.@/-]+$`)
	region    = regexp.MustCompile(`^[a-z]+(?:-[a-z]+)+-[0-9]+$`)
	session   = regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]+$`)
	assumed   = regexp.MustCompile(`^arn:aws(?:-[a-z]+)*:sts::[0-9]{12}:assumed-role/[A-Za-z0-9_+=,.@-]+/[A-Za-z0-9_+=,.@-]+$`)
	external  = regexp.MustCompile(`^[A-Za-z0-9_+=,.@:/-]+$`)
)

// awsProvider exchanges the ID token for a session of a role, with STS's
// AssumeRoleWithWebIdentity, and that on request for one of a second role.
// (AWS STS API Reference, version 2011-06-15)
var awsProvider = provider{
	spec: policy.Provider{
		Keys: []policy.Key{
			{Name: "role", Required: true, Claims: true, Check: matching(roleARN, 1, 600, "arn:aws:iam::ACCOUNT:role/NAME"), Doc: "The ARN of the role to assume."},
			{Name: "region", Required: true, Check: matching(region, 1, 32, "a region such as eu-central-1"), Doc: "The region of the STS endpoint and of the warehouse."},
			{Name: "audience", Doc: "The ID token's audience (default: sts.amazonaws.com)."},
			{Name: "session_name", Claims: true, Check: matching(session, 2, 64, "2 to 64 of letters, digits and _+=,.@-"), Doc: "The role session's name, which CloudTrail shows (default: repository and run)."},
			{Name: "session_policy", Check: checkSessionPolicy, Doc: "An inline IAM policy in JSON that narrows what the role may do."},
			{Name: "policy_arns", List: true, Check: matching(policyARN, 1, 600, "arn:aws:iam::ACCOUNT:policy/NAME"), Doc: "Managed policies that narrow what the role may do, at most ten."},
			{Name: "then_assume", Doc: "A second role, assumed by the first.", Keys: []policy.Key{
				{Name: "role", Required: true, Claims: true, Check: matching(roleARN, 1, 600, "arn:aws:iam::ACCOUNT:role/NAME"), Doc: "The ARN of the second role."},
				{Name: "external_id", Check: matching(external, 2, 1224, "2 to 1224 of letters, digits and _+=,.@:/-"), Doc: "The external id that the second role's trust asks for."},
			}},
			{Name: "endpoint", Check: checkURL, Doc: "Another STS endpoint, https or http on loopback (default: the region's)."},
		},
		Audience:  awsAudienceOf,
		Lifetimes: &policy.Lifetimes{Min: 15 * time.Minute, Max: 12 * time.Hour, Default: time.Hour},
		Check: func(v policy.Values, lifetime time.Duration) []policy.KeyError {
			faults := checkAudience(v, awsAudienceOf(v), "endpoint")
			if v.Get("endpoint") == "" {
				if err := policy.CheckAudience(awsAudienceOf(v), stsURL(v.Get("region"))); err != nil {
					faults = append(faults, policy.KeyError{Key: "audience", Err: err})
				}
			}
			if v.Get("then_assume.role") != "" && lifetime > time.Hour {
				faults = append(faults, policy.KeyError{Key: "lifetime", Err: errors.New("AWS gives at most 1h behind a role chain (then_assume)")})
			}
			if n := len(v.List("policy_arns")); n > 10 {
				faults = append(faults, policy.KeyError{Key: "policy_arns", Err: fmt.Errorf("has %d policies, AWS takes at most 10", n)})
			}
			return faults
		},
	},
	exchange: assumeRole,
	endpoints: func(v policy.Values, _ credential.Warehouse) []string {
		if e := v.Get("endpoint"); e != "" {
			return []string{e}
		}
		return []string{stsURL(v.Get("region"))}
	},
}

func awsAudienceOf(v policy.Values) string {
	if a := v.Get("audience"); a != "" {
		return a
	}
	return awsAudience
}

// stsURL is where the SDK will go for a region: each partition has a domain of its own.
func stsURL(region string) string {
	e, err := sts.NewDefaultEndpointResolverV2().ResolveEndpoint(context.Background(), sts.EndpointParameters{Region: &region})
	if err != nil {
		return "https://sts." + region + ".amazonaws.com" // the exchange itself will say what is wrong with the region
	}
	return e.URI.String()
}

func checkSessionPolicy(text string) error {
	switch {
	case len(text) > 2048:
		return fmt.Errorf("is %d characters long, AWS takes at most 2048", len(text))
	case json.Unmarshal([]byte(text), &map[string]any{}) != nil:
		return errors.New("want a JSON object")
	}
	return nil
}

// maxAttempts bounds the tries of one hop; the client bounds each try.
const maxAttempts = 4

// stsClient returns a client that knows nothing but its arguments: a
// configuration loaded from the environment could name another endpoint or
// another identity.
func stsClient(env Env, v policy.Values, credentials aws.CredentialsProvider) *sts.Client {
	options := sts.Options{
		Region:      v.Get("region"),
		Credentials: credentials,
		HTTPClient:  env.HTTP,
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts = maxAttempts
			o.MaxBackoff = 5 * time.Second
			// The first that knows the error decides. (IDPCommunicationError is one of the SDK's own.)
			o.Retryables = append([]retry.IsErrorRetryable{retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
				switch {
				case web.Refusal(err) != nil:
					return aws.FalseTernary // a redirect is one the next time, too
				case web.NoReply(err):
					return aws.TrueTernary // the SDK takes half a reply for a bad one
				}
				return aws.UnknownTernary
			})}, o.Retryables...)
		}),
	}
	if e := v.Get("endpoint"); e != "" {
		options.BaseEndpoint = &e
	}
	return sts.New(options)
}

func assumeRole(ctx context.Context, env Env, r request) (credential.Credential, error) {
	g, idToken := r.grant, r.idToken
	v := g.Exchange()
	name := v.Get("session_name")
	if name == "" {
		name = sessionName(g)
	}
	in := &sts.AssumeRoleWithWebIdentityInput{
		RoleArn:          aws.String(v.Get("role")),
		RoleSessionName:  aws.String(name),
		WebIdentityToken: aws.String(idToken.Reveal()),
	}
	seconds := seconds(lifetime(g, time.Hour))
	chained := v.Get("then_assume.role") != ""
	if chained {
		in.DurationSeconds = aws.Int32(900) // AWS's least: the first session is for one request
	} else {
		in.DurationSeconds, in.Policy, in.PolicyArns = seconds, sessionPolicy(v), policyARNs(v)
	}
	out, err := stsClient(env, v, aws.AnonymousCredentials{}).AssumeRoleWithWebIdentity(ctx, in)
	if err != nil {
		return credential.Credential{}, awsError(err, g, false, idToken)
	}
	c, err := awsCredential(out.Credentials, out.AssumedRoleUser, v)
	if err != nil || !chained {
		return c, err
	}
	if err := usable(c, env.Now()); err != nil {
		return credential.Credential{}, err
	}
	first := out.Credentials
	chain := &sts.AssumeRoleInput{
		RoleArn: aws.String(v.Get("then_assume.role")), RoleSessionName: aws.String(name),
		DurationSeconds: seconds, Policy: sessionPolicy(v), PolicyArns: policyARNs(v),
	}
	if id := v.Get("then_assume.external_id"); id != "" {
		chain.ExternalId = &id
	}
	next, err := stsClient(env, v, aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: *first.AccessKeyId, SecretAccessKey: *first.SecretAccessKey, SessionToken: *first.SessionToken}, nil
	})).AssumeRole(ctx, chain)
	if err != nil {
		return credential.Credential{}, awsError(err, g, true, append(c.Secrets(), idToken)...)
	}
	return awsCredential(next.Credentials, next.AssumedRoleUser, v)
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

// awsCredential checks what came. The session's name in the audit record is
// the reply's where it looks like one: it must not become a way out for secrets.
func awsCredential(c *types.Credentials, user *types.AssumedRoleUser, v policy.Values) (credential.Credential, error) {
	if c == nil || aws.ToString(c.AccessKeyId) == "" || aws.ToString(c.SecretAccessKey) == "" || aws.ToString(c.SessionToken) == "" {
		return credential.Credential{}, unreachable("the reply has no credentials in it")
	}
	if c.Expiration == nil {
		return credential.Credential{}, unreachable("the credential in the reply has no expiry")
	}
	id := v.Get("role")
	if second := v.Get("then_assume.role"); second != "" {
		id = second
	}
	if user != nil && len(aws.ToString(user.Arn)) <= 2048 && assumed.MatchString(aws.ToString(user.Arn)) {
		id = *user.Arn
	}
	return credential.Credential{
		Kind: "aws_session", ID: id, Expiry: *c.Expiration,
		AWS: &credential.AWS{
			AccessKeyID: secret.New(*c.AccessKeyId), SecretAccessKey: secret.New(*c.SecretAccessKey),
			SessionToken: secret.New(*c.SessionToken), Region: v.Get("region"),
		},
	}, nil
}

// inSession is what a session's name may hold of a claim.
func inSession(r rune) rune {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', strings.ContainsRune("+=,.@_-", r):
		return r
	case r == '/' || r == ':':
		return '-'
	}
	return '_'
}

// sessionName names the run in CloudTrail: repository, run and attempt, or
// the person. The run's number is never cut off.
func sessionName(g policy.Grant) string {
	claim := func(name string) string {
		s, _ := g.Claims().String(name)
		return strings.Map(inSession, s)
	}
	who, run := claim("repository"), claim("run_id")
	if attempt := claim("run_attempt"); run != "" && attempt != "" {
		run += "-" + attempt
	}
	for _, name := range []string{"email", "sub"} {
		if who == "" {
			who = claim(name)
		}
	}
	if run != "" {
		run = "@" + run
	}
	run = run[:min(len(run), 40)]
	name := who[:min(len(who), 64-len(run))] + run
	if len(name) < 2 {
		return "oidc-dbt"
	}
	return name
}

// awsError tells STS's no from nonsense, and adds what is known of its cause.
// second is set behind a role chain, for the request of the second role.
func awsError(err error, g policy.Grant, second bool, secrets ...secret.Value) error {
	var api smithy.APIError
	var reply *smithyhttp.ResponseError
	status := 0
	if errors.As(err, &reply) && reply.Response != nil && reply.Response.Response != nil {
		status = reply.HTTPStatusCode()
	}
	switch {
	case web.NoReply(err):
		return unreachable("%w", web.Cause(err))
	case errors.Is(err, context.Canceled):
		return unreachable("%w", context.Canceled)
	case !errors.As(err, &api) || api.ErrorCode() == "UnknownError": // what the SDK calls a reply without a code
		if status >= 300 {
			return unreachable("STS replies status %d", status)
		}
		return unreachable("the reply is not one of STS")
	case api.ErrorCode() == "IDPCommunicationError":
		return unreachable("STS cannot reach the issuer: %s", quoted(api.ErrorMessage(), secrets))
	case status >= 500, status == http.StatusTooManyRequests, retry.ThrottleErrorCode{Codes: retry.DefaultThrottleErrorCodes}.IsErrorThrottle(err) == aws.TrueTernary:
		return unreachable("STS replies status %d, %s", status, quoted(api.ErrorCode(), secrets))
	}
	return refused(api.ErrorCode(), api.ErrorMessage(), awsHint(api.ErrorCode(), api.ErrorMessage(), g, second), secrets...)
}

func awsHint(code, message string, g policy.Grant, second bool) string {
	v := g.Exchange()
	switch {
	case code == "AccessDenied" && second:
		hint := fmt.Sprintf("%s must be allowed sts:AssumeRole on %s, whose trust policy must allow it to %s", v.Get("role"), v.Get("then_assume.role"), v.Get("role"))
		if v.Get("then_assume.external_id") != "" {
			hint += " with this external_id"
		}
		return hint
	case code == "AccessDenied":
		return fmt.Sprintf("the trust policy of %s must allow sts:AssumeRoleWithWebIdentity for issuer %s, audience %q and subject %q; an IAM OIDC provider for the issuer must exist in the account",
			v.Get("role"), g.Claims().Issuer(), g.Audience(), g.Claims().Subject())
	case code == "InvalidIdentityToken":
		return fmt.Sprintf("the account has no IAM OIDC provider for issuer %s with audience %q, or it cannot verify the token", g.Claims().Issuer(), g.Audience())
	case code == "IDPRejectedClaim":
		return "the issuer no longer vouches for the token: run the job again, which gets a new one"
	case code == "ExpiredTokenException", code == "ExpiredToken":
		return "compare the runner's clock with the issuer's"
	case code == "ValidationError" && strings.Contains(message, "DurationSeconds"):
		return "the role's maximum session duration is shorter than the policy's `lifetime`"
	case code == "MalformedPolicyDocument":
		return "session_policy is not an IAM policy"
	case code == "PackedPolicyTooLarge":
		return "session_policy and policy_arns together are too large: shorten them"
	case code == "RegionDisabledException":
		return "enable STS for the region in the account, or name another region"
	}
	return ""
}
