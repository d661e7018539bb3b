package trust

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/logic"
)

// databricksLanguage is Databricks' federation policies: of a service principal,
// each an issuer, audiences and one exact subject, or of the whole account.
var databricksLanguage = language{generate: generateDatabricks, read: readDatabricks, rotate: rotateDatabricks, revoke: revokeDatabricks}

// maxPolicies is how many federation policies a service principal, or an
// account, may have. (Databricks: Configure a federation policy)
const maxPolicies = 20

// A federationPolicy is one as the API has it. ID is the last part of its name,
// which follows from what it is: made a second time, it is refused as a double.
type federationPolicy struct {
	ID          string     `json:"policy_id,omitempty"`
	Description string     `json:"description,omitempty"`
	OIDC        oidcPolicy `json:"oidc_policy"`
}

type oidcPolicy struct {
	Issuer       string   `json:"issuer"`
	Audiences    []string `json:"audiences"`
	Subject      string   `json:"subject,omitempty"`
	SubjectClaim string   `json:"subject_claim,omitempty"`
}

func generateDatabricks(d Demand) (Wall, error) {
	w, list, err := d.federationPolicies()
	if err != nil {
		return Wall{}, err
	}
	w.Documents = []Document{{"databricks.json", asJSON(list)}}
	w.Terraform = d.databricksTerraform(list)
	d.createPolicies(&w.Script, list)
	if d.Case.Login.DBT.Type == "postgres" && d.Get("client_id") != "" {
		d.addLakebase(&w)
	}
	return w, nil
}

// federationPolicies are the policies for the rules. Without client_id the
// account has them, and they cannot hold a subject.
func (d Demand) federationPolicies() (w Wall, list []federationPolicy, err error) {
	if d.Get("client_id") == "" {
		return d.accountPolicies()
	}
	subjects, reports, err := d.exacts("Databricks", func(list []exact) error {
		if n := len(list); n > maxPolicies {
			return usage("target %q: its rules come to %d subjects, and a service principal in Databricks has at most %d federation "+
				"policies: use --sub-template repo,context,job_workflow_ref with a called workflow that refuses the wrong events, so that "+
				"the events need no subjects of their own, or several service principals by a ${claim} in client_id", d.Target.Name(), n, maxPolicies)
		}
		return nil
	})
	if err != nil {
		return Wall{}, nil, err
	}
	for _, x := range subjects {
		list = append(list, d.policyFor(x))
	}
	return Wall{Rules: reports, Admits: d.admitsExact(subjects)}, list, nil
}

func (d Demand) policyFor(x exact) federationPolicy {
	p := federationPolicy{Description: fmt.Sprintf("oidc-dbt target %q", d.Target.Name()),
		OIDC: oidcPolicy{Issuer: x.Issuer, Audiences: []string{d.Audience()}, Subject: x.Subject, SubjectClaim: "sub"}}
	sum := sha256.Sum256([]byte(strings.Join([]string{x.Issuer, x.Subject, d.Audience()}, "\n")))
	name := strings.Trim(strings.ReplaceAll(strings.ToLower(hclName(d.Name())), "_", "-"), "-")
	const longest = 40
	p.ID = "oidc-dbt-" + name[:min(len(name), longest)] + "-" + hex.EncodeToString(sum[:4])
	return p
}

// accountPolicies are one policy for each issuer: `sub` names the principal
// that a token becomes, and nothing says which tokens may.
func (d Demand) accountPolicies() (w Wall, list []federationPolicy, err error) {
	var issuers []string
	seen := map[string]bool{}
	for _, r := range d.Rules {
		if issuer := r.Identity.Issuer; !seen[issuer] {
			seen[issuer] = true
			issuers = append(issuers, issuer)
			list = append(list, d.policyFor(exact{Issuer: issuer}))
		}
	}
	w.Admits = logic.And(logic.Equals("aud", d.Audience()), logic.Equals("iss", issuers...))
	find := newSearch(d, w.Admits)
	for _, r := range d.Rules {
		rep := report(r)
		own := logic.And(logic.Equals("aud", d.Audience()), logic.Equals("iss", r.Identity.Issuer))
		d.judge(&rep, r, own, nil, find, "an account-wide policy compares issuer and audience only")
		for i := range rep.WiderBy {
			rep.WiderBy[i].ClosesWith = "client_id in the policy, and a federation policy of that service principal"
		}
		if len(d.Deny) > 0 && find(logic.And(own, d.DenyFormula())) != nil {
			rep.wider("deny", "Databricks has no rule that refuses", "")
		}
		w.Rules = append(w.Rules, rep)
	}
	w.Notes = append(w.Notes, "an account-wide policy admits every token of the issuer with this audience whose `sub` "+
		"is the name of a user or "+
		"service principal: set client_id, and give that service principal a policy of its own")
	return w, list, nil
}

