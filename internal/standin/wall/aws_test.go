package wall

import (
	"fmt"
	"strings"
	"testing"
)

const gitHubARN = `"arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"`

// awsStatement is one statement for GitHub's provider; K: is short for the issuer's prefix of keys.
func awsStatement(effect, conditions string) string {
	conditions = strings.ReplaceAll(conditions, "K:", gitHubIssuer+":")
	return fmt.Sprintf(`{"Effect":%q,"Principal":{"Federated":%s},"Action":"sts:AssumeRoleWithWebIdentity","Condition":%s}`,
		effect, gitHubARN, conditions)
}

func awsPolicy(statements ...string) string {
	return fmt.Sprintf(`{"Version":"2012-10-17","Statement":[%s]}`, strings.Join(statements, ","))
}

// TestAWSConditions has one condition a case, under Allow.
func TestAWSConditions(t *testing.T) {
	t.Parallel()
	noEnvironment := map[string]any{"environment": nil}
	type changes = map[string]any
	for _, tt := range []struct {
		name, condition string
		changes         map[string]any
		want            bool
		err             string
	}{
		// The example of GitHub's and AWS's pages.
		{"documented", `{"StringEquals":{"K:aud":"sts.amazonaws.com","K:sub":"repo:acme/analytics:environment:production"}}`, nil, true, ""},
		{"documented, another audience", `{"StringEquals":{"K:aud":"sts.amazonaws.com"}}`, changes{"aud": "vault"}, false, ""},
		{"documented, wildcard", `{"StringLike":{"K:sub":"repo:acme/*"},"StringEquals":{"K:aud":"sts.amazonaws.com"}}`, nil, true, ""},
		{"no condition", `{}`, nil, true, ""},

		{"names of keys ignore case", `{"StringEquals":{"Token.Actions.GitHubUserContent.com:SUB":"repo:acme/analytics:environment:production"}}`, nil, true, ""},
		{"values do not", `{"StringEquals":{"K:repository":"Acme/analytics"}}`, nil, false, ""},
		{"unless asked to", `{"StringEqualsIgnoreCase":{"K:repository":"ACME/Analytics"}}`, nil, true, ""},
		{"unless asked to, negated", `{"StringNotEqualsIgnoreCase":{"K:repository":"ACME/Analytics"}}`, nil, false, ""},
		{"values are an or", `{"StringEquals":{"K:ref":["refs/heads/dev","refs/heads/main"]}}`, nil, true, ""},
		{"keys are an and", `{"StringEquals":{"K:ref":"refs/heads/main","K:actor":"mallory"}}`, nil, false, ""},
		{"operators are an and", `{"StringEquals":{"K:ref":"refs/heads/main"},"StringLike":{"K:actor":"m*"}}`, nil, false, ""},
		{"negated values are a nor", `{"StringNotEquals":{"K:ref":["refs/heads/dev","refs/heads/main"]}}`, nil, false, ""},
		{"no values", `{"StringEquals":{"K:ref":[]}}`, nil, false, ""},
		{"a number", `{"StringEquals":{"K:repository_id":74}}`, nil, true, ""},

		{"* over /", `{"StringLike":{"K:ref":"refs/*"}}`, nil, true, ""},
		{"* over :", `{"StringLike":{"K:sub":"repo:*:production"}}`, nil, true, ""},
		{"* over nothing", `{"StringLike":{"K:ref":"refs/heads/main*"}}`, nil, true, ""},
		{"? is one", `{"StringLike":{"K:ref":"refs/heads/mai?"}}`, nil, true, ""},
		{"? is not none", `{"StringLike":{"K:ref":"refs/heads/main?"}}`, nil, false, ""},
		{"* under an exact operator", `{"StringEquals":{"K:ref":"refs/heads/*"}}`, nil, false, ""},
		{"the whole value", `{"StringLike":{"K:repository":"acme/analytic"}}`, nil, false, ""},
		{"backtracking", `{"StringLike":{"K:sub":"*:environment:*tion"}}`, nil, true, ""},
		{"one segment", `{"StringLike":{"K:ref":"refs/heads/*"},"StringNotLike":{"K:ref":"*/*/*/*"}}`, nil, true, ""},
		{"one segment, two", `{"StringLike":{"K:ref":"refs/heads/*"},"StringNotLike":{"K:ref":"*/*/*/*"}}`, changes{"ref": "refs/heads/a/b"}, false, ""},

		{"absent, equals", `{"StringEquals":{"K:environment":"production"}}`, noEnvironment, false, ""},
		{"absent, like *", `{"StringLike":{"K:environment":"*"}}`, noEnvironment, false, ""},
		{"absent, not equals", `{"StringNotEquals":{"K:environment":"staging"}}`, noEnvironment, true, ""},
		{"absent, not like", `{"StringNotLike":{"K:environment":"*"}}`, noEnvironment, true, ""},
		{"absent, if exists", `{"StringEqualsIfExists":{"K:environment":"production"}}`, noEnvironment, true, ""},
		{"there, if exists", `{"StringEqualsIfExists":{"K:environment":"production"}}`, changes{"environment": "staging"}, false, ""},
		{"absent, all values", `{"ForAllValues:StringEquals":{"K:environment":"production"}}`, noEnvironment, true, ""},
		{"empty, all values", `{"ForAllValues:StringEquals":{"K:environment":"production"}}`, changes{"environment": ""}, true, ""},
		{"there, all values", `{"ForAllValues:StringEquals":{"K:environment":"production"}}`, changes{"environment": "staging"}, false, ""},
		{"absent, any value", `{"ForAnyValue:StringEquals":{"K:environment":"production"}}`, noEnvironment, false, ""},
		{"absent, any value, negated", `{"ForAnyValue:StringNotEquals":{"K:environment":"production"}}`, noEnvironment, false, ""},
		{"absent, any value, if exists", `{"ForAnyValue:StringLikeIfExists":{"K:environment":"*"}}`, noEnvironment, false, ""},
		{"there, any value", `{"ForAnyValue:StringLike":{"K:environment":"prod*"}}`, nil, true, ""},
		{"absent, null", `{"Null":{"K:environment":"true"}}`, noEnvironment, true, ""},
		{"absent, not null", `{"Null":{"K:environment":"false"}}`, noEnvironment, false, ""},
		{"there, not null", `{"Null":{"K:environment":false}}`, nil, true, ""},
		{"all values and not null", `{"ForAllValues:StringEquals":{"K:environment":"production"},"Null":{"K:environment":"false"}}`, noEnvironment, false, ""},

		{"all ten keys", `{"StringEquals":{"K:actor":"octocat","K:actor_id":"1","K:job_workflow_ref":"acme/platform/.github/workflows/dbt.yml@refs/tags/v3","K:repository":"acme/analytics","K:repository_id":"74","K:repository_owner_id":"65","K:workflow":"dbt","K:ref":"refs/heads/main","K:environment":"production","K:enterprise_id":"9"}}`, nil, true, ""},
		{"event_name is no key", `{"StringEquals":{"K:event_name":"push"}}`, nil, false, ""},
		{"event_name is no key, negated", `{"StringNotEquals":{"K:event_name":"push"}}`, nil, true, ""},
		{"repository_owner is no key", `{"StringEquals":{"K:repository_owner":"acme"}}`, nil, false, ""},
		{"repository_owner is no key, if exists", `{"StringEqualsIfExists":{"K:repository_owner":"evil"}}`, nil, true, ""},
		{"a misspelt key", `{"StringEquals":{"K:subject":"repo:acme/analytics:environment:production"}}`, nil, false, ""},
		{"a key of another issuer", `{"StringEquals":{"gitlab.com:sub":"repo:acme/analytics:environment:production"}}`, nil, false, ""},
		{"aud is azp", `{"StringEquals":{"K:aud":"client","K:oaud":"sts.amazonaws.com"}}`, changes{"azp": "client"}, true, ""},
		{"amr", `{"ForAnyValue:StringLike":{"K:amr":"auth*"}}`, changes{"amr": []any{"unauth", "authenticated"}}, true, ""},
		{"amr, all", `{"ForAllValues:StringLike":{"K:amr":"auth*"}}`, changes{"amr": []any{"unauth", "authenticated"}}, false, ""},
		{"amr, one", `{"StringLike":{"K:amr":"auth*"}}`, changes{"amr": []any{"unauth", "authenticated"}}, false, gitHubIssuer + ":amr has 2 values, and StringLike is about one"},

		{"bool", `{"Bool":{"K:actor":"true"}}`, changes{"actor": true}, true, ""},
		{"bool of a text", `{"Bool":{"K:actor":"true"}}`, nil, false, ""},
		{"numeric", `{"NumericLessThanEquals":{"K:repository_id":"74"}}`, nil, true, ""},
		{"numeric of a text", `{"NumericNotEquals":{"K:actor":"74"}}`, nil, true, ""},

		{"literal *", `{"StringLike":{"K:environment":"prod${*}"}}`, nil, false, ""},
		{"literal *, there", `{"StringLike":{"K:environment":"prod${*}"}}`, changes{"environment": "prod*"}, true, ""},
		{"literal ? and $", `{"StringLike":{"K:environment":"${?}*${$}"}}`, changes{"environment": "?x$"}, true, ""},
		{"literal * under an exact operator", `{"StringEquals":{"K:environment":"${*}"}}`, changes{"environment": "*"}, true, ""},
		{"a key as variable", `{"StringLike":{"K:sub":"repo:${K:repository}:*"}}`, nil, true, ""},
		{"a key as variable is no pattern", `{"StringLike":{"K:sub":"repo:${K:repository}:*"}}`, changes{"repository": "acme/*"}, false, ""},
		{"a default", `{"StringEquals":{"K:ref":"refs/heads/${K:environment, 'main'}"}}`, noEnvironment, true, ""},
		{"a variable without value", `{"StringEquals":{"K:ref":"${K:environment}"}}`, noEnvironment, false, `policy variable "` + gitHubIssuer + `:environment" has not one value`},
		{"a key that is not in the token", `{"StringEquals":{"aws:SourceIp":"1.2.3.4"}}`, nil, false, `condition key "aws:SourceIp" is not decided by the token`},
		{"which does not matter", `{"StringEquals":{"aws:SourceIp":"1.2.3.4","K:ref":"refs/heads/dev"}}`, nil, false, ""},
		{"an operator that is not about texts", `{"ArnLike":{"K:sub":"*"}}`, nil, false, "operator ArnLike is not about strings: " + gitHubIssuer + ":sub does not decide it"},
		{"an operator that is not about texts, absent", `{"ArnNotLike":{"K:environment":"*"}}`, noEnvironment, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			wall, err := AWS([]byte(awsPolicy(awsStatement("Allow", tt.condition))))
			if err != nil {
				t.Fatal(err)
			}
			wantWall(t, wall, gitHubClaims(tt.changes), tt.want, tt.err)
		})
	}
}

