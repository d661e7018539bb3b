package docs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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

// TestReusableWorkflowInstalls runs its step "Install dbt": what a requirements file may say, and with which arguments
// Python starts. A line that has a package built from source would run the package's code.
func TestReusableWorkflowInstalls(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../.github/workflows/dbt.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Jobs map[string]struct{ Steps []struct{ Name, Run string } }
	}
	if err := yaml.Load(text, &file); err != nil {
		t.Fatal(err)
	}
	script := ""
	for _, step := range file.Jobs["dbt"].Steps {
		if step.Name == "Install dbt" {
			script = step.Run
		}
	}
	hash := "--hash=sha256:" + strings.Repeat("0", 64)
	const refused = "::error::input requirements: got %s, want lines such as dbt-core==1.12.5 with --hash=sha256:…\n"
	const install = "-I -m venv --without-pip TEMP/dbt-python\n" +
		"-I -m pip --python TEMP/dbt-python/bin/python install --disable-pip-version-check --no-input --only-binary :all: "
	const compiled = install + "--require-hashes --requirement=TEMP/requirements.txt\n"
	for _, tt := range []struct{ name, adapters, requirements, out string }{
		{"adapters", " dbt-core==1.12.5\ndbt-snowflake==1.12.4", "", install + "dbt-core==1.12.5 dbt-snowflake==1.12.4\n"},
		{"uv", "", "# uv pip compile ä\n--only-binary :all:\n\ndbt-core[x]==1.12.5 ; python_full_version >= '3.9.*' and (a == \"b\") \\\n    " + hash + " \\\n\t" + hash +
			"\n    # via -r in\n", compiled},
		{"one line", "", "a==1.0.post1 " + hash + " " + hash + "\n", compiled},
		{"an option", "", "--no-binary evil\n", fmt.Sprintf(refused, `--no-binary\ evil`)},
		{"an option after a package", "", "a==1 --no-binary=a " + hash + "\n", fmt.Sprintf(refused, `a==1\ --no-binary=a\ `+hash)},
		{"an option in a marker", "", "a==1 ; b --no-binary=a\n", fmt.Sprintf(refused, `a==1\ \;\ b\ --no-binary=a`)},
		{"an address", "", "a @ https://example.com/a.tar.gz " + hash + "\n", fmt.Sprintf(refused, `a\ @\ https://example.com/a.tar.gz\ `+hash)},
		{"a file", "", "./a.tar.gz " + hash + "\n", fmt.Sprintf(refused, `./a.tar.gz\ `+hash)},
		{"another file", "", "-r other.txt\n", fmt.Sprintf(refused, `-r\ other.txt`)},
		{"no version", "", "a>=1 " + hash + "\n", fmt.Sprintf(refused, `a\>=1\ `+hash)},
		{"a variable", "", "a==${A} " + hash + "\n", fmt.Sprintf(refused, `a==\$\{A\}\ `+hash)},
		{"a line break of Unicode's in a comment", "", "# x\u2028--no-binary a\na==1 " + hash + "\n", compiled},
		{"another encoding", "", "# coding: utf-7\n# +AAo---no-binary a\na==1 " + hash + "\n", compiled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for name, text := range map[string]string{"requirements.txt": tt.requirements, "python": "#!/bin/sh\necho \"$*\"\n"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			temp := t.TempDir()
			cmd := exec.CommandContext(t.Context(), "bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script)
			cmd.Dir = dir
			cmd.Env = []string{"PATH=" + dir + ":/usr/bin:/bin", "RUNNER_TEMP=" + temp, "GITHUB_PATH=" + temp + "/path",
				"ADAPTERS=" + tt.adapters, "REQUIREMENTS=requirements.txt"}
			out, err := cmd.CombinedOutput()
			got := strings.ReplaceAll(string(out), temp, "TEMP")
			if got != tt.out || (err != nil) != strings.HasPrefix(tt.out, "::error::") {
				t.Errorf("%v: got\n%s\nwant\n%s", err, got, tt.out)
			}
			clean, _ := os.ReadFile(temp + "/requirements.txt")
			if err == nil && strings.Contains(string(clean), "#") {
				t.Errorf("pip reads comments:\n%s", clean)
			}
		})
	}
}
