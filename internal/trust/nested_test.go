package trust

import (
	"slices"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/logic"
	"github.com/oidc-dbt/oidc-dbt/internal/standin/wall"
)

const (
	ownUID     = "3f0e0000-0000-4000-8000-000000000000"
	clusterURL = "https://kubernetes.acme.example"
)

// onCluster is a policy for a service account, by its uid, unless that is "".
func onCluster(exchange, deny, uid string) string {
	rule := `{identity: cluster, sub: "system:serviceaccount:dbt:runner"`
	if uid != "" {
		rule += ", kubernetes.io>serviceaccount>uid: " + uid
	}
	return "version: 1\nidentities: {cluster: {kind: kubernetes, issuer: " + clusterURL + "}}\n" + deny +
		"targets:\n  prod:\n    exchange: " + exchange + "\n    allow: [" + rule + "}]\n"
}

// TestClaimsInObjects: of tokens whose claims are inside objects, the provider
// admits those that the policy does, and a check reads back what was generated.
func TestClaimsInObjects(t *testing.T) {
	t.Parallel()
	const deny = "deny: [{identity: cluster, kubernetes.io>node>name: old}]\n"
	for _, tt := range []struct {
		name, exchange, deny string
		evaluate             func(document []byte) (wall.Wall, error)
	}{
		{"google", `{gcp: {workload_identity_provider: ` + gcpPool + `/providers/acme}}`, deny,
			func(document []byte) (wall.Wall, error) { return googleWall(string(document)) }},
		{"openbao", `{vault: {auth: cel, address: "https://bao.acme.example", role: dbt, audience: bao, secret: secret/data/dbt}}`, deny,
			wall.OpenBaoCEL},
		{"vault", `{vault: {address: "https://vault.acme.example", role: dbt, audience: vault, secret: secret/data/dbt}}`, "", wall.Vault},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := demand(t, onCluster(tt.exchange, tt.deny, ownUID), Options{})
			w, err := Generate(d)
			if err != nil {
				t.Fatal(err)
			}
			admits, err := tt.evaluate([]byte(w.Documents[0].Text))
			if err != nil {
				t.Fatal(err)
			}
			for _, token := range clusterTokens(tt.deny != "") {
				token.claims["iss"], token.claims["aud"] = clusterURL, d.Audience()
				token.claims["sub"] = "system:serviceaccount:dbt:runner"
				if got, err := admits(token.claims); err != nil || got != token.admitted {
					t.Errorf("%s: admitted: %t, %v", token.name, got, err)
				}
			}
			checkNested(t, d, tt.exchange, tt.deny)
		})
	}
}

type clusterToken struct {
	name     string
	claims   map[string]any
	admitted bool
}

func clusterTokens(denies bool) []clusterToken {
	inside := func(members map[string]any) map[string]any { return map[string]any{"kubernetes.io": members} }
	account := func(uid any) map[string]any { return map[string]any{"name": "runner", "uid": uid} }
	return []clusterToken{
		{"its own", inside(map[string]any{"namespace": "dbt", "serviceaccount": account(ownUID)}), true},
		{"on the denied node", inside(map[string]any{"serviceaccount": account(ownUID), "node": map[string]any{"name": "old"}}), !denies},
		{"on another node", inside(map[string]any{"serviceaccount": account(ownUID), "node": map[string]any{"name": "new"}}), true},
		{"a name made anew", inside(map[string]any{"serviceaccount": account("another")}), false},
		{"a number", inside(map[string]any{"serviceaccount": account(7)}), false},
		{"no uid", inside(map[string]any{"serviceaccount": map[string]any{"name": "runner"}}), false},
		{"no account", inside(map[string]any{"namespace": "dbt"}), false},
		{"an account that is a text", inside(map[string]any{"serviceaccount": ownUID}), false},
		{"no object", map[string]any{"kubernetes.io": ownUID}, false},
		{"none", map[string]any{}, false},
		{"a claim that is called so", map[string]any{"kubernetes.io>serviceaccount>uid": ownUID}, false},
	}
}

