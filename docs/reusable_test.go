package docs

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/golden"
)

// TestReusableWorkflow holds the table of its inputs to the workflow, which has
// no input for a policy and passes every input to a shell as a variable only.
func TestReusableWorkflow(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../.github/workflows/dbt.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		On struct {
			Call struct {
				Inputs yaml.Node
			} `yaml:"workflow_call"`
		}
		Jobs map[string]struct{ Steps []struct{ Uses, Run string } }
	}
	if err := yaml.Load(text, &file); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| input | default | meaning |\n| --- | --- | --- |\n")
	list := file.On.Call.Inputs.Content
	for i := 0; i+1 < len(list); i += 2 {
		var in struct{ Description, Default string }
		if err := list[i+1].Decode(&in); err != nil {
			t.Fatal(err)
		}
		if in.Default != "" {
			in.Default = "`" + in.Default + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", list[i].Value, in.Default, in.Description)
		if list[i].Value == "policy" {
			t.Error("the workflow has an input policy: a caller could choose it")
		}
	}
	golden.Table(t, "reusable-workflow.md", "workflow-inputs", b.String())
	pinned := regexp.MustCompile(`@[0-9a-f]{40}$|^\$/\.github/actions/oidc-dbt$`)
	for _, step := range file.Jobs["dbt"].Steps {
		if strings.Contains(step.Run, "${{") {
			t.Errorf("an expression is in a script:\n%s", step.Run)
		}
		if step.Uses != "" && !pinned.MatchString(step.Uses) {
			t.Errorf("%s is not pinned by commit", step.Uses)
		}
	}
}
