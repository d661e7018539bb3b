package trust

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/logic"
	"github.com/oidc-dbt/oidc-dbt/internal/sampling"
	"github.com/oidc-dbt/oidc-dbt/internal/standin/wall"
)

// handwritten are conditions as people wrote them, and what is found in them.
// G: stands for GitHub's issuer.
var handwritten = []struct {
	name, conditions string
	findings         []string
}{
	{"both forms", `"StringEquals": {"G:aud": "sts.amazonaws.com", "G:repository_id": "101"}, "StringLike": {"G:sub": ["repo:acme/analytics:environment:production", "repo:acme@*/analytics@101:environment:production"]}`, nil},
	{"names only", `"StringEquals": {"G:aud": "sts.amazonaws.com", "G:sub": "repo:acme/analytics:environment:production"}`, []string{"warning name-only"}},
	{"no subject", `"StringEquals": {"G:aud": "sts.amazonaws.com"}`, []string{"error missing-subject"}},
	{"ids and no subject", `"StringEquals": {"G:aud": "sts.amazonaws.com", "G:repository_id": "101"}`, []string{"warning missing-subject"}},
	{"no audience", `"StringEquals": {"G:repository_id": "101", "G:sub": "repo:acme/analytics:environment:production"}`, []string{"warning missing-audience"}},
	{"any subject", `"StringEquals": {"G:aud": "sts.amazonaws.com"}, "StringLike": {"G:sub": "*"}`, []string{"error wide-subject"}},
	{"any repository", `"StringEquals": {"G:aud": "sts.amazonaws.com"}, "StringLike": {"G:sub": "repo:*"}`, []string{"error wide-subject"}},
	{"an owner's name that goes on", `"StringEquals": {"G:aud": "sts.amazonaws.com"}, "StringLike": {"G:sub": "repo:acme*"}`, []string{"error wide-subject"}},
	{"an owner", `"StringEquals": {"G:aud": "sts.amazonaws.com"}, "StringLike": {"G:sub": "repo:acme/*"}`, []string{"warning wide-subject"}},
	{"a repository", `"StringEquals": {"G:aud": "sts.amazonaws.com", "G:repository_id": "101"}, "StringLike": {"G:sub": "repo:acme/analytics:*"}`, []string{"warning wide-subject"}},
	{"a repository, held by claims", `"StringEquals": {"G:aud": "sts.amazonaws.com", "G:repository_id": "101", "G:environment": "production"}, "StringLike": {"G:sub": "repo:acme/analytics:*"}`, nil},
	{"a pattern under the exact operator", `"StringEquals": {"G:aud": "sts.amazonaws.com", "G:repository_id": "101", "G:sub": "repo:acme/analytics:*"}`, []string{"error wildcard-under-exact-operator"}},
	{"a claim without a key", `"StringEquals": {"G:aud": "sts.amazonaws.com", "G:repository_id": "101", "G:event_name": "push", "G:sub": "repo:acme/analytics:environment:production"}`, []string{"error key-not-read"}},
	{"a claim without a key, if it is there", `"StringEquals": {"G:aud": "sts.amazonaws.com", "G:repository_id": "101", "G:sub": "repo:acme/analytics:environment:production"}, "StringEqualsIfExists": {"G:event_name": "push"}`, []string{"error key-not-read"}},
	{"another issuer's key", `"StringEquals": {"G:aud": "sts.amazonaws.com", "G:repository_id": "101", "G:sub": "repo:acme/analytics:environment:production", "gitlab.com:sub": "x"}`, []string{"error key-not-read"}},
	{"if exists", `"StringEquals": {"G:aud": "sts.amazonaws.com", "G:repository_id": "101", "G:sub": "repo:acme/analytics:environment:production"}, "StringEqualsIfExists": {"G:environment": "production"}`, []string{"error ignored-operator"}},
	{"for all values", `"ForAllValues:StringEquals": {"G:aud": "sts.amazonaws.com", "G:sub": "repo:acme/analytics:environment:production"}`, []string{"warning ignored-operator", "warning ignored-operator", "warning missing-audience", "error missing-subject"}},
	{"for any value", `"ForAnyValue:StringEquals": {"G:aud": "sts.amazonaws.com", "G:repository_id": "101"}, "ForAnyValue:StringLike": {"G:sub": "repo:acme/analytics:environment:production"}`, nil},
	{"only not", `"StringEquals": {"G:aud": "sts.amazonaws.com"}, "StringNotLike": {"G:sub": "repo:acme/analytics:pull_request"}`, []string{"error ignored-operator", "error missing-subject"}},
	{"not, with IfExists and a set", `"StringEquals": {"G:aud": "sts.amazonaws.com", "G:repository_id": "101", "G:sub": "repo:acme/analytics:environment:production"}, "ForAnyValue:StringNotEqualsIfExists": {"G:ref": "refs/heads/x"}`, []string{"error ignored-operator"}},
	{"absent", `"StringEquals": {"G:aud": "sts.amazonaws.com", "G:repository_id": "101"}, "StringLike": {"G:sub": "repo:acme/analytics:ref:*"}, "Null": {"G:environment": "true"}`, nil},
	{"letter case", `"StringEqualsIgnoreCase": {"G:aud": "STS.amazonaws.com", "G:repository": "ACME/analytics"}, "StringLike": {"g:SUB": "repo:acme/analytics:environment:production"}`, []string{"warning name-only"}},
	{"one character", `"StringEquals": {"G:aud": "sts.amazonaws.com", "G:repository_id": "101", "G:sub": "repo:acme/analytics:environment:prod${*}"}, "StringLike": {"G:ref": "refs/heads/mai?"}`, nil},
	{"a policy variable", `"StringEquals": {"G:aud": "sts.amazonaws.com", "G:repository_id": "101"}, "StringLike": {"G:sub": "repo:acme/analytics:environment:${aws:PrincipalTag/e}"}`, nil},
	{"a key of the request", `"StringEquals": {"G:aud": "sts.amazonaws.com", "G:repository_id": "101", "G:sub": "repo:acme/analytics:environment:production"}, "IpAddress": {"aws:SourceIp": "10.0.0.0/8"}`, nil},
	{"an operator on numbers", `"StringEquals": {"G:aud": "sts.amazonaws.com", "G:sub": "repo:acme/analytics:environment:production"}, "NumericEquals": {"G:repository_id": 101}`, []string{"warning name-only"}},
	{"a chosen key", `"StringEquals": {"G:aud": "sts.amazonaws.com", "G:sub": "environment:production:repo:acme/analytics"}`, []string{"error customised-subject"}},
	{"the form with dashes", `"StringEquals": {"G:aud": "sts.amazonaws.com", "G:repository_id": "101", "G:sub": "repo:acme-9919/analytics-101:environment:production"}`, []string{"warning old-subject-form"}},
}

