package trust

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/logic"
)

// Roles that let a member act as a service account.
const (
	gcpUserRole  = "roles/iam.workloadIdentityUser"
	gcpTokenRole = "roles/iam.serviceAccountTokenCreator" // what a link of a delegation chain needs
)

// A gcpGrant is a role for a member on a service account.
type gcpGrant struct{ account, role, member string }

// grants are what a login through a service account needs, the provider's own first.
func (p *gcpProvider) grants(d Demand) (list []gcpGrant) {
	account := d.Get("service_account")
	if account == "" {
		return nil
	}
	chain := append(d.Case.Login.Exchange.List("delegates"), account)
	role, member := gcpUserRole, p.member(d)
	for _, link := range chain {
		if len(chain) > 1 {
			role = gcpTokenRole
		}
		list = append(list, gcpGrant{link, role, member})
		member = "serviceAccount:" + link
	}
	return list
}

// gcpRoles are the roles that a login without a service account gets on the project.
func (d Demand) gcpRoles() (roles []string) {
	if text := d.Options.Values["roles"]; text != "" {
		roles = strings.Split(text, ",")
	}
	return roles
}

const gcpRoleDoc = "the role of the principal on the project, such as roles/bigquery.jobUser"

// gcpProject is the project whose data a login without a service account uses, "" if the policy does not say.
func (d Demand) gcpProject() string {
	if project := d.Options.Values["project"]; project != "" {
		return project
	}
	return d.DBT("project")
}

// script is the commands for gcloud.
func (p *gcpProvider) script(d Demand) Script {
	var s Script
	p.apply(&s, d.gcpName())
	p.bind(&s, d)
	return s
}

// apply makes the pool and the provider, or brings the provider up to date.
func (p *gcpProvider) apply(s *Script, n gcpName) {
	where := []any{"--project=" + n.project, "--location=global"}
	pools := func(words ...any) string {
		return command(append(append([]any{"gcloud", "iam", "workload-identity-pools"}, words...), where...)...)
	}
	s.run("The pool, unless it is there.", pools("describe", n.pool)+" --format='value(state)' ||\n  "+pools("create",
		n.pool))
	pool := "--workload-identity-pool=" + n.pool
	s.run("What the provider admits. A token that no target admits is refused; who gets which target is the "+
		"decision that is mapped to an attribute.",
		`settings=$(mktemp)`, feed(`cat > "$settings"`, p.flags()))
	s.run("The provider: made, or brought up to date.",
		"if "+pools("providers", "describe", n.provider, pool)+" --format='value(state)'; then",
		"  "+pools("providers", "update-oidc", n.provider, pool, shellText(`--flags-file="$settings"`)),
		"else",
		"  "+pools("providers", "create-oidc", n.provider, pool, shellText(`--flags-file="$settings"`)),
		"fi", `rm "$settings"`)
}

// flags are the provider's settings in the form of `gcloud topic flags-file`,
// where nothing in them is a separator.
func (p *gcpProvider) flags() string {
	return asJSON(struct {
		Issuer    string            `json:"--issuer-uri"`
		Audiences []string          `json:"--allowed-audiences"`
		Mapping   map[string]string `json:"--attribute-mapping"`
		Condition string            `json:"--attribute-condition"`
	}{p.issuer.Issuer, p.audiences, p.mapping(), p.condition()})
}

// bind gives the login what it gets.
func (p *gcpProvider) bind(s *Script, d Demand) {
	for _, g := range p.grants(d) {
		s.run(fmt.Sprintf("Who may act as %s.", g.account), gcpServiceAccount("add-iam-policy-binding", g))
	}
	if b, ok := d.records(); ok {
		s.run("Who may create audit records in the bucket.", gcpOnBucket("add-iam-policy-binding", b, p.principal(d)))
		return
	}
	if d.Get("service_account") != "" {
		return
	}
	project := s.gcpProject(d)
	for _, role := range s.gcpRoles(d) {
		s.run("What the principal may do; for datasets and buckets give their own roles to the same member.",
			gcpOnProject("add-iam-policy-binding", project, role, p.member(d)))
	}
}

func gcpServiceAccount(verb string, g gcpGrant) string {
	return command("gcloud", "iam", "service-accounts", verb, g.account, "--role="+g.role, "--member="+g.member,
		"--condition=None")
}

func gcpOnProject(verb string, project, role any, member string) string {
	return command("gcloud", "projects", verb, project, shellText("--role="+command(role)), "--member="+member,
		"--condition=None")
}

// gcpProject and gcpRoles are what the principal of a login without a service
// account gets, and where.
func (s *Script) gcpProject(d Demand) any {
	if project := d.gcpProject(); project != "" {
		return project
	}
	return s.needs(Variable{Name: "PROJECT", Doc: "the project whose data is used", Find: "gcloud config get-value " +
		"project"})
}

