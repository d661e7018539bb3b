package standin_test

import (
	"context"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssooidc"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

const application = "arn:aws:sso::123456789012:application/ssoins-1234567890abcdef/apl-1234567890abcdef"

// newIdentityCenter starts an instance that knows the issuer's actor as a user.
func newIdentityCenter(t *testing.T, a account) *standin.IdentityCenter {
	t.Helper()
	c, err := standin.StartIdentityCenter(a.sts, standin.IdentityCenterConfig{
		Region: "eu-central-1", Application: application, Roles: []string{prodRole},
		IssuerURL: a.issuer.URL(), Audiences: []string{"sts.amazonaws.com"}, Claim: "actor", Users: map[string]string{"octocat": "user-1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestCreateTokenWithIAM asks with AWS's own client, one mutation a case.
func TestCreateTokenWithIAM(t *testing.T) {
	t.Parallel()
	a := newAccount(t, nil)
	c := newIdentityCenter(t, a)
	other, err := standin.StartIssuer(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	prod, long := a.session(t, prodRole, nil), a.session(t, longRole, nil)
	type in = ssooidc.CreateTokenWithIAMInput
	token := func(audience string, changes map[string]any) func(*in) {
		return func(i *in) { i.Assertion = aws.String(a.issuer.Sign(audience, changes)) }
	}
	const grant = "400 InvalidGrantException: "
	for _, tt := range []struct {
		name    string
		session *types.Credentials // prod where nil
		region  string             // eu-central-1 where ""
		change  func(*in)
		err     string
	}{
		{name: "good"},
		{name: "another role", session: long, err: "400 AccessDeniedException: "},
		{name: "another region", region: "eu-west-1", err: "400 SignatureDoesNotMatch: Credential should be scoped to a valid region."},
		{name: "another application", change: func(i *in) { i.ClientId = aws.String(application + "0") }, err: "400 InvalidClientException: "},
		{name: "another grant", change: func(i *in) { i.GrantType = aws.String("authorization_code") }, err: "400 UnsupportedGrantTypeException: "},
		{name: "another audience", change: token("vault", nil), err: grant},
		{name: "another issuer", change: token("sts.amazonaws.com", map[string]any{"iss": other.URL()}), err: grant},
		{name: "another's key", change: func(i *in) {
			i.Assertion = aws.String(other.Sign("sts.amazonaws.com", map[string]any{"iss": a.issuer.URL()}))
		}, err: grant},
		{name: "expired", change: token("sts.amazonaws.com", map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}), err: grant},
		{name: "a user that is not there", change: token("sts.amazonaws.com", map[string]any{"actor": "mallory"}), err: grant},
		{name: "a claim that is not there", change: token("sts.amazonaws.com", map[string]any{"actor": nil}), err: grant},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.session == nil {
				tt.session = prod
			}
			if tt.region == "" {
				tt.region = "eu-central-1"
			}
			client := ssooidc.New(ssooidc.Options{Region: tt.region, BaseEndpoint: aws.String(c.URL()), Credentials: fixed(tt.session), Retryer: aws.NopRetryer{}})
			request := &in{ClientId: aws.String(application), GrantType: aws.String("urn:ietf:params:oauth:grant-type:jwt-bearer"), Assertion: aws.String(a.issuer.Sign("sts.amazonaws.com", nil))}
			if tt.change != nil {
				tt.change(request)
			}
			out, err := client.CreateTokenWithIAM(t.Context(), request)
			if err != nil || tt.err != "" {
				if text(err) != tt.err {
					t.Errorf("got  %s\nwant %s", text(err), tt.err)
				}
				return
			}
			if out.AwsAdditionalDetails == nil || aws.ToString(out.AwsAdditionalDetails.IdentityContext) == "" {
				t.Errorf("the reply has no identity context: %+v", out)
			}
		})
	}
}

// TestIdentityContext: what a role is assumed with, one mutation a case.
func TestIdentityContext(t *testing.T) {
	t.Parallel()
	a := newAccount(t, nil)
	c := newIdentityCenter(t, a)
	prod := a.session(t, prodRole, nil)
	out, err := ssooidc.New(ssooidc.Options{Region: "eu-central-1", BaseEndpoint: aws.String(c.URL()), Credentials: fixed(prod), Retryer: aws.NopRetryer{}}).CreateTokenWithIAM(t.Context(),
		&ssooidc.CreateTokenWithIAMInput{ClientId: aws.String(application), GrantType: aws.String("urn:ietf:params:oauth:grant-type:jwt-bearer"), Assertion: aws.String(a.issuer.Sign("sts.amazonaws.com", nil))})
	if err != nil {
		t.Fatal(err)
	}
	identity := *out.AwsAdditionalDetails.IdentityContext
	assume := func(ctx context.Context, role, provider, assertion string) (standin.Session, error) {
		out, err := a.client(fixed(prod)).AssumeRole(ctx, &sts.AssumeRoleInput{
			RoleArn: &role, RoleSessionName: aws.String("run-1"), DurationSeconds: aws.Int32(900), ExternalId: aws.String("acme"),
			ProvidedContexts: []types.ProvidedContext{{ProviderArn: &provider, ContextAssertion: &assertion}},
		})
		if err != nil {
			return standin.Session{}, err
		}
		session, _ := a.sts.Session(*out.Credentials.AccessKeyId)
		return session, nil
	}
	const provider = "arn:aws:iam::aws:contextProvider/IdentityCenter"
	session, err := assume(t.Context(), personRole, provider, identity)
	if err != nil || session.User != "user-1" {
		t.Errorf("the session is that of %q, want user-1: %v", session.User, err)
	}
	for _, tt := range []struct{ name, role, provider, assertion, err string }{
		{"a role that takes no context", laterRole, provider, identity, "403 AccessDenied: User: arn:aws:sts::123456789012:assumed-role/prod/run-1 is not authorized to perform: sts:SetContext on resource: " + laterRole},
		{"another provider", personRole, "arn:aws:iam::aws:contextProvider/Other", identity, "400 ValidationError: Invalid context provider ARN"},
		{"another context", personRole, provider, identity + "x", "400 ValidationError: Invalid or expired context assertion"},
	} {
		if _, err := assume(t.Context(), tt.role, tt.provider, tt.assertion); text(err) != tt.err {
			t.Errorf("%s: got  %s\nwant %s", tt.name, text(err), tt.err)
		}
	}
}
