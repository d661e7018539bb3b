package proposal

import (
	"path"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// A call is one call of dbt that asks the warehouse.
type call struct {
	dir         string // where it runs, from the repository's root
	projectDir  string // --project-dir, from dir; "" where it is not given
	profilesDir string
	profile     string
	target      string
	place       string // the file that holds it, where that is not the workflow
	line        int
}

// online are dbt's commands that need one.
// The others read files only.
var online = []string{
	"build",
	"run",
	"test",
	"seed",
	"snapshot",
	"compile",
	"docs",
	"source",
	"debug",
	"retry",
	"run-operation",
	"clone",
	"show",
	"freshness",
	"rpc",
}

// A shell reads commands for calls of dbt: those of a step, and of the
// Makefiles and scripts that it runs.
type shell struct {
	repo  *repository
	env   map[string]string // known values of variables
	calls []call
	depth int
	stack []string // Makefile targets and scripts on the way
}

// maxDepth bounds scripts that call scripts.
const maxDepth = 8

var (
	continued  = lazy.MustCompile(`\\\r?\n[ \t]*`)
	separator  = lazy.MustCompile(`&&|\|\||[;|\n]`)
	assignment = lazy.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)
	shellName  = lazy.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$([A-Za-z_][A-Za-z0-9_]*)`)
)

// wrappers run the command that follows them.
var wrappers = []string{
	"poetry",
	"uv",
	"pipenv",
	"pdm",
	"rye",
	"hatch",
	"run",
	"sudo",
	"time",
	"exec",
	"env",
	"if",
	"then",
	"!",
	"(",
	"{",
	"nice",
	"uvx",
	"command",
}

// read reads commands that run in a folder.
func (s *shell) read(text, dir, place string) {
	if s.depth++; s.depth > maxDepth {
		s.depth--
		return
	}
	defer func() { s.depth-- }()
	line := 1
	for len(text) > 0 {
		// Continued lines are one command; the line is that of its beginning.
		end := strings.IndexByte(text, '\n')
		for end > 0 && strings.HasSuffix(strings.TrimRight(text[:end], "\r"), `\`) {
			next := strings.IndexByte(text[end+1:], '\n')
			if next < 0 {
				end = -1
				break
			}
			end += 1 + next
		}
		command := text
		if end >= 0 {
			command, text = text[:end], text[end+1:]
		} else {
			text = ""
		}
		joined := continued.ReplaceAllString(command, " ")
		for _, part := range strings.Split(separator.ReplaceAllString(joined, "\n"), "\n") {
			dir = s.command(part, dir, place, line)
		}
		line += 1 + strings.Count(command, "\n")
	}
}

// command reads one command, and returns the folder of the next one.
func (s *shell) command(text, dir, place string, line int) string {
	words := strings.Fields(text)
	local := map[string]string{}
	for i, w := range words {
		words[i] = s.expand(strings.Trim(w, `"'`), local)
	}
	for len(words) > 0 {
		switch w := words[0]; {
		case strings.HasPrefix(w, "#"):
			return dir
		case assignment.MatchString(w):
			name, value, _ := strings.Cut(w, "=")
			local[name] = strings.Trim(value, `"'`)
		case slices.Contains(wrappers, w), strings.HasPrefix(w, "-") && w != "-":
		case (w == "python" || w == "python3") && len(words) > 2 && words[1] == "-m":
			words = words[1:]
		default:
			return s.program(words, dir, place, line, local)
		}
		words = words[1:]
	}
	for name, value := range local { // FOO=bar on a line of its own
		s.env[name] = value
	}
	return dir
}

// program reads a command without what is before its name.
func (s *shell) program(words []string, dir, place string, line int, local map[string]string) string {
	name, args := words[0], words[1:]
	switch base := path.Base(name); {
	case (name == "cd" || name == "pushd") && len(args) > 0:
		if to := under(dir, args[0]); to != "" {
			return to
		}
	case base == "dbt" || base == "dbtf":
		if c, ok := dbtCall(args); ok {
			c.dir, c.place, c.line = dir, place, line
			if c.target == "" {
				c.target = cmpOr(local["DBT_TARGET"], s.env["DBT_TARGET"])
			}
			if c.profilesDir == "" {
				c.profilesDir = cmpOr(local["DBT_PROFILES_DIR"], s.env["DBT_PROFILES_DIR"])
			}
			if c.projectDir == "" {
				c.projectDir = cmpOr(local["DBT_PROJECT_DIR"], s.env["DBT_PROJECT_DIR"])
			}
			s.calls = append(s.calls, c)
		}
	case base == "make" || base == "gmake":
		s.makeTargets(args, dir)
	case base == "bash" || base == "sh" || base == "source" || base == ".":
		if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
			s.script(args[0], dir)
		}
	case strings.HasSuffix(base, ".sh"):
		s.script(name, dir)
	}
	return dir
}

