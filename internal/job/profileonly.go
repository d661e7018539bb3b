package job

import (
	"context"
	"errors"
	"fmt"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/process"
)

// CheckProfileOnly returns which settings are missing, or cannot be combined
// with a profile without a credential.
func (s Settings) CheckProfileOnly() error {
	if !s.ProfileOnly {
		return nil
	}
	var errs []error
	if s.Target == "" {
		errs = append(errs, errors.New("profile-only: requires target: without an ID token there are no claims to choose one"))
	}
	if s.DryRun {
		errs = append(errs, errors.New("profile-only: cannot be combined with dry-run: nothing is decided"))
	}
	return errors.Join(errs...)
}

// profileOnly writes the profile with placeholders instead of logins. No
// ID token is requested: nothing is decided, exchanged or recorded, and no
// request is made.
func profileOnly(ctx context.Context, env Env, s Settings) (res Result, err error) {
	if err := s.CheckProfileOnly(); err != nil {
		return res, fault.New(fault.Usage, err, "")
	}
	pol, _, origin, err := readPolicy(ctx, env, s)
	if err != nil {
		return res, err
	}
	s.policyDir, s.inline = s.home(env, origin)
	t, err := pol.Target(s.Target)
	if err != nil {
		return res, err
	}
	if dbt := t.DBT(); dbt.Client || dbt.Type == "" && dbt.From == "" {
		return res, fault.New(fault.Usage,
			fmt.Errorf("profile-only: target %q has no `dbt:` block, and so no profile", t.Name()), "")
	}
	p, err := readProject(ctx, env, s, t)
	if err != nil {
		return res, err
	}
	if s.Program != "" {
		if _, err := process.Find(s.Program); err != nil {
			return res, err
		}
	}
	outline := t.Outline()
	if err := p.granted(outline); err != nil {
		return res, err
	}
	c, served, err := adapter.Placeholder(p.dbtType, outline, p.outputs(outline)[0])
	if err != nil {
		return res, err
	}
	res.Target, res.Type, res.Credential = t.Name(), p.dbtType, c
	res.Warnings = append(fault.Warnings(pol.Warnings()...), p.warnings...)
	if p.route.Only {
		res.Route = p.route
	}
	err = p.render(&res, outline, c, served)
	for i := range res.Variables {
		res.Variables[i].Secret = false // a mask would hide the word in the whole log
	}
	return res, err
}

// NothingDecided is what a run says of a profile without a credential, so that
// its success is not mistaken for a decision.
func (res Result) NothingDecided() string {
	return fmt.Sprintf("profile only: the profile of target %q has placeholders instead of logins; nothing was decided", res.Target)
}
