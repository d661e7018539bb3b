package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/oidc-dbt/oidc-dbt/internal/audit"
	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/explain"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
	"github.com/oidc-dbt/oidc-dbt/internal/sample"
)

// factFlags are the flags that claims are made from.
var factFlags = []string{
	flagRepository, flagRepositoryID, flagOwnerID, flagEnvironment, flagRef, flagEvent, flagClaim, flagIdentity,
}

// maxClaimsFile limits a file of claims: an audit log of one run is far smaller.
const maxClaimsFile = 1 << 20

func explainCommand(env job.Env, inActions bool, end *outcome) *cli.Command {
	text := func(name, usage string) cli.Flag {
		return &cli.StringFlag{Name: name, Usage: usage, Sources: variable(env, name)}
	}
	return &cli.Command{
		Name:      "explain",
		Usage:     "show what the policy decides of claims, rule by rule, and why",
		ArgsUsage: " ",
		Description: "Example:\n\n" +
			"    oidc-dbt explain --repository acme/analytics --repository-id 487920697 --ref refs/heads/main --environment production\n\n" +
			"The claims are those of this job's own ID token or of your login, of a file, or made from flags.\n" +
			"The exit status is 0 if a run with these claims gets a credential, 5 if it does not.",
		OnUsageError:              usageError,
		CommandNotFound:           showHelp,
		DisableSliceFlagSeparator: true, // a claim may hold a comma
		Flags: []cli.Flag{
			// A step leaves OIDC_DBT_TARGET and OIDC_DBT_POLICY for exec: what is judged here is the repository's file.
			&cli.StringFlag{Name: flagTarget, Usage: "explain only this target (default: all of the policy)"},
			&cli.StringFlag{Name: flagPolicy,
				Usage: "a path, or the policy itself (default: " + job.DefaultPolicy + ", found upwards)"},
			text(flagClaims, "a file with a JSON object of claims, an ID token, or an audit record; - for standard input"),
			text(flagRepository, "OWNER/REPOSITORY"),
			text(flagRepositoryID, "the repository's number"),
			text(flagOwnerID, "the owner's number"),
			text(flagEnvironment, "the environment of the job"),
			text(flagRef, "a full ref, such as refs/heads/main or refs/pull/7/merge"),
			text(flagEvent, "the event that started the workflow (default: what the ref suggests)"),
			&cli.StringSliceFlag{Name: flagClaim, Usage: "any other claim as NAME=VALUE; several of one NAME make a list",
				Sources: variable(env, flagClaim)},
			text(flagIdentity, "whose token to make, by its name in the policy (default: github)"),
			&cli.BoolFlag{Name: flagJSON, Usage: "as a JSON object", Sources: variable(env, flagJSON)},
			tokenSourceFlag(), asFlag(),
			&cli.DurationFlag{Name: flagTimeout, Usage: "for the request and check of an ID token", Value: job.DefaultTimeout,
				Sources: variable(env, flagTimeout)},
		},
		Action: end.keep(func(ctx context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return unexpected(c)
			}
			report, err := explained(ctx, env, c, inActions)
			if err != nil {
				return err
			}
			if !report.Allowed() {
				end.status = int(fault.Denied)
			}
			if c.Bool(flagJSON) {
				return report.WriteJSON(env.Stdout)
			}
			return writeText(env, report)
		}),
	}
}

// explained reads the policy and the claims, from exactly one place.
func explained(ctx context.Context, env job.Env, c *cli.Command, inActions bool) (explain.Report, error) {
	facts := ""
	for _, name := range factFlags {
		if c.IsSet(name) {
			facts = name
			break
		}
	}
	if c.IsSet(flagClaims) && facts != "" {
		return explain.Report{}, fault.New(fault.Usage,
			fmt.Errorf("flags --%s and --%s: the claims are either in a file or made from flags", flagClaims, facts), "")
	}
	choice, err := tokenChoice(c)
	if err != nil {
		return explain.Report{}, err
	}
	given := facts
	if c.IsSet(flagClaims) {
		given = flagClaims
	}
	for _, live := range []string{flagTokenSource, flagAs} {
		if given != "" && c.String(live) != "" {
			return explain.Report{}, fault.New(fault.Usage,
				fmt.Errorf("flags --%s and --%s: the claims are either given or those of a token that is requested", given, live), "")
		}
	}
	s := job.Settings{
		TokenSource: choice,
		Target:      c.String(flagTarget), Policy: c.String(flagPolicy), SearchUpwards: c.String(flagPolicy) == "",
		Timeout: c.Duration(flagTimeout), Root: env.Dir, StateDir: env.StateDir(),
	}
	if s.Timeout <= 0 {
		return explain.Report{}, fault.New(fault.Usage, fmt.Errorf("flag --timeout: got %s, want more than 0", s.Timeout), "")
	}
	if inActions {
		s.Workspace = env.Getenv("GITHUB_WORKSPACE")
	}
	p, err := job.Policy(ctx, env, s)
	if err != nil {
		return explain.Report{}, err
	}
	if s.Target != "" {
		if _, err := p.Target(s.Target); err != nil {
			return explain.Report{}, err // before a token is asked for
		}
	}
	claims, source, err := claimsFor(ctx, env, c, s, p, facts != "")
	if err != nil {
		return explain.Report{}, err
	}
	report, err := explain.New(p, claims, env.Now(), s.Target, source)
	report.AskProviders(p, claims)
	return report, err
}

