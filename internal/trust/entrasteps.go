package trust

import (
	"slices"
	"strings"
)

// rotateEntra puts the new credentials next to the old ones: any one admits.
func rotateEntra(d, next Demand) (Script, error) {
	e, before, err := d.entraCredentials()
	if err != nil {
		return Script{}, err
	}
	_, after, err := next.entraCredentials()
	if err != nil {
		return Script{}, err
	}
	lacks := func(list []entraCredential) func(entraCredential) bool {
		return func(c entraCredential) bool {
			return slices.ContainsFunc(list, func(have entraCredential) bool { return have.Name == c.Name })
		}
	}
	added, removed := slices.DeleteFunc(slices.Clone(after), lacks(before)), slices.DeleteFunc(slices.Clone(before), lacks(after))
	switch n := len(before) + len(added); {
	case len(added) == 0:
		return Script{}, usage("target %q: nothing changes: the subjects and the audience are the same", d.Target.Name())
	case n > maxEntraCredentials:
		return Script{}, usage("target %q: the new credentials next to the old ones are %d, and an %s has at most %d: rotate to another one, "+
			"with client_id in the policy as the switch", d.Target.Name(), n, e.kind(), maxEntraCredentials)
	}
	var s Script
	e.signedIn(&s)
	s.run("1. Add the new credentials next to the old ones: any one admits. Nothing changes for running jobs.")
	for _, c := range added {
		e.create(&s, c)
	}
	s.wait("Entra ID takes some minutes to spread them.", "Have ten minutes passed?")
	d.switchTo(next, &s, "2.")
	e.signIns(&s, "3. Verify: `oidc-dbt explain --target "+d.Target.Name()+"` in a job shows what the policy decides of "+
		"its token, and the latest\n"+
		"sign-ins succeed, each by a new credential (federatedCredentialId).")
	e.show("The credentials by their id:", &s, "")
	if len(removed) == 0 {
		return s, nil
	}
	s.wait("4. Wait a week, so that every scheduled job has run once with the new credentials.", "Has every job logged in since the switch?")
	for _, c := range removed {
		e.remove(&s, "Remove an old one. Undo: create it again, as `oidc-dbt trust generate` does from the policy before.", c)
	}
	return s, nil
}

func (d Demand) entraCredentials() (entraIdentity, []entraCredential, error) {
	e, err := d.entraIdentity()
	if err != nil {
		return e, nil, err
	}
	list, _, err := e.credentials()
	return e, list, err
}

// signIns adds the command that shows the latest logins. (Microsoft Graph beta:
// List signIns)
func (e entraIdentity) signIns(s *Script, doc string) {
	filter := "(signInEventTypes/any(t: t eq 'servicePrincipal') or signInEventTypes/any(t: t eq 'managedIdentity')) and appId eq '" +
		e.d.Get("client_id") + "'"
	s.run(doc+"\nThe log is some minutes late, and wants AuditLog.Read.All.", command("az", "rest", "--method", "get",
		"--url", e.cloud.graph+"/beta/auditLogs/signIns", "--url-parameters", "$filter="+filter, "$top=100",
		"--query", "value[].{time: createdDateTime, error: status.errorCode, reason: status.failureReason, address: ipAddress, "+
			"resource: resourceDisplayName, credential: federatedCredentialId, token: uniqueTokenIdentifier}"))
}

// revokeEntra stops logins. Tokens that were issued live on.
func revokeEntra(d Demand) (s Script, err error) {
	e, err := d.entraIdentity()
	if err != nil {
		return Script{}, err
	}
	id := d.Get("client_id")
	e.signedIn(&s)
	if e.managed {
		e.removeAll(&s)
	} else {
		s.run("1. Contain: the application gets no token in this tenant any more, by none of its credentials.",
			command("az", "ad", "sp", "update", "--id", id, "--set", "accountEnabled=false"))
		s.run("Secrets and certificates next to the federated credentials, which need no ID token: remove what is not yours.",
			command("az", "ad", "app", "credential", "list", "--id", id), command("az", "ad", "app", "credential", "list", "--id", id, "--cert"))
	}
	s.run("2. Tokens that were issued live for 60 to 90 minutes, and Entra ID cannot call them back. What they may do in Azure (databases\n"+
		"have grants of their own): keep the list, and remove what would do harm with az role assignment delete --ids ID.",
		keep("role-assignments-before.json", command("az", "role", "assignment", "list", "--all", "--assignee", id)),
		"cat role-assignments-before.json")
	d.endEntraSessions(&s)
	e.signIns(&s, "4. Prove it: after step 1 no sign-in succeeds.\n5. Scope: which logins had a token, when, from where, and for what.")
	s.undo("Compare what is there with the policy first, and remove what is not of it: oidc-dbt trust check --target " + d.Target.Name() +
		"\nWhat was removed in step 2 is in role-assignments-before.json.")
	if e.managed {
		s.undo("", "oidc-dbt trust generate --format native --target "+quote(d.Target.Name())+" | bash")
	} else {
		s.undo("", command("az", "ad", "sp", "update", "--id", id, "--set", "accountEnabled=true"))
	}
	return s, nil
}

// keep writes what a command prints into a file, unless a run before has.
func keep(file, command string) string {
	return "test -s " + quote(file) + " || " + command + " >" + quote(file)
}

// removeAll removes the credentials for the policy's issuers, whoever made
// them: a managed identity cannot be disabled.
func (e entraIdentity) removeAll(s *Script) {
	place := e.place(s)
	list := func(more ...any) string {
		return command(append(append([]any{"az", "identity", "federated-credential", "list"}, place...), more...)...)
	}
	s.run("Keep the credentials as they are.", keep("federated-credentials-before.json", list()))
	remove := command(append([]any{"az", "identity", "federated-credential", "delete", "--yes", "--name", shellVar("name")}, place...)...)
	for _, id := range e.d.issuers() {
		query := "[?issuer=='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(id.Issuer) + "'].name"
		s.run("1. Contain: no token of "+id.Issuer+" logs in any more. A managed identity cannot be disabled.",
			"names=$("+list("--query", query, "--output", "tsv")+")", "for name in $names; do", "  "+remove, "done")
	}
}

// endEntraSessions ends what runs in the warehouse: a connection outlives its login.
func (d Demand) endEntraSessions(s *Script) {
	const doc = "3. Connections outlive the token that they began with. "
	switch d.Case.Login.DBT.Type {
	case "snowflake":
		s.run(doc + "In Snowflake:")
		s.Steps = append(s.Steps, d.revokeUser().Steps...)
	case "fabric", "sqlserver", "synapse":
		s.run(doc + "In the database, as its administrator:\n" +
			"SELECT session_id, login_name, login_time, program_name FROM sys.dm_exec_sessions WHERE is_user_process = 1;\n" +
			"KILL SESSION_ID; and, so that it cannot begin another: ALTER ROLE … DROP MEMBER of the application's user.")
	case "postgres":
		s.run(doc + "In the database, as its owner:\n" +
			"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '" + strings.ReplaceAll(d.DBT("user"), "'", "''") + "';")
	case "databricks":
		s.run(doc+"Stop the SQL warehouse: this aborts the statements of all its users, and the next one starts it again.",
			command("databricks", "warehouses", "stop", d.warehouse(s)))
	default:
		s.run("3. Cancel the runs that have a token, in the CI system.")
	}
}
