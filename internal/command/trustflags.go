package command

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/trust"
)

const (
	flagSubTemplate = "sub-template"
	flagTrustOwner  = "owner-id"
	flagTrustRepo   = "repository"
	flagPrincipalID = "principal-id"
	flagPool        = "pool"
	flagSet         = "set"
	flagOut         = "out"
	flagOverwrite   = "overwrite"
	flagToAudience  = "to-audience"
	flagToTemplate  = "to-sub-template"
)

// trustFlags are those of every command that writes or reads trust. A step
// leaves OIDC_DBT_TARGET and OIDC_DBT_POLICY for exec: what is judged here is
// the repository's file.
func trustFlags(env job.Env) []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: flagTarget, Usage: "only this target; may be repeated (default: all of the policy)"},
		&cli.StringFlag{Name: flagPolicy, Usage: "a path, or the policy itself (default: " + job.DefaultPolicy + ", found upwards)"},
		&cli.StringFlag{Name: flagSubTemplate, Sources: variable(env, flagSubTemplate),
			Usage: "the keys of a customised subject, such as repo,context,event_name (default: GitHub's subject)"},
		&cli.StringSliceFlag{Name: flagTrustOwner, Usage: "an owner's number, as OWNER=ID; may be repeated",
			Sources: variable(env, flagTrustOwner)},
		&cli.StringSliceFlag{Name: flagTrustRepo, Usage: "a repository's name, as ID=OWNER/REPOSITORY; may be repeated"},
		&cli.StringFlag{Name: flagPrincipalID, Usage: "the provider's own id of the identity, where the policy does not have it",
			Sources: variable(env, flagPrincipalID)},
		&cli.StringFlag{Name: flagPool, Usage: "Google's pool, where the policy does not have it", Sources: variable(env, flagPool)},
		&cli.StringSliceFlag{Name: flagSet, Usage: "another setting of the provider, as NAME=VALUE; may be repeated"},
	}
}

// A namedLogin is one login of a target, and the name of its files.
type namedLogin struct {
	trust.Demand
	name string
}

// demands reads the policy and what its targets ask of their providers.
func demands(ctx context.Context, env job.Env, c *cli.Command, inActions bool) (list []namedLogin, err error) {
	options, err := trustOptions(c)
	if err != nil {
		return nil, err
	}
	s := policySettings(env, c, inActions)
	p, err := job.Policy(ctx, env, s)
	if err != nil {
		return nil, err
	}
	names := c.StringSlice(flagTarget)
	if len(names) == 0 {
		names = p.Targets()
	}
	for _, name := range names {
		t, err := p.Target(name)
		if err != nil {
			return nil, err
		}
		owners, err := withOwners(options, t)
		if err != nil {
			return nil, err
		}
		for _, d := range trust.Demands(p, t, owners) {
			list = append(list, namedLogin{d, d.Name()})
		}
	}
	return list, nil
}

// withOwners gives an id without a name to the only owner that the target names.
func withOwners(o trust.Options, t *policy.Target) (trust.Options, error) {
	id, ok := o.OwnerIDs[""]
	if !ok {
		return o, nil
	}
	var owners []string
	for _, r := range t.Rules() {
		owners = append(owners, r.Patterns("repository_owner")...)
		for _, full := range r.Patterns("repository") {
			owner, _, _ := strings.Cut(full, "/")
			owners = append(owners, owner)
		}
	}
	slices.Sort(owners)
	owners = slices.Compact(owners)
	if len(owners) > 1 {
		return o, flagFault(flagTrustOwner, id, fmt.Sprintf("OWNER=ID, for target %q has the owners %q", t.Name(), owners))
	}
	o.OwnerIDs = maps.Clone(o.OwnerIDs)
	delete(o.OwnerIDs, "")
	for _, owner := range owners {
		o.OwnerIDs[owner] = id
	}
	return o, nil
}

// policySettings are where the policy of a command is that judges the repository's file.
func policySettings(env job.Env, c *cli.Command, inActions bool) job.Settings {
	s := job.Settings{Policy: c.String(flagPolicy), SearchUpwards: c.String(flagPolicy) == "", Root: env.Dir}
	if inActions {
		s.Workspace = env.Getenv("GITHUB_WORKSPACE")
	}
	return s
}

func trustOptions(c *cli.Command) (o trust.Options, err error) {
	o = trust.Options{OwnerIDs: map[string]string{}, Repositories: map[string]string{}, Values: map[string]string{}}
	if o.SubTemplate, err = template(flagSubTemplate, c.String(flagSubTemplate)); err != nil {
		return o, err
	}
	for _, text := range c.StringSlice(flagTrustOwner) {
		owner, id, named := strings.Cut(text, "=")
		if !named {
			owner, id = "", text
		}
		if id == "" || strings.Trim(id, "0123456789") != "" {
			return o, flagFault(flagTrustOwner, text, "OWNER=ID, the id a number: gh api users/OWNER --jq .id")
		}
		o.OwnerIDs[owner] = id
	}
	for _, text := range c.StringSlice(flagTrustRepo) {
		id, name, _ := strings.Cut(text, "=")
		if id == "" || strings.Trim(id, "0123456789") != "" || strings.Count(name, "/") != 1 {
			return o, flagFault(flagTrustRepo, text, "ID=OWNER/REPOSITORY")
		}
		o.Repositories[id] = name
	}
	for _, text := range c.StringSlice(flagSet) {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" || value == "" {
			return o, flagFault(flagSet, text, "NAME=VALUE")
		}
		o.Values[name] = value
	}
	for _, name := range []string{flagPrincipalID, flagPool} {
		if value := c.String(name); value != "" {
			o.Values[name] = value
		}
	}
	return o, nil
}

func flagFault(flag, got, want string) error {
	return fault.New(fault.Usage, fmt.Errorf("flag --%s: got %q, want %s", flag, got, want), "")
}

// template reads the keys of a customised subject.
func template(flag, text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	keys := strings.Split(text, ",")
	for i, key := range keys {
		if !policy.InSubject(key) {
			return nil, fault.New(fault.Usage, fmt.Errorf("flag --%s: %q cannot be a key of a subject: want repo, context and claims, such as %s",
				flag, key, "repo,context,event_name"), "")
		}
		if slices.Contains(keys[:i], key) {
			return nil, fault.New(fault.Usage, fmt.Errorf("flag --%s: key %q twice", flag, key), "")
		}
	}
	if keys[0] != "repo" {
		return nil, fault.New(fault.Usage, fmt.Errorf("flag --%s: the first key is %q, want repo: a subject that begins with text that "+
			"another repository can choose can be imitated", flag, keys[0]), "")
	}
	return keys, nil
}

// single returns the only login, or an error that says how to choose one.
func single(list []namedLogin, what string) (namedLogin, error) {
	if len(list) == 1 {
		return list[0], nil
	}
	names := make([]string, len(list))
	for i, l := range list {
		names[i] = l.name
	}
	return namedLogin{}, fault.New(fault.Usage,
		fmt.Errorf("%s is for one login, and there are %q: choose with --target, or with --login where "+
			"a target has several", what, names), "")
}
