package proposal

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// actionPin is how the documentation pins the action: a commit cannot name itself.
const actionPin = "oidc-dbt/oidc-dbt@0000000000000000000000000000000000000000 " +
	"# put the commit and version of a release here"

// A secretUse is a place that reads a stored secret which is no longer needed.
type secretUse struct{ name, path string }

// An edited workflow is what else there is to say of it.
type edited struct {
	notes   []string
	secrets []secretUse
}

// A workflowEdit is the change of a workflow that is there.
type workflowEdit struct {
	*edit
	edited
	w       *workflow
	targets []*target
}

// diff returns the smallest change that has the workflow's jobs log in by the
// action: permissions, a step, and without the secrets and steps that it replaces.
func (w *workflow) diff(targets []*target) (string, edited) {
	e := &workflowEdit{edit: newEdit(w.text), w: w, targets: targets}
	var used []*target // by the whole workflow
	for _, j := range w.jobs {
		mine := e.job(j)
		for _, t := range mine {
			if !slices.Contains(used, t) {
				used = append(used, t)
			}
		}
	}
	if w.others == 0 {
		e.environment(get(w.root, "env"), keyLine(w.root, "env"), used, nil)
	}
	e.topPermissions()
	e.pushes(used)
	return e.edit.diff(w.path), e.edited
}

// pushes tells of pushes that start the workflow and are not admitted.
func (e *workflowEdit) pushes(used []*target) {
	push := get(e.w.root, "on", "push")
	filtered := get(push, "branches") != nil || get(push, "tags") != nil || get(push, "branches-ignore") != nil
	if e.w.starts("push") && !filtered && len(used) > 0 {
		e.note(
			"%s starts on pushes to every branch, and the policy admits only one: add `branches:` to its `push:`",
			e.w.path,
		)
	}
}

func (e *workflowEdit) note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(e.notes, text) {
		e.notes = append(e.notes, text)
	}
}

func keyLine(n *yaml.Node, key string) int {
	if k, _ := pair(n, key); k != nil {
		return k.Line
	}
	return 0
}

// end returns the last line of a value.
func (e *workflowEdit) end(n *yaml.Node) int {
	last := n.Line
	for _, c := range n.Content {
		last = max(last, e.end(c))
	}
	if n.Kind == yaml.ScalarNode && n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		last = n.Line + strings.Count(strings.TrimSuffix(n.Value, "\n"), "\n") + 1
		if n.Style&yaml.FoldedStyle != 0 { // its value has other lines than the file
			last = n.Line
			indent := -1
			for at := n.Line + 1; at <= len(e.lines); at++ {
				line := e.line(at)
				trimmed := strings.TrimLeft(line, " ")
				if indent < 0 {
					indent = len(line) - len(trimmed)
				}
				if trimmed != "" && len(line)-len(trimmed) < indent {
					break
				}
				if trimmed != "" {
					last = at
				}
			}
		}
	}
	return last
}

// job changes one job, and returns its targets.
func (e *workflowEdit) job(j *job) (used []*target) {
	indent := strings.Repeat(" ", j.node.Content[0].Column-1)
	e.jobPermissions(j, indent)
	var last string
	for _, s := range j.steps {
		mine := e.targetsOf(j, s)
		if len(mine) == 0 {
			continue
		}
		for _, t := range mine {
			if !slices.Contains(used, t) {
				used = append(used, t)
			}
		}
		if with := e.with(j, s, mine); with != last {
			e.step(s, with)
			last = with
		}
		e.command(s)
		e.environment(s.env, keyLine(s.node, "env"), mine, j)
	}
	e.environment(get(j.node, "env"), keyLine(j.node, "env"), used, j)
	e.peers(j, used)
	e.jobEnvironment(j, used, indent)
	e.writers(j)
	return used
}

