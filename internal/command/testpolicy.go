package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/policytest"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
	"github.com/urfave/cli/v3"
)

const flagMutate = "mutate"

// testPolicyCommand is `oidc-dbt test-policy`. What is tested is the
// repository's own policy: the variables that a step leaves for exec are not read.
func testPolicyCommand(env job.Env, end *outcome) *cli.Command {
	return &cli.Command{
		Name:      "test-policy",
		Usage:     "run the policy's own tests: claims, and which target they get or must not get",
		ArgsUsage: "[FILE…]",
		Description: "Without a FILE it runs " + defaultTest + ", found upwards from the working directory.\n" +
			"No token is requested. The status is 8 if a case fails or a rule is matched by no case.\n" +
			"The form of the file: https://github.com/oidc-dbt/oidc-dbt/blob/main/docs/testing-policies.md\n\n" +
			"Examples:\n\n    oidc-dbt test-policy\n    oidc-dbt test-policy --mutate\n    oidc-dbt test-policy --format junit > policy.xml",
		OnUsageError:    usageError,
		CommandNotFound: showHelp,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: flagFormat, Usage: fmt.Sprintf("one of %q", policytest.Formats), Value: policytest.Formats[0],
				Sources: variable(env, flagFormat)},
			&cli.BoolFlag{Name: flagMutate, Usage: "also change each claim of each allowed case, and list the changes that are still allowed",
				Sources: variable(env, flagMutate)},
		},
		Action: end.keep(func(_ context.Context, c *cli.Command) error {
			format := c.String(flagFormat)
			if !slices.Contains(policytest.Formats, format) {
				return fault.New(fault.Usage, fmt.Errorf("flag --format: unknown format %q, valid formats are %q", format, policytest.Formats), "")
			}
			paths := c.Args().Slice()
			if len(paths) == 0 {
				path, err := findTest(env)
				if err != nil {
					return err
				}
				paths = []string{path}
			}
			var reports []policytest.Report
			for _, path := range paths {
				f, err := readTest(env, path)
				if err != nil {
					return err
				}
				report := f.Run(env.Now())
				if c.Bool(flagMutate) {
					report.Mutants = f.Mutate(env.Now())
				}
				reports = append(reports, report)
			}
			if slices.ContainsFunc(reports, policytest.Report.Failed) {
				end.status = int(fault.Found)
			}
			var b strings.Builder
			if err := policytest.Write(&b, format, reports); err != nil {
				return err
			}
			text := b.String()
			if format == policytest.Formats[0] {
				text = runner.Printable(text)
			}
			_, err := io.WriteString(env.Stdout, text)
			return err
		}),
	}
}

// defaultTest is where the tests are looked for, with either of YAML's extensions.
const defaultTest = ".github/" + policytest.DefaultName

func findTest(env job.Env) (string, error) {
	for dir := env.Dir; ; dir = filepath.Dir(dir) {
		for _, name := range []string{defaultTest, strings.TrimSuffix(defaultTest, ".yml") + ".yaml"} {
			path := filepath.Join(dir, filepath.FromSlash(name))
			if _, err := os.Stat(path); err == nil {
				if short, err := filepath.Rel(env.Dir, path); err == nil && !strings.HasPrefix(short, "..") {
					return short, nil
				}
				return path, nil
			}
		}
		if dir == filepath.Dir(dir) {
			return "", fault.New(fault.Usage, fmt.Errorf("no %s in %q or above", defaultTest, env.Dir),
				"name the file, or run `oidc-dbt init`, which writes one next to the policy")
		}
	}
}

// readTest reads a test file and its policy.
func readTest(env job.Env, path string) (*policytest.File, error) {
	src, err := readText(env, path, policytest.MaxSize, "policy test")
	if err != nil {
		return nil, err
	}
	return policytest.Parse(filepath.ToSlash(path), src, func(name string) (*policy.Policy, error) {
		file := filepath.Join(filepath.Dir(path), filepath.FromSlash(name))
		text, err := readText(env, file, policy.MaxSize, "policy")
		if err != nil {
			return nil, err
		}
		catalog := job.Catalog()
		catalog.Version, catalog.Now = env.Version, env.Now()
		return policy.Parse(filepath.ToSlash(file), text, catalog)
	})
}

// readText reads a file that the user names. The error is of class Usage.
func readText(env job.Env, path string, limit int64, what string) ([]byte, error) {
	full := path
	if !filepath.IsAbs(full) {
		full = filepath.Join(env.Dir, path)
	}
	text, err := disk.Read(full, limit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fault.New(fault.Usage, fmt.Errorf("read %s: there is no file %q", what, path), "")
	case err != nil:
		return nil, fault.New(fault.Usage, fmt.Errorf("read %s %q: %w", what, path, disk.Cause(err)), "")
	}
	return text, nil
}
