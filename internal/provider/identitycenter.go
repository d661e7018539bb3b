package provider

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

var applicationARN = lazy.MustCompile(`^arn:aws(?:-[a-z]+)*:sso::[0-9]{12}:application/ssoins-[A-Za-z0-9.-]+/apl-[A-Za-z0-9]+$`)

// identityCenterProvider exchanges the ID token for the identity of a user of
// IAM Identity Center, whom the trusted token issuer's claim names.
//
// At Athena the credential is a session of a role that carries this identity:
// a session of `role` asks Identity Center for the identity context, and
// assumes the last role with it. At Redshift the ID token itself is the login:
// Redshift exchanges it at Identity Center.
// (IAM Identity Center User Guide, "Trusted identity propagation")
var identityCenterProvider = provider{
	spec: policy.Provider{
		Doc: "AWS IAM Identity Center: the credential of a person.",
		Keys: []policy.Key{
			{Name: "region", Required: true, Example: "eu-central-1",
				Check: exchange.Matching(region, 1, 32, "a region such as eu-central-1"),
				Doc:   "The region of Identity Center, STS and the warehouse."},
			{Name: "audience", Example: "sts.amazonaws.com", Check: exchange.Named("sts.amazonaws.com"),
				Doc: "The ID token's audience, which the trusted token issuer's application must list (default: sts.amazonaws.com; " +
					"required at Redshift)."},
			{Name: "application", Example: "arn:aws:sso::123456789012:application/ssoins-0123456789abcdef/apl-0123456789abcdef",
				Check: exchange.Matching(applicationARN, 1, 200,
					"arn:aws:sso::ACCOUNT:application/INSTANCE/APPLICATION"),
				Doc: "At Athena: the ARN of the customer managed application whose JWT bearer grant takes the token."},
			{Name: "role", Claims: true, Example: "arn:aws:iam::123456789012:role/dbt",
				Check: exchange.Matching(roleARN, 1, 600, "arn:aws:iam::ACCOUNT:role/NAME"),
				Doc:   "At Athena: the ARN of the role that may ask for the identity."},
			{Name: "then_assume", Doc: "The role of the session that carries the identity (default: `role` again).", Keys: secondRole},
			{Name: "session_name", Example: "dbt-${environment}", Claims: true,
				Check: exchange.Matching(session, 2, 64, "2 to 64 of letters, digits and _+=,.@-"),
				Doc:   "The role session's name, which CloudTrail shows (default: repository and run, or the person)."},
			{Name: "endpoint", Example: "https://sts.eu-central-1.amazonaws.com",
				Check: exchange.CheckURL, Doc: "Another STS endpoint, https or http on loopback (default: the region's)."},
			{Name: "oidc_endpoint", Example: "https://oidc.eu-central-1.amazonaws.com", Check: exchange.CheckURL,
				Doc: "Another endpoint of Identity Center's OIDC service, https or http on loopback (default: the region's)."},
		},
		Audience: awsAudienceOf,
		// What is exchanged for what depends on the warehouse.
		NeedsDBT: true,
		// Those of a role chain.
		Lifetimes: &policy.Lifetimes{Min: 15 * time.Minute, Max: time.Hour, Default: time.Hour},
		Logins:    map[string]*policy.Lifetimes{string(credential.TokenLogin): nil},
		Check: func(v policy.Values, _ time.Duration) []policy.KeyError {
			faults := append(exchange.CheckAudience(v, awsAudienceOf(v), "endpoint", "oidc_endpoint"),
				checkPartition(v, "application", "role", "then_assume.role")...)
			faults = append(faults, checkTags(v)...)
			for _, d := range []struct{ key, endpoint string }{{"endpoint", awsSTS(v)}, {"oidc_endpoint", identityCenterURL(v)}} {
				if err := v.CheckAudience(awsAudienceOf(v), d.endpoint); v.Get(d.key) == "" && err != nil {
					return append(faults, policy.KeyError{Key: "audience", Err: err})
				}
			}
			return faults
		},
	},
	check: func(v policy.Values, w credential.Warehouse) error {
		if w.Asks.Login != credential.TokenLogin {
			for _, key := range []string{"application", "role"} {
				if v.Get(key) == "" {
					return fmt.Errorf("%s needs %s", w, key)
				}
			}
			return nil
		}
		for _, key := range []string{"application", "role", "then_assume", "session_name", "endpoint", "oidc_endpoint"} {
			if len(v.List(key)) > 0 {
				return fmt.Errorf("%s is not supported by %s, which exchanges the ID token itself", key, w)
			}
		}
		if v.Get("audience") == "" {
			return fmt.Errorf("%s requires audience, one of the AuthorizedAudiencesList of its Identity Center application", w)
		}
		if err := v.CheckLogin(v.Get("audience")); err != nil {
			return fmt.Errorf("audience: %w", err)
		}
		return nil
	},
	exchange: func(ctx context.Context, env exchange.Env, r exchange.Request) (credential.Credential, error) {
		if r.Warehouse.Asks.Login == credential.TokenLogin {
			return oidcProvider.exchange(ctx, env, r)
		}
		return identitySession(ctx, env, r)
	},
	endpoints: func(v policy.Values, w credential.Warehouse) []string {
		if w.Asks.Login == credential.TokenLogin {
			return nil
		}
		return []string{awsSTS(v), identityCenterURL(v)}
	},
}

