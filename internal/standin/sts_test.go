package standin_test

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/aws/smithy-go"
	"github.com/golang-jwt/jwt/v5"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

const (
	prodRole  = "arn:aws:iam::123456789012:role/dbt/prod"
	namedRole = "arn:aws:iam::123456789012:role/named"
	longRole  = "arn:aws:iam::123456789012:role/long"
	laterRole = "arn:aws:iam::123456789012:role/later"
	loneRole  = "arn:aws:iam::123456789012:role/lone"
	// personRole is assumed with the identity of a person.
	personRole = "arn:aws:iam::123456789012:role/person"
)

type account struct {
	issuer *standin.Issuer
	sts    *standin.STS
}

// newAccount starts an issuer and an account that trusts it. A change moves
// the service's clock and nothing else.
func newAccount(t *testing.T, now func() time.Time) account {
	t.Helper()
	issuer, err := standin.StartIssuer(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	subject := map[string][]string{"sub": {"repo:acme/analytics:environment:production"}}
	service, err := standin.StartSTS(standin.STSConfig{
		IssuerURL: issuer.URL(), Now: now,
		Roles: map[string]standin.Role{
			prodRole: {Audience: "sts.amazonaws.com", Equals: subject},
			namedRole: {Audience: "sts.amazonaws.com", Claims: map[string][]string{"sub": {"repo:acme/*:environment:prod???ion"}},
				Equals: map[string][]string{"repository_id": {"1", "487920697"}, "environment": {"production"}}},
			longRole:   {Audience: "sts.amazonaws.com", Claims: subject, MaxDuration: 12 * time.Hour},
			laterRole:  {TrustedRole: prodRole, ExternalID: "acme", TagsSession: true, MaxDuration: 12 * time.Hour},
			personRole: {TrustedRole: prodRole, SetsContext: true},
			// AWS has no condition key for this claim, so that nothing meets the condition.
			loneRole: {Audience: "sts.amazonaws.com", Claims: subject, Equals: map[string][]string{"repository_owner": {"acme"}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.Close)
	return account{issuer, service}
}

func (a account) client(c aws.CredentialsProvider) *sts.Client {
	return sts.New(sts.Options{Region: "eu-central-1", BaseEndpoint: aws.String(a.sts.URL()), Credentials: c, Retryer: aws.NopRetryer{}})
}

// withToken assumes a role with a token.
func (a account) withToken(ctx context.Context, token string, change func(*sts.AssumeRoleWithWebIdentityInput)) (*sts.AssumeRoleWithWebIdentityOutput, error) {
	in := &sts.AssumeRoleWithWebIdentityInput{RoleArn: aws.String(prodRole), RoleSessionName: aws.String("run-1"), WebIdentityToken: &token}
	if change != nil {
		change(in)
	}
	return a.client(aws.AnonymousCredentials{}).AssumeRoleWithWebIdentity(ctx, in)
}

func fixed(c *types.Credentials) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: *c.AccessKeyId, SecretAccessKey: *c.SecretAccessKey, SessionToken: *c.SessionToken}, nil
	})
}

// text is an error as AWS names it: status, code and message.
func text(err error) string {
	var api smithy.APIError
	var status interface{ HTTPStatusCode() int }
	if !errors.As(err, &api) || !errors.As(err, &status) {
		return fmt.Sprint(err)
	}
	return fmt.Sprintf("%d %s: %s", status.HTTPStatusCode(), api.ErrorCode(), api.ErrorMessage())
}

const production = "repo:acme/analytics:environment:production"

func TestAssumeRoleWithWebIdentity(t *testing.T) {
	t.Parallel()
	a := newAccount(t, nil)
	const denied = "403 AccessDenied: Not authorized to perform sts:AssumeRoleWithWebIdentity"
	const syntax = "400 MalformedPolicyDocument: Syntax errors in policy."
	type in = sts.AssumeRoleWithWebIdentityInput
	role := func(arn string) func(*in) { return func(i *in) { i.RoleArn = &arn } }
	seconds := func(n int32, arn string) func(*in) {
		return func(i *in) { i.DurationSeconds, i.RoleArn = &n, &arn }
	}
	policy := func(text string) func(*in) { return func(i *in) { i.Policy = &text } }
	hourAgo := time.Now().Add(-time.Hour).Unix()
	tests := []struct {
		name    string
		claims  map[string]any
		request func(*in)
		err     string
	}{
		{name: "good", claims: nil},
		{name: "conditions on more claims", request: role(namedRole)},
		{name: "longest duration of a role", request: seconds(12*3600, longRole)},
		{name: "session policy", request: policy(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}`)},
		{name: "another environment", claims: map[string]any{"sub": "repo:acme/analytics:environment:staging", "environment": "staging"}, err: denied},
		{name: "letter case", claims: map[string]any{"sub": "repo:Acme/analytics:environment:production"}, err: denied},
		{name: "longer than the value", claims: map[string]any{"sub": production + "-evil"}, err: denied},
		{name: "longer than the pattern", claims: map[string]any{"sub": production + "\n"}, request: role(namedRole), err: denied},
		{name: "a wildcard in the token", claims: map[string]any{"sub": "repo:acme/*:environment:production"}, err: denied},
		{name: "another repository id", claims: map[string]any{"repository_id": "2"}, request: role(namedRole), err: denied},
		{name: "a repository id that is a number", claims: map[string]any{"repository_id": 487920697}, request: role(namedRole), err: denied},
		{name: "no environment", claims: map[string]any{"environment": nil}, request: role(namedRole), err: denied},
		{name: "a claim that AWS does not compare", request: role(loneRole), err: denied},
		{name: "a role for role chains only", request: role(laterRole), err: denied},
		{name: "unknown role", request: role("arn:aws:iam::123456789012:role/nobody"), err: denied},
		{name: "not a role", request: role("arn:aws:iam::123456789012:user/dbt"), err: "400 ValidationError: arn:aws:iam::123456789012:user/dbt is invalid"},
		{name: "another audience", claims: map[string]any{"aud": "vault"}, err: "400 InvalidIdentityToken: Incorrect token audience"},
		{name: "two audiences", claims: map[string]any{"aud": []string{"sts.amazonaws.com", "vault"}}, err: "400 InvalidIdentityToken: Incorrect token audience"},
		{name: "another issuer", claims: map[string]any{"iss": "https://evil.example"}, err: "400 InvalidIdentityToken: No OpenIDConnect provider found in your account for https://evil.example"},
		{name: "an issuer that differs by a slash", claims: map[string]any{"iss": a.issuer.URL() + "/"}, err: "400 InvalidIdentityToken: No OpenIDConnect provider found in your account for " + a.issuer.URL() + "/"},
		{name: "no subject", claims: map[string]any{"sub": nil}, err: "400 InvalidIdentityToken: Missing a required claim: sub"},
		{name: "no expiry", claims: map[string]any{"exp": nil}, err: "400 InvalidIdentityToken: Missing a required claim: exp"},
		{name: "of tomorrow", claims: map[string]any{"nbf": time.Now().Add(24 * time.Hour).Unix()}, err: "400 InvalidIdentityToken: Couldn't verify the token's signature or times"},
		{name: "expired", claims: map[string]any{"exp": hourAgo}, err: "400 ExpiredTokenException: Token expired: current date/time NOW must be before the expiration date/time " + fmt.Sprint(hourAgo)},
		{name: "too short", request: seconds(899, prodRole), err: "400 ValidationError: 1 validation error detected: Value '899' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900"},
		{name: "too long for anyone", request: seconds(43201, longRole), err: "400 ValidationError: 1 validation error detected: Value '43201' at 'durationSeconds' failed to satisfy constraint: Member must have value less than or equal to 43200"},
		{name: "too long for the role", request: seconds(3601, prodRole), err: "400 ValidationError: The requested DurationSeconds exceeds the MaxSessionDuration set for this role."},
		{name: "session name with a slash", request: func(i *in) { i.RoleSessionName = aws.String("acme/analytics") },
			err: `400 ValidationError: 1 validation error detected: Value 'acme/analytics' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]*`},
		{name: "session policy that is not JSON", request: policy("s3:*"), err: syntax},
		{name: "session policy without statements", request: policy(`{"Version":"2012-10-17"}`), err: syntax},
		{name: "session policy without an effect", request: policy(`{"Statement":[{"Action":"s3:*","Resource":"*"}]}`), err: syntax},
		{name: "session policy with a principal", request: policy(`{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*"}]}`), err: "400 MalformedPolicyDocument: Policy document should not specify a principal."},
		{name: "long session policy", request: policy(strings.Repeat(" ", 2049)), err: "400 ValidationError: 1 validation error detected: Value at 'policy' failed to satisfy constraint: Member must have length less than or equal to 2048"},
		{name: "policies that are too large together", request: func(i *in) {
			i.Policy = aws.String(`{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}` + strings.Repeat(" ", 1980) + "}")
			i.PolicyArns = []types.PolicyDescriptorType{{Arn: aws.String("arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess")}}
		}, err: "400 PackedPolicyTooLarge: Packed policy consumes 103% of allotted space, please use smaller policy."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			out, err := a.withToken(t.Context(), a.issuer.Sign("sts.amazonaws.com", tt.claims), tt.request)
			if tt.err != "" {
				got := text(err)
				want := strings.Replace(tt.err, "NOW", between(got, "current date/time ", " must"), 1)
				if got != want {
					t.Errorf("got  %s\nwant %s", got, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			session, ok := a.sts.Session(*out.Credentials.AccessKeyId)
			if !ok || session.SecretAccessKey != *out.Credentials.SecretAccessKey || session.SessionToken != *out.Credentials.SessionToken || !session.Expiration.Equal(*out.Credentials.Expiration) {
				t.Errorf("the service keeps %+v, and sent %+v", session, out.Credentials)
			}
			if *out.SubjectFromWebIdentityToken != production || *out.Audience != "sts.amazonaws.com" || *out.AssumedRoleUser.Arn != session.SessionARN {
				t.Errorf("reply is %+v", out)
			}
		})
	}
}

func between(s, from, to string) string {
	_, s, _ = strings.Cut(s, from)
	s, _, _ = strings.Cut(s, to)
	return s
}

// Tokens that are signed with an unknown key, or not with this issuer's.
func TestForgedTokens(t *testing.T) {
	t.Parallel()
	a := newAccount(t, nil)
	other, err := standin.StartIssuer(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	signer, keyID := a.issuer.Key()
	key := signer.(*rsa.PrivateKey)
	claims := jwt.MapClaims{"iss": a.issuer.URL(), "sub": production, "aud": "sts.amazonaws.com", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix()}
	sign := func(method jwt.SigningMethod, kid string, key any) string {
		token := jwt.NewWithClaims(method, claims)
		token.Header["kid"] = kid
		s, err := token.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&key.PublicKey)})
	good := sign(jwt.SigningMethodRS256, keyID, key)
	const unverified = "400 InvalidIdentityToken: Couldn't verify the token's signature or times"
	tests := []struct{ name, token, err string }{
		{"another's key under this issuer's name", other.Sign("sts.amazonaws.com", map[string]any{"iss": a.issuer.URL()}),
			"400 InvalidIdentityToken: Couldn't retrieve verification key from your identity provider, please reference AssumeRoleWithWebIdentity documentation for requirements"},
		{"none", sign(jwt.SigningMethodNone, keyID, jwt.UnsafeAllowNoneSignatureType), unverified},
		{"HMAC with the public key", sign(jwt.SigningMethodHS256, keyID, public), unverified},
		{"PS256, which AWS does not take", sign(jwt.SigningMethodPS256, keyID, key), unverified},
		{"signature cut", good[:len(good)-8], unverified},
		{"payload changed", strings.Replace(good, ".ey", ".eZ", 1), "400 InvalidIdentityToken: The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"},
		{"not a token", "gho_16C7e42F292c6912E7710c838347Ae178B4a", "400 InvalidIdentityToken: The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := a.withToken(t.Context(), tt.token, nil); text(err) != tt.err {
				t.Errorf("got  %s\nwant %s", text(err), tt.err)
			}
		})
	}
	if _, err := a.withToken(t.Context(), good, nil); err != nil {
		t.Errorf("the token that the others were made from: %v", err)
	}
}

func TestKeyRotation(t *testing.T) {
	t.Parallel()
	a := newAccount(t, nil)
	for range 2 {
		for range 2 {
			if _, err := a.withToken(t.Context(), a.issuer.Sign("sts.amazonaws.com", nil), nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.issuer.RotateKey(); err != nil {
			t.Fatal(err)
		}
	}
	if got := a.issuer.Requests("/.well-known/jwks"); got != 2 {
		t.Errorf("keys were fetched %d times, want once a key", got)
	}
}

func TestIssuerUnreachable(t *testing.T) {
	t.Parallel()
	a := newAccount(t, nil)
	token := a.issuer.Sign("sts.amazonaws.com", nil)
	a.issuer.Close()
	if _, err := a.withToken(t.Context(), token, nil); text(err) != "400 IDPCommunicationError: Couldn't reach the identity provider" {
		t.Error(text(err))
	}
}

func TestRoleChain(t *testing.T) {
	t.Parallel()
	a := newAccount(t, nil)
	first, err := a.withToken(t.Context(), a.issuer.Sign("sts.amazonaws.com", nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	long, err := a.withToken(t.Context(), a.issuer.Sign("sts.amazonaws.com", nil), func(i *sts.AssumeRoleWithWebIdentityInput) { i.RoleArn = aws.String(longRole) })
	if err != nil {
		t.Fatal(err)
	}
	changed := func(change func(*types.Credentials)) *types.Credentials {
		c := *first.Credentials
		change(&c)
		return &c
	}
	type in = sts.AssumeRoleInput
	tests := []struct {
		name    string
		caller  *types.Credentials
		request func(*in)
		err     string
	}{
		{name: "good", caller: first.Credentials},
		{name: "another external id", caller: first.Credentials, request: func(i *in) { i.ExternalId = aws.String("evil") },
			err: "403 AccessDenied: User: arn:aws:sts::123456789012:assumed-role/prod/run-1 is not authorized to perform: sts:AssumeRole on resource: " + laterRole},
		{name: "tags", caller: first.Credentials, request: func(i *in) { i.Tags, i.TransitiveTagKeys = tags("team", "cost"), []string{"cost"} }},
		{name: "tags that the trust does not allow", caller: first.Credentials, request: func(i *in) { i.RoleArn, i.Tags = aws.String(personRole), tags("team") },
			err: "403 AccessDenied: User: arn:aws:sts::123456789012:assumed-role/prod/run-1 is not authorized to perform: sts:TagSession on resource: " + personRole},
		{name: "tags by letter case", caller: first.Credentials, request: func(i *in) { i.Tags = tags("team", "Team") },
			err: "400 InvalidParameterValue: Duplicate tag keys found. Please note that Tag keys are case insensitive."},
		{name: "a transitive tag that is none", caller: first.Credentials, request: func(i *in) { i.Tags, i.TransitiveTagKeys = tags("team"), []string{"cost"} },
			err: "400 InvalidParameterValue: The specified transitive tag key must be included in the requested tags."},
		{name: "another caller", caller: long.Credentials,
			err: "403 AccessDenied: User: arn:aws:sts::123456789012:assumed-role/long/run-1 is not authorized to perform: sts:AssumeRole on resource: " + laterRole},
		{name: "a role that trusts only web identities", caller: first.Credentials, request: func(i *in) { i.RoleArn = aws.String(longRole) },
			err: "403 AccessDenied: User: arn:aws:sts::123456789012:assumed-role/prod/run-1 is not authorized to perform: sts:AssumeRole on resource: " + longRole},
		{name: "over an hour", caller: first.Credentials, request: func(i *in) { i.DurationSeconds = aws.Int32(3601) },
			err: "400 ValidationError: The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"},
		{name: "unknown key", caller: changed(func(c *types.Credentials) { c.AccessKeyId = aws.String("ASIAAAAAAAAAAAAAAAAA") }),
			err: "403 InvalidClientTokenId: The security token included in the request is invalid."},
		{name: "another session token", caller: changed(func(c *types.Credentials) { c.SessionToken = long.Credentials.SessionToken }),
			err: "403 InvalidClientTokenId: The security token included in the request is invalid."},
		{name: "another secret", caller: changed(func(c *types.Credentials) { c.SecretAccessKey = long.Credentials.SecretAccessKey }),
			err: "403 SignatureDoesNotMatch: The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			request := &in{RoleArn: aws.String(laterRole), RoleSessionName: aws.String("run-1"), ExternalId: aws.String("acme")}
			if tt.request != nil {
				tt.request(request)
			}
			out, err := a.client(fixed(tt.caller)).AssumeRole(t.Context(), request)
			if tt.err != "" {
				if text(err) != tt.err {
					t.Errorf("got  %s\nwant %s", text(err), tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			who, err := a.client(fixed(out.Credentials)).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
			if err != nil {
				t.Fatal(err)
			}
			if *who.Arn != "arn:aws:sts::123456789012:assumed-role/later/run-1" || *who.Account != "123456789012" || *who.UserId != "AROASTANDIN:run-1" {
				t.Errorf("the caller is %s, %s, %s", *who.Arn, *who.Account, *who.UserId)
			}
		})
	}
}

func TestExpiredSession(t *testing.T) {
	t.Parallel()
	clock := newClock()
	a := newAccount(t, clock.now)
	out, err := a.withToken(t.Context(), a.issuer.Sign("sts.amazonaws.com", nil), func(i *sts.AssumeRoleWithWebIdentityInput) { i.DurationSeconds = aws.Int32(900) })
	if err != nil {
		t.Fatal(err)
	}
	client := a.client(fixed(out.Credentials))
	if _, err := client.GetCallerIdentity(t.Context(), nil); err != nil {
		t.Error(err)
	}
	clock.forward(15 * time.Minute)
	if _, err := client.GetCallerIdentity(t.Context(), nil); text(err) != "403 ExpiredToken: The security token included in the request is expired" {
		t.Error(text(err))
	}
}

// What the replies look like on the wire, as AWS documents it.
func TestReplies(t *testing.T) {
	t.Parallel()
	a := newAccount(t, nil)
	form := url.Values{
		"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleArn": {prodRole}, "RoleSessionName": {"run-1"},
		"WebIdentityToken": {a.issuer.Sign("sts.amazonaws.com", nil)}, "Policy": {`{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}`},
	}
	good := post(t, a.sts.URL(), form)
	session := a.sts.Sessions()[0]
	want := `200 text/xml <AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult>` +
		`<SubjectFromWebIdentityToken>` + production + `</SubjectFromWebIdentityToken><Audience>sts.amazonaws.com</Audience>` +
		`<AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/prod/run-1</Arn><AssumedRoleId>AROASTANDIN:run-1</AssumedRoleId></AssumedRoleUser>` +
		`<Credentials><AccessKeyId>` + session.AccessKeyID + `</AccessKeyId><SecretAccessKey>` + session.SecretAccessKey + `</SecretAccessKey><SessionToken>` + session.SessionToken + `</SessionToken><Expiration>` + session.Expiration.UTC().Format(time.RFC3339) + `</Expiration></Credentials>` +
		`<PackedPolicySize>4</PackedPolicySize><Provider>arn:aws:iam::123456789012:oidc-provider/` + strings.TrimPrefix(a.issuer.URL(), "http://") + `</Provider>` +
		`</AssumeRoleWithWebIdentityResult><ResponseMetadata><RequestId>ID</RequestId></ResponseMetadata></AssumeRoleWithWebIdentityResponse>`
	if good != want {
		t.Errorf("got  %s\nwant %s", good, want)
	}
	form.Set("RoleArn", "arn:aws:iam::123456789012:role/nobody")
	want = `403 text/xml <ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>Not authorized to perform sts:AssumeRoleWithWebIdentity</Message></Error><RequestId>ID</RequestId></ErrorResponse>`
	if got := post(t, a.sts.URL(), form); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for action, want := range map[string]string{
		"GetSessionToken":   "<Code>InvalidAction</Code><Message>Could not find operation GetSessionToken for version 2011-06-15</Message>",
		"GetCallerIdentity": "<Code>MissingAuthenticationToken</Code><Message>Request is missing Authentication Token</Message>",
	} {
		form.Set("Action", action)
		if got := post(t, a.sts.URL(), form); !strings.Contains(got, want) {
			t.Errorf("%s: got %s, want %s", action, got, want)
		}
	}
	if got := a.sts.Requests("AssumeRoleWithWebIdentity"); got != 2 {
		t.Errorf("counted %d requests, want 2", got)
	}
}

func post(t *testing.T, address string, form url.Values) string {
	t.Helper()
	resp, err := http.PostForm(address, form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%d %s %s", resp.StatusCode, resp.Header.Get("Content-Type"), body)
	return strings.Replace(got, between(got, "<RequestId>", "</RequestId>"), "ID", 1)
}

func tags(keys ...string) (list []types.Tag) {
	for _, key := range keys {
		list = append(list, types.Tag{Key: &key, Value: aws.String("x")})
	}
	return list
}
