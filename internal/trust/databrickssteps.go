package trust

import (
	"fmt"
	"slices"
	"strings"
)

func rotateDatabricks(d, next Demand) (Script, error) {
	_, before, err := d.federationPolicies()
	if err != nil {
		return Script{}, err
	}
	_, after, err := next.federationPolicies()
	if err != nil {
		return Script{}, err
	}
	lacks := func(list []federationPolicy) func(federationPolicy) bool {
		return func(p federationPolicy) bool {
			return slices.ContainsFunc(list, func(have federationPolicy) bool { return have.ID == p.ID })
		}
	}
	added := slices.DeleteFunc(slices.Clone(after), lacks(before))
	removed := slices.DeleteFunc(slices.Clone(before), lacks(after))
	switch n := len(before) + len(added); {
	case len(added) == 0:
		return Script{}, usage("target %q: nothing changes: the subjects and the audience are the same", d.Target.Name())
	case n > maxPolicies:
		return Script{}, usage("target %q: the new federation policies next to the old ones are %d, and a service principal in Databricks has "+
			"at most %d: rotate to another service principal, with client_id in the policy as the switch", d.Target.Name(), n, maxPolicies)
	}
	var s Script
	s.run("1. Add the new policies next to the old ones: any one admits. Nothing changes for running jobs.")
	d.createPolicies(&s, added)
	d.switchTo(next, &s, "2.")
	s.run("3. Verify: `oidc-dbt explain --target "+d.Target.Name()+"` in a job shows what the policy decides of its token, and in\n"+
		"system.access.audit its exchange succeeds. A refusal says TOKEN_SUBJECT_INVALID and names the subject.",
		command(d.policyCommand(&s, "list", "--output", "json")...))
	d.databricksAudit(&s, "The exchanges of the last day, newest first:", 1)
	if len(removed) == 0 {
		return s, nil
	}
	s.wait("4. Wait a week, so that every scheduled job has run once with the new policies.", "Has every job logged in since the switch?")
	for _, p := range removed {
		s.run("Remove an old policy. Undo: create it again. If it was made by hand, its id is another: `list` shows it.",
			command(d.policyCommand(&s, "delete", p.ID)...))
	}
	return s, nil
}

func revokeDatabricks(d Demand) (s Script, err error) {
	_, list, err := d.federationPolicies()
	if err != nil {
		return Script{}, err
	}
	before := command(d.policyCommand(&s, "list", "--output", "json")...) + ` > "federation-policies-$(date +%s).json"`
	if d.Get("client_id") == "" {
		s.run("1. Contain: keep what there is, and remove the account's policies. "+accountProfile, before)
		for _, p := range list {
			s.run("", command(d.policyCommand(&s, "delete", p.ID)...))
		}
		var again Script
		d.createPolicies(&again, list)
		s.Undo = again.Steps
	} else {
		s.run("1. Contain: the service principal is no longer active, so no policy, secret or token of it is accepted.\n"+accountProfile,
			d.setActive(&s, false), before)
		s.undo("The service principal is active again. "+accountProfile, d.setActive(&s, true))
		s.run("Secrets next to the policies, which need no ID token: remove what is not yours.",
			command("databricks", "account", "service-principal-secrets", "list", d.principal(&s), "--output", "json"))
	}
	warehouse := d.warehouse(&s)
	s.run("2. Abort what runs: stop the SQL warehouse. This aborts the statements of all its users, and the next one starts it again.",
		"read -r -p 'Stop the warehouse for everyone? Type yes: ' answer",
		`if [ "$answer" = yes ]; then `+command("databricks", "warehouses", "stop", warehouse)+"; fi")
	d.databricksAudit(&s, "3. Prove it: after step 1 the exchanges fail, and nothing else is done. This starts the warehouse.\n"+
		"4. Scope: what the service principal did in the last 30 days. The table is some minutes late.", 30)
	s.run("5. Before you undo it: compare what is there with the policy by `oidc-dbt trust check`, and delete what is not of it.")
	return s, nil
}

// setActive is the command that lets the service principal in, or not.
func (d Demand) setActive(s *Script, active bool) string {
	return command("databricks", "account", "service-principals", "patch", d.principal(s), "--json", fmt.Sprintf(`{"schemas": [`+
		`"urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": [{"op": "replace", "path": "active", "value": %t}]}`, active))
}

// warehouse is the id of the SQL warehouse, the last part of http_path.
func (d Demand) warehouse(s *Script) any {
	if path := d.DBT("http_path"); strings.Contains(path, "/warehouses/") {
		return path[strings.LastIndex(path, "/")+1:]
	}
	return s.needs(Variable{Name: "WAREHOUSE_ID", Doc: "the id of a SQL warehouse: databricks warehouses list"})
}

// databricksAudit asks the audit log for what the principal did.
func (d Demand) databricksAudit(s *Script, doc string, days int) {
	who := "user_identity.subjectName IS NOT NULL"
	if client := d.Get("client_id"); client != "" {
		literal := "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(client) + "'"
		who = fmt.Sprintf("(user_identity.email = %s OR user_identity.subjectName = %s)", literal, literal)
	}
	statement := fmt.Sprintf("SELECT event_time, service_name, action_name, source_ip_address, response.status_code, response.error_message "+
		"FROM system.access.audit WHERE event_date >= current_date() - INTERVAL %d DAYS AND %s ORDER BY event_time DESC LIMIT 1000", days, who)
	body := command("jq", "--null-input", "--arg", "warehouse", d.warehouse(s), "--arg", "statement", statement,
		"{warehouse_id: $warehouse, statement: $statement, wait_timeout: \"50s\"}")
	s.run(doc, body+" |\n  "+command("databricks", "api", "post", "/api/2.0/sql/statements", "--json", "@/dev/stdin"))
}
