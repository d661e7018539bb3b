package job

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
)

// checkInstalled returns an error of class Usage where the dbt that will run has
// an adapter which is too old for what is written, before anything is asked for.
// It is silent unless that is certain: dbt may be installed later, or elsewhere.
//
// Where the workspace is in PATH, it decides what is found: a program of its own
// can stop the run, or let dbt fail later, and nothing else. It is not run.
func (p *project) checkInstalled(env Env, s Settings, t *policy.Target) error {
	if p.dbtType == "" || s.DryRun {
		return nil
	}
	program := dbtProgram(env, s)
	if program == "" {
		return nil
	}
	served := s.Broker && p.route.Kind != route.None && p.route.Kind != route.Lease
	if old, ok := adapter.CheckInstalled(env.Getenv, program, p.dbtType, t.Provider(), served, p.blocksOf(t.DBT())...); ok {
		return fault.New(fault.Usage,
			fmt.Errorf("adapter dbt-%s %s in %q is too old for provider %q: want %s or later, which has %s",
				p.dbtType, old.Version, old.Dir, t.Provider(), old.Want, old.Has),
			fmt.Sprintf("run `pip install --upgrade \"dbt-%s>=%s\"` in dbt's environment, before this step",
				p.dbtType, old.Want))
	}
	return nil
}

// dbtProgram returns the path of the dbt that will run, "" where that is not
// known: a command that is not dbt, such as `uv run`, has an environment of its
// own, and a script may make one, or upgrade this one.
func dbtProgram(env Env, s Settings) string {
	switch {
	case len(s.dbtArgs) > 0 && filepath.IsAbs(s.dbtArgs[0]) && filepath.Base(s.dbtArgs[0]) == "dbt":
		return s.dbtArgs[0]
	case len(s.dbtArgs) > 0 && s.dbtArgs[0] != "dbt", s.Script != "" && mayMove(env, s):
		return ""
	}
	for _, dir := range filepath.SplitList(env.Getenv("PATH")) {
		if !filepath.IsAbs(dir) {
			return "" // which folder that is, the command decides
		}
		path := filepath.Join(dir, "dbt")
		if info, err := os.Stat(path); err == nil && !info.IsDir() && info.Mode().Perm()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// harmless are commands of a script that neither make or choose an environment
// nor upgrade one.
var harmless = []string{"dbt", "cd", "echo", "export", "mkdir", "set"}

// mayMove reports whether a script may run another dbt than the one that PATH
// leads to now, or change that one.
func mayMove(env Env, s Settings) bool {
	// Files that other shells read first may change PATH. Substitutions are commands in quotes.
	if !slices.Contains([]string{"", "bash", "sh"}, s.Shell) || strings.Contains(s.Script, "$(") || strings.Contains(s.Script, "`") ||
		env.Getenv("BASH_ENV") != "" || env.Getenv("BASH_FUNC_dbt%%") != "" {
		return true
	}
	return slices.ContainsFunc(commands(s.Script), func(command []string) bool {
		for _, word := range command {
			name, _, sets := strings.Cut(word, "=")
			if sets && (name == "PATH" || name == "HOME" || strings.HasPrefix(name, "PYTHON")) {
				return true
			}
		}
		first := slices.IndexFunc(command, func(word string) bool { return !strings.Contains(word, "=") })
		return first >= 0 && !slices.Contains(harmless, command[first])
	})
}
