// Command release builds all that a release consists of, with the same bytes on every machine: binaries for six
// platforms, the files of a release commit, checksums and a list of what is linked. It also makes a release commit
// and checks one, and needs no network but the registries of modules and packages.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/oidc-dbt/oidc-dbt/release/image"
)

const usage = `usage:
  go run ./release --out DIR [--version v1.2.3] [--commit [--tag]]   build a release into DIR
  go run ./release --out DIR --busybox [--packages DEBS] …           also build the image with a shell, from Debian's packages
  go run ./release --out DIR --push REGISTRY/REPOSITORY              push the images of DIR, with the login of docker
  go run ./release --check COMMIT                                    verify a release commit: its parent, files, sums and a rebuild
  go run ./release --notes v1.2.3                                    print the version's section of CHANGELOG.md
  go run ./release --prepare v1.2.3                                  write the files of the pull request that prepares a release
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage) }
	version := flags.String("version", "v0.0.0-development", "")
	out := flags.String("out", "", "")
	busybox := flags.Bool("busybox", false, "")
	packages := flags.String("packages", "", "")
	push := flags.String("push", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if *out == "" {
		flags.Usage()
		return flag.ErrHelp
	}
	r := release{source: ".", out: *out, version: *version, log: stderr}
	if *push != "" {
		return image.Push(ctx, r.imageDir(), *push, func(text string) { fmt.Fprintln(stdout, text) })
	}
	if *busybox {
		r.debian = &image.Debian{Folder: *packages, Mirrors: image.Mirrors(), Client: &http.Client{Timeout: 5 * time.Minute}}
	}
	return r.build(ctx)
}
