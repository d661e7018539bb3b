// Command oidc-dbt gives one dbt run a short-lived warehouse credential that is bound to a verified identity.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"runtime/debug"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/command"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/process"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// version and commit are set when a release is built.
var (
	version = "development"
	commit  string
)

func main() {
	log.SetOutput(io.Discard) // net/http would quote there what servers send, between the command's own lines
	dir, derr := os.Getwd()
	executable, eerr := os.Executable()
	if derr != nil || eerr != nil {
		fmt.Fprintln(os.Stderr, "oidc-dbt: find the working directory and this program:", derr, eerr)
		os.Exit(1)
	}
	os.Exit(process.Main(os.Stderr, func(ctx context.Context) int {
		return command.Run(ctx, job.Env{
			Getenv: os.Getenv, Environ: os.Environ(), Now: time.Now, Transport: web.ReadNetwork(os.Getenv).Transport(),
			Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
			Masks: func() io.Writer { return process.RunnerStream(os.Getenv, os.Stderr) },
			Dir:   dir, TempDir: os.TempDir(), Executable: executable, Version: thisVersion(), Commit: commit,
		}, command.Arguments(os.Args))
	}))
}

// thisVersion is the release's. The go command sets no variables when it installs a module, but records which it took.
func thisVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && version == "development" && info.Main.Sum != "" {
		return info.Main.Version
	}
	return version
}