// targetsOf returns the targets of a step, in the order of its calls.
func (e *workflowEdit) targetsOf(j *job, s *step) (list []*target) {
	for _, r := range j.runs {
		if r.step != s {
			continue
		}
		for _, t := range e.targets {
			if !slices.Contains(list, t) && slices.ContainsFunc(t.uses, func(u use) bool {
				return u.job == j && u.run.step == s && u.run.call == r.call
			}) {
				list = append(list, t)
			}
		}
	}
	return list
}

// byMatrix matches a target that the matrix or an input chooses.
var byMatrix = lazy.MustCompile(`(?:--target|-t|DBT_TARGET:)[ =]+["']?(\$\{\{[^}]*\}\})`)

// with returns the inputs of the action before a step.
func (e *workflowEdit) with(j *job, s *step, used []*target) string {
	name := used[0].name
	if len(used) > 1 {
		m := byMatrix.FindStringSubmatch(s.run)
		for _, n := range []*yaml.Node{s.env, get(j.node, "env"), get(e.w.root, "env")} {
			if v := get(n, "DBT_TARGET"); m == nil && v != nil && strings.Contains(v.Value, "${{") {
				m = []string{"", v.Value}
			}
		}
		same := !slices.ContainsFunc(used, func(t *target) bool { return t.name != t.output })
		if m != nil && same {
			name = m[1]
		} else {
			e.note("%s:%d runs dbt for several targets (%s): the step that is proposed logs in to %s only; "+
				"make a step of each, or choose by the matrix",
				e.w.path, s.node.Line, strings.Join(names(used), ", "), name)
		}
	}
	value := name
	if strings.Contains(name, "${{") {
		value = `"` + name + `"`
	}
	inputs := []string{"target: " + value}
	if dirs := e.projectDirs(j, s); len(dirs) == 1 && dirs[0] != "." {
		inputs = append(inputs, "project-dir: "+flowScalar(dirs[0]))
	} else if len(dirs) > 1 {
		inputs = append(inputs, `project-dir: "`+strings.Join(dirs, `\n`)+`"`)
	}
	return "with: {" + strings.Join(append(inputs, "keep-fresh: true"), ", ") + "}"
}

// projectDirs returns the projects that a step, and those after it with the
// same target, runs.
func (e *workflowEdit) projectDirs(j *job, s *step) (dirs []string) {
	var all []*project
	for _, t := range e.targets {
		all = append(all, t.projects...)
	}
	mine := e.targetsOf(j, s)
	for _, r := range j.runs {
		if p := projectOf(all, r.call); !slices.Contains(dirs, p.dir) && slices.Equal(e.targetsOf(j, r.step), mine) {
			dirs = append(dirs, p.dir)
		}
	}
	slices.Sort(dirs)
	return dirs
}

// step inserts the action's step before another.
func (e *workflowEdit) step(s *step, with string) {
	at := e.dash(s.node)
	dash := strings.Index(e.line(at), "-")
	indent := strings.Repeat(" ", dash)
	for at > 1 && strings.HasPrefix(strings.TrimSpace(e.line(at-1)), "#") && !e.removed[at-1] {
		at-- // the comment above it is about it
	}
	e.insert(at, indent+"- uses: "+actionPin, indent+"  "+with)
}

// dash returns the line of a step's dash.
func (e *workflowEdit) dash(n *yaml.Node) int {
	for at := n.Line; at > 0; at-- {
		line := e.line(at)
		if i := strings.Index(line, "-"); i >= 0 && i < n.Column-1 && strings.TrimSpace(line[:i]) == "" {
			return at
		}
	}
	return n.Line
}

var profilesFlag = lazy.MustCompile(`\s--profiles-dir(?:=|\s+)(?:"[^"]*"|'[^']*'|\$\{\{[^}]*\}\}\S*|\S+)`)

// command removes what points dbt to another profiles.yml.
func (e *workflowEdit) command(s *step) {
	for _, c := range s.calls {
		if c.place != "" && c.profilesDir != "" {
			e.note("%s:%d points dbt to a profiles.yml without the credential: remove --profiles-dir and DBT_PROFILES_DIR there", c.place, c.line)
		}
	}
	run := get(s.node, "run")
	if run == nil {
		return
	}
	for at := run.Line; at <= e.end(run); at++ {
		if line := e.line(at); strings.Contains(line, "DBT_PROFILES_DIR=") {
			e.note("%s:%d sets DBT_PROFILES_DIR: remove it there", e.w.path, at)
		} else {
			e.shorten(run.Line, at, profilesFlag.ReplaceAllString(line, ""))
		}
	}
}

