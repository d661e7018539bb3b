package docs

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"mvdan.cc/sh/v3/syntax"
)

// programs are those that the pages call, with the reason why this package does not run the calls: each block is only
// parsed here, calls of oidc-dbt are held to its own flags, and `.ci/run` has shellcheck read all of them.
var programs = map[string]string{
	".ci/lint":     "a check of the repository, which .ci/run runs",
	".ci/quick":    "runs these tests",
	".ci/run":      "runs these tests",
	"actions-sync": "needs a GitHub Enterprise Server",
	"aws":          "needs an AWS account; e2e/incident has it check its arguments",
	"az":           "needs an Azure account",
	"bao":          "needs a server; e2e/vault and e2e/incident run it",
	"bash":         "runs what trust prints, which has tests of its own",
	"databricks":   "needs a Databricks account",
	"dbt":          "needs a project; the packages below e2e run it",
	"gcloud":       "needs a Google account",
	"gh":           "needs a GitHub account; e2e/act runs it against a stand-in",
	"git":          "needs a repository of the user",
	"go":           "builds, or runs these tests",
	"htpasswd":     "changes a password file of the user",
	"install":      "writes to the user's folders",
	"jq":           "reads a log of the user; e2e/incident runs it",
	"kcadm.sh":     "needs a server; e2e/keycloak runs it",
	"oidc-dbt":     "held to its own flags here; internal/command runs each of its commands",
	"pipx":         "installs from PyPI; e2e/wheel runs pip, which it uses",
	"python3":      "installs from PyPI; e2e/wheel runs pip",
	"sha256sum":    "checks a download of the user",
	"snow":         "needs a Snowflake account",
	"terraform":    "needs an account",
	"uv":           "resolves packages at an index; e2e/setup runs it",
	"uvx":          "installs from PyPI; e2e/wheel runs it, and oidc-dbt's flags are checked here",
	"vault":        "needs a server; e2e/vault runs OpenBao's",
}

// shellWords are commands of the shell and of every system.
var shellWords = strings.Fields(". cat cd command cp date echo exit export grep less mkdir mktemp printf read rm set sha256sum sort test true uniq [ xargs")

// shellBlock is a block of shell commands, also inside a list.
var shellBlock = regexp.MustCompile("(?ms)^( *)```sh\n(.*?)^ *```$")

// TestCommandsOnPages parses every block of shell commands, and holds what it calls to the table above and the calls of
// oidc-dbt to the flags of the command.
func TestCommandsOnPages(t *testing.T) {
	t.Parallel()
	called, help := map[string]bool{}, map[string]string{}
	for path, text := range pages(t) {
		for _, m := range shellBlock.FindAllStringSubmatch(text, -1) {
			src := strings.TrimPrefix(strings.ReplaceAll("\n"+m[2], "\n"+m[1], "\n"), "\n")
			file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(src), path)
			if err != nil {
				t.Errorf("a block of shell commands does not parse: %v\n%s", err, src)
				continue
			}
			syntax.Walk(file, func(n syntax.Node) bool {
				call, ok := n.(*syntax.CallExpr)
				if !ok || len(call.Args) == 0 {
					return true
				}
				words := literals(call)
				called[words[0]] = true
				if words[0] == "uvx" && len(words) > 1 {
					// The command, most often of a version.
					words = append([]string{strings.SplitN(words[1], "@", 2)[0]}, words[2:]...)
				}
				if words[0] == "oidc-dbt" {
					if err := knownFlags(t, help, words[1:]); err != nil {
						t.Errorf("%s: %q: %v", path, strings.Join(words, " "), err)
					}
				}
				return true
			})
		}
	}
	for _, word := range slices.Sorted(maps.Keys(called)) {
		if programs[word] == "" && !slices.Contains(shellWords, word) {
			t.Errorf("pages call %q: say in the table of this file why no test runs it", word)
		}
	}
}

// literals are the words of a call as far as they are literal.
func literals(call *syntax.CallExpr) (words []string) {
	for _, arg := range call.Args {
		word := ""
		for _, part := range arg.Parts {
			lit, ok := part.(*syntax.Lit)
			if !ok {
				break
			}
			word += lit.Value
		}
		words = append(words, word)
	}
	return words
}

// subcommand is a word that names a command, not a file or a value.
var subcommand = regexp.MustCompile(`^[a-z][a-z-]*$`)

// knownFlags returns an error where a call of oidc-dbt has a command or flag that there is not. help keeps what the
// command says of itself.
func knownFlags(t *testing.T, help map[string]string, words []string) error {
	t.Helper()
	names := words[:0:0]
	for len(words) > 0 && subcommand.MatchString(words[0]) && len(names) < 2 {
		names, words = append(names, words[0]), words[1:]
		if names[0] != "trust" && names[0] != "audit" {
			break
		}
	}
	key := strings.Join(names, " ")
	if help[key] == "" {
		status, stdout, stderr := runTrust(t, append(slices.Clone(names), "-h")...)
		if status != 0 {
			return fmt.Errorf("there is no such command: %s", stderr)
		}
		help[key] = stdout + stderr
	}
	for _, word := range words {
		if word == "--" { // what follows is the command to run
			break
		}
		name, _, _ := strings.Cut(word, "=")
		if strings.HasPrefix(name, "-") && name != "-" && name != "-h" && !strings.Contains(help[key], "   "+name+" ") &&
			!strings.Contains(help[key], "   "+name+"\n") {
			return fmt.Errorf("%s has no flag %s", key, name)
		}
	}
	return nil
}
