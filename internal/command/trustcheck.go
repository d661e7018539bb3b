package command

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
	"github.com/oidc-dbt/oidc-dbt/internal/trust"
)

// maxTrustFile bounds what a provider's tool exports.
const maxTrustFile = 8 << 20

const flagLogin = "login"

func loginFlag() cli.Flag {
	return &cli.StringFlag{Name: flagLogin, Usage: "where claims choose the login: its name, which the files of trust " +
		"generate --out begin with"}
}

// trustCheckCommand is `oidc-dbt trust check`.
func trustCheckCommand(env job.Env, inActions bool, end *outcome) *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "compare what the provider trusts with what the policy allows",
		ArgsUsage: "FILE…",
		Description: "FILE is what the provider's own tool exports; - is standard input. Examples:\n\n" +
			"    aws iam get-role --role-name dbt | oidc-dbt trust check --target prod -\n" +
			"    oidc-dbt trust check --target prod role.json environment.json\n\n" +
			"The status is 8 unless both sides are the same, but for what the provider cannot enforce.\n" +
			"What is read of each provider: https://github.com/oidc-dbt/oidc-dbt/blob/main/docs/trust.md",
		OnUsageError:              usageError,
		CommandNotFound:           showHelp,
		DisableSliceFlagSeparator: true,
		Flags: append(trustFlags(env), loginFlag(),
			&cli.BoolFlag{Name: flagJSON, Usage: "as a JSON object", Sources: variable(env, flagJSON)}),
		Action: end.keep(func(ctx context.Context, c *cli.Command) error {
			l, err := chosenLogin(ctx, env, c, inActions, "trust check")
			if err != nil {
				return err
			}
			files, err := trustFiles(env, c.Args().Slice())
			if err != nil {
				return err
			}
			checked, err := trust.Check(l.Demand, files)
			if err != nil {
				return err
			}
			if !checked.OK() {
				end.status = int(fault.Found)
			}
			if c.Bool(flagJSON) {
				return writeJSON(env, struct {
					Version int `json:"version"`
					trust.Checked
				}{1, checked})
			}
			_, err = io.WriteString(env.Stdout, runner.Printable(checkedText(checked)))
			return err
		}),
	}
}

// chosenLogin returns the one login that a command is about.
func chosenLogin(ctx context.Context, env job.Env, c *cli.Command, inActions bool, what string) (namedLogin, error) {
	list, err := demands(ctx, env, c, inActions)
	if err != nil {
		return namedLogin{}, err
	}
	if name := c.String(flagLogin); name != "" {
		i := slices.IndexFunc(list, func(l namedLogin) bool { return l.name == name })
		if i < 0 {
			names := make([]string, len(list))
			for i, l := range list {
				names[i] = l.name
			}
			return namedLogin{}, fault.New(fault.Usage, fmt.Errorf("flag --login: unknown login %q, valid logins are %q", name, names), "")
		}
		return list[i], nil
	}
	return single(list, what)
}

func trustFiles(env job.Env, paths []string) (files []trust.File, err error) {
	if len(paths) == 0 {
		return nil, fault.New(fault.Usage, fmt.Errorf("no FILE given: want what the provider's own tool exports"),
			"see `oidc-dbt trust check --help`")
	}
	for _, path := range paths {
		f := trust.File{Name: path}
		if path == "-" {
			f.Name = "standard input"
			f.Text, err = io.ReadAll(io.LimitReader(env.Stdin, maxTrustFile))
		} else {
			f.Text, err = readText(env, path, maxTrustFile, "trust")
		}
		if err != nil {
			return nil, err
		}
		if len(bytes.TrimSpace(f.Text)) == 0 {
			return nil, fault.New(fault.Usage,
				fmt.Errorf("%s is empty: the command that exports it failed, or wrote elsewhere", f.Name), "")
		}
		files = append(files, f)
	}
	return files, nil
}

func checkedText(c trust.Checked) string {
	var b strings.Builder
	fmt.Fprintf(&b, "target %q at %s: %s\n", c.Target, c.Provider, c.Verdict)
	for _, r := range c.Rules {
		fmt.Fprintf(&b, "  rule %d (line %d): %s\n", r.Rule, r.Line, r.Verdict)
	}
	for _, f := range c.Findings {
		fmt.Fprintf(&b, "%s: %s: %s\n", f.Severity, f.Name, f.Message)
		for _, claim := range slices.Sorted(maps.Keys(f.Witness)) {
			fmt.Fprintf(&b, "    %s: %q\n", claim, f.Witness[claim])
		}
	}
	for _, r := range c.Said {
		for _, g := range r.WiderBy {
			fmt.Fprintf(&b, "note: rule %d (line %d) cannot be held to %s there: %s\n", r.Rule, r.Line, g.Claim, g.Why)
		}
	}
	return b.String()
}
