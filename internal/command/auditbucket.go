package command

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/oidc-dbt/oidc-dbt/internal/auditlog"
	"github.com/oidc-dbt/oidc-dbt/internal/bucket"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/login"
)

const flagBucketTarget = "bucket-target"

// bucketFlags say by whose credential records in a bucket are read, and where
// its own request is recorded.
func bucketFlags(env job.Env) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: flagBucketTarget, Usage: "the target of the policy whose credential may read the bucket"},
		auditLogFlag(env), tokenSourceFlag(), asFlag(),
	}
}

// buckets opens those among the paths. Nothing is asked for before they are read.
func buckets(
	ctx context.Context, env job.Env, c *cli.Command, inActions bool, paths []string,
) (all map[string]*bucket.Bucket, err error) {
	all = map[string]*bucket.Bucket{}
	for _, path := range paths {
		if !auditlog.IsBucket(path) {
			continue
		}
		s := policySettings(env, c, inActions)
		if s.Target = c.String(flagBucketTarget); s.Target == "" {
			return nil, fault.New(fault.Usage, fmt.Errorf("%q is in a bucket, and no target is named that may read it", path),
				"add --bucket-target NAME: a target of the policy, for credentials only")
		}
		if s.AuditLog, err = auditLogOf(env, c); err != nil {
			return nil, err
		}
		if s.TokenSource, err = tokenChoice(c); err != nil {
			return nil, err
		}
		s.Timeout, s.StateDir, s.SignIn, s.TokenStore = job.DefaultTimeout, env.StateDir(), atTerminal(env), login.Keyring
		if all[path], err = job.OpenBucket(ctx, env, s, path); err != nil {
			return nil, err
		}
	}
	return all, nil
}
