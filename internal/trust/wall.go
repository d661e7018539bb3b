package trust

import (
	"fmt"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/logic"
)

// A Wall is one login's trust in the provider's own language.
type Wall struct {
	Provider  string     // the language: aws, gcp, snowflake …
	Documents []Document // what the provider is given, one file each
	Terraform string     // the same for Terraform, "" where its provider cannot say it
	Script    Script     // the same as commands
	GitHub    Script     // GitHub's side: protection of environments, the subject's template
	Rules     []RuleReport
	Notes     []string // what the owner must know before
	// Admits is met by the tokens that the documents let in, as their
	// generator means them.
	Admits logic.Formula
}

// A Document is one file: Suffix follows the target's name, such as aws.json.
type Document struct{ Suffix, Text string }

// A RuleReport says what of a rule is enforced by the provider.
type RuleReport struct {
	Rule     int      `json:"rule"`
	Line     int      `json:"line"`
	Enforced []string `json:"enforced"`
	WiderBy  []Gap    `json:"wider_by,omitempty"`
	Narrower []Gap    `json:"narrower_by,omitempty"`
}

// A Gap is a claim that the provider's trust does not hold to the policy.
type Gap struct {
	Claim      string `json:"claim"`
	Why        string `json:"why"`
	ClosesWith string `json:"closes_with,omitempty"`
}

// A File is what a vendor's own tool exported.
type File struct {
	Name string
	Text []byte
}

// A Reading is what documents of the provider admit.
type Reading struct {
	Admits   logic.Formula
	Findings []Finding
}

// A Finding is something wrong with the provider's side.
type Finding struct {
	Name     string            `json:"name"`
	Severity string            `json:"severity"` // error, warning, note
	Message  string            `json:"message"`
	Witness  map[string]string `json:"witness,omitempty"`

	whole map[string]string // the witness with every claim that it has
}

// A language is one file of this package: how one provider is told whom to trust.
type language struct {
	// nested reports whether it compares claims inside objects of the token.
	nested bool
	// generate writes the trust. Its errors are of class Usage: what is over a
	// limit of the provider, and what to do.
	generate func(Demand) (Wall, error)
	// read reads what the provider's own tool exports. An error says that a
	// file is not what it reads.
	read func(Demand, []File) (Reading, error)
	// rotate and revoke return the owner's commands, in order. next is the
	// demand with what it changes to.
	rotate func(d, next Demand) (Script, error)
	revoke func(Demand) (Script, error)
}

// languages are by name; languageOf says which one a target's login has.
var languages = map[string]language{
	"aws":             awsLanguage,
	"databricks":      databricksLanguage,
	"entra":           entraLanguage,
	"external_oauth":  externalOAuthLanguage,
	"gcp":             gcpLanguage,
	"identity_center": identityCenterLanguage,
	"keycloak":        keycloakLanguage,
	"openbao":         openbaoLanguage,
	"snowflake":       snowflakeLanguage,
	"trino":           trinoLanguage,
	"vault":           vaultLanguage,
}

// personSide is what the owner of a warehouse sets for people who log in with
// access tokens of their own, or with a role in IAM Identity Center.
var personSide = map[string]string{
	"athena":     "give the permission set in IAM Identity Center what dbt needs, and assign it to the people",
	"databricks": "add the people to the workspace, and grant them what dbt needs",
	"duckdb":     "give the permission set in IAM Identity Center what dbt needs, and assign it to the people",
	"fabric":     "give the people a role in the workspace, or grants in the warehouse",
	"postgres":   "create the people as Entra ID's principals: select * from pgaadauth_create_principal('NAME', false, false)",
	"redshift":   "give the permission set in IAM Identity Center redshift:GetClusterCredentials, and assign it to the people",
	"snowflake":  "create a security integration of type EXTERNAL_OAUTH for the identity provider, and the people's users",
	"sqlserver":  "create the people's users in the database: CREATE USER [NAME] FROM EXTERNAL PROVIDER",
}

// languageOf returns the name of the language that a login's trust is written in.
func languageOf(d Demand) (string, error) {
	dbtType := d.Case.Login.DBT.Type
	switch name := d.Provider(); name {
	case "gcp":
		if d.Get("user_project") != "" {
			return "", usage("target %q: no trust is generated for a workforce pool, which is the organisation's: see docs/clouds/google.md",
				d.Target.Name())
		}
		return name, nil
	case "aws", "entra", "databricks", "identity_center":
		return name, nil
	case "vault":
		if d.Get("auth") == "cel" {
			return "openbao", nil
		}
		return "vault", nil
	case "oidc":
		if dbtType == "trino" {
			return "trino", nil
		}
		return "snowflake", nil
	case "login":
		return "", usage("target %q: no trust is generated for provider \"login\", which sends the ID token nowhere: %s", d.Target.Name(),
			personSide[dbtType])
	case "token_exchange":
		if d.Get("grant") == "client_assertion" {
			return "keycloak", nil
		}
		if dbtType == "snowflake" {
			return "external_oauth", nil
		}
		return "", usage("target %q: no trust is generated for token_exchange with grant %q: the authorization server "+
			"that accepts the ID token decides; for Keycloak use `grant: client_assertion`", d.Target.Name(), d.Get("grant"))
	}
	return "", usage("target %q: no trust is generated for provider %q", d.Target.Name(), d.Provider())
}

