package trust

import (
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/oidc-dbt/oidc-dbt/internal/logic"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
	"github.com/oidc-dbt/oidc-dbt/internal/sampling"
	"github.com/oidc-dbt/oidc-dbt/internal/standin/wall"
)

const awsExchange = `{aws: {role: "arn:aws:iam::123456789012:role/dbt", region: eu-central-1}}`

// TestAWSSays: what a report says is wider or narrower is what is, claim by claim.
func TestAWSSays(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(5, 6))
	for made := 0; made < max(12/sampling.Share, 2); {
		text := "version: 1\ntargets:\n  prod:\n    exchange: " + awsExchange + "\n    allow:\n" + randomRules(random)
		p, err := policy.Parse("policy.yml", []byte(text), policy.Catalog{Providers: provider.Specs(), Now: agreeNow})
		if err != nil {
			continue
		}
		target, _ := p.Target("prod")
		d := Demands(p, target, Options{})[0]
		d.Rules = d.Rules[:1] // tokens that another rule admits too widely are near both
		w, err := Generate(d)
		if err != nil {
			continue
		}
		f := d.Rules[0].Formula()
		if token, _ := logic.NewFinder(f, d.worlds()).Find(f); token == nil {
			continue // no token meets such a rule
		}
		made++
		if checkWall(t, d, w); t.Failed() {
			t.Fatalf("%s\n%s", text, documents(w))
		}
	}
}

// TestAWSAgrees: an implementation of IAM's language that is not ours decides
// as the generator says, over random policies and tokens.
func TestAWSAgrees(t *testing.T) {
	t.Parallel()
	policies := map[string]int{"GitHub's subject": 300, "a template": 100}
	for name, template := range map[string][]string{
		"GitHub's subject": nil, "a template": {"repo", "context", "ref", "event_name"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			agreement{
				exchange: awsExchange, policies: policies[name], tokens: 250, options: Options{SubTemplate: template}, evaluate: evaluateAWS(),
			}.run(t)
		})
	}
}

// evaluateAWS decides by the documents, and holds them to what IAM accepts.
func evaluateAWS() func(Demand, Wall, map[string]any) (bool, error) {
	last, trust := "", wall.Wall(nil)
	return func(_ Demand, w Wall, claims map[string]any) (bool, error) {
		if text := w.Documents[0].Text; text != last {
			err := errors.Join(wall.AWSFits([]byte(text), wall.AWSRaisedQuota), wall.AWSControl([]byte(text)))
			if trust, last = nil, text; err != nil {
				return false, err
			}
			if trust, err = wall.AWS([]byte(text)); err != nil {
				return false, err
			}
		}
		return trust(claims)
	}
}

func TestAWS(t *testing.T) {
	t.Parallel()
	goldens(t, "aws")
}

func TestIdentityCenter(t *testing.T) {
	t.Parallel()
	goldens(t, "identity_center")
}

// TestAWSChecks: generated trust is checked against other policies.
func TestAWSChecks(t *testing.T) {
	t.Parallel()
	checks{
		exchange: awsExchange, policies: 15, tokens: 300,
		export: func(_ Demand, w Wall) []File { return []File{{Name: "trust.json", Text: []byte(w.Documents[0].Text)}} },
		evaluate: func(_ Demand, w Wall) (func(map[string]any) (bool, error), error) {
			return wall.AWS([]byte(w.Documents[0].Text))
		},
	}.run(t)
}

// TestAWSScript runs the commands with an AWS CLI that only notes what it is
// given: the shell interprets nothing of a policy's values.
func TestAWSScript(t *testing.T) {
	t.Parallel()
	archive, err := txtar.ParseFile("testdata/aws/attack.txtar")
	if err != nil {
		t.Fatal(err)
	}
	d := logins(t, string(archive.Files[0].Data), Options{})[0]
	w, err := Generate(d)
	if err != nil {
		t.Fatal(err)
	}
	const fake = "#!/bin/sh\ncase \"$*\" in\n*get-caller-identity*) echo 123456789012 ;;\n*get-role*) exit 1 ;;\n" +
		"*create-role*) for a; do last=$a; done; printf %s \"$last\" >\"$(dirname \"$0\")/trust\" ;;\nesac\n"
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "aws"), []byte(fake), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash")
	cmd.Stdin = strings.NewReader(w.NativeFile(d.Name()))
	cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got, err := os.ReadFile(filepath.Join(dir, "trust"))
	if err != nil || string(got) != w.Documents[0].Text {
		t.Errorf("the role would get %q, %v\nwant %q", got, err, w.Documents[0].Text)
	}
}

// FuzzAWSValues: each text of a policy is a text of IAM's, and matches what it
// matches here.
func FuzzAWSValues(f *testing.F) {
	for _, s := range []string{"a", "${aws:username}", "a?b", "$", "${", "x}", "*", "a*${b", "\"", "\n", "a/*/b", "**/x*", "\u2028"} {
		f.Add(s, s+"x")
	}
	f.Fuzz(func(t *testing.T, pattern, value string) {
		if !utf8.ValidString(pattern) || !utf8.ValidString(value) || value == "" || pattern == "" {
			return
		}
		id := policy.Identity{Issuer: githubIssuer, Kind: "github"}
		r := Rule{Identity: id}
		want := r.Condition(Condition{Claim: "environment", Patterns: []string{pattern}})
		var list []awsStatement
		for i, b := range awsTests("environment", []string{pattern}, true) {
			list = append(list, awsStatement{sid: sidOfPart("Rule", r, i), effect: "Allow", issuer: githubIssuer, conditions: b,
				provider: "arn:aws:iam::123456789012:oidc-provider/" + bare(githubIssuer), actions: []string{webIdentity}})
		}
		doc := jsonText(awsDocument(list, false))
		trust, err := wall.AWS([]byte(doc))
		if err != nil {
			t.Fatalf("%v\n%s", err, doc)
		}
		got, err := trust(map[string]any{"iss": githubIssuer, "environment": value})
		if err != nil {
			t.Fatal(err)
		}
		allowed := want.Eval(map[string]string{"environment": value}) == logic.True
		if printable := !strings.ContainsFunc(value, func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }); got != allowed &&
			(!got || printable && exactLimits("environment", pattern)) {
			t.Errorf("pattern %q, value %q: IAM: %t, the policy: %t\n%s", pattern, value, got, allowed, doc)
		}
	})
}
