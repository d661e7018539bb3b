package proposal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// A workflow is one that runs dbt.
type workflow struct {
	path     string
	text     string
	root     *yaml.Node
	events   []string
	branch   string   // the first branch, without wildcards, whose pushes start it
	branches []string // all branches that are listed
	jobs     []*job   // those that run dbt
	others   int      // those that do not
}

// A job is one that runs dbt.
type job struct {
	id          string
	node        *yaml.Node
	key         *yaml.Node
	environment *yaml.Node // its name; nil for none
	steps       []*step
	runs        []run
	matrix      []map[string]string // the values of each of its jobs; one of none without a matrix
	condition   string
}

// A step is one of a job.
type step struct {
	node  *yaml.Node
	uses  string
	with  map[string]string
	run   string
	dir   string
	env   *yaml.Node
	calls []call // of dbt, matrix values and variables not filled in where they are unknown
}

// A run is a call of dbt by one job of the matrix.
type run struct {
	call
	step        *step
	matrix      map[string]string
	target      string // as the call has it, filled in; "" for the profile's own
	environment string
	hosted      bool // the job runs on one of GitHub's own runners
}

// hostedRunner matches the labels of GitHub's own runners.
var hostedRunner = lazy.MustCompile(`^(?:ubuntu|windows|macos)-[a-z0-9.-]+$`)

// workflows reads those that run dbt.
func (r *repository) workflows() (list []*workflow, err error) {
	const dir = workflowDir
	entries, err := os.ReadDir(r.at(dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, usage("", "read %s: it is no folder that can be read", dir)
	}
	if inside, err := disk.Within(r.at(dir), r.root); len(entries) > 0 && (err != nil || !inside) {
		return nil, usage("", "read %s: a symbolic link leads out of the repository", dir)
	}
	for _, e := range entries {
		if ext := path.Ext(e.Name()); ext != ".yml" && ext != ".yaml" {
			continue
		}
		name := dir + "/" + e.Name()
		text, err := r.read(name)
		if err != nil {
			return nil, err
		}
		w, err := r.workflow(name, string(text))
		if err != nil {
			return nil, err
		}
		if len(w.jobs) > 0 {
			list = append(list, w)
		}
	}
	return list, nil
}

func loadYAML(name, text string) (*yaml.Node, error) {
	loader, err := yaml.NewLoader(bytes.NewReader([]byte(text)))
	if err != nil {
		return nil, err
	}
	var doc yaml.Node
	if err := loader.Load(&doc); err != nil && !errors.Is(err, io.EOF) {
		var le *yaml.LoadError
		if errors.As(err, &le) && le.Mark.Line > 0 {
			return nil, usage(
				"",
				"read %s: line %d, column %d: invalid YAML: %s",
				name,
				le.Mark.Line,
				le.Mark.Column,
				le.Message,
			)
		}
		return nil, usage("", "read %s: invalid YAML", name)
	}
	if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
		return doc.Content[0], nil
	}
	return &doc, nil
}

// get returns the value of a mapping's key, nil where there is none.
func get(n *yaml.Node, keys ...string) *yaml.Node {
	for _, key := range keys {
		_, n = pair(n, key)
	}
	return n
}

// pair returns a key of a mapping, and its value without aliases.
func pair(n *yaml.Node, key string) (k, v *yaml.Node) {
	for i := 0; n != nil && n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			if v = n.Content[i+1]; v.Kind == yaml.AliasNode {
				v = v.Alias
			}
			return n.Content[i], v
		}
	}
	return nil, nil
}

func text(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode {
		return ""
	}
	return n.Value
}

// mapping returns the scalars of a mapping.
func mapping(n *yaml.Node) map[string]string {
	m := map[string]string{}
	for i := 0; n != nil && n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if v := n.Content[i+1]; v.Kind == yaml.ScalarNode {
			m[n.Content[i].Value] = v.Value
		}
	}
	return m
}