// Generate writes the provider's side of one login.
func Generate(d Demand) (Wall, error) {
	name, err := languageOf(d)
	if err != nil {
		return Wall{}, err
	}
	d = d.in(languages[name])
	told, err := d.told()
	if err != nil {
		return Wall{Provider: name}, err
	}
	w, err := languages[name].generate(told)
	if err == nil {
		d.addWarehouse(name, &w)
	}
	d.addBeyond(&w)
	w.Provider = name
	w.GitHub = d.githubScript()
	return w, err
}

// addBeyond adds to the reports what the provider cannot be told.
func (d Demand) addBeyond(w *Wall) {
	for i := range w.Rules {
		for _, r := range d.Rules {
			if r.Number != w.Rules[i].Rule {
				continue
			}
			for _, c := range r.beyond() {
				w.Rules[i].wider(c.Claim, c.Beyond, "")
			}
		}
	}
	for _, r := range d.Deny {
		if len(r.beyond()) > 0 {
			w.Notes = append(w.Notes, fmt.Sprintf("deny %s is not part of the trust: its claim %s: %s",
				r.label(), r.beyond()[0].Claim, r.beyond()[0].Beyond))
		}
	}
}

// Rotate returns the owner's commands for a change to another audience or
// template of the subject, which next has, without an outage.
func Rotate(d, next Demand) (Script, error) {
	name, err := languageOf(d)
	if err != nil {
		return Script{}, err
	}
	told, err := d.in(languages[name]).told()
	if err != nil {
		return Script{}, err
	}
	toldNext, err := next.in(languages[name]).told()
	if err != nil {
		return Script{}, err
	}
	s, err := languages[name].rotate(told, toldNext)
	s.About = append([]string{
		fmt.Sprintf("Rotates the trust of target %q at %s without an outage, from the policy by `oidc-dbt trust rotate`.",
			oneLine(d.Name()), name),
		"Read it first: it goes on for days, waits for you in between, and shows each command before it runs it.",
	}, s.About...)
	return s, err
}

// Revoke returns the owner's commands for an incident: what stops logins, what
// ends those that there are, and what proves it.
func Revoke(d Demand) (Script, error) {
	name, err := languageOf(d)
	if err != nil {
		return Script{}, err
	}
	s, err := languages[name].revoke(d)
	s.Late = true
	about := []string{
		fmt.Sprintf("Incident: shuts target %q at %s, from the policy by `oidc-dbt trust revoke`.", oneLine(d.Name()), name),
		"It shows each command before it runs it, stops at the first that fails, and may be run again.",
	}
	if len(s.Undo) > 0 {
		about = append(about, "To open the target again, when the cause is gone, run it with the argument: undo")
	}
	s.About = append(about, s.About...)
	return s, err
}

// Files are all documents of one login, by the names that they are written to.
func (w Wall) Files(target string) (list []Document) {
	for _, doc := range w.Documents {
		list = append(list, Document{target + "." + doc.Suffix, doc.Text})
	}
	if w.Terraform != "" {
		list = append(list, Document{target + ".tf", w.TerraformFile(target)})
	}
	list = append(list, Document{target + ".sh", w.NativeFile(target)})
	if len(w.GitHub.Steps) > 0 {
		list = append(list, Document{target + ".github.sh", w.GitHub.String()})
	}
	return list
}

// TerraformFile is the Terraform with what its reader must know before it.
func (w Wall) TerraformFile(target string) string { return w.head(target) + "\n" + w.Terraform }

// NativeFile is the script with what its reader must know before it.
func (w Wall) NativeFile(target string) string {
	first, rest, _ := strings.Cut(w.Script.String(), "\n")
	return first + "\n" + w.head(target) + rest
}

func usage(format string, args ...any) error {
	return fault.New(fault.Usage, fmt.Errorf(format, args...), "")
}

// wider returns the gap for a claim, where it is not there yet.
func (r *RuleReport) wider(claim, why, closes string) {
	if !slices.ContainsFunc(r.WiderBy, func(g Gap) bool { return g.Claim == claim }) {
		r.WiderBy = append(r.WiderBy, Gap{claim, why, closes})
	}
}

func (r *RuleReport) narrower(claim, why, closes string) {
	if !slices.ContainsFunc(r.Narrower, func(g Gap) bool { return g.Claim == claim }) {
		r.Narrower = append(r.Narrower, Gap{claim, why, closes})
	}
}

func (r *RuleReport) enforces(claims ...string) {
	for _, c := range claims {
		if !slices.Contains(r.Enforced, c) {
			r.Enforced = append(r.Enforced, c)
		}
	}
}

func report(r Rule) RuleReport { return RuleReport{Rule: r.Number, Line: r.Line, Enforced: []string{}} }

// Seen is what the provider makes of a token.
type Seen struct {
	Admitted, Unknown bool
	Why               string // why a token that a rule admits is not admitted, "" where that is not known
}

// Sees returns what the generated trust makes of a token's claims.
func (d Demand) Sees(w Wall, token map[string]string) Seen {
	verdict := w.Admits.Eval(token)
	seen := Seen{Admitted: verdict == logic.True, Unknown: verdict == logic.Unknown}
	if seen.Admitted {
		return seen
	}
	var reasons []string
	for i, r := range w.Rules {
		if d.Rules[i].Formula().Eval(token) != logic.True {
			continue
		}
		for _, g := range r.Narrower {
			if !slices.Contains(reasons, g.Why) {
				reasons = append(reasons, g.Why)
			}
		}
	}
	seen.Why = strings.Join(reasons, "; or ")
	return seen
}

// Missed returns the claims by which the policy refuses a token: those of the
// rule that comes nearest.
func (d Demand) Missed(token map[string]string) []string {
	return (&comparer{d: d}).nearest(token).Claims
}