const handwrittenPolicy = `
version: 1
targets:
  prod:
    exchange: ` + awsExchange + `
    allow:
      - {repository: acme/analytics, repository_id: "101", environment: production, ref: refs/heads/main}
`

func handwrittenDocument(conditions string) string {
	return strings.NewReplacer("G:", "token.actions.githubusercontent.com:", "g:", "token.actions.githubusercontent.com:").Replace(
		`{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity",
		"Principal": {"Federated": "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"}, "Condition": {` + conditions + `}}}`)
}

func found(r Reading) (list []string) {
	for _, f := range r.Findings {
		list = append(list, f.Severity+" "+f.Name)
	}
	return list
}

// TestAWSReads: what is found in documents, and that they admit what an
// evaluator that is not ours says.
func TestAWSReads(t *testing.T) {
	t.Parallel()
	d := demand(t, handwrittenPolicy, Options{})
	for _, tt := range handwritten {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			doc := handwrittenDocument(tt.conditions)
			r, err := readAWS(d, []File{{Name: "trust.json", Text: []byte(doc)}})
			if err != nil {
				t.Fatal(err)
			}
			if got := found(r); !slices.Equal(got, tt.findings) {
				t.Errorf("found %q, want %q: %+v", got, tt.findings, r.Findings)
			}
			checkReading(t, d, doc, r.Admits)
		})
	}
}

