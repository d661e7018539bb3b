package trust

import "fmt"

func rotateVault(d, next Demand) (Script, error) { return rotateRoles(d, next, "vault") }

func rotateOpenBao(d, next Demand) (Script, error) { return rotateRoles(d, next, "bao") }

// rotateRoles lets a role take both audiences, switches, and takes the old one
// out. Bound claims and programs do not depend on the subject's template.
func rotateRoles(d, next Demand, cli string) (Script, error) {
	s, err := newVaultServer(d, cli)
	if err != nil {
		return Script{}, err
	}
	both := []string{d.Audience()}
	if next.Audience() != d.Audience() {
		both = append(both, next.Audience())
	}
	overlap, err := d.roleWith(s, both)
	if err != nil {
		return Script{}, err
	}
	final, err := next.roleWith(s, []string{next.Audience()})
	if err != nil {
		return Script{}, err
	}
	var script Script
	script.run("1. The server, and a copy of the role as it is now.", append(s.environment(), s.copyRole())...)
	script.run("2. The role takes tokens for the new audience next to those for the old one. Nothing changes for running jobs.",
		s.write(overlap))
	d.switchTo(next, &script, "3.")
	script.run("4. Verify: `oidc-dbt explain --target "+d.Target.Name()+"` in a job shows what the policy decides of "+
		"its token, and each login is in the audit log, with the role and the claim sub in auth.metadata.", s.audit(&script))
	if len(both) == 1 {
		return script, nil
	}
	script.wait("5. Wait until every workflow has run once with the new audience.", "Has every job logged in since the switch?")
	script.run("The role takes only the new audience. Undo: step 2.", s.write(final))
	return script, nil
}

// roleWith is the role with some audiences.
func (d Demand) roleWith(s vaultServer, audiences []string) (string, error) {
	var w Wall
	if s.cli == "bao" {
		role, err := d.openbaoRole(s, &w)
		role.BoundAudiences = audiences
		return asJSON(role), err
	}
	role, err := d.vaultRole(s, &w)
	role.BoundAudiences = audiences
	return asJSON(role), err
}

// path is where the role is.
func (s vaultServer) path() string {
	if s.cli == "bao" {
		return "auth/" + s.method + "/cel/role/" + s.role
	}
	return "auth/" + s.method + "/role/" + s.role
}

func (s vaultServer) write(role string) string {
	return feed(command(s.cli, "write", s.path(), "-"), role)
}

// copyRole keeps the role as it is, so that it can be written back.
func (s vaultServer) copyRole() string {
	return command(s.cli, "read", "-format=json", s.path()) + " | jq .data >" + quote(s.role+".before.json")
}

// audit shows the logins by the audit log.
func (s vaultServer) audit(script *Script) string {
	log := script.needs(Variable{Name: "AUDIT_LOG", Doc: "the file of the server's audit device",
		Find: command(s.cli, "audit", "list", "-format=json") + ` | jq -r '[.[] | select(.type == "file") | .options.file_path][0] // empty'`})
	const logins = `jq -c 'select(.type == "response" and .auth.metadata.role == "%s") | ` +
		`[.time, .request.path, .auth.metadata, .error]' "$%s" | tail -n 20`
	query := fmt.Sprintf(logins, s.role, log)
	return `if [ -r "$` + string(log) + `" ]; then` + "\n  " + query + "\nelse\n" +
		`  echo "The audit log is not readable here: look there, or set ` + string(log) + `." >&2` + "\nfi"
}

func revokeVault(d Demand) (Script, error) { return revokeRole(d, "vault") }

func revokeOpenBao(d Demand) (Script, error) { return revokeRole(d, "bao") }

// revokeRole removes the role, then ends its logins, and with them their leases.
func revokeRole(d Demand, cli string) (script Script, err error) {
	s, err := newVaultServer(d, cli)
	if err != nil {
		return script, err
	}
	script.About = []string{fmt.Sprintf("It ends what target %q may do, for one with a token that may administer the server and jq.\n"+
		"Jobs that run lose their database users, and no other can log in by the role %s.", oneLine(d.Target.Name()), s.role)}
	script.Late = true
	for _, line := range s.environment() {
		script.run("The server.", line)
		script.undo("The server.", line)
	}
	script.run("1. Contain: keep the role, and remove it. No login succeeds, and no token of the role is renewed.",
		"[ -s "+quote(s.role+".before.json")+" ] || "+s.copyRole(), command(cli, "delete", s.path()))
	script.run("2. End its logins: a token that is revoked takes its leases with it, so the database users are dropped.",
		command(cli, "list", "-format=json", "auth/token/accessors")+" | jq -r '.[]' | while read -r accessor; do",
		"  role=$("+command(cli, "token", "lookup", "-format=json", "-accessor", shellText(`"$accessor"`))+
			` 2>/dev/null | jq -r '.data.meta.role // ""' || true)`,
		`  if [ "$role" = `+quote(s.role)+" ]; then "+command(cli, "token", "revoke", "-accessor", shellText(`"$accessor"`))+"; fi",
		"done")
	s.endSecret(&script)
	script.run("4. Prove it: no lease is left, and the audit log has only refusals since step 1.",
		command(cli, "list", "-format=json", "sys/leases/lookup/"+s.secret)+" || true", s.audit(&script))
	script.undo("Write the role back, when the cause is gone: first compare it with the policy by `oidc-dbt trust check`.",
		command(cli, "write", s.path(), "@"+s.role+".before.json"),
		"mv "+quote(s.role+".before.json")+" "+quote(s.role+".restored.json"))
	return script, nil
}

// endSecret ends what outlives a login.
func (s vaultServer) endSecret(script *Script) {
	if s.static {
		script.run("3. The secret at "+s.secret+" has no lease: who read it has it still. Change it at its source, and write the new one there.",
			command(s.cli, "read", "-format=json", s.secret)+" | jq '.data | keys'")
		return
	}
	script.wait("3. Abort what runs: every lease of "+s.secret+", also those of other roles and people.",
		"Revoke every lease of "+s.secret+"?")
	script.run("", command(s.cli, "lease", "revoke", "-prefix", "-sync", s.secret))
}