func (r *repository) workflow(name, src string) (*workflow, error) {
	root, err := loadYAML(name, src)
	if err != nil {
		return nil, err
	}
	w := &workflow{path: name, text: src, root: root}
	w.readEvents()
	jobs := get(root, "jobs")
	for i := 0; jobs != nil && jobs.Kind == yaml.MappingNode && i+1 < len(jobs.Content); i += 2 {
		j, err := r.job(w, jobs.Content[i], jobs.Content[i+1])
		if err != nil {
			return nil, err
		}
		if len(j.runs) > 0 {
			w.jobs = append(w.jobs, j)
		} else {
			w.others++
		}
	}
	return w, nil
}

var plainBranch = lazy.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]*$`)

func (w *workflow) readEvents() {
	on := get(w.root, "on")
	switch {
	case on == nil:
	case on.Kind == yaml.ScalarNode:
		w.events = []string{on.Value}
	case on.Kind == yaml.SequenceNode:
		for _, e := range on.Content {
			w.events = append(w.events, text(e))
		}
	case on.Kind == yaml.MappingNode:
		for i := 0; i+1 < len(on.Content); i += 2 {
			w.events = append(w.events, on.Content[i].Value)
		}
	}
	branches := get(on, "push", "branches")
	if branches == nil {
		return
	}
	for _, b := range append([]*yaml.Node{branches}, branches.Content...) {
		w.branches = append(w.branches, text(b))
		if w.branch == "" && plainBranch.MatchString(text(b)) {
			w.branch = text(b)
		}
	}
}

// maxMatrix bounds the jobs of a matrix; GitHub's own limit is 256.
const maxMatrix = 256

// matrixOf returns the values of each job of a matrix, as far as they stand in
// the file.
func matrixOf(n *yaml.Node) (jobs []map[string]string) {
	jobs = []map[string]string{{}}
	given := false
	for i := 0; n != nil && n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		key, list := n.Content[i].Value, n.Content[i+1]
		if key == "include" || key == "exclude" || list.Kind != yaml.SequenceNode {
			continue
		}
		given = true
		var next []map[string]string
		for _, m := range jobs {
			for _, v := range list.Content {
				if len(next) == maxMatrix {
					break
				}
				one := maps.Clone(m)
				if v.Kind == yaml.ScalarNode {
					one[key] = v.Value
				}
				for k, v := range mapping(v) { // matrix.target.name
					one[key+"."+k] = v
				}
				next = append(next, one)
			}
		}
		jobs = next
	}
	include := get(n, "include")
	if include == nil || include.Kind != yaml.SequenceNode {
		return jobs
	}
	if !given {
		jobs = nil
	}
	for _, e := range include.Content {
		added, extended := mapping(e), false
		for _, m := range jobs {
			same, common := true, false
			for k, v := range added {
				if have, ok := m[k]; ok {
					same, common = same && have == v, true
				}
			}
			if same && common {
				maps.Copy(m, added)
				extended = true
			}
		}
		if !extended && len(jobs) < maxMatrix {
			jobs = append(jobs, added)
		}
	}
	return jobs
}

func (r *repository) job(w *workflow, key, n *yaml.Node) (*job, error) {
	j := &job{
		id:        key.Value,
		key:       key,
		node:      n,
		matrix:    matrixOf(get(n, "strategy", "matrix")),
		condition: text(get(n, "if")),
	}
	if j.environment = get(n, "environment"); j.environment != nil && j.environment.Kind == yaml.MappingNode {
		j.environment = get(j.environment, "name")
	}
	defaults := cmpOr(
		text(get(n, "defaults", "run", "working-directory")),
		text(get(w.root, "defaults", "run", "working-directory")),
	)
	steps := get(n, "steps")
	if steps == nil || steps.Kind != yaml.SequenceNode {
		return j, nil
	}
	for _, node := range steps.Content {
		s := &step{
			node: node,
			uses: text(get(node, "uses")),
			with: mapping(get(node, "with")),
			run:  text(get(node, "run")),
			env:  get(node, "env"),
		}
		s.dir = cmpOr(text(get(node, "working-directory")), defaults, ".")
		j.steps = append(j.steps, s)
		for _, values := range j.matrix {
			if err := r.runs(w, j, s, values); err != nil {
				return nil, err
			}
		}
	}
	return j, nil
}

// runs finds the calls of dbt of a step in one job of the matrix.
func (r *repository) runs(w *workflow, j *job, s *step, matrix map[string]string) error {
	env := environmentOf(w, j, s, matrix)
	sh := &shell{repo: r, env: env}
	dir := under(".", fillIn(s.dir, matrix, env))
	switch {
	case s.run != "" && dir != "":
		sh.read(inCommand(fillIn(s.run, matrix, env)), dir, "")
	case strings.HasPrefix(s.uses, "./"):
		if err := r.localAction(sh, s); err != nil {
			return err
		}
	}
	environment := ""
	if j.environment != nil {
		environment = fillIn(text(j.environment), matrix, env)
	}
	for _, c := range sh.calls {
		s.calls = append(s.calls, c)
		j.runs = append(j.runs, run{call: c, step: s, matrix: matrix, target: c.target, environment: environment,
			hosted: hostedRunner.MatchString(fillIn(text(get(j.node, "runs-on")), matrix, nil))})
	}
	return nil
}

// environmentOf returns a step's variables, those of the workflow and the job
// included; each level may use those of the one above.
func environmentOf(w *workflow, j *job, s *step, matrix map[string]string) map[string]string {
	env := map[string]string{}
	for _, n := range []*yaml.Node{get(w.root, "env"), get(j.node, "env"), s.env} {
		above := maps.Clone(env)
		for k, v := range mapping(n) {
			env[k] = fillIn(v, matrix, above)
		}
	}
	return env
}

// localAction reads the commands of a composite action of the repository.
func (r *repository) localAction(sh *shell, s *step) error {
	dir := under(".", strings.TrimPrefix(s.uses, "./"))
	if dir == "" {
		return nil
	}
	for _, name := range []string{"action.yml", "action.yaml"} {
		src, err := r.read(path.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		root, err := loadYAML(path.Join(dir, name), string(src))
		if err != nil {
			return err
		}
		inputs := map[string]string{}
		declared := get(root, "inputs")
		for i := 0; declared != nil && i+1 < len(declared.Content); i += 2 {
			inputs["inputs."+declared.Content[i].Value] = text(get(declared.Content[i+1], "default"))
		}
		for k, v := range s.with {
			inputs["inputs."+k] = v
		}
		for i, n := range nodes(get(root, "runs", "steps")) {
			in := cmpOr(fillIn(text(get(n, "working-directory")), inputs, nil), ".")
			for k, v := range mapping(get(n, "env")) {
				sh.env[k] = fillIn(v, inputs, nil)
			}
			if in = under(".", in); in != "" {
				sh.read(
					inCommand(fillIn(text(get(n, "run")), inputs, sh.env)),
					in,
					fmt.Sprintf("%s, step %d", path.Join(dir, name), i+1),
				)
			}
		}
	}
	return nil
}

func nodes(n *yaml.Node) []*yaml.Node {
	if n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	return n.Content
}

var expression = lazy.MustCompile(`\$\{\{\s*([A-Za-z_][A-Za-z0-9_.-]*)\s*\}\}`)

// fillIn fills in what of a text's expressions is known: values of the matrix,
// variables, the workspace. values are a matrix's, or by their whole name.
func fillIn(s string, values, env map[string]string) string {
	return expression.ReplaceAllStringFunc(s, func(all string) string {
		name := expression.FindStringSubmatch(all)[1]
		if name == "github.workspace" {
			return "."
		}
		context, key, _ := strings.Cut(name, ".")
		from := map[string]map[string]string{"matrix": values, "env": env}[context]
		if context == "inputs" {
			from, key = values, name
		}
		if v, ok := from[key]; ok {
			return v
		}
		return "${{ " + name + " }}"
	})
}

// opaque matches expressions, which commands have without spaces.
var opaque = lazy.MustCompile(`\$\{\{.*?\}\}`)

// inCommand returns a command in which what only the run will know is one word.
func inCommand(s string) string {
	return opaque.ReplaceAllStringFunc(s, func(all string) string {
		if m := expression.FindStringSubmatch(all); m != nil {
			return "${{" + m[1] + "}}"
		}
		return "$EXPRESSION"
	})
}

// known reports whether a text has nothing that only the run will know.
func known(s string) bool { return !strings.ContainsAny(s, "$`{}()*") }

// starts reports whether an event starts the workflow.
func (w *workflow) starts(event string) bool { return slices.Contains(w.events, event) }