// checkReading compares with the evaluator over random tokens.
func checkReading(t *testing.T, d Demand, doc string, admits logic.Formula) {
	t.Helper()
	trust, err := wall.AWS([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(7, 8))
	for range 500 / sampling.Share {
		claims := randomToken(random, d)
		texts := map[string]string{}
		for name, value := range claims {
			texts[name] = value.(string)
		}
		want, err := trust(claims)
		got := admits.Eval(texts)
		if err != nil && got == logic.True || err == nil && got != logic.Unknown && (got == logic.True) != want {
			t.Fatalf("read: %v; the evaluator: %t, %v\n%v\n%s\n%v", got, want, err, texts, doc, admits)
		}
	}
}

// TestAWSReadsStatements: several statements, Deny, and other principals.
func TestAWSReadsStatements(t *testing.T) {
	t.Parallel()
	d := demand(t, handwrittenPolicy, Options{})
	statement := func(effect, principal, action, conditions string) string {
		return strings.ReplaceAll(fmt.Sprintf(`{"Effect": %q, "Principal": %s, %s, "Condition": {%s}}`, effect, principal, action, conditions),
			"G:", "token.actions.githubusercontent.com:")
	}
	const (
		federated = `{"Federated": "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"}`
		action    = `"Action": ["sts:AssumeRoleWithWebIdentity", "sts:TagSession"]`
		good      = `"StringEquals": {"G:aud": "sts.amazonaws.com", "G:repository_id": "101", "G:sub": "repo:acme/analytics:environment:production"}`
	)
	for _, tt := range []struct {
		name       string
		statements []string
		findings   []string
		foreign    bool // the evaluator does not take it, for IAM would not
	}{
		{"Deny", []string{statement("Allow", federated, action, good), statement("Deny", federated, `"Action": "sts:*"`, `"StringEquals": {"G:actor": "mona"}`)}, nil, false},
		{"separate", []string{
			statement("Allow", federated, action, `"StringEquals": {"G:aud": "sts.amazonaws.com"}`),
			statement("Allow", federated, action, `"StringEquals": {"G:repository_id": "101", "G:sub": "repo:acme/analytics:environment:production"}`),
		}, []string{"error missing-subject", "warning missing-audience", "error separate-statements"}, false},
		{"everybody", []string{statement("Allow", `"*"`, action, good)}, []string{"error any-principal"}, false},
		{"a role, too", []string{statement("Allow", federated, action, good),
			statement("Allow", `{"AWS": "arn:aws:iam::123456789012:role/admin"}`, `"Action": "sts:AssumeRole"`, ``)}, []string{"warning other-principal"}, false},
		{"the world, without a token", []string{statement("Allow", federated, action, good),
			statement("Allow", `{"AWS": "*"}`, `"Action": "sts:AssumeRole"`, ``)}, []string{"error any-principal"}, false},
		{"all but one", []string{statement("Allow", federated, action, good),
			`{"Effect": "Allow", "NotPrincipal": {"AWS": "arn:aws:iam::123456789012:root"}, "Action": "sts:AssumeRole"}`},
			[]string{"error any-principal"}, true},
		{"another action", []string{statement("Allow", federated, `"Action": "sts:AssumeRole*"`, good)}, nil, false},
		{"NotAction", []string{statement("Allow", federated, `"NotAction": "sts:TagSession"`, good)}, nil, true},
		{"not this action", []string{statement("Allow", federated, `"NotAction": "sts:*"`, good)}, nil, true},
		{"Google's", []string{statement("Allow", `{"Federated": "accounts.google.com"}`, action, `"StringEquals": {"accounts.google.com:aud": "x", "accounts.google.com:sub": "1"}`)}, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			doc := `{"Version": "2012-10-17", "Statement": [` + strings.Join(tt.statements, ",") + `]}`
			r, err := readAWS(d, []File{{Name: "trust.json", Text: []byte(doc)}})
			if err != nil {
				t.Fatal(err)
			}
			if got := found(r); !slices.Equal(got, tt.findings) {
				t.Errorf("found %q, want %q: %+v", got, tt.findings, r.Findings)
			}
			if !tt.foreign {
				checkReading(t, d, doc, r.Admits)
			}
		})
	}
}