// shorten changes a line of a command that begins at first, and leaves none
// that is empty.
func (e *workflowEdit) shorten(first, at int, line string) {
	switch rest := strings.TrimSpace(line); {
	case line == e.line(at):
	case rest == "" && at > first:
		e.remove(at, at)
		if before := e.line(at - 1); strings.HasSuffix(before, `\\`) && at-1 > first {
			e.change(at-1, strings.TrimRight(strings.TrimSuffix(before, `\\`), " "))
		}
	case rest == `\\` && at > first:
		e.remove(at, at)
	default:
		e.change(at, line)
	}
}

// sdkLogins are variables that SDKs read a stored login from.
var sdkLogins = map[string]string{
	"AWS_ACCESS_KEY_ID": "aws", "AWS_SECRET_ACCESS_KEY": "aws", "AWS_SESSION_TOKEN": "aws", "AZURE_CLIENT_SECRET": "entra",
	"GOOGLE_APPLICATION_CREDENTIALS": "gcp", "GOOGLE_CREDENTIALS": "gcp", "DATABRICKS_TOKEN": "databricks",
	"SNOWFLAKE_PASSWORD":        "oidc",
	"SNOWFLAKE_PRIVATE_KEY_RAW": "oidc",
}

var secretName = lazy.MustCompile(`\bsecrets\.([A-Za-z_][A-Za-z0-9_]*)`)

// environment removes the variables by which dbt logged in, and those that
// point it to another profiles.yml; j is the job, nil for the whole workflow.
func (e *workflowEdit) environment(env *yaml.Node, line int, used []*target, j *job) {
	if env == nil || env.Kind != yaml.MappingNode || len(used) == 0 {
		return
	}
	gone := 0
	for i := 0; i+1 < len(env.Content); i += 2 {
		key, v := env.Content[i], env.Content[i+1]
		login := slices.ContainsFunc(used, func(t *target) bool {
			return t.logins[key.Value] || sdkLogins[key.Value] == t.provider && t.provider != ""
		})
		secret := secretName.FindStringSubmatch(v.Value)
		points := key.Value == "DBT_PROFILES_DIR"
		if !points && (!login || secret == nil) {
			continue
		}
		if user := e.otherUser(j, key.Value); user != 0 {
			e.note("%s:%d still reads %s: remove both", e.w.path, user, key.Value)
		} else if env.Style&yaml.FlowStyle == 0 {
			e.remove(key.Line, e.end(v))
			gone++
		} else if e.cut(key, v) {
			gone++
		} else {
			e.note("%s:%d: remove %s", e.w.path, key.Line, key.Value)
		}
		if secret != nil {
			e.secret(secret[1])
		}
	}
	if gone > 0 && gone == len(env.Content)/2 {
		e.remove(line, max(line, e.end(env)))
	}
}

func (e *workflowEdit) secret(name string) {
	if use := (secretUse{name, e.w.path}); !slices.Contains(e.secrets, use) {
		e.secrets = append(e.secrets, use)
	}
}

// cut removes a pair of a mapping in braces on one line.
func (e *workflowEdit) cut(key, v *yaml.Node) bool {
	line := e.line(key.Line)
	pattern := key.Value + ":"
	from := strings.Index(line, pattern)
	if from < 0 || v.Line != key.Line || v.Kind != yaml.ScalarNode {
		return false
	}
	at := strings.Index(line[from:], v.Value)
	if at < 0 {
		return false
	}
	to := from + at + len(v.Value)
	for to < len(line) && (line[to] == '"' || line[to] == '\'') {
		to++
	}
	switch rest := strings.TrimLeft(line[to:], " "); {
	case strings.HasPrefix(rest, ","):
		line = line[:from] + strings.TrimLeft(rest[1:], " ")
	case strings.HasPrefix(rest, "}"):
		line = strings.TrimRight(line[:from], ", ") + rest
		if before, after, ok := strings.Cut(line, "{}"); ok {
			line = before + "{}" + after
		}
	default:
		return false
	}
	e.change(key.Line, line)
	return true
}

