package trust

import "strings"

// A tfName is a name for Terraform, whose provider takes it exactly: a text or
// a variable.
func (d Demand) tfName(f *terraform, key, doc string) any {
	if text := d.snowflakeName(key); text != "" {
		return identifier(text).Exact
	}
	return f.variable("snowflake_"+strings.ReplaceAll(key, "-", "_"), doc)
}

// tfSQL writes a name in a statement for Terraform to run.
func tfSQL(name any) []any {
	if ref, ok := name.(hclRef); ok {
		return []any{`"`, ref, `"`}
	}
	return []any{exactName(name.(string)).SQL}
}

// snowflakeTerraform is the user and what fences it, for Snowflake's provider.
// Identities beyond the first are statements that it runs: it has no resource
// for them. (terraform-provider-snowflake 2.20, docs/resources)
func (d Demand) snowflakeTerraform(list []workloadIdentity) string {
	f, label := newTerraform(), hclName(d.Name())
	user := d.tfName(f, "user", "the user that the login becomes")
	role := d.tfName(f, "role", "the role that dbt runs with")
	f.comment("The provider wants experimental_features_enabled = [\"USER_ENABLE_DEFAULT_WORKLOAD_IDENTITY\"]. With it, the identity of\n" +
		"every snowflake_service_user without a default_workload_identity block is unset: first write one for each of them.")
	b := f.block("resource", "snowflake_service_user", label)
	b.set("name", user)
	b.set("default_role", role)
	if warehouse := d.snowflakeName("warehouse"); warehouse != "" {
		b.set("default_warehouse", identifier(warehouse).Exact)
	}
	list[0].terraform(b.block("default_workload_identity"))
	userRef := hclRef("snowflake_service_user." + label + ".name")
	for _, i := range list[1:] {
		b := f.block("resource", "snowflake_execute", label+"_"+strings.ToLower(i.Name))
		name := exactName(i.Name).SQL
		alter := append([]any{"ALTER USER "}, tfSQL(userRef)...)
		b.set("execute", hclText(append(alter[:len(alter):len(alter)], " ADD WORKLOAD IDENTITY "+name+" "+strings.Join(i.properties(), " "))))
		b.set("revert", hclText(append(alter[:len(alter):len(alter)], " REMOVE WORKLOAD IDENTITY "+name)))
	}
	grant := f.block("resource", "snowflake_grant_account_role", label)
	grant.set("role_name", role)
	grant.set("user_name", userRef)
	d.terraformFence(f, label, userRef, "WORKLOAD_IDENTITY",
		func(b *hclBody) { workloadPolicyTerraform(b.block("workload_identity_policy"), list) })
	return f.String()
}

// terraform writes the identity as the user's default.
func (i workloadIdentity) terraform(b *hclBody) {
	inner := b.block(strings.ToLower(i.Type))
	for _, p := range []struct{ key, value string }{{"arn", i.ARN}, {"issuer", i.Issuer}, {"subject", i.Subject}} {
		if p.value != "" {
			inner.set(p.key, p.value)
		}
	}
	if len(i.Audiences) > 0 {
		inner.set("oidc_audience_list", i.Audiences)
	}
}

// terraformFence is the authentication policy, and its attachment to the user.
func (d Demand) terraformFence(f *terraform, label string, user hclRef, method string, more func(*hclBody)) {
	database := f.variable("snowflake_policy_database", "the database for authentication policies")
	schema := f.variable("snowflake_policy_schema", "the schema for authentication policies, one that dbt does not own")
	f.comment("The provider wants preview_features_enabled = [\"snowflake_authentication_policy_resource\",\n" +
		"\"snowflake_user_authentication_policy_attachment_resource\"].")
	b := f.block("resource", "snowflake_authentication_policy", label)
	b.set("database", database)
	b.set("schema", schema)
	b.set("name", d.fenceName().Exact)
	b.set("authentication_methods", []string{method})
	more(b)
	a := f.block("resource", "snowflake_user_authentication_policy_attachment", label)
	a.set("authentication_policy_name", hclRef("snowflake_authentication_policy."+label+".fully_qualified_name"))
	a.set("user_name", user)
}

func workloadPolicyTerraform(b *hclBody, list []workloadIdentity) {
	issuers, accounts := attesters(list)
	b.set("allowed_providers", []string{list[0].Type})
	if len(accounts) > 0 {
		b.set("allowed_aws_accounts", accounts)
	}
	if len(issuers) > 0 {
		b.set("allowed_oidc_issuers", issuers)
	}
}
