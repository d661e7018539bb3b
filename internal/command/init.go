package command

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/proposal"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
	"github.com/urfave/cli/v3"
)

func initCommand(env job.Env, end *outcome) *cli.Command {
	text := func(name, usage string) cli.Flag {
		return &cli.StringFlag{Name: name, Usage: usage, Sources: variable(env, name)}
	}
	return &cli.Command{
		Name:      "init",
		Usage:     "propose a policy, its tests and a workflow from the repository's own files",
		ArgsUsage: " ",
		Description: "Example:\n\n    oidc-dbt init\n    oidc-dbt init --repository-id 487920697 --write\n\n" +
			"It reads the dbt projects, their profiles.yml, the workflows that run dbt, and git's remote. It prints what it\n" +
			"proposes and what is left to do. It uses no network, asks nothing, and never overwrites a file.",
		OnUsageError:    usageError,
		CommandNotFound: showHelp,
		Flags: []cli.Flag{
			text(flagProvider, "who exchanges the ID token (default: by the warehouse)"),
			text(flagType, "dbt's adapter type (default: that of profiles.yml)"),
			text(flagRepository, "OWNER/NAME on GitHub (default: by git's remote)"),
			text(flagRepositoryID, "GitHub's number of the repository, which outlives its name"),
			text(flagEnvironment, "the environment of jobs that have none"),
			text(flagProjectDir, "the only project to look at (default: every dbt_project.yml)"),
			text(flagPlatform,
				"OWNER/NAME of the repository with the policy and the reusable workflow: propose a workflow that calls it"),
			text(flagPlatformDir, "a checkout of that repository, whose inputs and policy are read"),
			&cli.BoolFlag{Name: flagWrite, Usage: "write the new files, and the changes as a patch",
				Sources: variable(env, flagWrite)},
			&cli.BoolFlag{Name: flagJSON, Usage: "as a JSON object", Sources: variable(env, flagJSON)},
		},
		Action: end.keep(func(_ context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return unexpected(c)
			}
			return propose(env, c)
		}),
	}
}

// printable is runner.Printable that leaves line ends of Windows as they are: a
// change to a file is applied with them.
func printable(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		bare, isWindows := strings.CutSuffix(line, "\r")
		if lines[i] = runner.Printable(bare); isWindows {
			lines[i] += "\r"
		}
	}
	return strings.Join(lines, "\n")
}

func propose(env job.Env, c *cli.Command) error {
	home := env.Getenv("HOME")
	if home == "" {
		home = env.Getenv("USERPROFILE")
	}
	p, err := proposal.Propose(proposal.Request{
		Dir: env.Dir, Home: home, Catalog: job.Catalog(),
		Provider: c.String(flagProvider), Type: c.String(flagType), Environment: c.String(flagEnvironment),
		Repository: c.String(flagRepository), RepositoryID: c.String(flagRepositoryID),
		ProjectDir: c.String(flagProjectDir), Platform: c.String(flagPlatform), PlatformDir: c.String(flagPlatformDir),
	})
	if err != nil {
		return err
	}
	var written []string
	if c.Bool(flagWrite) {
		if written, err = p.Write(); err != nil {
			return err
		}
	}
	if !c.Bool(flagJSON) {
		_, err = io.WriteString(env.Stdout, printable(p.Text(written)))
		return err
	}
	text, err := p.JSON(written)
	if err != nil {
		return fmt.Errorf("encode the proposal: %w", err)
	}
	_, err = env.Stdout.Write(text)
	return err
}
