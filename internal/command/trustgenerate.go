package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
	"github.com/oidc-dbt/oidc-dbt/internal/trust"
)

var trustFormats = []string{"terraform", "native", "json", "grants"}

// trustGenerateCommand is `oidc-dbt trust generate`.
func trustGenerateCommand(env job.Env, inActions bool, end *outcome) *cli.Command {
	return &cli.Command{
		Name:      "generate",
		Usage:     "print what the provider must be told so that it trusts what the policy allows",
		ArgsUsage: " ",
		Description: "Examples:\n\n    oidc-dbt trust generate --target prod --owner-id acme=1234 > prod.tf\n" +
			"    oidc-dbt trust generate --out trust/\n\n" +
			"What the provider cannot enforce is said first, with what closes it. Nothing is sent anywhere.\n" +
			"The languages, and their limits: https://github.com/oidc-dbt/oidc-dbt/blob/main/docs/trust.md",
		OnUsageError:              usageError,
		CommandNotFound:           showHelp,
		DisableSliceFlagSeparator: true,
		Flags: append(trustFlags(env),
			&cli.StringFlag{Name: flagFormat, Sources: variable(env, flagFormat),
				Usage: fmt.Sprintf("one of %q (default: terraform, and native where Terraform cannot say it)", trustFormats)},
			&cli.StringFlag{Name: flagOut, Usage: "a folder: write one file a document there"},
			&cli.BoolFlag{Name: flagOverwrite, Usage: "with --out, replace files that are different"}),
		Action: end.keep(func(ctx context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return unexpected(c)
			}
			format := c.String(flagFormat)
			if format != "" && !slices.Contains(trustFormats, format) {
				return fault.New(fault.Usage, fmt.Errorf("flag --format: unknown format %q, valid formats are %q", format, trustFormats), "")
			}
			if format != "" && c.String(flagOut) != "" {
				return fault.New(fault.Usage, errors.New("flags --format and --out: --out writes every document"), "")
			}
			list, err := demands(ctx, env, c, inActions)
			if err != nil {
				return err
			}
			if format == "grants" {
				return printGrants(env, list)
			}
			walls := make([]trust.Wall, len(list))
			for i, l := range list {
				if walls[i], err = trust.Generate(l.Demand); err != nil {
					return err
				}
			}
			if dir := c.String(flagOut); dir != "" {
				return writeTrust(env, dir, c.Bool(flagOverwrite), list, walls)
			}
			return printTrust(env, format, list, walls)
		}),
	}
}

// printGrants writes what each login may do at its warehouse.
func printGrants(env job.Env, list []namedLogin) error {
	logins := make([]trust.Demand, len(list))
	for i, l := range list {
		logins[i] = l.Demand
	}
	text, err := trust.Grants(logins)
	if err != nil {
		return err
	}
	_, err = io.WriteString(env.Stdout, runner.Printable(text))
	return err
}

// generated is the JSON of one login; its names are a contract.
type generated struct {
	Target    string             `json:"target"`
	Provider  string             `json:"provider"`
	Rules     []trust.RuleReport `json:"rules"`
	Notes     []string           `json:"notes"`
	Documents []generatedFile    `json:"documents"`
}

type generatedFile struct {
	File string `json:"file"`
	Text string `json:"text"`
}

// writeJSON writes JSON for readers and programs.
func writeJSON(env job.Env, v any) error {
	enc := json.NewEncoder(env.Stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func printTrust(env job.Env, format string, list []namedLogin, walls []trust.Wall) error {
	if format == "json" {
		out := struct {
			Version int         `json:"version"`
			Targets []generated `json:"targets"`
		}{Version: 1, Targets: []generated{}}
		for i, w := range walls {
			g := generated{Target: list[i].name, Provider: w.Provider, Rules: w.Rules, Notes: append([]string{}, w.Notes...)}
			for _, f := range w.Files(list[i].name) {
				g.Documents = append(g.Documents, generatedFile{f.Suffix, f.Text})
			}
			out.Targets = append(out.Targets, g)
		}
		return writeJSON(env, out)
	}
	var texts []string
	for i, w := range walls {
		if format == "native" || w.Terraform == "" || format == "" && w.Provider == "snowflake" {
			if format == "terraform" {
				fmt.Fprintln(env.Stderr, runner.Printable(fmt.Sprintf("oidc-dbt: target %q: %s has no Terraform for it, these "+
					"are commands", list[i].name, w.Provider)))
			}
			texts = append(texts, w.NativeFile(list[i].name))
			if len(w.GitHub.Steps) > 0 {
				texts = append(texts, "# GitHub's side, by who administers the repository:\n"+w.GitHub.String())
			}
			continue
		}
		texts = append(texts, w.TerraformFile(list[i].name))
	}
	_, err := io.WriteString(env.Stdout, runner.Printable(strings.Join(texts, "\n")))
	return err
}

// writeTrust writes every document, unless one would replace another text.
func writeTrust(env job.Env, dir string, overwrite bool, list []namedLogin, walls []trust.Wall) error {
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(env.Dir, dir)
	}
	var files []trust.Document
	var differ []string
	for i, w := range walls {
		for _, f := range w.Files(list[i].name) {
			have, err := os.ReadFile(filepath.Join(dir, f.Suffix))
			switch {
			case err == nil && string(have) == f.Text:
			case err == nil && !overwrite:
				differ = append(differ, f.Suffix)
			default:
				files = append(files, f)
			}
		}
	}
	if len(differ) > 0 {
		return fault.New(fault.Usage, fmt.Errorf("%s has other texts in %q: nothing was written", dir, differ),
			"compare them, then add --overwrite, or name another folder")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fault.New(fault.Usage, fmt.Errorf("make folder %q: %w", dir, disk.Cause(err)), "")
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f.Suffix), []byte(f.Text), 0o644); err != nil {
			return fmt.Errorf("write %q: %w", filepath.Join(dir, f.Suffix), disk.Cause(err))
		}
	}
	var b strings.Builder
	for i, w := range walls {
		fmt.Fprintf(&b, "%s at %s:\n%s", list[i].name, w.Provider, w.Report())
		for _, f := range w.Files(list[i].name) {
			fmt.Fprintf(&b, "  %s\n", filepath.Join(dir, f.Suffix))
		}
	}
	_, err := io.WriteString(env.Stdout, runner.Printable(b.String()))
	return err
}
