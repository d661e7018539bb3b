package job

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/bucket"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
	"github.com/oidc-dbt/oidc-dbt/internal/source"
)

// OpenBucket returns the bucket at a URL, for the credential of the settings'
// target. That is obtained as every run's is, with the decision and its records,
// at the first request, and again before it expires. An error is of class Usage.
func OpenBucket(ctx context.Context, env Env, s Settings, address string) (*bucket.Bucket, error) {
	_, p, _, _, err := settle(ctx, env, s)
	if err != nil {
		return nil, err
	}
	place, err := p.Bucket(address, s.Target)
	if err != nil {
		return nil, err
	}
	kind := source.Here(env.Getenv)
	b := &bucketReader{env: env, settings: s, say: func(text string) {
		fmt.Fprintln(env.Stderr, runner.Said(kind, text)) // as begin's, in order: nothing else is printed meanwhile
	}}
	b.settings.Say = b.say
	return bucket.New(bucket.Env{HTTP: env.Client(), Now: env.Now}, place, b.credential), nil
}

// A bucketReader gives the credential of a target to this program itself.
type bucketReader struct {
	env      Env
	settings Settings
	say      func(string)

	mu   sync.Mutex
	held credential.Credential
}

// credential returns the one that it has until shortly before its expiry.
func (b *bucketReader) credential(ctx context.Context) (credential.Credential, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held.Expiry.After(b.env.Now().Add(time.Minute)) {
		return b.held, nil
	}
	r := runner.New(runner.Env{Getenv: b.env.Getenv, Stdout: io.Discard, HTTP: b.env.Client()}) // nothing of it is printed
	res, err := Authenticate(ctx, b.env, b.settings, r)
	if res.Allowed != "" && b.held.Expiry.IsZero() {
		b.say(res.Allowed)
	}
	for _, w := range res.Warnings {
		b.say("warning: " + w.Text)
	}
	if err != nil {
		return credential.Credential{}, fmt.Errorf("target %q: %w", b.settings.Target, err)
	}
	if err := res.End(ctx, b.env); err != nil { // it has no lease: its records are waited for
		b.say("warning: clean up: " + fault.WithHint(err))
	}
	b.held = res.Credential
	return b.held, nil
}