func claimsFor(ctx context.Context, env job.Env, c *cli.Command, s job.Settings, p *policy.Policy, made bool) (
	policy.ClaimSet, explain.Source, error) {
	switch {
	case c.IsSet(flagClaims) && c.String(flagClaims) == "":
		return nil, explain.Source{}, fault.New(fault.Usage, fmt.Errorf("flag --%s: is empty, want a file, or - for standard input",
			flagClaims), "")
	case c.IsSet(flagClaims):
		return claimsOf(env, s, c.String(flagClaims))
	case made:
		return madeClaims(c, p)
	case !job.HasToken(env, s, p):
		return nil, explain.Source{}, fault.New(fault.Usage,
			errors.New("no claims given, and this is no job that has an ID token"), "give a file with --claims, "+
				"or facts about a job: oidc-dbt explain --repository acme/analytics --ref refs/heads/main")
	}
	return job.LiveClaims(ctx, env, s)
}

// claimsOf reads a file of claims.
func claimsOf(env job.Env, s job.Settings, path string) (policy.ClaimSet, explain.Source, error) {
	source := explain.Source{Kind: "file", File: path}
	text, err := readClaims(env, s, path)
	var claims idtoken.Unverified
	if err == nil {
		var isRecord bool
		if source.Past, isRecord, err = audit.ReadDecision(text, recordedOf); err == nil && isRecord {
			source.Kind = "audit"
			claims, err = idtoken.NewUnverified(source.Past.Claims)
			claims = claims.Partial(source.Past.Absent...)
			source.AgentHint = source.Past.AgentHint
		} else if err == nil {
			claims, err = idtoken.ParseUnverified(text)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.New("no such file") // on every platform
	}
	if err != nil {
		return nil, source, fault.New(fault.Usage, fmt.Errorf("read claims %q: %w", path, disk.Cause(err)), "")
	}
	return claims, source, nil
}

func readClaims(env job.Env, s job.Settings, path string) ([]byte, error) {
	if path != "-" {
		return disk.Read(s.Path(path), maxClaimsFile)
	}
	text, err := io.ReadAll(io.LimitReader(env.Stdin, maxClaimsFile+1))
	if err == nil && len(text) > maxClaimsFile {
		err = disk.TooLarge(maxClaimsFile)
	}
	return text, err
}

// madeClaims makes up claims from flags.
func madeClaims(c *cli.Command, p *policy.Policy) (policy.ClaimSet, explain.Source, error) {
	id, err := identity(c, p)
	if err != nil {
		return nil, explain.Source{}, err
	}
	facts := sample.Facts{
		Repository: c.String(flagRepository), RepositoryID: c.String(flagRepositoryID), OwnerID: c.String(flagOwnerID),
		Environment: c.String(flagEnvironment), Ref: c.String(flagRef), Event: c.String(flagEvent), Claims: map[string]any{},
	}
	for _, text := range c.StringSlice(flagClaim) {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, explain.Source{}, fault.New(fault.Usage,
				fmt.Errorf("flag --%s: got %q, want NAME=VALUE", flagClaim, text), "")
		}
		switch have := facts.Claims[name].(type) {
		case nil:
			facts.Claims[name] = value
		case string:
			facts.Claims[name] = []string{have, value}
		case []string:
			facts.Claims[name] = append(have, value)
		}
	}
	made, err := sample.Make(id, facts)
	if err != nil {
		return nil, explain.Source{}, fault.New(fault.Usage, fmt.Errorf("make claims from flags: %w", err), "")
	}
	source := explain.Source{Kind: "flags", Missing: made.Missing, Notes: made.Odd}
	if made.OtherSubject != "" {
		source.Other = made.With("sub", made.OtherSubject)
	}
	return made.Unverified, source, nil
}

// identity returns the identity whose token is made up: as rules do, that
// called github if none is named; or else the only one.
func identity(c *cli.Command, p *policy.Policy) (policy.Identity, error) {
	all := p.Identities()
	name := c.String(flagIdentity)
	if name == "" && len(all) == 1 {
		return all[0], nil
	}
	if name == "" {
		name = "github"
	}
	id, ok := p.Identity(name)
	if !ok {
		names := make([]string, len(all))
		for i, id := range all {
			names[i] = id.Name
		}
		return id, fault.New(fault.Usage,
			fmt.Errorf("flag --%s: unknown identity %q, the policy has %q", flagIdentity, name, names), "")
	}
	return id, nil
}

// writeText writes a report for a reader: its marks in colour on a terminal.
func writeText(env job.Env, report explain.Report) error {
	var b strings.Builder
	if err := report.WriteText(&b); err != nil {
		return err
	}
	text := runner.Printable(b.String())
	if env.Getenv("NO_COLOR") == "" && isTerminal(env.Stdout) {
		text = explain.Painted(text)
	}
	_, err := io.WriteString(env.Stdout, text)
	return err
}

// recordedOf is what records keep of the tokens of a kind; older ones do not
// name it, and are of GitHub's.
func recordedOf(kind string) audit.Identity {
	return job.Recorded(policy.Identity{Kind: cmp.Or(kind, "github")})
}
