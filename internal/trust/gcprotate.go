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
	both.apply(&s, d.gcpName())
	s.switchTo(d, next)
	s.run("After a day without a login by the old one: only the new one is let in.\nIf a run still needs the old " +
		"one, run the first steps again.")
	after.apply(&s, d.gcpName())
	return s, nil
}

// switchTo is the part between: the policy, or GitHub's template, and the proof.
func (s *Script) switchTo(d, next Demand) {
	if d.Audience() != next.Audience() {
		s.run(fmt.Sprintf("In the policy, set the audience of target %q to %s, and merge it.", d.Target.Name(),
			quote(next.Audience())))
	} else {
		github := next.githubScript()
		s.Steps = append(s.Steps, github.Steps...)
	}
	s.run("Prove it: run the workflow, and look at the decision and the provider's log.",
		command("oidc-dbt", "explain", "--target", d.Target.Name()), gcpExchanges(d))
}

// gcpExchanges prints the last exchanges at the provider. Google records them
// where data access logs of the Security Token Service are on.
func gcpExchanges(d Demand) string {
	return command("gcloud", "logging", "read",
		`protoPayload.serviceName="sts.googleapis.com" AND protoPayload.request.audience:"`+
			d.Get("workload_identity_provider")+`"`, "--project="+d.gcpName().project, "--freshness=1d", "--limit=20",
		"--format=json")
}

// revokeGCP stops the login, ends what it can, and proves it.
func revokeGCP(d Demand) (Script, error) {
	p, err := newGCPProvider(d, nil)
	if err != nil {
		return Script{}, err
	}
	var s Script
	n := d.gcpName()
	if account := d.Get("service_account"); account != "" {
		s.run("Contain: no token acts as "+account+" any more. IAM needs about two minutes, sometimes seven.",
			p.binding(&s, d, "remove"))
	} else {
		s.run("Contain: the principal loses its role. Its roles on datasets and buckets must go the same way.",
			p.binding(&s, d, "remove"))
	}
	provider := func(flag string) string {
		return command("gcloud", "iam", "workload-identity-pools", "providers", "update-oidc", n.provider,
			"--workload-identity-pool="+n.pool,
			"--project="+n.project, "--location=global", flag)
	}
	s.run(fmt.Sprintf("Only if the whole provider is in doubt: it exchanges nothing for the targets %s.\n%s",
		strings.Join(p.targets(), ", "), provider("--disabled")))
	p.endSessions(&s, d)
	s.run("Prove it: no exchange after the time of the first step.", gcpExchanges(d))
	s.run("Undo, when the cause is removed:\n" + p.binding(&s, d, "add") + "\n" + provider("--no-disabled"))
	return s, nil
}

// endSessions ends what was issued: tokens live up to an hour, or as long as
// `lifetime` asks for.
func (p *gcpProvider) endSessions(s *Script, d Demand) {
	account := d.Get("service_account")
	if account == "" {
		s.run("Tokens that were issued expire with their ID token, after five minutes.")
	} else {
		s.run("Tokens that were issued live up to an hour, or as long as `lifetime` asks for. If that is too long, " +
			"disable the service account:\n" +
			"everything that uses it stops.\n" + command("gcloud", "iam", "service-accounts", "disable", account))
	}
	if d.Case.Login.DBT.Type != "bigquery" {
		return
	}
	project := s.gcpProject(d)
	filter := "true"
	if account != "" {
		filter = ".user_email == $account"
	}
	s.run("Abort what runs. Look at the list first: the account may have other users.",
		command("bq", "ls", "--jobs", "--all", "--format=json", "--max_results=1000",
			shellText("--project_id="+command(project)))+
			" |\n  "+command("jq", "-r", "--arg", "account", account,
			`.[] | select(.status.state != "DONE" and (`+filter+`)) | .jobReference.jobId`)+
			" |\n  "+"while read -r job; do "+command("bq", "cancel", shellText("--project_id="+command(project)),
			shellVar("job"))+"; done")
}

// binding gives or takes what the provider's own principal has.
func (p *gcpProvider) binding(s *Script, d Demand, verb string) string {
	if d.Get("service_account") != "" {
		return gcpServiceAccount(verb+"-iam-policy-binding", p.grants(d)[0])
	}
	var lines []string
	for _, role := range s.gcpRoles(d) {
		lines = append(lines, gcpOnProject(verb+"-iam-policy-binding", s.gcpProject(d), role, p.member(d)))
	}
	return strings.Join(lines, "\n")
}