// TestAWSStatements is about what is around the conditions.
func TestAWSStatements(t *testing.T) {
	t.Parallel()
	allow := awsStatement("Allow", `{"StringEquals":{"K:repository":"acme/analytics"}}`)
	deny := awsStatement("Deny", `{"StringEquals":{"K:ref":"refs/heads/dev"}}`)
	dev := map[string]any{"ref": "refs/heads/dev"}
	with := func(old, with string) string { return awsPolicy(strings.Replace(allow, old, with, 1)) }
	for _, tt := range []struct {
		name, doc string
		changes   map[string]any
		want      bool
		err       string
	}{
		{"allow", awsPolicy(allow), nil, true, ""},
		{"one statement that is no list", `{"Version":"2012-10-17","Statement":` + allow + `}`, nil, true, ""},
		{"statements are an or", awsPolicy(awsStatement("Allow", `{"StringEquals":{"K:ref":"x"}}`), allow), nil, true, ""},
		{"conditions in separate statements", awsPolicy(awsStatement("Allow", `{"StringEquals":{"K:aud":"sts.amazonaws.com"}}`), allow), map[string]any{"repository": "evil/x"}, true, ""},
		{"deny wins", awsPolicy(allow, deny), dev, false, ""},
		{"deny of others", awsPolicy(deny, allow), nil, true, ""},
		{"deny only", awsPolicy(deny), nil, false, ""},
		{"deny of an absent key, negated", awsPolicy(allow, awsStatement("Deny", `{"StringNotEquals":{"K:environment":"production"}}`)), map[string]any{"environment": nil}, false, ""},
		{"deny that is undecided", awsPolicy(allow, awsStatement("Deny", `{"DateLessThan":{"aws:TokenIssueTime":"2026-01-01T00:00:00Z"}}`)), nil, false, `condition key "aws:TokenIssueTime" is not decided by the token`},
		{"deny that is undecided, of nobody", awsPolicy(awsStatement("Deny", `{"StringEquals":{"aws:SourceIp":"1.2.3.4"}}`)), nil, false, ""},
		{"allow that is undecided", awsPolicy(awsStatement("Allow", `{"StringEquals":{"aws:SourceIp":"1.2.3.4"}}`)), nil, false, `condition key "aws:SourceIp" is not decided by the token`},
		{"allow that is undecided, and another", awsPolicy(awsStatement("Allow", `{"StringEquals":{"aws:SourceIp":"1.2.3.4"}}`), allow), nil, true, ""},
		{"another issuer", awsPolicy(allow), map[string]any{"iss": "https://gitlab.com"}, false, ""},
		{"an enterprise's issuer", awsPolicy(allow), map[string]any{"iss": "https://token.actions.githubusercontent.com/acme"}, false, ""},
		{"an enterprise's keys", strings.ReplaceAll(awsPolicy(allow), gitHubIssuer, gitHubIssuer+"/acme"), map[string]any{"iss": "https://token.actions.githubusercontent.com/acme"}, false, ""},
		{"an enterprise's subject", strings.ReplaceAll(awsPolicy(awsStatement("Allow", `{"StringLike":{"K:sub":"repo:acme/*"}}`)), gitHubIssuer, gitHubIssuer+"/acme"), map[string]any{"iss": "https://token.actions.githubusercontent.com/acme"}, true, ""},
		{"several issuers", with(gitHubARN, `["arn:aws:iam::123456789012:oidc-provider/gitlab.com",`+gitHubARN+`]`), nil, true, ""},
		{"a service", with(`{"Federated":`+gitHubARN+`}`, `{"Service":"ec2.amazonaws.com"}`), nil, false, ""},
		{"everybody", with(`{"Federated":`+gitHubARN+`}`, `"*"`), nil, true, ""},
		{"everybody, as an account", with(`{"Federated":`+gitHubARN+`}`, `{"AWS":"*"}`), nil, true, ""},
		{"another action", with("AssumeRoleWithWebIdentity", "AssumeRole"), nil, false, ""},
		{"an action's wildcard", with("AssumeRoleWithWebIdentity", "assumerolewith*"), nil, true, ""},
		{"actions", with(`"sts:AssumeRoleWithWebIdentity"`, `["sts:TagSession","sts:AssumeRoleWithWebIdentity"]`), nil, true, ""},
		{"variables are texts in the old version", strings.Replace(awsPolicy(awsStatement("Allow", `{"StringEquals":{"K:environment":"${*}"}}`)), "2012-10-17", "2008-10-17", 1), map[string]any{"environment": "${*}"}, true, ""},
		{"without a version", strings.Replace(awsPolicy(awsStatement("Allow", `{"StringLike":{"K:environment":"${*}"}}`)), `"Version":"2012-10-17",`, "", 1), map[string]any{"environment": "${x}"}, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			wall, err := AWS([]byte(tt.doc))
			if err != nil {
				t.Fatal(err)
			}
			wantWall(t, wall, gitHubClaims(tt.changes), tt.want, tt.err)
		})
	}
}

