package trust

import (
	"fmt"
	"strings"
)

// rotateGCP changes the audience, or the template of the subject: a provider may
// have ten audiences, and a condition can name both subjects, so both are let in
// for a while.
func rotateGCP(d, next Demand) (Script, error) {
	both, err := newGCPProvider(d, &next)
	if err != nil {
		return Script{}, err
	}
	after, err := newGCPProvider(next, nil)
	if err != nil {
		return Script{}, err
	}
	var s Script
	s.run("1. Let the new one in next to the old one: nothing changes for running jobs. Google needs some minutes.\n" +
		"Undo: run what `oidc-dbt trust generate --format native` prints.")
	both.apply(&s, d.gcpName())
	d.switchTo(next, &s, "2.")
	s.run("3. Verify: `oidc-dbt explain --target "+d.Target.Name()+"` in a job shows what the policy decides of its "+
		"token, and its\n"+
		"exchange is in Google's log, where data access logs of the Security Token Service are on.", gcpExchanges(d))
	s.wait("4. Wait a week, so that every scheduled job has run once with the new one.",
		"Has every job logged in since the switch?")
	s.run("5. Let only the new one in. Undo: step 1.")
	after.apply(&s, d.gcpName())
	return s, nil
}

// gcpExchanges prints the last exchanges at the provider.
func gcpExchanges(d Demand) string {
	return command("gcloud", "logging", "read",
		`protoPayload.serviceName="sts.googleapis.com" AND protoPayload.request.audience:"`+
			d.Get("workload_identity_provider")+`"`,
		"--project="+d.gcpName().project, "--freshness=1d", "--limit=20", "--format=json")
}

// revokeGCP stops the login, ends what it can, and proves it.
func revokeGCP(d Demand) (Script, error) {
	p, err := newGCPProvider(d, nil)
	if err != nil {
		return Script{}, err
	}
	var s Script
	account := d.Get("service_account")
	if account != "" {
		s.run("1. Contain: no token acts as "+account+" any more. IAM needs about two minutes, sometimes seven.",
			p.binding(&s, d, "remove"))
		s.run("Tokens that were issued live up to an hour, or as long as `lifetime` asks for: step 4 ends them.")
	} else {
		s.run("1. Contain: the principal loses its role. Its roles on datasets and buckets must go the same way.\n"+
			"Tokens that were issued expire with their ID token, after five minutes.", p.binding(&s, d, "remove"))
	}
	p.abortJobs(&s, d)
	s.run("3. Prove it: no exchange is of use after step 1, and nothing else acts.", gcpExchanges(d))
	if account != "" {
		s.run("", command("gcloud", "logging", "read", `protoPayload.authenticationInfo.principalEmail="`+account+`"`,
			shellText("--project="+command(s.gcpProject(d))), "--freshness=1d", "--limit=100", "--format=json"))
	}
	s.undo("The binding, as the policy has it.", p.binding(&s, d, "add"))
	p.stopAll(&s, d)
	return s, nil
}

// stopAll is what also stops others, and so is asked about first.
func (p *gcpProvider) stopAll(s *Script, d Demand) {
	n, account := d.gcpName(), d.Get("service_account")
	if account != "" {
		s.wait("4. Only if the tokens that were issued must end now: disable the service account. Everything that "+
			"uses it stops.",
			"Disable "+account+" for everyone?")
		s.run("", command("gcloud", "iam", "service-accounts", "disable", account))
		s.undo("", command("gcloud", "iam", "service-accounts", "enable", account))
	}
	provider := func(flag string) string {
		return command("gcloud", "iam", "workload-identity-pools", "providers", "update-oidc", n.provider,
			"--workload-identity-pool="+n.pool, "--project="+n.project, "--location=global", flag)
	}
	s.wait("5. Only if the whole provider is in doubt: it exchanges nothing more for the targets "+
		strings.Join(p.targets(), ", ")+".", "Disable provider "+n.provider+"?")
	s.run("", provider("--disabled"))
	s.undo("", provider("--no-disabled"))
}

// abortJobs cancels the jobs of the account, where the target is BigQuery.
func (p *gcpProvider) abortJobs(s *Script, d Demand) {
	if d.Case.Login.DBT.Type != "bigquery" {
		s.run("2. Abort what runs, at the warehouse or the store that the target is for.")
		return
	}
	project := shellText("--project_id=" + command(s.gcpProject(d)))
	account, filter := d.Get("service_account"), ".user_email == $account"
	if account == "" {
		account, filter = p.name[:strings.Index(p.name, "/providers/")], "(.user_email // \"\" | contains($account))"
	}
	s.run(fmt.Sprintf("2. Abort what runs as %s.", account),
		command("bq", "ls", "--jobs", "--all", "--format=json", "--max_results=1000", project)+" |\n  "+
			command("jq", "-r", "--arg", "account", account,
				`.[] | select(.status.state != "DONE" and `+filter+`) | .jobReference.jobId`)+" |\n  "+
			"while read -r job; do "+command("bq", "cancel", project, shellVar("job"))+"; done")
}

// binding gives or takes what the provider's own principal has. What is gone
// already is not taken: the script may be run again.
func (p *gcpProvider) binding(s *Script, d Demand, verb string) string {
	member := p.member(d)
	if account := d.Get("service_account"); account != "" {
		change := gcpServiceAccount(verb+"-iam-policy-binding", p.grants(d)[0])
		if verb == "add" {
			return change
		}
		return gcpIfBound(member, change, command("gcloud", "iam", "service-accounts", "get-iam-policy", account))
	}
	if b, ok := d.records(); ok {
		change := gcpOnBucket(verb+"-iam-policy-binding", b, member)
		if verb == "add" {
			return change
		}
		return gcpIfBound(member, change, command("gcloud", "storage", "buckets", "get-iam-policy", "gs://"+b.Name))
	}
	var lines []string
	for _, role := range s.gcpRoles(d) {
		change := gcpOnProject(verb+"-iam-policy-binding", s.gcpProject(d), role, member)
		if verb == "remove" {
			change = gcpIfBound(member, change, command("gcloud", "projects", "get-iam-policy", s.gcpProject(d),
				"--flatten=bindings", shellText("--filter=bindings.role="+command(role))))
		}
		lines = append(lines, change)
	}
	return strings.Join(lines, "\n")
}

// gcpIfBound runs a change where a policy has the member.
func gcpIfBound(member, change, policy string) string {
	return "policy=$(" + policy + " --format=json)\nif grep -qF " + quote(member) + ` <<< "$policy"; then` + "\n  " + change + "\nfi"
}