func cmpOr(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// expand fills in the variables whose values are known.
func (s *shell) expand(word string, local map[string]string) string {
	return shellName.ReplaceAllStringFunc(word, func(all string) string {
		m := shellName.FindStringSubmatch(all)
		name := m[1] + m[3]
		return cmpOr(local[name], s.env[name], m[2], all)
	})
}

// valued are dbt's flags that take a value, and where they may stand before the command.
var valued = []string{
	"--target",
	"-t",
	"--profiles-dir",
	"--project-dir",
	"--profile",
	"--vars",
	"--select",
	"-s",
	"--exclude",
	"--models",
	"-m",
	"--threads",
	"--log-format",
	"--log-level",
	"--log-path",
	"--target-path",
	"--state",
	"--selector",
	"--args",
	"--indirect-selection",
}

// dbtCall reads dbt's arguments; ok is false for a call that needs no login.
func dbtCall(args []string) (c call, ok bool) {
	verb := ""
	for i := 0; i < len(args); i++ {
		flag, value, given := strings.Cut(args[i], "=")
		if !strings.HasPrefix(flag, "-") {
			verb = cmpOr(verb, args[i])
			continue
		}
		if !given && slices.Contains(valued, flag) && i+1 < len(args) {
			i++
			value = args[i]
		}
		value = strings.Trim(value, `"'`)
		switch flag {
		case "--target", "-t":
			c.target = value
		case "--profiles-dir":
			c.profilesDir = value
		case "--project-dir":
			c.projectDir = value
		case "--profile":
			c.profile = value
		}
	}
	return c, slices.Contains(online, verb)
}

func (s *shell) script(name, dir string) {
	file := under(dir, strings.TrimPrefix(name, "./"))
	if file == "" || slices.Contains(s.stack, file) {
		return
	}
	text, err := s.repo.read(file)
	if err != nil {
		return // it is made in the job, or is no text: a proposal can do without
	}
	s.stack = append(s.stack, file)
	s.read(string(text), dir, file)
	s.stack = s.stack[:len(s.stack)-1]
}

var (
	makeRule     = lazy.MustCompile(`^([A-Za-z0-9_.%/ -]+?)\s*::?\s*([^=#]*)(?:#.*)?$`)
	makeVariable = lazy.MustCompile(`^([A-Za-z_][A-Za-z0-9_]*)\s*[:?]?:?=\s*(.*?)\s*$`)
	makeUse      = lazy.MustCompile(`\$[({]([A-Za-z_][A-Za-z0-9_]*)[)}]`)
)

// makeTargets reads the recipes of the targets that a call of make names.
func (s *shell) makeTargets(args []string, dir string) {
	var goals []string
	set := map[string]string{}
	file := "Makefile"
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case (a == "-C" || a == "-f" || a == "-j") && i+1 < len(args):
			i++
			if a == "-C" {
				dir = under(dir, args[i])
			} else if a == "-f" {
				file = args[i]
			}
		case assignment.MatchString(a):
			name, value, _ := strings.Cut(a, "=")
			set[name] = value
		case !strings.HasPrefix(a, "-"):
			goals = append(goals, a)
		}
	}
	place := under(dir, file)
	if dir == "" || place == "" {
		return
	}
	text, err := s.repo.read(place)
	if err != nil {
		return
	}
	rules, first := readMakefile(string(text), set)
	if len(goals) == 0 {
		goals = []string{first}
	}
	for _, goal := range goals {
		s.goal(rules, goal, dir, place)
	}
}

// A makeTarget is a rule of a Makefile.
type makeTarget struct {
	needs  []string
	recipe []makeLine
}

type makeLine struct {
	text string
	line int
}

func readMakefile(text string, set map[string]string) (rules map[string]*makeTarget, first string) {
	rules = map[string]*makeTarget{}
	variables := map[string]string{}
	fill := func(s string) string {
		for range 4 { // variables of variables
			s = makeUse.ReplaceAllStringFunc(s, func(all string) string {
				name := makeUse.FindStringSubmatch(all)[1]
				if v, ok := set[name]; ok {
					return v
				}
				if v, ok := variables[name]; ok {
					return v
				}
				return all
			})
		}
		return s
	}
	var at []*makeTarget
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.HasPrefix(line, "\t"):
			for _, t := range at {
				t.recipe = append(t.recipe, makeLine{strings.ReplaceAll(fill(strings.TrimLeft(line, "\t@-+")), "$$", "$"), number})
			}
		case makeVariable.MatchString(line):
			m := makeVariable.FindStringSubmatch(line)
			variables[m[1]] = m[2]
		case makeRule.MatchString(line):
			m := makeRule.FindStringSubmatch(line)
			at = nil
			for _, name := range strings.Fields(fill(m[1])) {
				if rules[name] == nil {
					rules[name] = &makeTarget{}
				}
				rules[name].needs = append(rules[name].needs, strings.Fields(fill(m[2]))...)
				at = append(at, rules[name])
				if first == "" && !strings.HasPrefix(name, ".") {
					first = name
				}
			}
		case strings.TrimSpace(line) != "" && !strings.HasPrefix(line, "#"):
			at = nil
		}
	}
	return rules, first
}

func (s *shell) goal(rules map[string]*makeTarget, name, dir, place string) {
	t := rules[name]
	if t == nil || slices.Contains(s.stack, place+" "+name) || len(s.stack) > maxDepth {
		return
	}
	s.stack = append(s.stack, place+" "+name)
	defer func() { s.stack = s.stack[:len(s.stack)-1] }()
	for _, need := range t.needs {
		s.goal(rules, need, dir, place)
	}
	recipe, line := "", 0
	for _, l := range t.recipe { // each line is a shell of its own
		if recipe == "" {
			line = l.line
		}
		if recipe += l.text; strings.HasSuffix(l.text, `\`) {
			recipe += "\n"
			continue
		}
		before := len(s.calls)
		s.read(recipe, dir, place)
		for i := before; i < len(s.calls); i++ {
			if s.calls[i].place == place {
				s.calls[i].line += line - 1
			}
		}
		recipe = ""
	}
}
