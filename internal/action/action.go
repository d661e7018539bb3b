// Package action declares the action's inputs and outputs, once: action.yml and the tables of docs/reference.md are rendered from here.
package action

import (
	"encoding/json"
	"fmt"
	"strings"
)

// An Input is one input of the action.
type Input struct {
	Name string
	// Default is what the runner fills in where the input is left out; "" for nothing.
	Default string
	// Otherwise says what happens without the input where that is no fixed value.
	Otherwise   string
	Description string // one sentence without a full stop, plain text but for `code`
}

// An Output is one output of the action.
type Output struct {
	Name        string
	Secret      bool // masked before it is written
	Description string
}

// Inputs returns the inputs in the order of the documentation.
func Inputs() []Input {
	return []Input{
		{Name: "target", Otherwise: "chosen by the claims", Description: "The target in the policy"},
		{Name: "policy", Default: ".github/oidc-dbt.yml",
			Description: "A path from the workspace's root, or the policy itself (anything with more than one line)"},
		{Name: "project-dir", Default: ".",
			Description: "Where `dbt_project.yml` is; its `profile:` names the profile that is written; several lines for several projects"},
		{Name: "profiles", Description: "Further profile names that get the same output, one per line; " +
			"required if there is no `dbt_project.yml`"},
		{Name: "run", Description: "A command to run in this step with the credential, in `project-dir`"},
		{Name: "shell", Otherwise: "`bash`, on Windows `pwsh`", Description: "The shell for `run`, as in a workflow"},
		{Name: "working-directory", Otherwise: "`project-dir`", Description: "Where `run` runs"},
		{Name: "keep-fresh", Default: "false",
			Description: "Keep the credential fresh in the background until the job ends, for every later step (implies `export-env`)"},
		{Name: "export-env", Default: "false", Description: "Also put what the profile reads into `GITHUB_ENV`, for every later step"},
		{Name: "audit-log", Otherwise: "`$RUNNER_TEMP/oidc-dbt/audit.jsonl`",
			Description: "The file that audit records are appended to, outside the workspace"},
		{Name: "dry-run", Default: "false", Description: "Verify and decide, but exchange nothing and write no credential"},
		{Name: "profile-only", Default: "false",
			Description: "Request no ID token and write the profile with placeholders in place of logins, for `dbt parse`, " +
				"`dbt ls` and linters, also on pull requests from forks; `target` is required, and nothing is decided"},
		{Name: "timeout", Default: "2m", Description: "Time limit for everything before `run`, such as `90s` or `2m`"},
	}
}

// Outputs returns the outputs that today's providers give, in the order of the documentation.
func Outputs() []Output {
	return []Output{
		{Name: "target", Description: "The target in the policy"},
		{Name: "type", Description: "dbt's adapter type; empty for a target that provides only credentials"},
		{Name: "profiles-dir", Description: "The folder of the written `profiles.yml`, for `DBT_PROFILES_DIR`"},
		{Name: "profile", Description: "The name of the profile, of the first project"},
		{Name: "expires-at", Description: "When the credential expires, or with `keep-fresh` until when it is kept fresh, in RFC 3339"},
		{Name: "subject", Description: "The verified subject of the ID token"},
		{Name: "decision", Description: "`allowed` or `denied`, also written when the step fails; " +
			"empty if nothing was decided, for example with an invalid policy"},
		{Name: "audit-log", Description: "The file that audit records were appended to"},
		{Name: "token", Secret: true, Description: "The ID token or access token, for `DBT_ENV_SECRET_OIDC_TOKEN`"},
		{Name: "user", Description: "The database user that the credential is for"},
		{Name: "password", Secret: true, Description: "Its password, for `DBT_ENV_SECRET_OIDC_PASSWORD`"},
		{Name: "private-key", Secret: true,
			Description: "Its private key (PKCS#8 DER in base64, one line), for `DBT_ENV_SECRET_OIDC_PRIVATE_KEY`"},
		{Name: "aws-access-key-id", Secret: true, Description: "For `AWS_ACCESS_KEY_ID`"},
		{Name: "aws-secret-access-key", Secret: true, Description: "For `AWS_SECRET_ACCESS_KEY`"},
		{Name: "aws-session-token", Secret: true, Description: "For `AWS_SESSION_TOKEN`"},
		{Name: "aws-profile", Description: "The profile of an AWS session in `aws-credentials-file`, for `AWS_PROFILE`: the target's name"},
		{Name: "aws-credentials-file",
			Description: "For `AWS_SHARED_CREDENTIALS_FILE`: one file with a profile for each such step of the job, " +
				"valid until the job ends; with `keep-fresh` rewritten before each expiry"},
		{Name: "google-credentials-file",
			Description: "With `keep-fresh`: the file for `GOOGLE_APPLICATION_CREDENTIALS`, valid until the job ends"},
		{Name: "env", Secret: true, Description: "A JSON object with every variable that the profile and the SDKs need, " +
			"for the dbt step's `env:`, through `fromJSON`"},
	}
}

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
	// something may have been left.
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
