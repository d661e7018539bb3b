package lint

import (
	"context"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/git"
)

// maxGit bounds git, which reads an index and nothing else.
const maxGit = 10 * time.Second

// gitFiles returns the files below a folder that git does not ignore, and
// those among them that it tracks.
func gitFiles(ctx context.Context, dir string, environ []string) (names, tracked []string, err error) {
	if tracked, err = listFiles(ctx, dir, environ, "--cached"); err != nil {
		return nil, nil, err
	}
	others, err := listFiles(ctx, dir, environ, "--others", "--exclude-standard")
	return append(others, tracked...), tracked, err
}

// listFiles runs `git ls-files`.
func listFiles(ctx context.Context, dir string, environ []string, flags ...string) (names []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, maxGit)
	defer cancel()
	out, err := git.Repository{Dir: dir, Environ: environ}.Ask(ctx, append([]string{"ls-files", "-z"}, flags...)...)
	if err != nil {
		return nil, err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(out, "\x00"), "\x00") {
		if name != "" {
			names = append(names, name)
		}
	}
	return names, nil
}
