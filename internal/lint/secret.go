package lint

import (
	"cmp"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

var staticSecret = check{
	name:     "static-secret",
	severity: Error,
	meaning: "A long-lived credential is stored in a file, or in a GitHub secret that a dbt step reads, " +
		"although a target could provide a short-lived one.",
	find: func(in *files, found report) {
		for _, f := range in.profiles {
			keys := keysOf(f.root)
			for _, p := range f.secrets {
				found(place{f.file, p.Line, p.Column}, fixStored, "profiles.yml contains %s in plain text",
					cmp.Or(keys[[2]int{p.Line, p.Column}], "a secret"))
			}
		}
		for _, f := range in.projects {
			scalars(get(f.root, "vars"), func(key, v *yaml.Node) {
				if key != nil && isStored(key.Value, v.Value) {
					found(f.at(v), fixStored, "dbt_project.yml contains %s in plain text", key.Value)
				}
			})
		}
		for _, f := range in.workflows {
			f.workflowSecrets(found)
		}
		for _, f := range in.envs {
			f.envSecrets(found)
		}
	},
}

const (
	fixStored = "remove it, revoke it, and let a target provide a short-lived credential"
	fixFed    = "let a target of the policy provide the credential, and delete the secret"
)

// keysOf returns the keys of all scalars by their line and column.
func keysOf(root *yaml.Node) map[[2]int]string {
	keys := map[[2]int]string{}
	scalars(root, func(key, v *yaml.Node) {
		if key != nil {
			keys[[2]int{v.Line, v.Column}] = key.Value
		}
	})
	return keys
}

// placeholderText matches values that are to be replaced by a secret.
var placeholderText = lazy.MustCompile(`(?i)^(?:[x*.]+|change[-_ ]?me.*|todo|tbd|none|null|your[-_ ].*|<.*>|\[.*\]|` +
	`replace.*|.*\bexample\b.*)$`)

// isStored reports whether a value is a secret that the file itself has.
func isStored(key, value string) bool {
	value = strings.TrimSpace(value)
	isSwitch := value == "true" || value == "false"
	isElsewhere := strings.HasPrefix(value, "$") || strings.Contains(value, "{{")
	if value == "" || isSwitch || isElsewhere || placeholderText.MatchString(value) {
		return false
	}
	return holdsSecret(key) || policy.SecretValue(value) || policy.IsVendorToken(value)
}

// gap is what separates words of a command: a line may end with a backslash.
const gap = `(?:\s|\\\n)+`

var (
	// dbtText matches a command line that runs dbt: by its own command, in Python,
	// in its image, or by a task or a script that is called after it.
	dbtText = lazy.MustCompile(`(?m)(?:^|[\s;&|("'/])dbt(?:f|-ol)?` + gap + `(?:-\S+` + gap + `(?:[^-\s]\S*` + gap + `)?)*` +
		`(?:build|run|run-operation|test|seed|snapshot|source|debug|compile|docs|deps|clone|retry|parse|ls|list|show|freshness)\b|` +
		`\bdbtRunner\b|\bdbt\.cli\.main\b|\bpython[0-9.]*\s+-m\s+dbt\b|/dbt-labs/dbt-[^\s/]+\s|` +
		`(?:^|[\s;&|(])(?:make|just|task|invoke|inv|nox|tox|rake|npm|yarn|pnpm|mise|poe|hatch|pdm|pixi)\s[^\n;&|#]*dbt|` +
		`(?:^|[\s;&|(/])[\w.-]*dbt[\w.-]*\.(?:sh|bash|py)\b`)
	// secretsText matches a secret of GitHub's in an expression, one whose name is
	// an expression too, or all of them.
	secretsText = lazy.MustCompile(`(?i)\bsecrets(?:\.([a-z_][a-z0-9_]*)|\[\s*'([^']+)'\s*\]|\[([^'\]]+)\])|` +
		`\btoJSON\(\s*(secrets)\s*\)`)
	// assignText matches an assignment in a script, or one that it writes into a file.
	assignText = lazy.MustCompile(`(?m)^[ \t]*(?:(?:export|echo)[ \t]+)?["']?([A-Za-z_][A-Za-z0-9_]*)=` +
		`("[^"\n]*"|'[^'\n]*'|[^\s;&|"']+)`)
	// loginText matches names of logins at a warehouse that are not named like secrets everywhere.
	loginText = lazy.MustCompile(`(?i)keyfile|service_account|sa_key|private_key|credential|(?:^|_)sa(?:_json|_b(?:ase)?64)?$|` +
		`(?:gcp|google|bigquery|bq)\w*json|` +
		`profiles?_?(?:ya?ml)?$|_key$`)
	// otherText matches names of logins that no target gives.
	otherText = lazy.MustCompile(`(?i)^github_token$|(?:^|_)(?:gh|git|github|gitlab|slack|teams|webhook|datadog|sentry|` +
		`pagerduty|pypi|npm|codecov|sonar|cache)(?:_|$)|dbt_cloud|dbt_api|elementary_cloud`)
	// writingText matches a script that writes a key or a profile into a file.
	writingText = lazy.MustCompile(`(?i)(?:>|\btee\b)\s*\S*(?:key|profiles\.yml|credential|service|\.json|\.p8|\.pem)`)
	// dbtAction matches actions and called workflows that run dbt.
	dbtAction = lazy.MustCompile(`(?i)(?:^|/)[^/@]*dbt[^/@]*(?:@|$)`)
	// loginActions log in at a cloud, whose keys a target makes superfluous.
	loginActions = lazy.MustCompile(`(?i)^(?:google-github-actions/auth|aws-actions/configure-aws-credentials|` +
		`azure/login|hashicorp/vault-action|snowflakedb/snowflake-cli-action|databricks/setup-cli)@`)
)

// warehouseSecrets returns the secrets in an expression that look like a login
// at a warehouse, by their names or by that of the variable.
func warehouseSecrets(variable, expression string) (names []string) {
	for _, m := range secretsText.FindAllStringSubmatch(expression, -1) {
		name, shown := m[1]+m[2]+m[3], "secrets."+m[1]+m[2]
		if m[3] != "" {
			shown = "secrets[" + strings.TrimSpace(m[3]) + "]"
		} else if m[4] != "" {
			names = append(names, "toJSON(secrets)")
			continue
		}
		isLogin := func(s string) bool { return policy.SecretName(s) || loginText.MatchString(s) }
		other := otherText.MatchString(name) || otherText.MatchString(variable)
		if !other && (isLogin(name) || isLogin(variable)) && !slices.Contains(names, shown) {
			names = append(names, shown)
		}
	}
	return names
}

// workflowSecrets finds the logins that jobs with dbt get from secrets.
func (f *file) workflowSecrets(found report) {
	dbt := false
	pairs(get(f.root, "jobs"), func(_, job *yaml.Node) {
		if uses := text(get(job, "uses")); dbtAction.MatchString(uses) && !isLocal(uses) {
			f.feeds(get(job, "secrets"), false, found)
		}
		steps := items(get(job, "steps"))
		if !slices.ContainsFunc(steps, runsDBT) {
			return
		}
		dbt = true
		local := get(job, "services") != nil // a database of the job's own has a password that opens nothing
		f.feeds(get(job, "env"), local, found)
		f.feeds(get(job, "container", "env"), local, found)
		for _, step := range steps {
			logsIn := loginActions.MatchString(text(get(step, "uses")))
			if runsDBT(step) || logsIn || writingText.MatchString(text(get(step, "run"))) {
				f.feeds(get(step, "env"), local, found)
			}
			if logsIn || isDBTAction(text(get(step, "uses"))) {
				f.feeds(get(step, "with"), local, found)
			}
			f.scripts(get(step, "run"), local, found)
		}
	})
	if dbt {
		f.feeds(get(f.root, "env"), false, found)
	}
}

// isLocal reports whether a workflow or an action is one of this repository,
// whose files are looked at themselves.
func isLocal(uses string) bool { return strings.HasPrefix(uses, "./") }

// isDBTAction reports whether an action runs dbt by itself; ours does so by its
// input `run`.
func isDBTAction(uses string) bool {
	return dbtAction.MatchString(uses) && !actionText.MatchString(uses)
}

// runsDBT reports whether a step runs dbt, by itself or by an action.
func runsDBT(step *yaml.Node) bool {
	if dbtText.MatchString(text(get(step, "run"))) || isDBTAction(text(get(step, "uses"))) {
		return true
	}
	runs := false
	pairs(get(step, "with"), func(_, v *yaml.Node) { runs = runs || dbtText.MatchString(text(v)) })
	return runs
}

// feeds finds logins among the variables of a step, or its inputs.
func (f *file) feeds(n *yaml.Node, local bool, found report) {
	pairs(n, func(key, v *yaml.Node) {
		value := text(v)
		if names := warehouseSecrets(key.Value, value); len(names) > 0 {
			found(f.at(key), fixFed, "%s gets a long-lived credential from %s", key.Value, strings.Join(names, ", "))
		} else if !local && isStored(key.Value, value) {
			found(f.at(key), fixStored, "the workflow contains %s in plain text", key.Value)
		}
	})
}

// scripts finds logins that a script writes somewhere itself, or has in it.
func (f *file) scripts(run *yaml.Node, local bool, found report) {
	if run == nil {
		return
	}
	if names := warehouseSecrets("", text(run)); len(names) > 0 {
		found(f.inScript(run, names[0]), fixFed, "the script gets a long-lived credential from %s", strings.Join(names, ", "))
	}
	for _, m := range assignText.FindAllStringSubmatch(text(run), -1) {
		value := strings.Trim(m[2], `"'`)
		if !local && !strings.ContainsAny(value, "$`") && isStored(m[1], value) {
			found(f.inScript(run, m[1]+"="), fixStored, "the script contains %s in plain text", m[1])
		}
	}
}

// inScript is where a script has a text, else where it starts.
func (f *file) inScript(run *yaml.Node, text string) place {
	for i := run.Line - 1; i >= 0 && i < len(f.lines); i++ { // a script has lines of its own
		if j := strings.Index(f.lines[i], text); j >= 0 {
			return place{f, i + 1, utf8.RuneCountInString(f.lines[i][:j]) + 1}
		}
	}
	return f.at(run)
}

// exampleEnds are how names of .env files end that hold no real values.
var exampleEnds = []string{".example", ".sample", ".template", ".dist", ".tmpl", ".tpl"}

func isEnvFile(base string) bool {
	return (base == ".env" || base == ".envrc" || strings.HasPrefix(base, ".env.") || strings.HasSuffix(base, ".env")) &&
		!slices.Contains(exampleEnds, path.Ext(base))
}

// envName matches what is before the = of a .env file.
var envName = lazy.MustCompile(`^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*$`)

func (f *file) envSecrets(found report) {
	for i, line := range f.lines {
		name, value, _ := strings.Cut(strings.TrimRight(line, "\r"), "=")
		m := envName.FindStringSubmatch(name)
		if m == nil || !isStored(m[1], strings.Trim(strings.TrimSpace(value), `"'`)) {
			continue
		}
		found(place{f, i + 1, strings.Index(line, m[1]) + 1}, fixStored,
			"the file contains %s in plain text", m[1])
	}
}
