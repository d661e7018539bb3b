package command

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/source"
	"github.com/urfave/cli/v3"
)

// The names of the flags; each has a variable: see variable.
const (
	flagTarget       = "target"
	flagPolicy       = "policy"
	flagProjectDir   = "project-dir"
	flagProfiles     = "profiles"
	flagAuditLog     = "audit-log"
	flagAllowUID     = "allow-uid"
	flagTimeout      = "timeout"
	flagDryRun       = "dry-run"
	flagProfileOnly  = "profile-only"
	flagPassIdentity = "pass-identity"
	flagDir          = "dir"
	flagReadyFile    = "ready-file"
	flagReadyFD      = "ready-fd"
	flagHealthPort   = "health-port"
	flagPodVolume    = "pod-volume"
	flagPort         = "port"
	flagClaims       = "claims"
	flagIdentity     = "identity"
	flagRepository   = "repository"
	flagRepositoryID = "repository-id"
	flagOwnerID      = "owner-id"
	flagEnvironment  = "environment"
	flagRef          = "ref"
	flagEvent        = "event"
	flagClaim        = "claim"
	flagJSON         = "json"
	flagProvider     = "provider"
	flagType         = "type"
	flagPlatform     = "platform"
	flagPlatformDir  = "platform-dir"
	flagWrite        = "write"
	flagTokenSource  = "token-source"
	flagAs           = "as"
)

// targetFlags say which credential, for whom, and where that is recorded.
func targetFlags(env job.Env) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: flagTarget, Usage: "the target in the policy (default: chosen by the claims)", Sources: variable(env, flagTarget)},
		&cli.StringFlag{Name: flagPolicy,
			Usage: "a path, or the policy itself (default: " + job.DefaultPolicy + ", found upwards)", Sources: variable(env, flagPolicy)},
		&cli.StringSliceFlag{Name: flagProjectDir,
			Usage:   "where dbt_project.yml is (default: where dbt finds it, upwards from the working directory)",
			Sources: variable(env, flagProjectDir)},
		&cli.StringSliceFlag{Name: flagProfiles, Usage: "further profile names that get the same output", Sources: variable(env, flagProfiles)},
		auditLogFlag(env),
		&cli.IntSliceFlag{Name: flagAllowUID,
			Usage:       "the ID of another user who may connect to the broker (on Linux; elsewhere the secret is enough)",
			DefaultText: "this user only", Sources: variable(env, flagAllowUID)},
		tokenSourceFlag(), asFlag(),
	}
}

// tokenSourceFlag and asFlag have no variables: who sets them could make a run
// another identity's.
func tokenSourceFlag() cli.Flag {
	return &cli.StringFlag{Name: flagTokenSource, Usage: "where an identity's tokens come from: IDENTITY=env:NAME or IDENTITY=file:PATH"}
}

func asFlag() cli.Flag {
	return &cli.StringFlag{Name: flagAs, Usage: "the identity of the policy to sign in as, where several could"}
}

// tokenChoice reads both.
func tokenChoice(c *cli.Command) (choice source.Choice, err error) {
	if text := c.String(flagTokenSource); text != "" {
		if choice, err = source.ParseChoice(text); err != nil {
			return choice, fault.New(fault.Usage, fmt.Errorf("flag --token-source: %w", err), "")
		}
	}
	if as := c.String(flagAs); as != "" {
		if choice.Identity != "" && choice.Identity != as {
			return choice, fault.New(fault.Usage, fmt.Errorf("flag --as is %q, and --token-source is for identity %q", as, choice.Identity), "")
		}
		choice.Identity = as
	}
	return choice, nil
}

// settings reads targetFlags and the flag timeout.
func settings(env job.Env, c *cli.Command, inActions bool) (s job.Settings, err error) {
	s = job.Settings{
		Target:        c.String(flagTarget),
		Policy:        c.String(flagPolicy),
		SearchUpwards: c.String(flagPolicy) == "",
		ProjectDirs:   c.StringSlice(flagProjectDir),
		Profiles:      c.StringSlice(flagProfiles),
		AllowUIDs:     c.IntSlice(flagAllowUID),
		Timeout:       c.Duration(flagTimeout),
		Root:          env.Dir,
	}
	for _, uid := range s.AllowUIDs {
		if uid < 0 || int64(uid) >= math.MaxUint32 { // the last number is no user
			return s, fault.New(fault.Usage, fmt.Errorf("flag --allow-uid: got %d, want a user ID", uid), "")
		}
	}
	if s.TokenSource, err = tokenChoice(c); err != nil {
		return s, err
	}
	if s.Timeout <= 0 {
		return s, fault.New(fault.Usage, fmt.Errorf("flag --timeout: got %s, want more than 0", s.Timeout), "")
	}
	if s.AuditLog, err = auditLogOf(env, c); err != nil {
		return s, err
	}
	s.StateDir = env.StateDir()
	if inActions {
		s.Workspace = env.Getenv("GITHUB_WORKSPACE")
	}
	return s, nil
}

// auditLogFlag is where the records of a request are appended, and auditLogOf reads it.
func auditLogFlag(env job.Env) cli.Flag {
	return &cli.StringFlag{Name: flagAuditLog, Usage: "where audit records are appended", DefaultText: env.AuditLog(),
		Sources: variable(env, flagAuditLog)}
}

func auditLogOf(env job.Env, c *cli.Command) (string, error) {
	if path := c.String(flagAuditLog); path != "" {
		return path, nil
	}
	path := env.AuditLog()
	if path == "" {
		return "", fault.New(fault.Usage, errors.New("flag --audit-log: no folder of this user's is known to keep audit records in"),
			"set HOME or XDG_STATE_HOME to an absolute path, or name the file: --audit-log PATH")
	}
	return path, nil
}

// variable names the environment variable of a flag. They are looked up
// through the job's own environment, not the process's.
func variable(env job.Env, flag string) cli.ValueSourceChain {
	return cli.NewValueSourceChain(fromEnv{env, "OIDC_DBT_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))})
}

// fromEnv is a cli.ValueSource over job.Env.
type fromEnv struct {
	env  job.Env
	name string
}

func (s fromEnv) Lookup() (string, bool) { v := s.env.Getenv(s.name); return v, v != "" }

func (s fromEnv) String() string { return "environment variable " + s.name }

func (s fromEnv) GoString() string { return s.name }

func (s fromEnv) IsFromEnv() bool { return true }

func (s fromEnv) Key() string { return s.name }
