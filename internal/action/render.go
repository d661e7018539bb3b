package action

import (
	"encoding/json"
	"fmt"
	"strings"
)

// YAML returns the text of action.yml.
func YAML() []byte {
	var b strings.Builder
	b.WriteString(`# Made from internal/action: edit it there, then run go test ./internal/action -update
name: oidc-dbt
description: ` + quote("Gives one dbt run a short-lived warehouse credential, bound to the workflow's verified identity") + `
author: oidc-dbt
branding: {icon: lock, color: orange}
inputs:
`)
	for _, in := range Inputs() {
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
	// Post has a file of its own, and runs after a failure too: that is when
	// something may be left.
	b.WriteString(`runs:
  using: node24
  main: main.js
  post: post.js
  post-if: always()
`)
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
