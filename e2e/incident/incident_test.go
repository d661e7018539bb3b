//go:build e2e && linux && amd64

package incident

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// A night is an incident: docs/incident.md by its minutes.
type night struct {
	t         *testing.T
	issuer    *standin.Issuer
	workspace string
	desk      string // the folder of who is on call
	env       []string
	page      string
	answers   string // to what the script asks
}

func newNight(t *testing.T, issuer *standin.Issuer, workspace string, env ...string) *night {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(setup.Repository(t), "docs", "incident.md"))
	if err != nil {
		t.Fatal(err)
	}
	return &night{t: t, issuer: issuer, workspace: workspace, desk: t.TempDir(), env: env, page: string(page)}
}

// block returns the first code block of the page that contains a text.
func (n *night) block(language, has string) string {
	n.t.Helper()
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(n.page, -1) {
		if strings.Contains(m[1], has) {
			return m[1]
		}
	}
	n.t.Fatalf("docs/incident.md has no block of %s with %q", language, has)
	return ""
}

// shell runs commands as who is on call: at the desk, with oidc-dbt on PATH.
func (n *night) shell(script string) (out string, err error) {
	n.t.Helper()
	cmd := exec.Command("bash", "-euc", script)
	cmd.Dir, cmd.Stdin = n.desk, strings.NewReader(n.answers)
	cmd.Env = append(
		[]string{"HOME=" + n.desk, "PATH=" + filepath.Dir(setup.Binary(n.t)) + ":" + os.Getenv("PATH")},
		n.env...)
	text, err := cmd.CombinedOutput()
	return string(text), err
}

// revoke prints the script as the page says, and runs it.
func (n *night) revoke() (out string) {
	n.t.Helper()
	commands := strings.Replace(
		n.block("sh", "trust revoke"),
		"--target prod",
		"--target prod --policy "+n.workspace+"/.github/oidc-dbt.yml",
		1,
	)
	out, err := n.shell(commands)
	if err != nil {
		script, _ := os.ReadFile(filepath.Join(n.desk, "revoke.sh"))
		n.t.Fatalf("the script: %v\n%s\n%s", err, out, script)
	}
	return out
}

// policy changes the policy.
func (n *night) policy(change func(text string) string) {
	n.t.Helper()
	path := filepath.Join(n.workspace, ".github", "oidc-dbt.yml")
	text, err := os.ReadFile(path)
	if err != nil {
		n.t.Fatal(err)
	}
	setup.Write(n.t, n.workspace, ".github/oidc-dbt.yml", change(string(text)))
}

// job runs the action, as a new run of the workflow does.
func (n *night) job() (step *standin.Step, log, audit string) {
	n.t.Helper()
	step, err := standin.RunStep(n.t.Context(), standin.StepConfig{
		Binary: setup.Binary(
			n.t,
		), Root: n.t.TempDir(), Workspace: n.workspace, Inputs: map[string]string{"target": "prod"}, Env: n.issuer.RunnerEnv(),
	})
	if err != nil {
		n.t.Fatal(err)
	}
	if log, _, err = step.Log(); err != nil {
		n.t.Error(err)
	}
	records, err := os.ReadFile(filepath.Join(step.Temp, "oidc-dbt", "audit.jsonl"))
	if err != nil {
		n.t.Fatal(err)
	}
	return step, log, string(records)
}

// denied adds the page's rule to the policy: a new run is denied, and so does explain say.
func (n *night) denied() {
	n.t.Helper()
	rule := n.block("yaml", "deny:")
	n.policy(func(text string) string { return strings.Replace(text, "targets:\n", rule+"targets:\n", 1) })
	const want = `deny rule 1 (line 5) matches "repo:acme/analytics:environment:production"`
	step, log, audit := n.job()
	if step.Status != 5 || !strings.Contains(log, "denied by policy: "+want) || strings.Count(audit, "\n") != 1 ||
		!strings.Contains(audit, `"decision":"denied"`) || !strings.Contains(audit, `deny rule 1 (line 5) matches`) {
		n.t.Errorf("a new run ends with status %d:\n%s\n%s", step.Status, log, audit)
	}
	explain := strings.TrimSpace(
		n.block("sh", "oidc-dbt explain"),
	) + " --policy " + n.workspace + "/.github/oidc-dbt.yml"
	if out, err := n.shell(explain); err == nil || err.Error() != "exit status 5" ||
		!strings.Contains(out, "denied: deny rule 1 (line 5) matches") {
		n.t.Errorf("explain: %v\n%s", err, out)
	}
}

// around takes the rule away: the job of one who does not care for the policy.
func (n *night) around() {
	n.t.Helper()
	rule := n.block("yaml", "deny:")
	n.policy(func(text string) string { return strings.Replace(text, rule, "", 1) })
}
