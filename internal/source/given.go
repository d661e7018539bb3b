package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// variable reads a token from a variable.
func variable(env Env, name, hint string) (secret.Value, error) {
	text := env.Getenv(name)
	if text == "" {
		return secret.Value{}, fault.New(fault.NoIdentity, fmt.Errorf("request ID token: %s is not set", name), hint)
	}
	return tokenOf(text, name)
}

// fromVariable is variable for a system that hands out its tokens so.
func fromVariable(name, hint string) func(context.Context, Env, string) (secret.Value, error) {
	return func(_ context.Context, env Env, audience string) (secret.Value, error) {
		return variable(env, name, strings.ReplaceAll(hint, "AUDIENCE", audience))
	}
}

// file reads a token from a file. It is opened anew each time: a kubelet
// replaces it, by a symbolic link within its folder, before the token expires.
func file(env Env, id policy.Identity, path string) (secret.Value, error) {
	full := path
	if !filepath.IsAbs(full) {
		full = filepath.Join(env.Dir, full)
	}
	failed := func(err error) error {
		hint := ""
		if errors.Is(err, fs.ErrNotExist) && id.Kind == "kubernetes" {
			hint = "mount it in the pod: a projected volume with `serviceAccountToken: {audience: …, expirationSeconds: 600, path: token}`"
		}
		return fault.New(fault.NoIdentity, fmt.Errorf("request ID token: read %q: %w", path, disk.Cause(err)), hint)
	}
	real, err := filepath.EvalSymlinks(full)
	if err != nil {
		return secret.Value{}, failed(err)
	}
	folder, err := filepath.EvalSymlinks(filepath.Dir(full))
	if err != nil {
		return secret.Value{}, failed(err)
	}
	if inside, err := filepath.Rel(folder, real); err != nil || !filepath.IsLocal(inside) {
		return secret.Value{}, failed(errors.New("it is a symbolic link that leads out of its folder"))
	}
	if err := notForOthers(real); err != nil {
		return secret.Value{}, failed(err)
	}
	text, err := disk.Read(real, maxToken)
	if err != nil {
		return secret.Value{}, failed(err)
	}
	return tokenOf(string(text), fmt.Sprintf("file %q", path))
}

// notForOthers refuses a file that other users could replace: who writes the
// token chooses whose identity this run has. That others can read it is not
// refused: a kubelet makes such files, and the pod is one user's.
func notForOthers(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("other users can write it (mode %04o): chmod go-w", info.Mode().Perm())
	}
	return nil
}

// commandLimit bounds the time that a source's command may take.
const commandLimit = 30 * time.Second

// command runs a program that prints a token, without a shell.
func command(ctx context.Context, env Env, args []string, audience string) (secret.Value, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, commandLimit, errors.New("it takes longer than "+commandLimit.String()))
	defer cancel()
	filled := make([]string, len(args))
	for i, a := range args {
		filled[i] = strings.ReplaceAll(a, "{audience}", audience)
	}
	failed := func(err error, hint string) error {
		return fault.New(fault.NoIdentity, fmt.Errorf("request ID token: run %q: %w", filled[0], err), hint)
	}
	program, err := exec.LookPath(filled[0])
	if err != nil {
		return secret.Value{}, failed(errors.New("it is not on PATH"), "")
	}
	var out capped
	cmd := exec.CommandContext(ctx, program, filled[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = env.Dir, env.Environ, &out, env.Stderr
	cmd.WaitDelay = 5 * time.Second // for what the program has started and left behind
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return secret.Value{}, failed(context.Cause(ctx), "")
	case out.over:
		return secret.Value{}, failed(fmt.Errorf("it prints more than %d bytes", maxToken),
			"it must print one token; other text around it is ignored")
	case err != nil:
		return secret.Value{}, failed(err, "its own messages are above")
	}
	v, err := tokenOf(theOnlyToken(out.text.String()), fmt.Sprintf("the output of %q", filled[0]))
	if err != nil {
		return v, fault.New(fault.NoIdentity, err, "it must print one token; other text around it is ignored")
	}
	return v, nil
}

// theOnlyToken returns the one JWT in what a program prints: spire-agent and
// others print it in JSON, or with labels and keys around it. Other text is
// returned as it is.
func theOnlyToken(text string) string {
	found := ""
	for _, word := range strings.FieldsFunc(text, notInJWT) {
		switch {
		case !isJWT(word) || word == found:
		case found != "":
			return text // two tokens: whose this run is must not be a guess
		default:
			found = word
		}
	}
	if found == "" {
		return text
	}
	return found
}

// notInJWT reports whether a character is none of a JWT in its compact form.
func notInJWT(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
}

// isJWT reports whether a word looks like a signed JWT: three parts, of which
// the first begins as a JSON object does in base64url.
func isJWT(word string) bool {
	parts := strings.Split(word, ".")
	return len(parts) == 3 && strings.HasPrefix(parts[0], "eyJ") && parts[1] != "" && parts[2] != ""
}

// capped keeps the beginning of what is written to it.
type capped struct {
	text bytes.Buffer // not embedded: io.Copy would use its ReadFrom, which has no bound
	over bool
}

func (c *capped) Write(p []byte) (int, error) {
	if c.text.Len()+len(p) > maxToken {
		c.over = true
		return 0, errors.New("too much output") // ends the program's pipe
	}
	return c.text.Write(p)
}

// variableFile reads a short secret from a file that a variable names.
func variableFile(path string) (string, error) {
	text, err := disk.Read(path, maxToken)
	if err != nil {
		return "", fault.New(fault.NoIdentity, fmt.Errorf("request ID token: read %q: %w", path, disk.Cause(err)), "")
	}
	return strings.TrimSpace(string(text)), nil
}