// TestAWSReadsExports: what the CLI prints, in each form that it has.
func TestAWSReadsExports(t *testing.T) {
	t.Parallel()
	d := demand(t, strings.Replace(handwrittenPolicy, "    allow:", "    lifetime: 2h\n    allow:", 1), Options{})
	doc := handwrittenDocument(handwritten[0].conditions)
	role := func(arn string, seconds int, document string) string {
		return fmt.Sprintf(`{"Role": {"Path": "/", "RoleName": "dbt", "Arn": %q, "MaxSessionDuration": %d, "AssumeRolePolicyDocument": %s}}`, arn, seconds, document)
	}
	const ours = "arn:aws:iam::123456789012:role/dbt"
	for _, tt := range []struct {
		name     string
		files    []string
		findings []string
		err      string
	}{
		{"get-role", []string{role(ours, 7200, doc)}, nil, ""},
		{"get-role of the API", []string{role(ours, 7200, fmt.Sprintf("%q", url.PathEscape(doc)))}, nil, ""},
		{"short sessions", []string{role(ours, 3600, doc)}, []string{"error session-too-short"}, ""},
		{"another role", []string{role("arn:aws:iam::123456789012:role/other", 7200, doc)}, []string{"error other-role"}, ""},
		{"with the provider", []string{role(ours, 7200, doc), `{"Url": "token.actions.githubusercontent.com", "ClientIDList": ["sts.amazonaws.com"]}`}, nil, ""},
		{"without our audience", []string{role(ours, 7200, doc), `{"Url": "token.actions.githubusercontent.com", "ClientIDList": ["other"]}`}, []string{"error audience-not-listed"}, ""},
		{"no role", []string{`{"Url": "token.actions.githubusercontent.com", "ClientIDList": ["other"]}`}, nil,
			"0 trust policies of the role, want one: that of arn:aws:iam::123456789012:role/dbt"},
		{"nothing of AWS's", []string{`{"a": 1}`}, nil, "0.json: " + awsWants},
		{"no JSON", []string{`role`}, nil, "0.json: " + awsWants + ": invalid character 'r' looking for beginning of value"},
		{"permissions", []string{`{"Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}`}, nil,
			"0.json, statement 1: it has Resource, which a trust policy cannot have: want the role's trust, not its permissions"},
		{"over every limit", []string{handwrittenDocument(`"StringLike": {"G:sub": "` + strings.Repeat("?", awsRaised) + `"}`)}, nil,
			"0.json: the trust policy has 8466 characters without white space, and IAM stores 8192 at most: want what `aws iam get-role` prints"},
		{"no statement", []string{`{"Statement": []}`}, nil, "0.json: the trust policy has no Statement"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var files []File
			for i, text := range tt.files {
				files = append(files, File{fmt.Sprintf("%d.json", i), []byte(text)})
			}
			r, err := readAWS(d, files)
			if got := fmt.Sprint(err); got != tt.err && (err != nil || tt.err != "") {
				t.Fatalf("got %q, want %q", got, tt.err)
			}
			if got := found(r); !slices.Equal(got, tt.findings) {
				t.Errorf("found %q, want %q: %+v", got, tt.findings, r.Findings)
			}
		})
	}
}

