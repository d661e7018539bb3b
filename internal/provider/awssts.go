package provider

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// shortest is AWS's least life for a session, in seconds: for one that is used
// for a single request.
const shortest = 900

// askAWS sends a request of an SDK's as often as it takes, and says what came of
// it in our words. The SDK itself tries once: it counts tries, and knows
// nothing of the time that is left.
func askAWS[T any](ctx context.Context, service string, hint func(code, message string) string,
	secrets []secret.Value, send func(context.Context) (T, error)) (T, error) {
	return web.Retry(ctx, func(ctx context.Context) (T, error) {
		out, err := send(ctx)
		if err != nil {
			return out, awsError(err, service, hint, secrets)
		}
		return out, nil
	})
}

// secondRole are the keys of `then_assume`.
var secondRole = []policy.Key{
	{Name: "role", Required: true, Claims: true, Example: "arn:aws:iam::123456789012:role/dbt-lake",
		Check: exchange.Matching(roleARN, 1, 600, "arn:aws:iam::ACCOUNT:role/NAME"), Doc: "The ARN of the second role."},
	{Name: "external_id", Example: "acme-dbt",
		Check: exchange.Matching(external, 2, 1224, "2 to 1224 of letters, digits and _+=,.@:/-"),
		Doc:   "The external id that the second role's trust asks for."},
	{Name: "tags", Example: "team: finance", Names: checkTagKey, Claims: true, Check: checkTag(maxTagValue),
		Doc: "Session tags of the second role's session, at most 50."},
	{Name: "transitive_tags", List: true, Example: "team",
		Doc: "Which of `tags` are passed on through further role chains."},
	{Name: "source_identity", Bool: true, Doc: "Set the session's name as its source identity too, which no later role " +
		"can change (sts:SetSourceIdentity; default: false)."},
}

// The limits of session tags, in characters. (AWS STS API Reference,
// AssumeRole, Tags; IAM User Guide, "Pass session tags in AWS STS")
const maxTags, maxTagKey, maxTagValue = 50, 128, 256