// otherUser returns the line of another command of the job that reads a
// variable, 0 for none.
func (e *workflowEdit) otherUser(j *job, name string) int {
	if j == nil || name == "DBT_PROFILES_DIR" {
		return 0
	}
	for _, s := range j.steps {
		run := get(s.node, "run")
		for _, form := range []string{"$" + name, "${" + name, "env." + name} {
			if run != nil && strings.Contains(run.Value, form) {
				return run.Line
			}
		}
	}
	return 0
}

// tools matches commands that use the session of each peer.
var tools = map[string]*lazy.Regexp{
	"aws":   lazy.MustCompile(`(?m)(?:^|[\s;&|(])(?:aws|sam|cdk|terraform|eksctl)\s`),
	"gcp":   lazy.MustCompile(`(?m)(?:^|[\s;&|(])(?:gcloud|gsutil|bq|terraform)\s`),
	"entra": lazy.MustCompile(`(?m)(?:^|[\s;&|(])(?:az|azcopy|terraform)\s`),
	"oidc":  lazy.MustCompile(`(?m)(?:^|[\s;&|(])(?:snow|schemachange)\s`),
	"vault": lazy.MustCompile(`\bVAULT_`),
}

// peers removes the steps that the action replaces.
func (e *workflowEdit) peers(j *job, used []*target) {
	for _, s := range j.steps {
		p, ok := peerOf(s)
		if !ok {
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(s.with)) {
			if m := secretName.FindStringSubmatch(s.with[key]); m != nil && !p.federated(s) {
				e.secret(m[1])
			}
		}
		place := fmt.Sprintf("%s:%d (%s)", e.w.path, s.node.Line, p.action)
		switch other := slices.ContainsFunc(used, func(t *target) bool { return t.provider != p.provider }); {
		case other || len(used) == 0:
			e.note("%s stays: dbt no longer needs it, other steps may", place)
		case e.needed(j, s, p):
			e.note("%s stays: other steps of the job use its login; the action's step can serve them too", place)
		default:
			at := e.dash(s.node)
			e.remove(at, e.end(s.node))
		}
	}
}

// needed reports whether another step of a job uses the login of a peer's step.
func (e *workflowEdit) needed(j *job, peerStep *step, p peer) bool {
	id := text(get(peerStep.node, "id"))
	owner, _, _ := strings.Cut(p.action, "/")
	for _, s := range j.steps {
		if s == peerStep {
			continue
		}
		all, _ := flow(s.node, true)
		if id != "" && strings.Contains(all, "steps."+id+".") {
			return true
		}
		other, isPeer := peerOf(s)
		if strings.HasPrefix(strings.ToLower(s.uses), owner+"/") && !(isPeer && other.action == p.action) {
			return true
		}
		if len(s.calls) == 0 && tools[p.provider].MatchString(s.run) {
			return true
		}
	}
	return false
}

// keyFiles are what steps write a stored login to.
var keyFiles = lazy.MustCompile(`(?i)>\s*\S*(?:key|credential|secret|profiles\.yml|\.p8|\.pem|\.json)\S*|` +
	`tee\s+\S*(?:key|credential|profiles\.yml)|base64\s+(?:-d|--decode)`)

// writers names the steps that write a login from a secret.
func (e *workflowEdit) writers(j *job) {
	for _, s := range j.steps {
		if len(s.calls) > 0 && !strings.Contains(s.run, "profiles.yml") || !keyFiles.MatchString(s.run) {
			continue
		}
		all, _ := flow(s.node, true)
		found := secretName.FindAllStringSubmatch(all, -1)
		if len(found) == 0 && !strings.Contains(s.run, "profiles.yml") {
			continue
		}
		for _, m := range found {
			e.secret(m[1])
		}
		e.note("%s:%d writes a login or a profiles.yml, which dbt no longer reads: remove the step", e.w.path, s.node.Line)
	}
}

