package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
)

// A person is what `whoami --json` prints. Its form is documented, and its
// names are stable.
type person struct {
	Version   int          `json:"version"`
	Identity  string       `json:"identity"`
	Issuer    string       `json:"issuer"`
	ClientID  string       `json:"client_id"`
	Subject   string       `json:"subject"`
	Name      string       `json:"name,omitempty"`    // preferred_username or email: for the reader, it proves nothing
	UserID    string       `json:"user_id,omitempty"` // identity_store_user_id, of IAM Identity Center
	Groups    []string     `json:"groups"`
	Roles     []string     `json:"roles"`
	ExpiresAt string       `json:"expires_at"` // of the ID token, which is refreshed
	Targets   []personView `json:"targets"`
}

// A personView is what the policy decides for one target.
type personView struct {
	Target   string `json:"target"`
	Decision string `json:"decision"` // "allowed", "denied"
	Rule     int    `json:"rule,omitempty"`
	why      string // it is denied, for the reader
}

func whoamiCommand(env job.Env, end *outcome) *cli.Command {
	return &cli.Command{
		Name:      "whoami",
		Usage:     "show who you are signed in as, and which targets the policy opens for you",
		ArgsUsage: "[IDENTITY]",
		Description: "Example:\n\n    oidc-dbt whoami --json\n\n" +
			"The status is 3 if you are not signed in. `oidc-dbt exec --dry-run --target TARGET -- true` shows every rule\n" +
			"that a denied target has, and what your token has instead.",
		OnUsageError:    usageError,
		CommandNotFound: showHelp,
		Flags:           append(personFlags(env), &cli.BoolFlag{Name: flagJSON, Usage: "as a JSON object", Sources: variable(env, flagJSON)}),
		Action: end.keep(func(ctx context.Context, c *cli.Command) error {
			return asPerson(ctx, env, c, func(ctx context.Context, p job.Person) error {
				claims, err := p.Claims(ctx)
				if err != nil {
					return err
				}
				who := personOf(p, claims, env.Now())
				if c.Bool(flagJSON) {
					return json.NewEncoder(env.Stdout).Encode(who)
				}
				_, err = io.WriteString(env.Stdout, runner.Printable(who.text()))
				return err
			})
		}),
	}
}

func personOf(p job.Person, claims idtoken.Claims, now time.Time) person {
	who := person{
		Version: 1, Identity: p.Identity.Name, Issuer: p.Identity.Issuer, ClientID: p.Identity.ClientID, Subject: claims.Subject(),
		Groups: listOf(claims, "groups"), Roles: listOf(claims, "roles"), ExpiresAt: claims.Expiry().UTC().Format(time.RFC3339),
	}
	for _, name := range []string{"preferred_username", "email"} {
		if text, ok := claims.String(name); ok && who.Name == "" {
			who.Name = text
		}
	}
	who.UserID, _ = claims.String("https://sts.amazonaws.com/>identity_store_user_id")
	explained := p.Policy.Explain(claims, now)
	for _, name := range p.Policy.Targets() {
		view := personView{Target: name, Decision: "denied"}
		if rule, ok := p.Policy.Decides(name, claims, now); ok {
			view.Decision, view.Rule = "allowed", rule.Index+1
		} else if target, ok := explained.Target(name); ok {
			view.why = whyDenied(target)
		}
		who.Targets = append(who.Targets, view)
	}
	return who
}

// whyDenied says in one line why a target is denied: by its nearest rule, if none matches.
func whyDenied(t policy.TargetExplanation) string {
	nearest := t.Nearest()
	switch {
	case len(nearest) < len(t.Rules) || len(nearest) == 0: // a rule matches, and something else denies
		return t.Reason()
	case nearest[0].Foreign:
		return "no rule is for this identity"
	}
	return fmt.Sprintf("rule %d does not match (%s)", nearest[0].Index+1, strings.Join(nearest[0].Mismatches(), ", "))
}

// listOf returns a claim that is a list, or one value.
func listOf(claims idtoken.Claims, name string) []string {
	if list, ok := claims.Strings(name); ok {
		return list
	}
	if text, ok := claims.String(name); ok {
		return []string{text}
	}
	return []string{}
}

func (p person) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (identity %s of %s)\n", runner.OneLine(p.Subject), p.Identity, p.Issuer)
	for _, row := range []struct{ what, text string }{
		{"name", p.Name}, {"user id", p.UserID}, {"groups", strings.Join(p.Groups, ", ")}, {"roles", strings.Join(p.Roles, ", ")},
		{"ID token until", p.ExpiresAt + ", then it is refreshed"},
	} {
		if row.text != "" {
			fmt.Fprintf(&b, "  %s: %s\n", row.what, runner.OneLine(row.text))
		}
	}
	b.WriteString("targets\n")
	for _, t := range p.Targets {
		why := ""
		switch {
		case t.Rule > 0:
			why = fmt.Sprintf(" by rule %d", t.Rule)
		case t.why != "":
			why = ": " + t.why
		}
		fmt.Fprintf(&b, "  %s: %s%s\n", t.Target, t.Decision, why)
	}
	return b.String()
}