// checkNested checks what is generated of the policy, of one with another uid,
// and of one without.
func checkNested(t *testing.T, d Demand, exchange, deny string) {
	t.Helper()
	const claim = "kubernetes.io>serviceaccount>uid"
	for _, tt := range []struct {
		uid, deny string
		verdict   Verdict
		finding   string
	}{
		{ownUID, deny, Same, ""},
		{"another", deny, Different, "the provider admits tokens that rule 1 (line " + lineOf(deny) + ") refuses by " + claim},
		{"", deny, Wider, "the provider admits tokens that rule 1 (line " + lineOf(deny) + ") refuses by " + claim},
	} {
		w, err := Generate(demand(t, onCluster(exchange, tt.deny, tt.uid), Options{}))
		if err != nil {
			t.Fatal(err)
		}
		checked, err := Check(d, []File{{Name: "exported.json", Text: []byte(w.Documents[0].Text)}})
		if err != nil {
			t.Fatal(err)
		}
		found := slices.ContainsFunc(checked.Findings, func(f Finding) bool { return f.Message == tt.finding })
		if checked.Verdict != tt.verdict || !found && tt.finding != "" {
			t.Errorf("trust with uid %q: %s, %+v, want %s, %q", tt.uid, checked.Verdict, checked.Findings, tt.verdict, tt.finding)
		}
	}
}

// lineOf is the line of the rule.
func lineOf(deny string) string {
	if deny == "" {
		return "6"
	}
	return "7"
}

// TestPointers: bound claims name claims as Vault reads them.
func TestPointers(t *testing.T) {
	t.Parallel()
	for claim, want := range map[string]string{
		"sub":                                    "sub",
		"kubernetes.io>serviceaccount>uid":       "/kubernetes.io/serviceaccount/uid",
		"https://sts.amazonaws.com/>aws_account": "/https:~1~1sts.amazonaws.com~1/aws_account",
		"/a~b":                                   "/~1a~0b",
	} {
		for got := range pointers(map[string][]string{claim: {"x"}}) {
			back, ok := pointed(got)
			if got != want || back != claim || !ok {
				t.Errorf("%s is %s, which is %s, %t; want %s", claim, got, back, ok, want)
			}
		}
	}
	for _, pointer := range []string{"/groups/0", "/a>b/c"} {
		if claim, ok := pointed(pointer); ok {
			t.Errorf("%s is said to be %s", pointer, claim)
		}
	}
}

// TestReadsObjects: expressions that others write of claims inside objects, and
// what GitHub's tokens do not have.
func TestReadsObjects(t *testing.T) {
	t.Parallel()
	account := func(uid string) map[string]string {
		return map[string]string{"kubernetes.io": "", "kubernetes.io>serviceaccount": "", "kubernetes.io>serviceaccount>uid": uid}
	}
	for _, tt := range []struct {
		expression string
		github     bool
		token      map[string]string
		want       logic.Verdict
	}{
		{`assertion["kubernetes.io"]["serviceaccount"]["uid"] == "u"`, false, account("u"), logic.True},
		{`assertion["kubernetes.io"]["serviceaccount"]["uid"] == "u"`, false, account("v"), logic.False},
		{`assertion["kubernetes.io"].serviceaccount.uid.startsWith("u")`, false, account("u1"), logic.True},
		{`"uid" in assertion["kubernetes.io"].serviceaccount && assertion["kubernetes.io"].serviceaccount.uid == "u"`, false,
			account("u"), logic.True},
		{`!has(assertion["kubernetes.io"].serviceaccount.uid)`, false,
			map[string]string{"kubernetes.io": "", "kubernetes.io>serviceaccount": ""}, logic.True},
		{`type(assertion.a) == string || assertion.a.b == "x"`, false, map[string]string{"a": "", "a>b": "y"}, logic.False},
		{`assertion["kubernetes.io"].serviceaccount.uid == "u"`, true, account("u"), logic.Unknown},
	} {
		node, err := celParse(tt.expression)
		if err != nil {
			t.Fatal(err)
		}
		r := &celReader{github: tt.github, mapped: map[string]*celValue{}, objects: map[string]bool{}}
		r.learn(node)
		if got := r.eval(node).bool().yes.Eval(tt.token); got != tt.want {
			t.Errorf("%s of %v: %v, want %v", tt.expression, tt.token, got, tt.want)
		}
	}
	if f := around(strings.Fields("a a>b a>b>c c>d")); f.Eval(map[string]string{"a>b": ""}) != logic.False ||
		f.Eval(map[string]string{"a": "", "a>b": "", "c>d": ""}) != logic.True {
		t.Errorf("what is around claims is %s", f)
	}
}