// TestAWSRefuses has what IAM refuses: "MalformedPolicyDocument".
func TestAWSRefuses(t *testing.T) {
	t.Parallel()
	allow := awsStatement("Allow", `{"StringEquals":{"K:ref":"refs/heads/main"}}`)
	with := func(old, with string) string { return awsPolicy(strings.Replace(allow, old, with, 1)) }
	for _, tt := range []struct{ name, doc, err string }{
		{"version", strings.Replace(awsPolicy(allow), "2012", "2013", 1), `policy has the version "2013-10-17", versions are 2008-10-17 and 2012-10-17`},
		{"no statement", `{"Version":"2012-10-17","Statement":[]}`, "policy has no statement"},
		{"no object", `[]`, "policy is no object"},
		{"effect", with(`"Allow"`, `"allow"`), `statement 1: effect is "allow", effects are "Allow" and "Deny"`},
		{"not principal", with(`"Principal"`, `"NotPrincipal"`), `statement 1: statement has the element "NotPrincipal", elements are ["Sid" "Effect" "Principal" "Action" "Condition"]`},
		{"not action", with(`"Action"`, `"NotAction"`), `statement 1: statement has the element "NotAction", elements are ["Sid" "Effect" "Principal" "Action" "Condition"]`},
		{"resource", with(`"Action"`, `"Resource":"*","Action"`), `statement 1: statement has the element "Resource", elements are ["Sid" "Effect" "Principal" "Action" "Condition"]`},
		{"no principal", with(`"Principal":{"Federated":`+gitHubARN+`},`, ""), "statement 1: no Principal"},
		{"a part of an ARN", with(`githubusercontent.com"}`, `*"}`), `statement 1: invalid principal "arn:aws:iam::123456789012:oidc-provider/token.actions.*"`},
		{"an issuer's URL", with(`arn:aws:iam::123456789012:oidc-provider/`, `https://`), `statement 1: invalid principal "https://token.actions.githubusercontent.com"`},
		{"action", with(`sts:AssumeRoleWithWebIdentity`, `s3:GetObject`), `statement 1: action "s3:getobject": a trust policy may only have actions of STS`},
		{"operator", with(`StringEquals`, `StringMatches`), `statement 1: condition has the unknown operator "StringMatches"`},
		{"set", with(`StringEquals`, `ForAll:StringEquals`), `statement 1: condition has the unknown operator "ForAll:StringEquals"`},
		{"null if exists", with(`StringEquals`, `NullIfExists`), `statement 1: condition has the unknown operator "NullIfExists"`},
		{"null", with(`StringEquals`, `Null`), `statement 1: condition Null of token.actions.githubusercontent.com:ref: value "refs/heads/main" is neither true nor false`},
		{"key", with(gitHubIssuer+":ref", `ref`), `statement 1: condition StringEquals: the key "ref" has no prefix`},
		{"variable", with(`refs/heads/main`, `${a`), `statement 1: condition StringEquals of token.actions.githubusercontent.com:ref: policy variable in "${a" is not closed`},
		{"variable's name", with(`refs/heads/main`, `${matrix.x}`), `statement 1: condition StringEquals of token.actions.githubusercontent.com:ref: invalid policy variable "matrix.x"`},
		{"Sid", with(`"Effect"`, `"Sid":"rule 1","Effect"`), `statement 1: the Sid "rule 1" has other characters than letters and digits`},
		{"Sids", awsPolicy(strings.Replace(allow, `"Effect"`, `"Sid":"a","Effect"`, 1), strings.Replace(allow, `"Effect"`, `"Sid":"a","Effect"`, 1)), `statement 2: duplicate Sid "a"`},
		{"duplicate key", with(`"Effect":"Allow"`, `"Effect":"Deny","Effect":"Allow"`), `invalid JSON: duplicate key "Effect"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := AWS([]byte(tt.doc)); message(err) != tt.err {
				t.Errorf("got  %s\nwant %s", message(err), tt.err)
			}
		})
	}
}

func TestAWSFits(t *testing.T) {
	t.Parallel()
	doc := func(n int) []byte { return []byte("{ \"a\" :\n \"" + strings.Repeat("ü", n-8) + "\" }") }
	for _, tt := range []struct {
		n   int
		err string
	}{{AWSQuota, ""}, {AWSQuota + 1, "trust policy has 2049 characters without white space, more than 2048"}} {
		if err := AWSFits(doc(tt.n), AWSQuota); message(err) != tt.err {
			t.Errorf("%d characters: got %q, want %q", tt.n, message(err), tt.err)
		}
		if err := AWSFits(doc(tt.n), AWSRaisedQuota); err != nil {
			t.Error(err)
		}
	}
}

func TestAWSControl(t *testing.T) {
	t.Parallel()
	const refused = "statement 1 allows the shared issuer token.actions.githubusercontent.com without a condition on token.actions.githubusercontent.com:sub"
	for _, tt := range []struct{ name, doc, err string }{
		{"subject", awsPolicy(awsStatement("Allow", `{"StringLike":{"K:sub":"repo:acme/*"}}`)), ""},
		{"audience only", awsPolicy(awsStatement("Allow", `{"StringEquals":{"K:aud":"sts.amazonaws.com"}}`)), refused},
		{"any subject", awsPolicy(awsStatement("Allow", `{"StringLike":{"K:sub":"*"}}`)), refused},
		{"a subject that is there", awsPolicy(awsStatement("Allow", `{"Null":{"K:sub":"false"}}`)), refused},
		{"deny", awsPolicy(awsStatement("Deny", `{}`)), ""},
		{"an issuer of one's own", strings.ReplaceAll(awsPolicy(awsStatement("Allow", `{}`)), gitHubIssuer, "ci.example.com"), ""},
		{"malformed", `{}`, "policy has no statement"},
	} {
		if err := AWSControl([]byte(tt.doc)); message(err) != tt.err {
			t.Errorf("%s: got %q, want %q", tt.name, message(err), tt.err)
		}
	}
}
