package command

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/urfave/cli/v3"
)

// A build is what `version` tells of this binary; its JSON is stable.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"` // "unknown" where neither the build nor git said it
	Platform string `json:"platform"`
	Go       string `json:"go"`
}

func thisBuild(env job.Env) build {
	b := build{Version: env.Version, Commit: env.Commit, Platform: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if ok && b.Commit == "" {
		modified := ""
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				b.Commit = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				modified = "-modified"
			}
		}
		if b.Commit != "" {
			b.Commit += modified
		}
	}
	b.Commit = cmp.Or(b.Commit, "unknown")
	return b
}

func versionCommand(env job.Env, end *outcome) *cli.Command {
	return &cli.Command{
		Name:            "version",
		Usage:           "print version, commit and platform",
		ArgsUsage:       " ",
		Description:     "Example:\n\n    oidc-dbt version --json",
		OnUsageError:    usageError,
		CommandNotFound: showHelp,
		Flags:           []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "as a JSON object with version, commit, platform and go"}},
		Action: end.keep(func(_ context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return unexpected(c)
			}
			b := thisBuild(env)
			if c.Bool("json") {
				return json.NewEncoder(env.Stdout).Encode(b)
			}
			_, err := fmt.Fprintf(env.Stdout, "oidc-dbt %s (commit %s, %s, %s)\n", b.Version, b.Commit, b.Platform, b.Go)
			return err
		}),
	}
}

func unexpected(c *cli.Command) error {
	return fault.New(fault.Usage, fmt.Errorf("unexpected argument %q", c.Args().First()), "")
}