// identityCenterURL returns the endpoint of Identity Center's OIDC service; in
// each partition its domain is that of STS.
func identityCenterURL(v policy.Values) string {
	if e := v.Get("oidc_endpoint"); e != "" {
		return e
	}
	return strings.Replace(exchange.STSURL(v.Get("region")), "//sts.", "//oidc.", 1)
}

// contextProvider is the provider of the identity context, in every account.
func contextProvider(role string) string {
	partition, _, _ := strings.Cut(strings.TrimPrefix(role, "arn:"), ":")
	return "arn:" + partition + ":iam::aws:contextProvider/IdentityCenter"
}

// identitySession returns a session that carries a user's identity.
// (AWS STS API Reference, AssumeRole: ProvidedContexts)
func identitySession(ctx context.Context, env exchange.Env, r exchange.Request) (credential.Credential, error) {
	v := r.Grant.Exchange()
	first, err := firstSession(ctx, env, r)
	if err != nil {
		return credential.Credential{}, err
	}
	identity, err := identityContext(ctx, env, r, first)
	if err != nil {
		return credential.Credential{}, err
	}
	role := v.Get("then_assume.role")
	if role == "" {
		role = v.Get("role")
	}
	return assumeRole(ctx, env, r, first, &sts.AssumeRoleInput{
		RoleArn: &role, DurationSeconds: seconds(exchange.Lifetime(r.Grant, time.Hour)),
		ProvidedContexts: []types.ProvidedContext{{ProviderArn: aws.String(contextProvider(role)),
			ContextAssertion: aws.String(identity.Reveal())}},
	})
}

// identityContext exchanges the ID token for the identity of a user, which STS
// has signed and encrypted. (IAM Identity Center OIDC API Reference,
// CreateTokenWithIAM; RFC 7523 §2.1)
func identityContext(ctx context.Context, env exchange.Env, r exchange.Request, session credential.Credential) (secret.Value, error) {
	v := r.Grant.Exchange()
	body, err := json.Marshal(map[string]string{
		"clientId":  v.Get("application"),
		"grantType": "urn:ietf:params:oauth:grant-type:jwt-bearer",
		"assertion": r.IDToken.Reveal(),
	})
	if err != nil {
		return secret.Value{}, errors.New("ask Identity Center: the request cannot be written") // strings always can
	}
	hidden := append(session.Secrets(), r.IDToken)
	reply, err := web.Retry(ctx, func(ctx context.Context) (identityReply, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost,
			strings.TrimSuffix(identityCenterURL(v), "/")+"/token?aws_iam=t", bytes.NewReader(body))
		if err != nil {
			return identityReply{}, err
		}
		req.Header.Set("Content-Type", "application/json")
		sum := sha256.Sum256(body)
		if err := v4.NewSigner().SignHTTP(ctx, sessionKeys(session.AWS), req, hex.EncodeToString(sum[:]), "sso-oauth",
			v.Get("region"), env.Now()); err != nil {
			return identityReply{}, errors.New("ask Identity Center: the signer failed") // its words may hold the request
		}
		return send(env, req, hidden)
	})
	if err != nil {
		return secret.Value{}, fault.New(fault.Unreachable, err, "")
	}
	switch identity := secret.New(reply.Details.Context); {
	case reply.status >= 300 && reply.code() == "":
		return secret.Value{}, exchange.Replied("Identity Center", reply.status)
	case reply.status >= 300:
		return secret.Value{}, exchange.Refused(reply.code(), reply.message(), identityHint(reply.code(), r.Grant), hidden...)
	case identity.IsZero():
		return secret.Value{}, exchange.Unreachable("the reply from Identity Center has no identity context")
	case exchange.IsGarbled(identity):
		return secret.Value{}, exchange.Unreachable("the identity context in the reply contains invalid characters")
	default:
		return identity, nil
	}
}

