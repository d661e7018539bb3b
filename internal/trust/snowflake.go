package trust

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"unicode/utf8"
)

// snowflakeLanguage is Snowflake's workload identities: each is an issuer, one
// exact subject and a list of audiences.
var snowflakeLanguage = language{generate: generateSnowflake, read: readSnowflake, rotate: rotateSnowflake, revoke: revokeSnowflake}

const (
	// maxIdentities is how many workload identities a user has by default, with
	// the one that is called DEFAULT. (Snowflake: release note of 12 October 2026)
	maxIdentities = 10
	// snowflakeAudience is what an identity without a list of audiences wants.
	snowflakeAudience = "snowflakecomputing.com"
	// maxSubject is how long a subject may be. (Snowflake: Workload identity
	// federation, Limitations and considerations)
	maxSubject = 255
)

// A workloadIdentity is one of a user's: of a token, or of an AWS role.
type workloadIdentity struct {
	Name      string   `json:"-"` // "" for the user's property, which Snowflake calls DEFAULT
	Type      string   `json:"type"`
	Issuer    string   `json:"issuer,omitempty"`
	Subject   string   `json:"subject,omitempty"`
	Audiences []string `json:"oidc_audience_list,omitempty"`
	ARN       string   `json:"arn,omitempty"`
}

func generateSnowflake(d Demand) (Wall, error) {
	list, reports, err := d.exacts("Snowflake", d.checkSubjects)
	if err != nil {
		return Wall{}, err
	}
	w := Wall{Rules: reports, Admits: d.admitsExact(list)}
	d.addSnowflake(&w, d.identities(list))
	return w, nil
}

// checkSubjects returns an error for more or longer subjects than a user of
// Snowflake's may have.
func (d Demand) checkSubjects(list []exact) error {
	if len(list) > maxIdentities {
		return errIdentities(d, len(list))
	}
	for _, x := range list {
		if n := utf8.RuneCountInString(x.Subject); n > maxSubject {
			return usage("target %q: the subject %q has %d characters, and Snowflake takes %d: use fewer keys in --sub-template",
				d.Target.Name(), x.Subject, n, maxSubject)
		}
	}
	return nil
}

func errIdentities(d Demand, n int) error {
	return usage("target %q: its rules come to %d subjects, and a user in Snowflake has at most %d workload identities: use "+
		"--sub-template repo,context,job_workflow_ref with a called workflow that refuses the wrong events, so that the events "+
		"need no subjects of their own, or several users by a ${claim} in `user`", d.Target.Name(), n, maxIdentities)
}

// identities are the workload identities for subjects; the first is the user's
// property. The names follow from what they are, so that others keep theirs
// when one is added.
func (d Demand) identities(list []exact) []workloadIdentity {
	out := make([]workloadIdentity, len(list))
	for i, x := range list {
		out[i] = workloadIdentity{Type: "OIDC", Issuer: x.Issuer, Subject: x.Subject}
		if d.Audience() != snowflakeAudience {
			out[i].Audiences = []string{d.Audience()}
		}
		if i > 0 {
			out[i].Name = out[i].named()
		}
	}
	return out
}

// named is the name that an identity gets next to others.
func (i workloadIdentity) named() string {
	sum := sha256.Sum256([]byte(strings.Join(append([]string{i.Issuer, i.Subject}, i.Audiences...), "\n")))
	words := strings.FieldsFunc(strings.ToUpper(i.Subject), func(r rune) bool { return (r < 'A' || r > 'Z') && (r < '0' || r > '9') })
	name := strings.Join(words, "_")
	const longest = 80 // of 255 that an identifier may have
	if len(name) > longest {
		name = name[len(name)-longest:]
	}
	return "ID_" + strings.Trim(name, "_") + "_" + strings.ToUpper(hex.EncodeToString(sum[:4]))
}

// properties are the clauses of an identity.
func (i workloadIdentity) properties() (lines []string) {
	lines = []string{"TYPE = " + i.Type}
	for _, p := range []struct{ key, value string }{{"ARN", i.ARN}, {"ISSUER", i.Issuer}, {"SUBJECT", i.Subject}} {
		if p.value != "" {
			lines = append(lines, p.key+" = "+sqlLiteral(p.value))
		}
	}
	if len(i.Audiences) > 0 {
		lines = append(lines, "OIDC_AUDIENCE_LIST = "+sqlList(i.Audiences...))
	}
	return lines
}