var tagText = lazy.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+@-]+$`)

func checkTag(longest int) func(string) error {
	return func(text string) error {
		if utf8.RuneCountInString(text) > longest || !tagText.MatchString(text) {
			return fmt.Errorf("want at most %d of letters, digits, spaces and _.:/=+-@", longest)
		}
		return nil
	}
}

func checkTagKey(key string) error {
	if strings.HasPrefix(strings.ToLower(key), "aws:") {
		return errors.New("begins with aws:, which AWS reserves")
	}
	return checkTag(maxTagKey)(key)
}

// checkTags holds session tags to what AWS says of them together. Their keys
// differ by more than letter case.
func checkTags(v policy.Values) (faults []policy.KeyError) {
	const tags, transitive = "then_assume.tags", "then_assume.transitive_tags"
	keys := v.List(tags)
	if len(keys) > maxTags {
		faults = append(faults, policy.KeyError{Key: tags, Err: fmt.Errorf("has %d tags, AWS allows at most %d", len(keys), maxTags)})
	}
	for i, key := range keys {
		for _, other := range keys[:i] {
			if strings.EqualFold(key, other) {
				faults = append(faults, policy.KeyError{Key: tags,
					Err: fmt.Errorf("%q and %q are the same key: AWS ignores letter case", other, key)})
			}
		}
	}
	for _, key := range v.List(transitive) {
		if !slices.Contains(keys, key) {
			faults = append(faults, policy.KeyError{Key: transitive, Err: fmt.Errorf("%q is not a key of tags, valid keys "+
				"are %q", key, keys)})
		}
	}
	return faults
}

// awsSTS returns the endpoint of STS that a block of aws or identity_center
// leads to.
func awsSTS(v policy.Values) string {
	if e := v.Get("endpoint"); e != "" {
		return e
	}
	return exchange.STSURL(v.Get("region"))
}

// stsClient returns a client that knows nothing but its arguments: a
// configuration loaded from the environment could name another endpoint or
// another identity.
func stsClient(env exchange.Env, v policy.Values, credentials aws.CredentialsProvider) *sts.Client {
	return sts.New(sts.Options{
		Region: v.Get("region"), BaseEndpoint: otherEndpoint(v, "endpoint"), Credentials: credentials, HTTPClient: env.HTTP,
		Retryer: aws.NopRetryer{},
	})
}

// otherEndpoint returns the endpoint that a key names, nil for the SDK's own.
func otherEndpoint(v policy.Values, key string) *string {
	if e := v.Get(key); e != "" {
		return &e
	}
	return nil
}

// signsAs makes requests be signed by a session.
func signsAs(session *credential.AWS) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return sessionKeys(session), nil })
}

func sessionKeys(session *credential.AWS) aws.Credentials {
	return aws.Credentials{
		AccessKeyID: session.AccessKeyID.Reveal(), SecretAccessKey: session.SecretAccessKey.Reveal(), SessionToken: session.SessionToken.Reveal(),
	}
}

// assumeRoleWithWebIdentity exchanges the ID token for a session of `role`. in
// says the rest: how long it lives, and what narrows it.
func assumeRoleWithWebIdentity(ctx context.Context, env exchange.Env, r exchange.Request,
	in *sts.AssumeRoleWithWebIdentityInput) (credential.Credential, error) {
	v := r.Grant.Exchange()
	in.RoleArn, in.WebIdentityToken = aws.String(v.Get("role")), aws.String(r.IDToken.Reveal())
	in.RoleSessionName = aws.String(sessionName(v, r.Grant.Identity(), r.Grant.Claims()))
	client := stsClient(env, v, aws.AnonymousCredentials{})
	hint := func(code, message string) string { return webIdentityHint(code, message, r.Grant) }
	out, err := askAWS(ctx, "STS", hint, []secret.Value{r.IDToken}, func(ctx context.Context) (*sts.AssumeRoleWithWebIdentityOutput, error) {
		return client.AssumeRoleWithWebIdentity(ctx, in)
	})
	if err != nil {
		return credential.Credential{}, err
	}
	return awsCredential(out.Credentials, out.AssumedRoleUser, *in.RoleArn, v.Get("region"))
}

// firstSession is a session of `role` for the next request only.
func firstSession(ctx context.Context, env exchange.Env, r exchange.Request) (credential.Credential, error) {
	c, err := assumeRoleWithWebIdentity(ctx, env, r, &sts.AssumeRoleWithWebIdentityInput{DurationSeconds: aws.Int32(shortest)})
	if err == nil {
		err = exchange.Usable(c, env.Now())
	}
	return c, err
}

// assumeRole exchanges a session for one of the role that in names.
func assumeRole(ctx context.Context, env exchange.Env, r exchange.Request, first credential.Credential,
	in *sts.AssumeRoleInput) (credential.Credential, error) {
	v := r.Grant.Exchange()
	in.RoleSessionName = aws.String(sessionName(v, r.Grant.Identity(), r.Grant.Claims()))
	if id := v.Get("then_assume.external_id"); id != "" {
		in.ExternalId = &id
	}
	for _, key := range v.List("then_assume.tags") {
		in.Tags = append(in.Tags, types.Tag{Key: aws.String(key), Value: aws.String(v.Get("then_assume.tags." + key))})
	}
	in.TransitiveTagKeys = v.List("then_assume.transitive_tags")
	if v.Get("then_assume.source_identity") == "true" {
		in.SourceIdentity = in.RoleSessionName
	}
	hidden := append(first.Secrets(), r.IDToken)
	for _, c := range in.ProvidedContexts {
		hidden = append(hidden, secret.New(aws.ToString(c.ContextAssertion)))
	}
	client := stsClient(env, v, signsAs(first.AWS))
	hint := func(code, message string) string {
		if code == "AccessDenied" {
			return chainHint(v, *in.RoleArn, len(in.ProvidedContexts) > 0)
		}
		return sessionHint(code, message)
	}
	out, err := askAWS(ctx, "STS", hint, hidden, func(ctx context.Context) (*sts.AssumeRoleOutput, error) {
		return client.AssumeRole(ctx, in)
	})
	if err != nil {
		return credential.Credential{}, err
	}
	return awsCredential(out.Credentials, out.AssumedRoleUser, *in.RoleArn, v.Get("region"))
}

// awsCredential checks what came. The session's name in the audit record is
// the reply's where it looks like one: it must not become a way out for secrets.
func awsCredential(c *types.Credentials, user *types.AssumedRoleUser, role, region string) (credential.Credential, error) {
	if c == nil || aws.ToString(c.AccessKeyId) == "" || aws.ToString(c.SecretAccessKey) == "" || aws.ToString(c.SessionToken) == "" {
		return credential.Credential{}, exchange.Unreachable("the reply has no credentials")
	}
	if c.Expiration == nil {
		return credential.Credential{}, exchange.Unreachable("the credential in the reply has no expiry")
	}
	id := role
	if user != nil && len(aws.ToString(user.Arn)) <= 2048 && assumed.MatchString(aws.ToString(user.Arn)) {
		id = *user.Arn
	}
	return credential.Credential{
		Kind: credential.AWSSession, ID: id, Expiry: *c.Expiration, Serial: serial(*c.AccessKeyId),
		AWS: &credential.AWS{
			AccessKeyID: secret.New(*c.AccessKeyId), SecretAccessKey: secret.New(*c.SecretAccessKey),
			SessionToken: secret.New(*c.SessionToken), Region: region,
		},
	}, nil
}

var keyID = lazy.MustCompile(`^[A-Z0-9]{16,128}$`)

// serial returns the id of an access key where it looks like one. (AWS STS API
// Reference, Credentials)
func serial(id string) string {
	if !keyID.MatchString(id) {
		return ""
	}
	return id
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

// sessionName names the run in CloudTrail: as the policy says, else project
// and run, or the person. The run's number is never cut off.
func sessionName(v policy.Values, id policy.Identity, claims policy.ClaimSet) string {
	if name := v.Get("session_name"); name != "" {
		return name
	}
	claim := func(name string) string {
		s, _ := claims.String(name)
		if name == "email" && claims.Value("email_verified") == false {
			return "" // anybody's, whom CloudTrail would then name
		}
		return strings.Map(inSession, s)
	}
	who, run := "", ""
	for _, name := range []string{"repository", "project_path", "pipeline_slug", "email", "sub"} {
		if who == "" {
			who = claim(name)
		}
	}
	for _, name := range id.RunClaims() {
		switch part := claim(name); {
		case part == "":
		case run == "":
			run = part
		case len(run)+len(part) < maxRun:
			run += "-" + part
		}
	}
	if run != "" {
		run = "@" + run
	}
	run = run[:min(len(run), maxRun)]
	name := who[:min(len(who), 64-len(run))] + run
	if len(name) < 2 {
		return "oidc-dbt"
	}
	return name
}

// maxRun is what of a session's 64 characters may name the run: two numbers, or
// the 36 characters of a UUID.
const maxRun = 40

// awsError tells a service's no from nonsense, adds what hint knows of its
// cause, and marks what another try may cure.
func awsError(err error, service string, hint func(code, message string) string, secrets []secret.Value) error {
	reply := exchange.ReadAWS(err)
	switch {
	case web.NoReply(err):
		return exchange.NoReply(err)
	case errors.Is(err, context.Canceled):
		return exchange.Unreachable("%w", context.Canceled)
	case reply.Code == "":
		if reply.Status >= 300 {
			return exchange.Replied(service, reply.Status)
		}
		return exchange.Foreign(service, "unexpected reply from %s", service)
	case keysMissing(reply.Code, reply.Message):
		return web.Temporary(exchange.IssuerUnreachable(service, reply.Message, secrets))
	case reply.Passing():
		return reply.Mark(
			exchange.Unreachable("%s replied with status %d: %s", service, reply.Status, exchange.Quoted(reply.Code, secrets)))
	}
	return exchange.Refused(reply.Code, reply.Message, hint(reply.Code, reply.Message), secrets...)
}

// keysMissing reports whether STS could not get the issuer's keys in time. It
// says so by a code of its own, and by one that is also for tokens that are no
// good, for good. (AWS SDK for Go v2, stscreds, which tries that one again)
func keysMissing(code, message string) bool {
	return code == "IDPCommunicationError" ||
		code == "InvalidIdentityToken" && strings.Contains(strings.ToLower(message), "retrieve verification key")
}

func webIdentityHint(code, message string, g policy.Grant) string {
	v := g.Exchange()
	switch code {
	case "AccessDenied":
		return fmt.Sprintf("the trust policy of %s must allow sts:AssumeRoleWithWebIdentity for issuer %s, "+
			"audience %q and subject %q; an IAM OIDC provider for the issuer must exist in the account",
			v.Get("role"), g.Claims().Issuer(), g.Audience(), g.Claims().Subject())
	case "InvalidIdentityToken":
		return fmt.Sprintf("the account has no IAM OIDC provider for issuer %s with audience %q, "+
			"or it cannot verify the token", g.Claims().Issuer(), g.Audience())
	case "IDPRejectedClaim":
		return "the issuer no longer accepts the token: run the job again to get a new one"
	}
	return sessionHint(code, message)
}

// chainHint is what a role chain needs on both sides.
func chainHint(v policy.Values, second string, withContext bool) string {
	actions := "sts:AssumeRole"
	more := []string{}
	if len(v.List("then_assume.tags")) > 0 {
		more = append(more, "sts:TagSession")
	}
	if v.Get("then_assume.source_identity") == "true" {
		more = append(more, "sts:SetSourceIdentity")
	}
	if withContext {
		more = append(more, "sts:SetContext")
	}
	if n := len(more); n > 0 {
		actions = strings.Join(append([]string{actions}, more[:n-1]...), ", ") + " and " + more[n-1]
	}
	hint := fmt.Sprintf("%s must be allowed %s on %s, whose trust policy must allow it to %s", v.Get("role"), actions, second, v.Get("role"))
	if v.Get("then_assume.external_id") != "" {
		hint += " with this external_id"
	}
	return hint
}

// sessionHint knows what can be wrong with a session of any role.
func sessionHint(code, message string) string {
	switch {
	case code == "ExpiredTokenException", code == "ExpiredToken":
		return "compare the runner's clock with the issuer's"
	case code == "ValidationError" && strings.Contains(message, "DurationSeconds"):
		return "the role's maximum session duration is shorter than the policy's `lifetime`"
	case code == "MalformedPolicyDocument":
		return "session_policy is not an IAM policy"
	case code == "PackedPolicyTooLarge":
		return "session_policy, policy_arns and session tags together are too large: shorten them"
	case code == "RegionDisabledException":
		return "enable STS for the region in the account, or name another region"
	}
	return ""
}