// jobEnvironment names the environment whose rules gate the job.
func (e *workflowEdit) jobEnvironment(j *job, used []*target, indent string) {
	if j.environment != nil {
		return
	}
	for _, t := range used {
		for _, u := range t.uses {
			pushes, requests := u.starts()
			if u.job != j || !pushes || requests && !productive.MatchString(t.output) {
				continue
			}
			for _, r := range t.rules {
				if r.event == "" && r.environment != "" {
					e.insert(
						j.node.Content[0].Line,
						indent+"environment: "+scalar(r.environment)+" # its protection rules gate this job",
					)
					return
				}
			}
		}
	}
}

const idTokenComment = " # ask for an ID token"

// jobPermissions lets the job ask for an ID token, and leaves it what it had.
func (e *workflowEdit) jobPermissions(j *job, indent string) {
	perms := get(j.node, "permissions")
	switch {
	case perms == nil:
		all := permissionsOf(get(e.w.root, "permissions"))
		line := indent + "permissions: {" + strings.Join(all, ", ") + "} # read the project; ask for an ID token"
		e.insert(j.node.Content[0].Line, line)
		whole, _ := flow(j.node, true)
		if get(e.w.root, "permissions") == nil &&
			(strings.Contains(whole, "GITHUB_TOKEN") || strings.Contains(whole, "github.token")) {
			e.note("%s: job %q uses the workflow's own token: add what it needs to `permissions`", e.w.path, j.id)
		}
	case text(perms) == "write-all", text(get(perms, "id-token")) == "write":
	case perms.Kind == yaml.ScalarNode, perms.Style&yaml.FlowStyle != 0:
		if e.end(perms) != perms.Line {
			e.note("%s:%d: add `id-token: write`", e.w.path, perms.Line)
			return
		}
		line := e.line(perms.Line)
		before, _, _ := strings.Cut(line, "permissions:")
		e.change(perms.Line, before+"permissions: {"+strings.Join(permissionsOf(perms), ", ")+"}"+idTokenComment)
	case get(perms, "id-token") != nil:
		key, _ := pair(perms, "id-token")
		e.change(key.Line, strings.Repeat(" ", key.Column-1)+"id-token: write"+idTokenComment)
	default:
		at := perms.Content[len(perms.Content)-1]
		e.insert(e.end(at)+1, strings.Repeat(" ", perms.Content[0].Column-1)+"id-token: write"+idTokenComment)
	}
}

// permissionsOf returns permissions with those of the action.
func permissionsOf(n *yaml.Node) (list []string) {
	contents := false
	for i := 0; n != nil && n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		key, level := n.Content[i].Value, n.Content[i+1].Value
		if key != "id-token" && slices.Contains([]string{"read", "write", "none"}, level) {
			contents = contents || key == "contents"
			list = append(list, flowScalar(key)+": "+level)
		}
	}
	if !contents {
		list = append([]string{"contents: read"}, list...)
	}
	return append(list, "id-token: write")
}

// topPermissions takes all permissions from the workflow as a whole where each
// of its jobs has its own.
func (e *workflowEdit) topPermissions() {
	perms := get(e.w.root, "permissions")
	if e.w.others > 0 {
		if perms == nil || text(perms) == "write-all" || text(get(perms, "id-token")) == "write" {
			e.note("%s: give the workflow `permissions: {}`, and each of its other jobs those that it needs", e.w.path)
		}
		return
	}
	if perms == nil {
		e.insert(keyLine(e.w.root, "jobs"), "permissions: {}")
		return
	}
	if perms.Kind == yaml.MappingNode && len(perms.Content) == 0 {
		return
	}
	at := keyLine(e.w.root, "permissions")
	e.change(at, "permissions: {}")
	if last := e.end(perms); last > at {
		e.remove(at+1, last)
	}
}