// add is the statement that gives a user the identity under a name.
func (i workloadIdentity) add(user string) []string {
	return append([]string{"ALTER USER " + user + " ADD WORKLOAD IDENTITY " + exactName(i.Name).SQL}, i.properties()...)
}

const (
	grantsDoc = "The roles. Run it as a role that may create roles and schemas and grant these privileges."
	fenceDoc  = "Nothing else logs in this user: no password, no key, no other issuer.\n" +
		"Run it as a role that may create the policy in its schema and attach it. It fails if the user has another one."
)

// addSnowflake adds the user in Snowflake that the identities log in, with its
// roles and what fences it.
func (d Demand) addSnowflake(w *Wall, list []workloadIdentity) {
	users := d.snowflakeUser(list)
	fences := d.snowflakeFence("WORKLOAD_IDENTITY", workloadPolicy(list))
	grants := d.snowflakeGrants()
	w.Documents = append(w.Documents,
		Document{"snowflake.sql", users.with(fences).String()},
		Document{"snowflake.json", d.snowflakeJSON(list)}, Document{"grants.sql", grants.String()})
	w.Terraform = joinTerraform(w.Terraform, d.snowflakeTerraform(list))
	grants.addTo(&w.Script, grantsDoc)
	users.addTo(&w.Script, "The user. Run it as a role that may create users and grant the role, such as SECURITYADMIN.\n"+
		"A user that exists already is left as it is; ADD fails for a name that the user has.")
	fences.addTo(&w.Script, fenceDoc)
	w.Notes = append(w.Notes,
		"Terraform's provider has only the user's default workload identity, behind an experimental feature that unsets the "+
			"identity of every service user whose block does not name one: apply TARGET.snowflake.sql instead (--format native), "+
			"unless all your service users are in Terraform",
		"a network policy on the user helps only where the runners have addresses of their own; GitHub's hosted runners share theirs "+
			"with everyone")
}

func joinTerraform(a, b string) string {
	if a == "" {
		return b
	}
	return a + "\n" + b
}

// snowflakeUser is the user, its identities and its role.
func (d Demand) snowflakeUser(list []workloadIdentity) *sqlText {
	s := &sqlText{d: d}
	user := s.name("user", "the user that the login becomes")
	role := s.name("role", "the role that dbt runs with")
	s.say("Target %q: who logs in as this user.", d.Target.Name())
	lines := []string{"CREATE USER IF NOT EXISTS " + user.SQL, "TYPE = SERVICE"}
	if role.Exact != "" {
		lines = append(lines, "DEFAULT_ROLE = "+role.SQL)
	}
	if warehouse := d.snowflakeName("warehouse"); warehouse != "" {
		lines = append(lines, "DEFAULT_WAREHOUSE = "+identifier(warehouse).SQL)
	}
	lines = append(lines, "WORKLOAD_IDENTITY = (")
	for _, p := range list[0].properties() {
		lines = append(lines, "  "+p)
	}
	s.run(append(lines, ")")...)
	for _, i := range list[1:] {
		s.run(i.add(user.SQL)...)
	}
	s.run("GRANT ROLE " + role.SQL + " TO USER " + user.SQL)
	return s
}

// attesters are the issuers of the identities, and the accounts of AWS roles.
func attesters(list []workloadIdentity) (issuers, accounts []string) {
	for _, i := range list {
		if parts := strings.Split(i.ARN, ":"); len(parts) > 4 && !slices.Contains(accounts, parts[4]) {
			accounts = append(accounts, parts[4])
		}
		if i.Issuer != "" && !slices.Contains(issuers, i.Issuer) {
			issuers = append(issuers, i.Issuer)
		}
	}
	return issuers, accounts
}

// workloadPolicy are the clauses that name who may attest identities.
func workloadPolicy(list []workloadIdentity) []string {
	issuers, accounts := attesters(list)
	policy := []string{"  ALLOWED_PROVIDERS = (" + list[0].Type + ")"}
	if len(accounts) > 0 {
		policy = append(policy, "  ALLOWED_AWS_ACCOUNTS = "+sqlList(accounts...))
	}
	if len(issuers) > 0 {
		policy = append(policy, "  ALLOWED_OIDC_ISSUERS = "+sqlList(issuers...))
	}
	return append(append([]string{"WORKLOAD_IDENTITY_POLICY = ("}, policy...), ")")
}