func (s *Script) gcpRoles(d Demand) (roles []any) {
	for _, role := range d.gcpRoles() {
		roles = append(roles, role)
	}
	if len(roles) == 0 {
		roles = []any{s.needs(Variable{Name: "ROLE", Doc: gcpRoleDoc})}
	}
	return roles
}

// terraform is the same for Terraform. The pool is in the file of the first
// login of the policy that is in it, the provider in that of its own first login.
func (p *gcpProvider) terraform(d Demand) string {
	n, t := d.gcpName(), newTerraform()
	name := hclName(n.pool + "_" + n.provider)
	if first := p.logins[0]; first.Target.Name() != d.Target.Name() || first.Name() != d.Name() {
		t.comment(fmt.Sprintf("The provider is in the file of target %q, which is generated together with this one.",
			first.Name()))
	} else {
		pool := p.terraformPool(t, d, n)
		r := t.block("resource", "google_iam_workload_identity_pool_provider", name)
		r.set("project", n.project)
		r.set("workload_identity_pool_id", pool)
		r.set("workload_identity_pool_provider_id", n.provider)
		mapping, fields := p.mapping(), hclObject{}
		for _, key := range slices.Sorted(maps.Keys(mapping)) {
			fields = append(fields, hclField{key, mapping[key]})
		}
		r.set("attribute_mapping", fields)
		r.set("attribute_condition", p.condition())
		oidc := r.block("oidc")
		oidc.set("issuer_uri", p.issuer.Issuer)
		oidc.set("allowed_audiences", p.audiences)
	}
	p.terraformGrants(t, d)
	return t.String()
}

// terraformPool returns the pool's id, and declares the pool in the first file
// that needs it.
func (p *gcpProvider) terraformPool(t *terraform, d Demand, n gcpName) any {
	for _, name := range d.Policy.Targets() {
		target, err := d.Policy.Target(name)
		if err != nil {
			continue
		}
		for _, other := range Demands(d.Policy, target, d.Options) {
			if other.Provider() != "gcp" || other.gcpName().pool != n.pool || other.gcpName().project != n.project {
				continue
			}
			if other.Target.Name() != d.Target.Name() || other.Name() != d.Name() {
				return n.pool
			}
			t.comment(fmt.Sprintf("A pool that is there already: terraform import "+
				"google_iam_workload_identity_pool.%s "+
				"projects/%s/locations/global/workloadIdentityPools/%s", hclName(n.pool), n.project, n.pool))
			r := t.block("resource", "google_iam_workload_identity_pool", hclName(n.pool))
			r.set("project", n.project)
			r.set("workload_identity_pool_id", n.pool)
			return hclRef("google_iam_workload_identity_pool." + hclName(n.pool) + ".workload_identity_pool_id")
		}
	}
	return n.pool
}

func (p *gcpProvider) terraformGrants(t *terraform, d Demand) {
	for i, g := range p.grants(d) {
		name := hclName(d.Name())
		if i > 0 {
			name += fmt.Sprintf("_%d", i+1)
		}
		r := t.block("resource", "google_service_account_iam_member", name)
		r.set("service_account_id", gcpAccountName(g.account))
		r.set("role", g.role)
		r.set("member", g.member)
	}
	if b, ok := d.records(); ok {
		p.terraformRecords(t, d, b)
		return
	}
	if d.Get("service_account") != "" {
		return
	}
	var project any = d.gcpProject()
	if project == "" {
		project = t.variable("project", "the project whose data is used")
	}
	var roles []any
	for _, role := range d.gcpRoles() {
		roles = append(roles, role)
	}
	if len(roles) == 0 {
		roles = []any{t.variable(hclName(d.Name())+"_role", gcpRoleDoc)}
	}
	for i, role := range roles {
		name := hclName(d.Name())
		if i > 0 {
			name += fmt.Sprintf("_%d", i+1)
		}
		r := t.block("resource", "google_project_iam_member", name)
		r.set("project", project)
		r.set("role", role)
		r.set("member", p.member(d))
	}
}

var gcpAccountProject = lazy.MustCompile(`^[^@]+@([a-z0-9-]+)\.iam\.gserviceaccount\.com$`)

// gcpAccountName is the full name of a service account, whose project is a part
// of most addresses.
func gcpAccountName(email string) string {
	project := "-"
	if m := gcpAccountProject.FindStringSubmatch(email); m != nil {
		project = m[1]
	}
	return "projects/" + project + "/serviceAccounts/" + email
}

// beginning is the texts that begin with one.
func beginning(text string) logic.Language { return whole(regexp.QuoteMeta(text) + `(?s:.*)`) }