// principal is the service principal's number, which is not its client_id.
func (d Demand) principal(s *Script) any {
	if id := d.Options.Values["principal-id"]; id != "" {
		return id
	}
	return s.needs(Variable{Name: "SERVICE_PRINCIPAL_ID", Doc: "the number of service principal " + d.Get("client_id") +
		", which is not its client_id",
		Find: command("databricks", "account", "service-principals", "list", "--filter", `applicationId eq "`+d.Get("client_id")+`"`,
			"--output", "json") + " | jq --exit-status --raw-output '.[0].id'"})
}

const accountProfile = "The command wants a profile of the account: `databricks auth login --host " +
	"https://accounts.cloud.databricks.com --account-id ID`."

// createPolicies adds the commands that make the policies.
func (d Demand) createPolicies(s *Script, list []federationPolicy) {
	doc := accountProfile + "\nA policy that is there already is refused by its id, and nothing changes."
	for _, p := range list {
		body := asJSON(federationPolicy{Description: p.Description, OIDC: p.OIDC})
		s.run(doc, command(d.policyCommand(s, "create", "--policy-id", p.ID, "--json")...)+" "+quote(strings.TrimSpace(body)))
		doc = ""
	}
}

// policyCommand is a command on the federation policies of the service
// principal, or of the account.
func (d Demand) policyCommand(s *Script, verb string, more ...any) []any {
	words := []any{"databricks", "account", "federation-policy", verb}
	if d.Get("client_id") != "" {
		words = []any{"databricks", "account", "service-principal-federation-policy", verb, d.principal(s)}
	}
	return append(words, more...)
}

// databricksTerraform is the same for Databricks' provider, at the account.
// (terraform-provider-databricks 1.128, docs/resources)
func (d Demand) databricksTerraform(list []federationPolicy) string {
	f, label := newTerraform(), hclName(d.Name())
	kind := "databricks_account_federation_policy"
	var principal any
	f.comment("For a provider of the account: host = \"https://accounts.cloud.databricks.com\" and account_id.")
	if client := d.Get("client_id"); client != "" {
		kind = "databricks_service_principal_federation_policy"
		principal = hclRef("data.databricks_service_principal." + label + ".id")
		if id := d.Options.Values["principal-id"]; id != "" {
			principal = id
		} else {
			f.block("data", "databricks_service_principal", label).set("application_id", client)
		}
	}
	for _, p := range list {
		b := f.block("resource", kind, label+"_"+p.ID[strings.LastIndex(p.ID, "-")+1:])
		if principal != nil {
			b.set("service_principal_id", principal)
		}
		b.set("policy_id", p.ID)
		b.set("description", p.Description)
		fields := hclObject{{"issuer", p.OIDC.Issuer}, {"audiences", p.OIDC.Audiences}}
		if p.OIDC.Subject != "" {
			fields = append(fields, hclField{"subject", p.OIDC.Subject})
		}
		b.set("oidc_policy", append(fields, hclField{"subject_claim", p.OIDC.SubjectClaim}))
	}
	return f.String()
}

// addLakebase adds the role in the database that the service principal logs in
// as. (Databricks: Create and manage Postgres roles for Databricks identities)
func (d Demand) addLakebase(w *Wall) {
	client := d.Get("client_id")
	text := "-- Run it as a superuser of the database that dbt uses. The role has the service principal's client_id as its name.\n" +
		"CREATE EXTENSION IF NOT EXISTS databricks_auth;\n" +
		"SELECT databricks_create_role(" + pgLiteral(client) + ", 'SERVICE_PRINCIPAL');\n"
	role := pgIdentifier(client)
	if database := d.DBT("database"); database != "" {
		text += "GRANT CONNECT, CREATE ON DATABASE " + pgIdentifier(database) + " TO " + role + ";\n"
	}
	w.Documents = append(w.Documents, Document{"grants.sql", text})
	w.Script.run("The role in Lakebase. psql takes its connection from PGHOST, PGDATABASE, PGUSER and PGPASSWORD.",
		feed("psql --set ON_ERROR_STOP=1", text))
}

