package trust

import "strings"

// revokeAWS closes the role, and ends its sessions.
func revokeAWS(d Demand) (Script, error) {
	first, err := d.roleOf("role")
	if err != nil {
		return Script{}, err
	}
	roles := []awsRole{first}
	if d.Get("then_assume.role") != "" {
		second, err := d.roleOf("then_assume.role")
		if err != nil {
			return Script{}, err
		}
		roles = append(roles, second)
	}
	f := newAWSFiles(first)
	f.script.About = []string{
		"Who runs it: someone who may change these roles (iam:GetRole, iam:UpdateAssumeRolePolicy, iam:PutRolePolicy,",
		"iam:DeleteRolePolicy) and read CloudTrail, logged in to the account of " + strings.Join(arns(roles), " and of ") + ".",
		"What it breaks: everything that uses these roles, not only this target, until it is undone.",
	}
	settings := Step{"The policy's region, and output that does not wait for a key.",
		command("export", "AWS_DEFAULT_REGION="+d.Get("region"), "AWS_PAGER=")}
	f.script.Steps = append([]Step{settings}, f.script.Steps...)
	f.script.Undo = append(f.script.Undo, settings)
	for _, r := range roles {
		f.close(r)
	}
	for _, r := range roles {
		f.endSessions(r)
	}
	f.abort(d)
	for _, r := range roles {
		f.prove(d, r)
	}
	for _, r := range roles {
		f.reopen(r)
	}
	return f.script, nil
}

// revokedPolicy is the inline policy that ends a role's sessions.
const revokedPolicy = "oidc-dbt-revoked"

func arns(roles []awsRole) (list []string) {
	for _, r := range roles {
		list = append(list, r.arn)
	}
	return list
}

// prove shows who got a session.
func (f *awsFiles) prove(d Demand, r awsRole) {
	f.script.run(
		"4. Prove it: who got a session of "+r.name+", newest first, as CloudTrail has it (some minutes late).\n"+
			"After the time of step 1 every request has an errorCode. IAM takes some seconds: run the script again in a minute,\n"+
			"so that a session from in between is ended, too. What a session did: docs/audit.md has the query.",
		f.aws(r, "cloudtrail", "lookup-events", "--region", d.Get("region"),
			"--lookup-attributes", "AttributeKey=ResourceName,AttributeValue="+r.arn,
			"--query", "Events[].CloudTrailEvent", "--output", "text"))
}

// reopen undoes close.
func (f *awsFiles) reopen(r awsRole) {
	kept := r.name + ".before.json"
	f.script.undo(
		"Trust again whom "+kept+" names. Sessions from before stay ended: the policy oidc-dbt-revoked stays until\n"+
			"the longest session would be over, 12 hours at most; then delete it:\n"+
			f.aws(r, "iam", "delete-role-policy", "--role-name", r.name, "--policy-name", revokedPolicy),
		accountCheck(f.home),
		f.aws(r, "iam", "update-assume-role-policy", "--role-name", r.name, "--policy-document", "file://"+kept),
		"mv "+quote(kept)+" "+quote(r.name+".restored.json"))
}

// close has a trust policy by which no one gets a session.
func (f *awsFiles) close(r awsRole) {
	closed := compactJSON(permissionDocument(hclObject{{"Sid", "Revoked"}, {"Effect", "Deny"}, {"Principal", "*"},
		{
			"Action",
			hclList{"sts:AssumeRole", "sts:AssumeRoleWithWebIdentity", "sts:AssumeRoleWithSAML", "sts:TagSession"},
		}}))
	kept := quote(r.name + ".before.json")
	f.script.run(
		"1. Contain: keep the trust policy of "+r.name+" in a file, and let no one in.",
		"test -s "+kept+" ||",
		"  "+f.aws(
			r,
			"iam",
			"get-role",
			"--role-name",
			r.name,
			"--query",
			"Role.AssumeRolePolicyDocument",
			"--output",
			"json",
		)+" >"+kept,
		f.aws(r, "iam", "update-assume-role-policy", "--role-name", r.name, "--policy-document", closed),
	)
}

// endSessions denies everything to the sessions that there are. (IAM User
// Guide, "Revoking IAM role temporary security credentials")
func (f *awsFiles) endSessions(r awsRole) {
	const mark = "\x00"
	left, right, _ := strings.Cut(
		compactJSON(permissionDocument(hclObject{{"Effect", "Deny"}, {"Action", "*"}, {"Resource", "*"},
			{"Condition", hclObject{{"DateLessThan", hclObject{{"aws:TokenIssueTime", mark}}}}}})),
		`\u0000`,
	)
	f.script.run("2. End the sessions of "+r.name+": everything is denied to those from before now.",
		`now=$(date -u +%Y-%m-%dT%H:%M:%SZ)`,
		f.aws(r, "iam", "put-role-policy", "--role-name", r.name, "--policy-name", revokedPolicy, "--policy-document",
			shellText(quote(left)+`"$now"`+quote(right))))
}

// abort ends what runs in the warehouse: a connection outlives its login.
func (f *awsFiles) abort(d Demand) {
	switch d.Case.Login.DBT.Type {
	case "postgres", "redshift":
		d.endConnections(&f.script)
	case "snowflake":
		f.script.add(d.revokeUser())
	case "athena":
		workgroup := d.dbtKey("work_group")
		if workgroup == "" {
			workgroup = "primary"
		}
		ask := command(
			"aws",
			"athena",
			"list-query-executions",
			"--region",
			d.Get("region"),
			"--work-group",
			workgroup,
			"--max-items",
			50,
			"--query",
			"QueryExecutionIds[]",
			"--output",
			"text",
		)
		f.script.run(
			"3. Abort: stop the newest queries of the work group that still run, whoever began them.",
			"for id in $("+ask+"); do",
			"  "+command(
				"aws",
				"athena",
				"stop-query-execution",
				"--region",
				d.Get("region"),
				"--query-execution-id",
				shellVar("id"),
			)+
				" || true  # it has ended",
			"done",
		)
	}
}
