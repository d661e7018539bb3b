package main

import (
	"context"
	"crypto/rand"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

//go:embed audit/project
var auditProject embed.FS

//go:embed audit/old_key.py
var oldKeyScript string

//go:embed audit/logins.py
var loginsScript string

// auditStory is the main job, whose records, policy and warehouse are kept for
// docs/audit.md in a folder.
func (d *demo) auditStory(folder string) []part {
	empty := func(context.Context) (err error) {
		if folder == "" {
			return errors.New("audit needs a folder: go run ./demo audit DIR")
		}
		if d.kept, err = filepath.Abs(folder); err != nil {
			return err
		}
		if err := os.MkdirAll(d.kept, 0o755); err != nil {
			return err
		}
		there, err := os.ReadDir(d.kept)
		if len(there) > 0 {
			return fmt.Errorf("%s is not empty: name another folder", d.kept)
		}
		say("%s", d.kept)
		return err
	}
	parts := append([]part{{"The folder for what an auditor reads", empty}}, d.mainJob()...)
	return append(parts, part{"What is kept for an auditor", d.keep})
}

// useOldKey reads the lake with a stored key, of which no audit record can know.
func (d *demo) useOldKey(ctx context.Context) error {
	secret := rand.Text()
	d.store.SetKey(storedKeyID, secret)
	script := exec.CommandContext(ctx, d.python.Program("python"), "-c", oldKeyScript)
	script.Env = append(d.python.Environ(), "S3_KEY_ID="+storedKeyID, "S3_SECRET="+secret, "S3_ENDPOINT="+d.store.Host())
	out, err := script.CombinedOutput()
	if err != nil {
		return fmt.Errorf("read the lake with the stored key: %w\n%s", err, out)
	}
	if !d.exercise {
		say("with key %s of user dbt-old it reads %s orders; no run, no policy, no record", storedKeyID, strings.TrimSpace(string(out)))
	}
	return expect("the orders that it reads", strings.TrimSpace(string(out)), "5")
}

// A login is what the dbt package says of one.
type login struct {
	Key, User, At, Client string
	Reason                string // why no record explains it, "" where one does
	Matched               bool
}

// reconcile loads the records of all runs and the store's log into the
// production run's DuckDB, and has the dbt package compare them.
func (d *demo) reconcile(ctx context.Context) error {
	if err := d.collect(ctx); err != nil {
		return err
	}
	for _, command := range []string{"deps", "build"} {
		say("dbt %s", command)
		dbt := exec.CommandContext(ctx, d.python.Program("dbt"), command, "--no-use-colors")
		dbt.Dir, dbt.Env = d.kept, append(d.python.Environ(), "DBT_PROFILES_DIR="+d.kept)
		out, err := dbt.CombinedOutput()
		if err != nil {
			return fmt.Errorf("dbt %s: %w\n%s", command, err, out)
		}
		quote(linesWith(string(out), "Installed", "OK hook", "WARN", "Finished"))
	}
	script := exec.CommandContext(ctx, d.python.Program("python"), "-c", loginsScript)
	script.Dir, script.Env = d.kept, d.python.Environ()
	out, err := script.Output()
	if err != nil {
		return fmt.Errorf("read the logins: %w", err)
	}
	var logins []login
	if err := json.Unmarshal(out, &logins); err != nil {
		return err
	}
	return d.checkLogins(logins)
}

// checkLogins holds the package's logins to the store's log: of all that there
// are, only the stored key's has no record.
func (d *demo) checkLogins(logins []login) error {
	var log struct {
		Records []struct {
			Time     string                       `json:"eventTime"`
			Identity struct{ AccessKeyID string } `json:"userIdentity"`
		}
	}
	if err := json.Unmarshal(d.store.Trail(), &log); err != nil {
		return err
	}
	first := map[string]bool{} // the first call of a key in a day is a login
	for _, r := range log.Records {
		day, _, _ := strings.Cut(r.Time, "T")
		first[r.Identity.AccessKeyID+" "+day] = true
	}
	explained, unexplained := 0, []login{}
	for _, l := range logins {
		if l.Matched && l.Reason == "" {
			explained++
			continue
		}
		unexplained = append(unexplained, l)
	}
	say("%d calls in the store's log, which are %d logins; %d have their record, and %d has none",
		len(log.Records), len(logins), explained, len(unexplained))
	var found []string
	for _, l := range unexplained {
		if !d.exercise {
			quote(fmt.Sprintf("%s UTC  %s  %s  %s", l.At, l.Key, l.User, l.Client))
		}
		found = append(found, l.Key+" "+l.Reason)
	}
	return errors.Join(
		expect("logins", len(logins), len(first)),
		expect("logins that have a record", explained, len(first)-1),
		expect("logins that have none", strings.Join(found, ", "), storedKeyID+" no_credential"),
	)
}

// collect makes the folder for the audit: the dbt project with the package, the
// records of all runs, the store's log, and production's DuckDB.
func (d *demo) collect(ctx context.Context) error {
	list := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/oidc-dbt/oidc-dbt")
	out, err := list.Output()
	if err != nil {
		return fmt.Errorf("find the dbt package: %w", err)
	}
	files, err := fs.Sub(auditProject, "audit/project")
	if err != nil {
		return err
	}
	if err := os.CopyFS(d.kept, files); err != nil {
		return err
	}
	source, to := filepath.Join(strings.TrimSpace(string(out)), "dbt"), filepath.Join(d.kept, "oidc_dbt_audit")
	for _, folder := range []string{"macros", "models", "tests"} {
		if err := os.CopyFS(filepath.Join(to, folder), os.DirFS(filepath.Join(source, folder))); err != nil {
			return err
		}
	}
	copies := map[string]string{
		filepath.Join(source, "dbt_project.yml"):                       filepath.Join(to, "dbt_project.yml"),
		filepath.Join(d.jobs["production"].workspace(), "shop.duckdb"): filepath.Join(d.kept, "shop.duckdb"),
	}
	for name, j := range d.jobs {
		copies[j.auditLog()] = filepath.Join(d.kept, "records", name+".jsonl")
	}
	for from, to := range copies {
		if err := copyFile(from, to, 0o644); err != nil {
			return err
		}
	}
	say("%d files of records, and the store's own log (a stand-in's, in CloudTrail's form)", len(d.jobs))
	return writeFile(filepath.Join(d.kept, "cloudtrail", "events.json"), d.store.Trail())
}

// keep completes the folder by what the commands of docs/audit.md need: the
// policy with its history, and the programs.
func (d *demo) keep(ctx context.Context) error {
	if err := d.commitPolicy(ctx); err != nil {
		return err
	}
	bin := filepath.Join(d.kept, "bin")
	if err := copyFile(d.binary, filepath.Join(bin, filepath.Base(d.binary)), 0o755); err != nil {
		return err
	}
	paths := strings.ReplaceAll(bin+string(os.PathListSeparator)+d.python.Bin, "'", `'\''`)
	env := fmt.Sprintf("# Puts oidc-dbt and dbt on PATH: . ./env.sh\nexport PATH='%s':\"$PATH\"\n", paths)
	if err := writeFile(filepath.Join(d.kept, "env.sh"), []byte(env)); err != nil {
		return err
	}
	say("the policy in a git repository, records/, the store's log in cloudtrail/, the dbt project with shop.duckdb")
	say("docs/audit.md explains these commands:")
	quote("cd " + d.kept + "\n" + nextCommands)
	return nil
}

// nextCommands are those of docs/audit.md, which e2e/dbtpackage runs.
const nextCommands = `. ./env.sh
oidc-dbt audit show records
oidc-dbt audit verify --policy .github/oidc-dbt.yml records
oidc-dbt audit review --period "$(date -u +%Y)" --records records --format html --out review.html
dbt show --select oidc_dbt__unmatched_logins --output json`

// commitPolicy makes the folder a git repository with the policy that decided
// the runs, which two people have written.
func (d *demo) commitPolicy(ctx context.Context) error {
	const path, branch = ".github/oidc-dbt.yml", "        ref: refs/heads/main\n"
	policy, err := os.ReadFile(filepath.Join(d.jobs["production"].workspace(), filepath.FromSlash(path)))
	if err != nil {
		return err
	}
	git := func(args ...string) error {
		cmd := exec.CommandContext(ctx, "git", args...)
		cmd.Dir, cmd.Env = d.kept, append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("git %s: %w\n%s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	if err := git("init", "--quiet"); err != nil {
		return err
	}
	for _, c := range []struct{ author, subject, policy string }{
		{"Grace", "Let the production job build", strings.Replace(string(policy), branch, "", 1)},
		{"Ada", "Only from main", string(policy)},
	} {
		if err := writeFile(filepath.Join(d.kept, filepath.FromSlash(path)), []byte(c.policy)); err != nil {
			return err
		}
		name, email := "user.name="+c.author, "user.email="+strings.ToLower(c.author)+"@acme.example"
		if err := errors.Join(git("add", path), git("-c", name, "-c", email, "commit", "--quiet", "--message", c.subject)); err != nil {
			return err
		}
	}
	return nil
}

// linesWith returns the lines that have one of the words.
func linesWith(text string, words ...string) string {
	var found []string
	for line := range strings.Lines(text) {
		if slices.ContainsFunc(words, func(word string) bool { return strings.Contains(line, word) }) {
			found = append(found, line)
		}
	}
	return strings.Join(found, "")
}

func copyFile(from, to string, mode fs.FileMode) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, text, mode))
}

func writeFile(path string, text []byte) error {
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, text, 0o644))
}
