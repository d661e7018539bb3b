package trust

import (
	"fmt"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// awsFiles are the documents, Terraform and commands of a login, in the making.
type awsFiles struct {
	home      string // the account that the commands run in
	tf        *terraform
	script    Script
	docs      []Document
	resources map[string]string // the addresses of roles in Terraform, by ARN
}

func newAWSFiles(home awsRole) *awsFiles {
	f := &awsFiles{home: home.account, tf: newTerraform(), resources: map[string]string{}}
	f.script.run("The commands are for account "+home.account+", and stop here with the credentials of another one.",
		accountCheck(home.account))
	return f
}

func accountCheck(account string) string {
	return `test "$(aws sts get-caller-identity --query Account --output text)" = ` + account
}

// issuers are the identities of the rules, each issuer once.
func (d Demand) issuers() (list []policy.Identity) {
	for _, r := range slices.Concat(d.Rules, d.Deny) {
		if !slices.ContainsFunc(list, func(id policy.Identity) bool { return id.Issuer == r.Identity.Issuer }) {
			list = append(list, r.Identity)
		}
	}
	return list
}

// document returns the role's trust policy, and notes its length.
func (t *awsTrust) document() (string, error) {
	text := jsonText(awsDocument(t.statements, false))
	switch n := awsLength(text); {
	case n > awsRaised:
		return "", usage(
			"target %q: the trust policy of %s has %d characters without white space, and IAM's limit is %d: "+
				"use wildcards or fewer rules, or give some rules a target with another role", t.d.Target.Name(),
			t.role.arn, n, awsRaised)
	case n > awsQuota:
		t.note(
			fmt.Sprintf(
				"the trust policy has %d characters without white space, and IAM's quota is %d: have it raised to %d "+
					"first (service quota L-C07B4B0D, \"Role trust policy length\")", n, awsQuota, awsRaised),
		)
	}
	return text, nil
}

// wall makes the documents of the role, and of what the login needs besides;
// more adds to them.
func (t *awsTrust) wall(more func(f *awsFiles, last awsRole)) (Wall, error) {
	text, err := t.document()
	if err != nil {
		return Wall{}, err
	}
	read, err := parseIAM("aws.json", []byte(text))
	if err != nil {
		return Wall{}, err
	}
	f := newAWSFiles(t.role)
	f.docs = append(f.docs, Document{"aws.json", text})
	for _, id := range t.d.issuers() {
		t.provider(f, id)
	}
	name := hclName(t.d.Name())
	f.role(t.role, name, awsDocument(t.statements, true), text, int(t.d.longestSession().Seconds()))
	last, err := t.second(f, name)
	if err != nil {
		return Wall{}, err
	}
	t.login(f, last)
	t.records(f, last)
	if more != nil {
		more(f, last)
	}
	return Wall{Documents: f.docs, Terraform: f.tf.String(), Script: f.script, Rules: t.reports, Notes: t.notes,
		Admits: read.admits(t.d.issuers())}, nil
}

// provider has the issuer's provider, of which an account has one.
func (t *awsTrust) provider(f *awsFiles, id policy.Identity) {
	arn := command("--open-id-connect-provider-arn", t.role.provider(id.Issuer))
	f.script.run("The account's provider of "+id.Issuer+", created if there is none, and the audience of the tokens.",
		"aws iam get-open-id-connect-provider "+arn+" >/dev/null ||",
		"  "+command("aws", "iam", "create-open-id-connect-provider", "--url", id.Issuer),
		"aws iam add-client-id-to-open-id-connect-provider "+arn+" "+command("--client-id", t.d.Audience()))
	if t.d.Options.Values["oidc-provider"] == "create" {
		b := f.tf.block("resource", "aws_iam_openid_connect_provider", hclName(id.Name))
		b.set("url", id.Issuer)
		b.set("client_id_list", []string{t.d.Audience()})
		return
	}
	f.tf.comment("The account's provider of " + id.Issuer + "; its client ids must have " + t.d.Audience() + ".\n" +
		"An account has one for each issuer. Where there is none yet: trust generate --set oidc-provider=create.")
	f.tf.block("data", "aws_iam_openid_connect_provider", hclName(id.Name)).set("url", id.Issuer)
}

// aws begins a command in the account of a role.
func (f *awsFiles) aws(r awsRole, words ...any) string {
	begin := []any{"aws"}
	if r.account != f.home {
		begin = append(begin, "--profile", f.script.needs(Variable{Name: "PROFILE_" + r.account,
			Doc: "the AWS CLI's profile for account " + r.account}))
	}
	return command(append(begin, words...)...)
}

// block begins a resource of the account of a role, with a comment.
func (f *awsFiles) block(r awsRole, kind, name, comment string) *hclBody {
	alias := "account_" + r.account
	if r.account != f.home && !f.tf.seen[alias] {
		f.tf.seen[alias] = true
		profile := f.tf.variable("profile_"+r.account, "The AWS CLI's profile for account "+r.account+".")
		b := f.tf.block("provider", "aws")
		b.set("alias", alias)
		b.set("profile", profile)
	}
	if comment != "" {
		f.tf.comment(comment)
	}
	b := f.tf.block("resource", kind, name)
	if r.account != f.home {
		b.set("provider", hclRef("aws."+alias))
	}
	return b
}

// role has a role and its trust policy. seconds is how long its sessions must
// be able to live, 0 for AWS's default of an hour.
func (f *awsFiles) role(r awsRole, name string, doc hclObject, text string, seconds int) {
	create := []any{"iam", "create-role", "--role-name", r.name}
	f.resources[r.arn] = "aws_iam_role." + name
	b := f.block(r, "aws_iam_role", name,
		"A role that exists is adopted by: terraform import aws_iam_role."+name+" "+r.name)
	b.set("name", r.name)
	if r.path != "/" {
		b.set("path", r.path)
		create = append(create, "--path", r.path)
	}
	if seconds > 0 {
		b.set("max_session_duration", seconds)
	}
	b.set("assume_role_policy", hclCall{"jsonencode", doc})
	trust := shellText(`"$trust"`)
	f.script.run("The role "+r.arn+": its trust policy is replaced, or the role created.",
		setVariable("trust", text),
		"if "+f.aws(r, "iam", "get-role", "--role-name", r.name)+" >/dev/null; then",
		"  "+f.aws(r, "iam", "update-assume-role-policy", "--role-name", r.name, "--policy-document", trust),
		"else",
		"  "+f.aws(r, append(create, "--assume-role-policy-document", trust)...),
		"fi")
	if seconds > 0 {
		f.script.run("Its sessions live as long as the target's lifetime.",
			f.aws(r, "iam", "update-role", "--role-name", r.name, "--max-session-duration", seconds))
	}
}

// setVariable puts a text into a variable of the shell, as it is. (read fails
// where the text has no NUL in it, that is always.)
func setVariable(name, text string) string {
	head, rest, _ := strings.Cut(feed("IFS= read -r -d '' "+name, text), "\n")
	return head + " || true\n" + rest
}

// permits adds a policy of permissions to a role. policy is for Terraform; words is the same for the shell.
func (f *awsFiles) permits(r awsRole, resource, policyName, doc string, statement hclObject, text shellText) {
	b := f.block(r, "aws_iam_role_policy", resource, "")
	b.set("name", policyName)
	b.set("role", hclRef(f.resources[r.arn]+".name"))
	b.set("policy", hclCall{"jsonencode", permissionDocument(statement)})
	f.script.run(doc,
		f.aws(r, "iam", "put-role-policy", "--role-name", r.name, "--policy-name", policyName, "--policy-document",
			text))
}

func permissionDocument(statements ...hclObject) hclObject {
	list := make(hclList, len(statements))
	for i, s := range statements {
		list[i] = s
	}
	return hclObject{{"Version", "2012-10-17"}, {"Statement", list}}
}

func permission(actions []string, resources any) hclObject {
	return hclObject{{"Effect", "Allow"}, {"Action", oneOrMore(actions)}, {"Resource", resources}}
}

// compactJSON is jsonText on one line.
func compactJSON(value any) string {
	var b strings.Builder
	for line := range strings.Lines(jsonText(value)) {
		b.WriteString(strings.TrimSpace(line))
	}
	return b.String()
}

// second has the role that the first one assumes, and returns the last role.
func (t *awsTrust) second(f *awsFiles, name string) (awsRole, error) {
	if t.d.Get("then_assume.role") == "" {
		return t.role, nil
	}
	role, err := t.d.roleOf("then_assume.role")
	if err != nil {
		return role, err
	}
	s := t.d.chained(t.role)
	s.source = f.resources[t.role.arn] + ".arn"
	text := jsonText(awsDocument([]awsStatement{s}, false))
	f.docs = append(f.docs, Document{"then-assume.aws.json", text})
	allow := permission(s.actions, role.arn)
	f.permits(t.role, name+"_then_assume", "oidc-dbt-then-assume", "The first role may assume the second one.", allow,
		shellText(quote(compactJSON(permissionDocument(allow)))))
	f.role(role, name+"_second", awsDocument([]awsStatement{s}, true), text, 0)
	if t.d.Get("then_assume.external_id") == "" && role.account != t.role.account {
		t.note(
			"the second role is in another account, and its trust asks for no external id: set then_assume.external_id")
	}
	return role, nil
}

// chained is the statement by which the second role trusts the first.
func (d Demand) chained(first awsRole) awsStatement {
	s := awsStatement{sid: "ThenAssume", effect: "Allow", principal: first.arn, actions: []string{"sts:AssumeRole"}}
	if id := d.Get("then_assume.external_id"); id != "" {
		s.global = map[string]map[string][]string{opEquals: {"sts:ExternalId": {id}}}
	}
	if len(d.Case.Login.Exchange.List("then_assume.tags")) > 0 {
		s.actions = append(s.actions, "sts:TagSession")
	}
	if d.Get("then_assume.source_identity") == "true" {
		s.actions = append(s.actions, "sts:SetSourceIdentity")
	}
	if d.Provider() == "identity_center" {
		s.actions = append(s.actions, "sts:SetContext")
	}
	return s
}

// dbtKey returns a key of the dbt block, "" where it is not there.
func (d Demand) dbtKey(names ...string) string {
	block := d.Case.Login.DBT.Block
	for _, name := range names {
		for i := 0; block != nil && i+1 < len(block.Content); i += 2 {
			if block.Content[i].Value == name && block.Content[i+1].Value != "" {
				return block.Content[i+1].Value
			}
		}
	}
	return ""
}

// login has the permission by which a session becomes a login of the warehouse.
func (t *awsTrust) login(f *awsFiles, role awsRole) {
	switch t.d.Case.Login.DBT.Type {
	case "postgres":
		t.rds(f, role)
	case "redshift":
		t.redshift(f, role)
	}
}

// literalARN keeps the characters that IAM reads in a resource from being read.
func literalARN(text string) string {
	return strings.NewReplacer("*", "${*}", "?", "${?}", "${", "${$}{").Replace(text)
}

// rds allows the login as the database's user. (Amazon RDS User Guide,
// "Creating and using an IAM policy for IAM database access")
func (t *awsTrust) rds(f *awsFiles, role awsRole) {
	host, user, region := t.d.dbtKey("host"), t.d.dbtKey("user"), t.d.Get("region")
	if host == "" || user == "" {
		return
	}
	find := func(verb, from string) string {
		return command("aws", "rds", verb, "--region", region, "--output", "text", "--query", from)
	}
	id := f.script.needs(
		Variable{
			Name: "DB_RESOURCE_ID",
			Doc:  "the resource id of " + host + ", such as db-ABCDEFGHIJKL01234 or cluster-…",
			Find: find("describe-db-instances", "DBInstances[?Endpoint.Address=='"+host+"'].DbiResourceId") + "; " +
				find("describe-db-clusters", "DBClusters[?Endpoint=='"+host+"'].DbClusterResourceId"),
		},
	)
	before := "arn:" + role.partition + ":rds-db:" + region + ":" + role.account + ":dbuser:"
	after := "/" + literalARN(user)
	ref := f.tf.variable("db_resource_id", "The resource id of "+host+", such as db-ABCDEFGHIJKL01234.")
	const mark = "\x00"
	left, right, _ := strings.Cut(
		compactJSON(permissionDocument(permission([]string{"rds-db:connect"}, before+mark+after))), `\u0000`)
	f.permits(role, hclName(t.d.Name())+"_login", "oidc-dbt-login",
		"The role may log in as the database's user "+user+".",
		permission([]string{"rds-db:connect"}, hclText{before, ref, after}),
		shellText(quote(left)+`"$`+string(id)+`"`+quote(right)))
}

// redshift allows to ask for the login. (Redshift Management Guide, "Using IAM
// authentication to generate database user credentials")
func (t *awsTrust) redshift(f *awsFiles, role awsRole) {
	host, user, database, region := t.d.dbtKey("host"), t.d.dbtKey("user"), t.d.dbtKey("dbname", "database"), t.d.Get(
		"region")
	at := ":" + region + ":" + role.account + ":"
	label, rest, _ := strings.Cut(host, ".")
	resource := hclName(t.d.Name()) + "_login"
	const what = "The role may ask for a login of the database."
	workgroup := t.d.dbtKey("serverless_work_group")
	if workgroup == "" && strings.Contains(rest, ".redshift-serverless.") {
		workgroup = label
	}
	if workgroup != "" {
		id := f.script.needs(Variable{
			Name: "WORKGROUP_ID",
			Doc:  "the id of the workgroup " + workgroup,
			Find: command("aws", "redshift-serverless", "get-workgroup", "--region", region, "--workgroup-name",
				workgroup, "--query", "workgroup.workgroupId", "--output", "text"),
		})
		before := "arn:" + role.partition + ":redshift-serverless" + at + "workgroup/"
		ref := f.tf.variable("workgroup_id", "The id of the workgroup "+workgroup+".")
		actions := []string{"redshift-serverless:GetCredentials"}
		left, right, _ := strings.Cut(compactJSON(permissionDocument(permission(actions, before+"\x00"))), `\u0000`)
		f.permits(role, resource, "oidc-dbt-login", what, permission(actions, hclText{before, ref}),
			shellText(quote(left)+`"$`+string(id)+`"`+quote(right)))
		return
	}
	cluster := t.d.dbtKey("cluster_id")
	if cluster == "" {
		cluster = label
	}
	arn := "arn:" + role.partition + ":redshift" + at
	resources, actions := []string{
		arn + "dbname:" + cluster + "/" + literalARN(database),
	}, []string{
		"redshift:GetClusterCredentialsWithIAM",
	}
	if user != "" {
		actions[0] = "redshift:GetClusterCredentials"
		resources = append(resources, arn+"dbuser:"+cluster+"/"+literalARN(user))
		if t.d.dbtKey("autocreate") == "true" {
			actions = append(actions, "redshift:CreateClusterUser")
		}
	}
	allow := permission(actions, oneOrMore(resources))
	f.permits(role, resource, "oidc-dbt-login", what, allow, shellText(quote(compactJSON(permissionDocument(allow)))))
}
