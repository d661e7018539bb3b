package process

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
)

// A Script is a `run` block and how its shell runs it.
type Script struct {
	Name string   // of the file that Text goes to, with the extension that the shell requires
	Text string   // the file's content
	Args []string // the command; "{0}" is replaced by the file's path
}

// shells are the runner's own, with its arguments. (GitHub Docs, Workflow
// syntax, jobs.<job_id>.steps[*].shell)
var shells = map[string]Script{
	"bash":       {Name: "run.sh", Args: []string{"bash", "--noprofile", "--norc", "-eo", "pipefail", "{0}"}},
	"sh":         {Name: "run.sh", Args: []string{"sh", "-e", "{0}"}},
	"python":     {Name: "run.py", Args: []string{"python", "{0}"}},
	"pwsh":       {Name: "run.ps1", Args: []string{"pwsh", "-NoProfile", "-NonInteractive", "-Command", ". '{0}'"}},
	"powershell": {Name: "run.ps1", Args: []string{"powershell", "-NoProfile", "-NonInteractive", "-Command", ". '{0}'"}},
	"cmd":        {Name: "run.cmd", Args: []string{"cmd", "/D", "/E:ON", "/V:OFF", "/S", "/C", `CALL "{0}"`}},
}

// Shell returns how to run text in a workflow's `shell`: one of the runner's
// names, or a command of its own with {0} in it. "" is the default of the
// operating system goos: bash, on Windows pwsh. Its errors are of class Usage.
func Shell(shell, goos, text string) (Script, error) {
	if shell == "" {
		shell = "bash"
		if goos == "windows" {
			shell = "pwsh"
		}
	}
	s, ok := shells[shell]
	if !ok {
		if !strings.Contains(shell, "{0}") {
			return Script{}, fault.New(fault.Usage,
				fmt.Errorf("input shell: unknown shell %q, valid shells are %q", shell, slices.Sorted(maps.Keys(shells))),
				"or give a command with {0} for the script's path")
		}
		s = Script{Name: "run.sh", Args: strings.Fields(shell)}
	}
	s.Text = text
	if strings.HasSuffix(s.Name, ".ps1") {
		// As the runner does: stop at the first error, and end with the last program's status.
		s.Text = "$ErrorActionPreference = 'stop'\n" + text + "\nif ((Test-Path -LiteralPath variable:\\LASTEXITCODE)) { exit $LASTEXITCODE }\n"
	}
	return s, nil
}

// Command returns the arguments with the script's path filled in.
func (s Script) Command(path string) []string {
	args := make([]string, len(s.Args))
	for i, a := range s.Args {
		args[i] = strings.ReplaceAll(a, "{0}", path)
	}
	return args
}