func pgLiteral(text string) string    { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
func pgIdentifier(text string) string { return `"` + strings.ReplaceAll(text, `"`, `""`) + `"` }

// A readPolicy is a federation policy as the CLI and the API print it, and as
// Terraform shows it.
type readPolicy struct {
	Name string          `json:"name"`
	ID   string          `json:"policy_id"`
	UID  string          `json:"uid"`
	OIDC *readOIDCPolicy `json:"oidc_policy"`
}

type readOIDCPolicy struct {
	Issuer       string   `json:"issuer"`
	Audiences    []string `json:"audiences"`
	Subject      *string  `json:"subject"`
	SubjectClaim string   `json:"subject_claim"`
	Keys         string   `json:"jwks_json"`
	KeysURI      string   `json:"jwks_uri"`
}

const databricksExport = "what `databricks account service-principal-federation-policy list NUMBER --output json` prints"

func readDatabricks(d Demand, files []File) (Reading, error) {
	var out Reading
	var parts []logic.Formula
	for _, f := range files {
		list, err := policiesIn(f)
		if err != nil {
			return Reading{}, err
		}
		for i, p := range list {
			where := fmt.Sprintf("%s: federation policy %d", f.Name, i+1)
			if name := p.label(); name != "" {
				where += fmt.Sprintf(" (%s)", name)
			}
			if p.OIDC == nil || p.OIDC.Issuer == "" {
				return Reading{}, usage("%s: no oidc_policy with an issuer: want %s", where, databricksExport)
			}
			admits, found := d.readPolicy(where, *p.OIDC)
			parts = append(parts, admits)
			out.Findings = append(out.Findings, found...)
		}
	}
	out.Admits = logic.Or(parts...)
	return out, nil
}

func (p readPolicy) label() string {
	for _, text := range []string{p.ID, p.UID, p.Name} {
		if text != "" {
			return text
		}
	}
	return ""
}

// policiesIn reads a list of policies, a page of the API's with one, or one policy.
func policiesIn(f File) (list []readPolicy, err error) {
	if json.Unmarshal(f.Text, &list) == nil {
		return list, nil
	}
	var page struct {
		Policies []readPolicy `json:"policies"`
		Next     string       `json:"next_page_token"`
		readPolicy
	}
	switch err := json.Unmarshal(f.Text, &page); {
	case err != nil:
		return nil, usage("%s: want %s: %v", f.Name, databricksExport, err)
	case page.Next != "":
		return nil, usage("%s: this is one page of several: want %s", f.Name, databricksExport)
	case page.OIDC != nil:
		return []readPolicy{page.readPolicy}, nil
	case page.Policies == nil:
		return nil, usage("%s: no policies: want %s", f.Name, databricksExport)
	}
	return page.Policies, nil
}

// readPolicy returns what one policy admits, and what is wrong with it.
func (d Demand) readPolicy(where string, p readOIDCPolicy) (logic.Formula, []Finding) {
	var found []Finding
	add := func(name, severity, format string, args ...any) {
		found = append(found, Finding{Name: name, Severity: severity, Message: where + ": " + fmt.Sprintf(format, args...)})
	}
	audience := logic.Equals("aud", p.Audiences...)
	if len(p.Audiences) == 0 {
		audience = logic.Undecided(where + " has no audiences, and the policy no account_id, which is the default")
		if account := d.Get("account_id"); account != "" {
			audience = logic.Equals("aud", account)
		}
		add("missing-audience", "note", "it has no audiences, so Databricks wants the account's id: write the audience")
	}
	if p.Keys != "" || p.KeysURI != "" {
		add("own-keys", "warning", "it has keys of its own, so the issuer's rotation of keys does not reach it: remove jwks_json and jwks_uri")
	}
	claim := p.SubjectClaim
	if claim == "" {
		claim = "sub"
	}
	if p.Subject == nil || *p.Subject == "" {
		severity := "warning"
		for _, r := range d.Rules {
			if r.Identity.Issuer == p.Issuer {
				severity = "error"
			}
		}
		add("account-wide-policy", severity, "it has no subject: any token of %s with the audience becomes the user or "+
			"service principal that its %s "+
			"names; delete it, and give each service principal a policy of its own", p.Issuer, claim)
		return logic.And(logic.Equals("iss", p.Issuer), audience, logic.Has(claim)), found
	}
	if claim != "sub" {
		add("other-subject-claim", "error", "it compares %s and nothing else of the token, so every repository whose token "+
			"has this value gets in: "+
			"use `sub`, customised to hold %s", claim, claim)
	} else {
		found = append(found, d.subjectFindings(where, p.Issuer, *p.Subject)...)
	}
	return logic.And(logic.Equals("iss", p.Issuer), audience, logic.Equals(claim, *p.Subject)), found
}
