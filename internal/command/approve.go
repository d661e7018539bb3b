package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
	"github.com/oidc-dbt/oidc-dbt/internal/source"
)

const flagYes = "yes"

func approveCommand(env job.Env, end *outcome) *cli.Command {
	return &cli.Command{
		Name:      "approve",
		Usage:     "read who gets your tokens by a policy, and approve it",
		ArgsUsage: " ",
		Description: "Example:\n\n    oidc-dbt approve\n\n" +
			"A policy that came with a clone says who gets your tokens, and may name a program to run. Before you have\n" +
			"approved it, and after it has changed, nothing is asked for by it. Shown are its path, its identities and\n" +
			"every host that gets a token. No token is requested.",
		OnUsageError:    usageError,
		CommandNotFound: showHelp,
		// No variable for --yes: who sets it would approve for the person.
		Flags: append(personFlags(env), &cli.BoolFlag{Name: flagYes, Usage: "approve without a question, if you have read it elsewhere"}),
		Action: end.keep(func(ctx context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return unexpected(c)
			}
			s, err := personSettings(env, c)
			if err != nil {
				return err
			}
			shown, err := job.NewApproval(ctx, env, s)
			if err != nil {
				return err
			}
			if _, err := io.WriteString(env.Stdout, runner.Printable(shown.Text())); err != nil {
				return err
			}
			if shown.Before == "same" {
				return nil
			}
			if err := agrees(env, c.Bool(flagYes)); err != nil {
				return err
			}
			if err := shown.Remember(ctx); err != nil {
				return err
			}
			tell(env, "approved")
			return nil
		}),
	}
}

// agrees asks the person at the terminal. Variables of an AI agent can only
// refuse: that there is none does not prove a person.
func agrees(env job.Env, yes bool) error {
	if name := source.AgentHint(env.Getenv); name != "" {
		return fault.New(fault.NoIdentity, fmt.Errorf("approve: %s says that an AI agent is at work, and a person has to read this", name),
			"run `oidc-dbt approve` yourself, in a terminal of your own")
	}
	if yes {
		return nil
	}
	if !isTerminal(env.Stdin) {
		return fault.New(fault.Usage, errors.New("approve: standard input is not a terminal, so you cannot be asked"),
			"if you have read it: oidc-dbt approve --yes")
	}
	fmt.Fprint(env.Stderr, "oidc-dbt: approve it? [y/N] ")
	line, err := bufio.NewReader(io.LimitReader(env.Stdin, 64)).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); err != nil || answer != "y" && answer != "yes" {
		return fault.New(fault.NoIdentity, errors.New("approve: not approved"), "")
	}
	return nil
}
