package command

import (
	"context"

	"github.com/urfave/cli/v3"
)

// helpCommand is `oidc-dbt help [COMMAND]`. Each further argument is a
// command of the one before it.
func helpCommand(end *outcome) *cli.Command {
	return &cli.Command{
		Name:         "help",
		Aliases:      []string{"h"},
		Usage:        "print the help of a command",
		ArgsUsage:    "[COMMAND]",
		Description:  "Example:\n\n    oidc-dbt help exec",
		OnUsageError: usageError,
		CommandNotFound: func(ctx context.Context, c *cli.Command, _ string) { // `help exec --help`
			end.err = showHelpOf(ctx, c.Root(), c.Args().Slice())
		},
		Action: end.keep(func(ctx context.Context, c *cli.Command) error {
			return showHelpOf(ctx, c.Root(), c.Args().Slice())
		}),
	}
}

func showHelpOf(ctx context.Context, root *cli.Command, path []string) error {
	if len(path) == 0 {
		return cli.ShowRootCommandHelp(root)
	}
	parent, at := root, root
	for _, name := range path {
		if parent, at = at, at.Command(name); at == nil {
			return unknownCommand(parent, name)
		}
	}
	return cli.ShowCommandHelp(ctx, parent, at.Name)
}

// showHelp is for `oidc-dbt exec --help dbt`: what the library takes for a
// command is an argument.
func showHelp(ctx context.Context, c *cli.Command, _ string) {
	lineage := c.Lineage() // from the command up
	_ = cli.ShowCommandHelp(ctx, lineage[1], c.Name)
}