// An identityReply is a reply of CreateTokenWithIAM: the context, or why not,
// in OAuth's words or in those of AWS.
type identityReply struct {
	status int
	kind   string

	Details struct {
		Context string `json:"identityContext"`
	} `json:"awsAdditionalDetails"`
	Error       string `json:"error"`
	Description string `json:"error_description"`
	Message     string `json:"message"` // in any case
}

func (r identityReply) code() string {
	if r.Error != "" {
		return r.Error
	}
	return r.kind
}

func (r identityReply) message() string {
	if r.Description != "" {
		return r.Description
	}
	return r.Message
}

// send returns the reply to a request, or an error, which is marked where
// another try may cure it.
func send(env exchange.Env, req *http.Request, secrets []secret.Value) (reply identityReply, err error) {
	resp, err := env.HTTP.Do(req)
	if err != nil {
		return reply, exchange.NoReply(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return reply, exchange.NoReply(err)
	}
	if web.Transient(resp.StatusCode) {
		return reply, exchange.Replied("Identity Center", resp.StatusCode)
	}
	if err := json.Unmarshal(text, &reply); err != nil && resp.StatusCode < 300 {
		return reply, exchange.Foreign("Identity Center", "unexpected reply from Identity Center")
	}
	reply.status = resp.StatusCode
	reply.kind, _, _ = strings.Cut(resp.Header.Get("X-Amzn-ErrorType"), ":") // "AccessDeniedException:http://…"
	said := exchange.AWSReply{Status: reply.status, Code: reply.code()}
	if reply.status >= 300 && (said.Passing() || slices.Contains(busy, said.Code)) {
		return reply, said.Mark(exchange.Unreachable("Identity Center replied with status %d: %s",
			reply.status, exchange.Quoted(said.Code, secrets)))
	}
	return reply, nil
}

func identityHint(code string, g policy.Grant) string {
	v := g.Exchange()
	switch code {
	case "access_denied", "AccessDeniedException":
		return fmt.Sprintf("%s must be allowed sso-oauth:CreateTokenWithIAM on %s, by its own policy and by the "+
			"application's authentication method", v.Get("role"), v.Get("application"))
	case "invalid_grant", "InvalidGrantException":
		return fmt.Sprintf("the application's JWT bearer grant must have the trusted token issuer %s with audience %q, "+
			"and the claim that this maps must be an attribute of exactly one user", g.Claims().Issuer(), g.Audience())
	case "invalid_client", "InvalidClientException":
		return fmt.Sprintf("Identity Center in %s has no application %s", v.Get("region"), v.Get("application"))
	case "unauthorized_client", "UnauthorizedClientException", "unsupported_grant_type", "UnsupportedGrantTypeException":
		return fmt.Sprintf("%s must have the JWT bearer grant", v.Get("application"))
	case "expired_token", "ExpiredTokenException", "InvalidSignatureException", "SignatureDoesNotMatch":
		return "compare the runner's clock with AWS's"
	}
	return ""
}
