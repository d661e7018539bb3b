package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// storedKeyID is AWS's own example of an IAM user's access key.
const storedKeyID = "AKIAIOSFODNN7EXAMPLE"

// storedKey is docs/guides/from-a-stored-key.md: a job that builds with an
// access key of the store, and at its end has none. Each part runs the job by
// the old way or the new one.
func (d *demo) storedKey() []part {
	secret := rand.Text()
	build := func(byKey, works bool) func(context.Context) error {
		return func(ctx context.Context) error { return d.buildBy(ctx, secret, byKey, works) }
	}
	enabled := func(ctx context.Context) error {
		d.store.SetKey(storedKeyID, secret)
		return build(true, true)(ctx)
	}
	disabled := func(ctx context.Context) error {
		d.store.DisableKey(storedKeyID)
		return build(true, false)(ctx)
	}
	return d.onS3([]part{
		{"1. What is there: dbt builds with a stored key", enabled},
		{"2. to 5. The role trusts the job, and the workflow is switched: the key still works, and is not used", build(false, true)},
		{"6. The key is disabled: what still uses it fails", disabled},
		{"6. The new way does not notice", build(false, true)},
		{"Going back: the key is enabled again, and the old way works", enabled},
		{"7. The key is removed", disabled},
		{"7. The new way does not notice", build(false, true)},
	}...)
}

// buildBy runs `dbt build` as the old workflow does, with the stored key, or
// as the new one does, by an ID token, and asks the store which key was used.
func (d *demo) buildBy(ctx context.Context, secret string, byKey, works bool) error {
	j, err := d.job("stored-key")
	if err != nil {
		return err
	}
	env := map[string]string{"S3_KEY_ID": storedKeyID, "S3_SECRET": secret} // GitHub's secrets: they are there to the end
	command := []string{d.python.Program("dbt"), "build", "--no-use-colors", "--profiles-dir", "."}
	if !byKey {
		env = d.issuer.RunnerEnv()
		command = []string{d.binary, "exec", "--target", "prod", "--", d.python.Program("dbt"), "build", "--no-use-colors"}
	}
	env["HOME"], env["USERPROFILE"] = d.python.Home, d.python.Home // DuckDB's extensions are there
	env["PATH"] = d.python.Bin + string(os.PathListSeparator) + os.Getenv("PATH")
	profile := fmt.Sprintf(`shop:
  target: prod
  outputs:
    prod:
      type: duckdb
      path: shop.duckdb
      schema: main
      secrets:
        - type: s3
          endpoint: %q
          url_style: path
          use_ssl: false
          key_id: "{{ env_var('S3_KEY_ID') }}"
          secret: "{{ env_var('S3_SECRET') }}"
`, d.store.Host())
	if err := os.WriteFile(filepath.Join(j.workspace(), "profiles.yml"), []byte(profile), 0o600); err != nil {
		return err
	}
	d.issuer.SetClaims(standin.GitHubClaims())
	keys, sessions := d.store.UsedKey(storedKeyID), len(d.sts.Sessions())
	step, shown, err := j.step(ctx, nil, env, command[0], command[1:]...)
	if err != nil {
		return err
	}
	keys, sessions = d.store.UsedKey(storedKeyID)-keys, len(d.sts.Sessions())-sessions
	if works != (step.Status == 0) {
		quote(shown)
	}
	say("dbt's exit status: %d. The store's log: %d requests with the stored key; the token service's: %d sessions",
		step.Status, keys, sessions)
	return errors.Join(
		expect("the build works", step.Status == 0, works),
		expect("the stored key was used", keys > 0, byKey && works),
		expect("a session was issued", sessions > 0, !byKey),
	)
}
