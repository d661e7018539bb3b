// Command release builds all that a release consists of, with the same bytes on every machine: binaries for six
// platforms, the files of a release commit, checksums and a list of what is linked. It also makes a release commit
// and checks one. It needs no network but the registries of modules and packages, and GitHub's API for --github.
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
	"path/filepath"
	"syscall"
	"time"

	"github.com/oidc-dbt/oidc-dbt/release/image"
)

const usage = `usage:
  go run ./release --out DIR [--version v1.2.3]   build a release of this folder into DIR, a new folder
    --busybox [--packages DEBS]   also build the image with a shell, from Debian's packages
    --fast                        pack in seconds, not minutes, to try things out: what a job downloads may be too large
    --commit                      build HEAD's files instead, make a release commit of them, and print it; no branch moves
    --tag                         with --commit: tag the commit with the version
  go run ./release --from DIR --version v1.2.3 …  with what --out has built from HEAD's files already
    --commit [--tag]              as above
    --github OWNER/NAME           make the commit on GitHub (with GH_TOKEN), which signs it; the tag, too
    --push REGISTRY/REPOSITORY    push the images, with the login of docker
  go run ./release --check COMMIT                 verify a release commit: its parent, files, sums, image, and a rebuild
  go run ./release --notes v1.2.3                 print the version's section of CHANGELOG.md
  go run ./release --prepare v1.2.3               write what the pull request changes that prepares a release
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

// options are the command's flags.
type options struct {
	version, out, from, check, notes, prepare string // all but the first choose what is done
	packages, github, push                    string
	busybox, commit, tag, fast                bool
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o options
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage) }
	for name, value := range map[string]*string{
		"out": &o.out, "from": &o.from, "check": &o.check, "notes": &o.notes, "prepare": &o.prepare,
		"packages": &o.packages, "github": &o.github, "push": &o.push,
	} {
		flags.StringVar(value, name, "", "")
	}
	flags.StringVar(&o.version, "version", "v0.0.0-development", "")
	flags.BoolVar(&o.busybox, "busybox", false, "")
	flags.BoolVar(&o.commit, "commit", false, "")
	flags.BoolVar(&o.tag, "tag", false, "")
	flags.BoolVar(&o.fast, "fast", false, "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if !o.valid() {
		flags.Usage()
		return flag.ErrHelp
	}
	return o.do(ctx, stdout, stderr)
}

// valid reports whether the flags choose one thing to do, and go with it.
func (o options) valid() bool {
	chosen := 0
	for _, value := range []string{o.out, o.from, o.check, o.notes, o.prepare} {
		if value != "" {
			chosen++
		}
	}
	switch {
	case chosen != 1:
		return false
	case o.from != "":
		return o.commit != (o.push != "") && !o.busybox && !o.fast && (o.commit || !o.tag && o.github == "")
	case o.out != "":
		return (o.commit || !o.tag) && o.github == "" && o.push == ""
	default:
		return !o.commit && !o.tag && !o.busybox && !o.fast && o.github == "" && o.push == ""
	}
}

func (o options) do(ctx context.Context, stdout, stderr io.Writer) error {
	repo := repository{dir: "."}
	r := release{source: ".", out: o.out + o.from, version: o.version, compress: compressAt(level), log: stderr}
	if o.fast {
		r.compress, r.fast = compressAt(fastLevel), true
	}
	if o.busybox {
		r.debian = &image.Debian{Folder: o.packages, Mirrors: image.Mirrors(), Client: &http.Client{Timeout: 5 * time.Minute}}
	}
	switch {
	case o.check != "":
		sha, err := checker{repo: repo, log: stderr}.check(ctx, o.check)
		if err == nil {
			fmt.Fprintf(stdout, "%s is a release commit: it has one parent, adds only dist/, all sums are right, "+
				"and the parent builds the same binaries\n", sha)
		}
		return err
	case o.notes != "":
		text, err := notes("CHANGELOG.md", o.notes)
		fmt.Fprint(stdout, text)
		return err
	case o.prepare != "":
		r.version = o.prepare
		return r.prepare(ctx, time.Now())
	case o.push != "":
		if err := r.checkImage(); err != nil {
			return err
		}
		return image.Push(ctx, r.imageDir(), o.push, func(text string) { fmt.Fprintln(stdout, text) })
	case o.commit:
		sha, err := o.publish(ctx, repo, r)
		if err == nil {
			fmt.Fprintln(stdout, sha)
		}
		return err
	default:
		return r.build(ctx)
	}
}

// publish makes a release commit of HEAD's files and what is built of them, and its tag, and returns its name.
func (o options) publish(ctx context.Context, repo repository, r release) (string, error) {
	head, err := repo.resolve(ctx, "HEAD")
	if err != nil {
		return "", err
	}
	clean, err := os.MkdirTemp("", "oidc-dbt-release-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(clean)
	r.source = filepath.Join(clean, "source")
	if err := repo.export(ctx, head, r.source); err != nil {
		return "", err
	}
	if o.out != "" {
		if err := r.build(ctx); err != nil {
			return "", err
		}
	}
	if err := r.checkImage(); err != nil {
		return "", err
	}
	tree, err := repo.tree(ctx, head, r)
	if err != nil {
		return "", err
	}
	if o.github == "" {
		return commitAndTag(ctx, repo, head, tree, r, o.tag)
	}
	api := github{url: "https://api.github.com", repository: o.github, token: os.Getenv("GH_TOKEN"), repo: repo}
	return commitAndTag(ctx, api, head, tree, r, o.tag)
}

// A committer makes commits and tags: git does, and GitHub's API.
type committer interface {
	commit(ctx context.Context, parent, tree string, built release) (sha string, err error)
	tag(ctx context.Context, sha, version string) error
}

func commitAndTag(ctx context.Context, to committer, parent, tree string, built release, tag bool) (string, error) {
	sha, err := to.commit(ctx, parent, tree, built)
	if err == nil && tag {
		err = to.tag(ctx, sha, built.version)
	}
	return sha, err
}
