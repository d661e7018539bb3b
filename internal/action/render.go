package action

import (
	"encoding/json"
	"fmt"
	"strings"
)

const description = "Gives one dbt run a short-lived warehouse credential, bound to the workflow's verified identity"

// WorkflowFolder is where the action has a second action.yml. The reusable
// workflow uses it by `$/`, its own commit; the runner refuses that for the root.
const WorkflowFolder = ".github/actions/oidc-dbt"

// YAML returns the text of the action.yml in a folder, "" for the root.
func YAML(folder string) []byte {
	up := ""
	if folder != "" {
		up = strings.Repeat("../", strings.Count(folder, "/")+1)
	}
	// Post has a file of its own, and runs after a failure too: that is when
	// something may be left.
	return render("oidc-dbt", description, Inputs(), `runs:
  using: node24
  main: `+up+`main.js
  post: `+up+`post.js
  post-if: always()
`)
}

// inRunnerTemp is an input of the container action only, which users leave out: it is the way by which the host's own
// name of a folder gets into the container. The runner translates paths in variables, and those in args not.
const inRunnerTemp = "runner-temp"

// ContainerYAML returns the text of container/action.yml. The image is that of a release, by digest, or the Dockerfile.
func ContainerYAML(image string) []byte {
	inputs := Inputs()
	for i, in := range inputs {
		if in.Name == inRun || in.Name == inKeepFresh {
			inputs[i].Description = "Cannot be used in the container action: " + insteadOfContainer
		}
	}
	inputs = append(inputs, Input{Name: inRunnerTemp, Default: "${{ runner.temp }}", Description: "Set by the runner: leave it out"})
	return render("oidc-dbt in a container", description+"; on Linux, with Docker", inputs, `runs:
  using: docker
  image: `+image+`
  args: [`+ContainerCommand+`, "${{ inputs.`+inRunnerTemp+` }}"]
  post-entrypoint: /`+ContainerPostProgram+`
  post-if: always()
`)
}

func render(name, about string, inputs []Input, runs string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `# Made from internal/action: edit it there, then run go test ./internal/action -update
name: %s
description: %s
author: oidc-dbt
branding: {icon: lock, color: orange}
inputs:
`, name, quote(about))
	for _, in := range inputs {
		text := in.Description
		if in.Otherwise != "" {
			text += " (default: " + in.Otherwise + ")"
		}
		fmt.Fprintf(&b, "  %s:\n    description: %s\n", in.Name, quote(strings.ReplaceAll(text, "`", "")))
		if in.Default != "" {
			fmt.Fprintf(&b, "    default: %s\n", quote(in.Default))
		}
	}
	b.WriteString("outputs:\n")
	for _, out := range Outputs() {
		text := strings.ReplaceAll(out.Description, "`", "")
		if out.Secret {
			text += " (masked)"
		}
		fmt.Fprintf(&b, "  %s:\n    description: %s\n", out.Name, quote(text))
	}
	b.WriteString(runs)
	return []byte(b.String())
}

// quote returns s as a YAML string: JSON's are YAML's, and nothing in them is a type or a comment.
func quote(s string) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic(err) // strings always encode
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// InputsTable returns the table of inputs in docs/reference.md.
func InputsTable() string {
	var b strings.Builder
	b.WriteString("| input | default | meaning |\n| --- | --- | --- |\n")
	for _, in := range Inputs() {
		otherwise := in.Otherwise
		if in.Default != "" {
			otherwise = "`" + in.Default + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", in.Name, otherwise, in.Description)
	}
	return b.String()
}

// OutputsTable returns the table of outputs in docs/reference.md.
func OutputsTable() string {
	var b strings.Builder
	b.WriteString("| output | masked | meaning |\n| --- | --- | --- |\n")
	for _, out := range Outputs() {
		masked := ""
		if out.Secret {
			masked = "yes"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", out.Name, masked, out.Description)
	}
	return b.String()
}
