package trust

import "slices"

// rotateKeycloak puts a client for each new subject next to the old one. The
// audience is the realm's own.
func rotateKeycloak(d, next Demand) (Script, error) {
	before, _, err := d.keycloak()
	if err != nil {
		return Script{}, err
	}
	if d.Audience() != next.Audience() {
		return Script{}, usage("target %q: Keycloak takes only the realm's own issuer as audience: it changes with the realm; "+
			"--to-sub-template changes the subject", d.Target.Name())
	}
	if id := d.Get("client_id"); id != "" {
		return Script{}, usage("target %q: client %q has one subject, so an old and a new one cannot be side by side: leave client_id out of "+
			"the policy first, so that the subject chooses the client", d.Target.Name(), id)
	}
	after, _, err := next.keycloak()
	if err != nil {
		return Script{}, err
	}
	lacks := func(list []keycloakClient) func(keycloakClient) bool {
		return func(c keycloakClient) bool {
			return slices.ContainsFunc(list, func(have keycloakClient) bool { return have.ClientID == c.ClientID })
		}
	}
	added, removed := slices.Clone(after.Clients), slices.Clone(before.Clients)
	added, removed = slices.DeleteFunc(added, lacks(before.Clients)), slices.DeleteFunc(removed, lacks(after.Clients))
	if len(added) == 0 {
		return Script{}, usage("target %q: nothing changes: the subjects are the same", d.Target.Name())
	}
	var s Script
	d.keycloakLogin(&s, before)
	s.run("1. Add a client for each new subject next to the old ones. Nothing changes for running jobs.")
	for _, c := range added {
		after.createClient(&s, c)
	}
	s.wait("In the warehouse, give the service accounts of the new clients, service-account-CLIENT, what those of the old ones have.",
		"Have the new service accounts their role?")
	d.switchTo(next, &s, "2.")
	after.Clients = added
	after.events(&s, "3. Verify: `oidc-dbt explain --target "+d.Target.Name()+"` in a job shows what the policy decides "+
		"of its token, and the new\n"+
		"clients log in.")
	if len(removed) == 0 {
		return s, nil
	}
	s.wait("4. Wait a week, so that every scheduled job has run once with the new clients.", "Has every job logged in since the switch?")
	for _, c := range removed {
		before.disable(&s, "Disable an old client. Undo: the same with enabled=true.", c)
	}
	s.wait("5. Wait a day.", "Has no job failed to log in since?")
	for _, c := range removed {
		id, lines := before.internal(c)
		s.run("Remove it. Undo: create it again, as `oidc-dbt trust generate` does from the policy before.",
			append(lines, command("kcadm.sh", "delete", id, "-r", before.Realm))...)
	}
	return s, nil
}

// internal is the path of a client that is there, and the lines that find it.
func (k keycloakRealm) internal(c keycloakClient) (path shellText, lines []string) {
	return `"clients/$client"`, []string{"client=$(" + k.kcadm("get", "clients", "-q", "clientId="+c.ClientID, "--fields",
		"id", "--format", "csv",
		"--noquotes") + ")", `test -n "$client"`}
}

func (k keycloakRealm) disable(s *Script, doc string, c keycloakClient) {
	path, lines := k.internal(c)
	s.run(doc, append(lines, command("kcadm.sh", "update", path, "-r", k.Realm, "-s", "enabled=false"))...)
}

// revokeKeycloak disables the clients, and has tokens from before refused where
// the warehouse asks Keycloak about them.
func revokeKeycloak(d Demand) (Script, error) {
	k, _, err := d.keycloak()
	if err != nil {
		return Script{}, err
	}
	var s Script
	d.keycloakLogin(&s, k)
	for _, c := range k.Clients {
		k.disable(&s, "1. Contain: client "+c.ClientID+" gets no token any more.", c)
	}
	for _, c := range k.Clients {
		path, lines := k.internal(c)
		s.run("2. Tokens of "+c.ClientID+" from before now are not valid any more for who asks Keycloak. A warehouse that verifies the\n"+
			"signature itself, as Trino does, takes them until they expire: some minutes, by the realm's Access Token Lifespan.",
			append(lines, command("kcadm.sh", "update", path, "-r", k.Realm, "-s", shellText(`"notBefore=$(date +%s)"`)))...)
	}
	d.endKeycloakSessions(&s)
	k.events(&s, "4. Prove it: after step 1 no login succeeds.\n5. Scope: when the clients logged in, and from where.")
	s.undo("Compare what is there with the policy first, and remove what is not of it: oidc-dbt trust check --target " + d.Target.Name())
	for _, c := range k.Clients {
		path, lines := k.internal(c)
		s.undo("", append(lines, command("kcadm.sh", "update", path, "-r", k.Realm, "-s", "enabled=true", "-s", "notBefore=0"))...)
	}
	return s, nil
}

// endKeycloakSessions ends what runs in the warehouse.
func (d Demand) endKeycloakSessions(s *Script) {
	switch d.Case.Login.DBT.Type {
	case "snowflake":
		s.run("3. Sessions outlive the token that they began with. In Snowflake:")
		s.Steps = append(s.Steps, d.revokeUser().Steps...)
	case "trino":
		s.run("3. Abort what runs. In Trino, as who may kill queries, for each query of the service accounts:\n" +
			"SELECT query_id, \"user\", query FROM system.runtime.queries WHERE state NOT IN ('FINISHED', 'FAILED');\n" +
			"CALL system.runtime.kill_query(query_id => 'ID', message => 'revoked');")
	default:
		s.run("3. End the warehouse's sessions of the clients' service accounts, and cancel the runs that have a token.")
	}
}