// TestAWSReadsChains: the second role's trust.
func TestAWSReadsChains(t *testing.T) {
	t.Parallel()
	const exchange = `{aws: {role: "arn:aws:iam::123456789012:role/dbt", region: eu-central-1, then_assume: {role: "arn:aws:iam::210987654321:role/lake", external_id: acme-7}}}`
	d := demand(t, strings.Replace(handwrittenPolicy, awsExchange, exchange, 1), Options{})
	first := handwrittenDocument(handwritten[0].conditions)
	for _, tt := range []struct {
		name, principal, condition string
		findings                   []string
	}{
		{"ours", `{"AWS": "arn:aws:iam::123456789012:role/dbt"}`, `"StringEquals": {"sts:ExternalId": "acme-7"}`, nil},
		{"no external id", `{"AWS": "arn:aws:iam::123456789012:role/dbt"}`, ``, []string{"warning missing-external-id"}},
		{"the account", `{"AWS": "arn:aws:iam::123456789012:root"}`, `"StringEquals": {"sts:ExternalId": "acme-7"}`, []string{"warning account-wide-policy"}},
		{"another role", `{"AWS": "arn:aws:iam::123456789012:role/other"}`, `"StringEquals": {"sts:ExternalId": "acme-7"}`, []string{"error chain-broken"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			second := fmt.Sprintf(`{"Role": {"Arn": "arn:aws:iam::210987654321:role/lake", "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": `+
				`[{"Effect": "Allow", "Principal": %s, "Action": "sts:AssumeRole", "Condition": {%s}}]}}}`, tt.principal, tt.condition)
			r, err := readAWS(d, []File{{"first.json", []byte(first)}, {"second.json", []byte(second)}})
			if err != nil {
				t.Fatal(err)
			}
			if got := found(r); !slices.Equal(got, tt.findings) {
				t.Errorf("found %q, want %q: %+v", got, tt.findings, r.Findings)
			}
		})
	}
}

// TestIdentityCenterReads: issuers and audiences, at Redshift and at Athena.
func TestIdentityCenterReads(t *testing.T) {
	t.Parallel()
	const (
		issuer   = `{"TrustedTokenIssuerArn": "arn:issuer", "TrustedTokenIssuerConfiguration": {"OidcJwtConfiguration": {"IssuerUrl": "https://token.actions.githubusercontent.com", "ClaimAttributePath": %q}}}`
		redshift = `{"RedshiftIdcApplications": [{"AuthorizedTokenIssuerList": [{"TrustedTokenIssuerArn": "arn:issuer", "AuthorizedAudiencesList": ["redshift.acme.example"]}]}]}`
	)
	d := demand(t, strings.Replace(handwrittenPolicy, "exchange: "+awsExchange,
		"dbt: {type: redshift, host: acme.abc123.eu-central-1.redshift.amazonaws.com, port: 5439, dbname: analytics, schema: marts}\n"+
			"    exchange: {identity_center: {region: eu-central-1, audience: redshift.acme.example}}", 1), Options{})
	token := map[string]string{"iss": githubIssuer, "aud": "redshift.acme.example"}
	for _, tt := range []struct {
		name     string
		files    []string
		admits   logic.Verdict
		findings []string
		err      string
	}{
		{"both", []string{fmt.Sprintf(issuer, "email"), redshift}, logic.True, nil, ""},
		{"a claim that people choose", []string{fmt.Sprintf(issuer, "preferred_username"), redshift}, logic.True, []string{"error chosen-user-claim"}, ""},
		{"an issuer that was not given", []string{redshift}, logic.Unknown, nil, ""},
		{"another audience", []string{fmt.Sprintf(issuer, "email"), strings.Replace(redshift, "redshift.acme", "other", 1)}, logic.False, nil, ""},
		{"no application", []string{fmt.Sprintf(issuer, "email")}, logic.False, nil, "no file has the audiences of the application: " + idcWants},
		{"nothing of AWS's", []string{`{"a": 1}`}, logic.False, nil, "0.json: " + idcWants},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var files []File
			for i, text := range tt.files {
				files = append(files, File{fmt.Sprintf("%d.json", i), []byte(text)})
			}
			r, err := readIdentityCenter(d, files)
			if err != nil || tt.err != "" {
				if fmt.Sprint(err) != tt.err {
					t.Fatalf("got %v, want %q", err, tt.err)
				}
				return
			}
			if got := found(r); !slices.Equal(got, tt.findings) || r.Admits.Eval(token) != tt.admits {
				t.Errorf("found %q, admits %v, want %q and %v", got, r.Admits.Eval(token), tt.findings, tt.admits)
			}
		})
	}
}