// snowflakeFence is the authentication policy that leaves the user one way to log in.
func (d Demand) snowflakeFence(method string, more []string) *sqlText {
	s := &sqlText{d: d}
	user := s.name("user", "the user that the login becomes")
	schema := qualified(d.Options.Values["policy-schema"])
	if schema == "" {
		schema = s.variable("OIDC_DBT_POLICY_SCHEMA", "the schema for authentication policies, as DATABASE.SCHEMA").SQL
	}
	name := d.fenceName().SQL
	s.say("Only this way to log in: no password, no key, no other issuer. The policy lives in a schema that dbt does not own.")
	s.run("USE SCHEMA " + schema)
	s.run(append([]string{"CREATE AUTHENTICATION POLICY IF NOT EXISTS " + name, "AUTHENTICATION_METHODS = " + sqlList(method)}, more...)...)
	s.run("ALTER USER " + user.SQL + " SET AUTHENTICATION POLICY " + name)
	return s
}

func (d Demand) fenceName() sqlName {
	return exactName("OIDC_DBT_" + strings.ToUpper(hclName(d.Name())))
}

// qualified writes DATABASE.SCHEMA, "" for nothing.
func qualified(text string) string {
	if text == "" {
		return ""
	}
	parts := strings.SplitN(text, ".", 2)
	for i, p := range parts {
		parts[i] = identifier(p).SQL
	}
	return strings.Join(parts, ".")
}

// snowflakeGrants are a role that builds the models and one that reads them.
func (d Demand) snowflakeGrants() *sqlText {
	s := &sqlText{d: d}
	role := s.name("role", "the role that dbt runs with")
	warehouse := s.name("warehouse", "the warehouse that dbt uses")
	database := s.name("database", "the database that dbt writes to")
	schema := s.schemaOf(database)
	var reader sqlName
	if role.Exact != "" {
		reader = exactName(role.Exact + "_READER")
	} else {
		reader = s.variable("OIDC_DBT_READER", "the name of a role that only reads what dbt builds")
	}
	s.say("The builder: what dbt needs in its schema. Custom schemas need CREATE SCHEMA ON DATABASE, too.")
	s.run("CREATE ROLE IF NOT EXISTS " + role.SQL)
	s.run("CREATE SCHEMA IF NOT EXISTS " + schema)
	s.run("GRANT USAGE ON WAREHOUSE " + warehouse.SQL + " TO ROLE " + role.SQL)
	s.run("GRANT USAGE ON DATABASE " + database.SQL + " TO ROLE " + role.SQL)
	s.run("GRANT USAGE, CREATE TABLE, CREATE VIEW ON SCHEMA " + schema + " TO ROLE " + role.SQL)
	s.gap()
	s.say("The reader: everything that dbt builds there, now and later, and nothing else.")
	s.run("CREATE ROLE IF NOT EXISTS " + reader.SQL)
	s.run("GRANT USAGE ON DATABASE " + database.SQL + " TO ROLE " + reader.SQL)
	s.run("GRANT USAGE ON SCHEMA " + schema + " TO ROLE " + reader.SQL)
	for _, kind := range []string{"TABLES", "VIEWS"} {
		s.run("GRANT SELECT ON ALL " + kind + " IN SCHEMA " + schema + " TO ROLE " + reader.SQL)
		s.run("GRANT SELECT ON FUTURE " + kind + " IN SCHEMA " + schema + " TO ROLE " + reader.SQL)
	}
	return s
}

// schemaOf writes the schema of the dbt block with its database.
func (s *sqlText) schemaOf(database sqlName) string {
	if text := s.d.snowflakeName("schema"); text != "" && database.Exact != "" {
		return database.SQL + "." + identifier(text).SQL
	}
	return s.variable("OIDC_DBT_SCHEMA", "the schema that dbt writes to, as DATABASE.SCHEMA").SQL
}

// snowflakeJSON is the user for a Terraform for_each of one's own.
func (d Demand) snowflakeJSON(list []workloadIdentity) string {
	type user struct {
		User       string                      `json:"user,omitempty"`
		Role       string                      `json:"default_role,omitempty"`
		Identities map[string]workloadIdentity `json:"workload_identities"`
	}
	u := user{Identities: map[string]workloadIdentity{}}
	if name := d.snowflakeName("user"); name != "" {
		u.User = identifier(name).Exact
	}
	if name := d.snowflakeName("role"); name != "" {
		u.Role = identifier(name).Exact
	}
	for _, i := range list {
		name := i.Name
		if name == "" {
			name = "DEFAULT"
		}
		u.Identities[name] = i
	}
	return asJSON(u)
}
