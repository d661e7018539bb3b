package trust

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/logic"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// identityCenterLanguage is that of IAM Identity Center: a trusted token
// issuer, and the audiences for which an application takes its tokens. It has
// no conditions on claims. At Athena a role takes the token first, and its
// trust policy is the wall; at Redshift there is no other.
var identityCenterLanguage = language{
	generate: generateIdentityCenter,
	read:     readIdentityCenter,
	rotate:   rotateIdentityCenter,
	revoke:   revokeIdentityCenter,
}

const jwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"

func generateIdentityCenter(d Demand) (Wall, error) {
	if d.Get("role") == "" {
		return d.redshiftIdentityCenter(), nil
	}
	t, err := d.identityRole()
	if err != nil {
		return Wall{}, err
	}
	t.note(
		"Identity Center gives the identity of the user whom the mapped claim names, to tokens of the issuer with " +
			"the audience: " +
			"what the rules ask for beyond that is enforced by the trust policy of the role")
	return t.wall(func(f *awsFiles, last awsRole) {
		application := d.Get("application")
		ask := permission([]string{"sso-oauth:CreateTokenWithIAM"}, application)
		carry := permission([]string{"sts:AssumeRole", "sts:SetContext"}, last.arn)
		both := permissionDocument(ask, carry)
		name := hclName(d.Name())
		b := f.block(t.role, "aws_iam_role_policy", name+"_identity", "")
		b.set("name", "oidc-dbt-identity")
		b.set("role", hclRef(f.resources[t.role.arn]+".name"))
		b.set("policy", hclCall{"jsonencode", both})
		f.script.run("The role may ask for the identity, and assume the role of the session that carries it.",
			f.aws(t.role, "iam", "put-role-policy", "--role-name", t.role.name, "--policy-name", "oidc-dbt-identity",
				"--policy-document", compactJSON(both)))
		d.tokenIssuers(f)
		d.application(f, t.role, d.Audience())
		f.docs = append(f.docs, d.issuerDocument())
	})
}

// identityRole is the trust of the role that takes the token. Without another
// one it also carries the identity: it trusts itself for that. Its account is
// the principal, for a role cannot name itself before it is there.
func (d Demand) identityRole() (*awsTrust, error) {
	t, err := d.awsTrust()
	if err != nil {
		return nil, err
	}
	if d.Get("then_assume.role") == "" {
		t.statements = append(t.statements, awsStatement{
			sid:       "CarriesIdentity",
			effect:    "Allow",
			principal: "arn:" + t.role.partition + ":iam::" + t.role.account + ":root",
			actions:   []string{"sts:AssumeRole", "sts:SetContext"},
			global:    map[string]map[string][]string{"ArnEquals": {"aws:PrincipalArn": {t.role.arn}}},
		})
	}
	return t, nil
}

// redshiftIdentityCenter has what Redshift compares: issuer and audience.
func (d Demand) redshiftIdentityCenter() Wall {
	w := Wall{Documents: []Document{d.issuerDocument()}}
	var parts []logic.Formula
	for _, id := range d.issuers() {
		parts = append(parts, logic.Equals("iss", id.Issuer))
	}
	w.Admits = logic.And(logic.Or(parts...), logic.Equals("aud", d.Audience()))
	for _, r := range d.Rules {
		out := report(r)
		for _, c := range r.Conditions {
			out.wider(c.Claim,
				"Identity Center compares only issuer and audience, and takes whoever the mapped claim makes a user",
				"")
		}
		if len(d.Deny) > 0 {
			out.wider("deny", "Identity Center has no conditions on claims", "")
		}
		w.Rules = append(w.Rules, out)
	}
	w.Notes = append(w.Notes, "any token of the issuer with this audience logs in as the user whom its claim names: "+
		"give the audience to nothing else, and grant by groups of Identity Center")
	f := &awsFiles{tf: newTerraform()}
	d.tokenIssuers(f)
	d.redshiftApplication(f, d.Audience())
	w.Terraform, w.Script = f.tf.String(), f.script
	return w
}

// issuerDocument is what Identity Center is told, in its API's words.
func (d Demand) issuerDocument() Document {
	list := hclList{}
	for _, id := range d.issuers() {
		config := hclObject{{"IssuerUrl", id.Issuer}}
		if claim, attribute, ok := d.mapping(); ok {
			config = append(config, hclField{"ClaimAttributePath", claim},
				hclField{"IdentityStoreAttributePath", attribute})
		}
		list = append(list, hclObject{
			{"Name", issuerName(id)}, {"TrustedTokenIssuerType", "OIDC_JWT"},
			{"TrustedTokenIssuerConfiguration", hclObject{{"OidcJwtConfiguration",
				append(config, hclField{"JwksRetrievalOption", "OPEN_ID_DISCOVERY"})}}},
			{"AuthorizedAudiences", []string{d.Audience()}},
		})
	}
	return Document{"identity-center.json", jsonText(hclObject{{"TrustedTokenIssuers", list}})}
}

// mapping is the claim that names the user, and the attribute of the user that
// it is compared with. ok is false where neither the rules nor a flag say it.
func (d Demand) mapping() (claim, attribute string, ok bool) {
	claim, attribute = d.Options.Values["claim"], d.Options.Values["attribute"]
	if claim == "" && !slices.ContainsFunc(d.Rules, func(r Rule) bool { return !r.Names("email") }) {
		claim = "email"
	}
	if attribute == "" && claim == "email" {
		attribute = "emails.value"
	}
	return claim, attribute, claim != "" && attribute != ""
}

func issuerName(id policy.Identity) string { return "oidc-dbt-" + id.Name }

// instance is the ARN of the instance of Identity Center.
func (d Demand) instance(f *awsFiles) any {
	if _, rest, ok := strings.Cut(d.Get("application"), ":application/"); ok {
		name, _, _ := strings.Cut(rest, "/")
		partition, _, _ := strings.Cut(strings.TrimPrefix(d.Get("application"), "arn:"), ":")
		return "arn:" + partition + ":sso:::instance/" + name
	}
	return f.script.needs(Variable{
		Name: "INSTANCE_ARN",
		Doc:  "the ARN of the instance of IAM Identity Center",
		Find: command("aws", "sso-admin", "list-instances", "--region", d.Get("region"), "--query",
			"Instances[0].InstanceArn", "--output", "text"),
	})
}

// tokenIssuers has a trusted token issuer for each issuer.
func (d Demand) tokenIssuers(f *awsFiles) {
	instance := d.instance(f)
	claim, attribute, ok := d.mapping()
	shellClaim, shellAttribute := shellText(claim), shellText(attribute)
	var tfClaim, tfAttribute any = claim, attribute
	if !ok {
		shellClaim = shellText(
			`'"$` + string(
				f.script.needs(Variable{Name: "CLAIM", Doc: "the claim that names the user, such as email"})) + `"'`,
		)
		shellAttribute = shellText(`'"$` + string(f.script.needs(Variable{Name: "ATTRIBUTE",
			Doc: "the attribute of Identity Center's users that it is compared with, such as emails.value"})) + `"'`)
		tfClaim = f.tf.variable("claim", "The claim that names the user, such as email.")
		tfAttribute = f.tf.variable("attribute",
			"The attribute of Identity Center's users that the claim is compared with, such as emails.value.")
	}
	f.tf.block("data", "aws_ssoadmin_instances", "this")
	for _, id := range d.issuers() {
		name := issuerName(id)
		b := f.tf.block("resource", "aws_ssoadmin_trusted_token_issuer", hclName(id.Name))
		b.set("name", name)
		b.set("instance_arn", hclRef("tolist(data.aws_ssoadmin_instances.this.arns)[0]"))
		b.set("trusted_token_issuer_type", "OIDC_JWT")
		c := b.block("trusted_token_issuer_configuration").block("oidc_jwt_configuration")
		c.set("claim_attribute_path", tfClaim)
		c.set("identity_store_attribute_path", tfAttribute)
		c.set("issuer_url", id.Issuer)
		c.set("jwks_retrieval_option", "OPEN_ID_DISCOVERY")

		config := `'{"OidcJwtConfiguration":{"IssuerUrl":` + strings.ReplaceAll(compactText(id.Issuer), "'",
			`'\''`) + `,"ClaimAttributePath":"` +
			string(shellClaim) + `","IdentityStoreAttributePath":"` + string(
			shellAttribute,
		) + `","JwksRetrievalOption":"OPEN_ID_DISCOVERY"}}'`
		f.script.run("The trusted token issuer for "+id.Issuer+", created if there is none of its name.",
			d.lookUp(id, instance), `test -n "$`+shellName(id)+`" ||`,
			"  "+shellName(id)+"=$("+command("aws", "sso-admin", "create-trusted-token-issuer", "--region",
				d.Get("region"), "--instance-arn", instance, "--name", name, "--trusted-token-issuer-type",
				"OIDC_JWT", "--trusted-token-issuer-configuration", shellText(config), "--query",
				"TrustedTokenIssuerArn", "--output", "text")+")")
	}
}

// lookUp sets the shell's variable to the ARN of a trusted token issuer.
func (d Demand) lookUp(id policy.Identity, instance any) string {
	return shellName(id) + "=$(" + command("aws", "sso-admin", "list-trusted-token-issuers", "--region",
		d.Get("region"), "--instance-arn", instance, "--query",
		"TrustedTokenIssuers[?Name=='"+issuerName(id)+"'].TrustedTokenIssuerArn", "--output", "text") + ")"
}

// findIssuers looks up the trusted token issuers that are there.
func (d Demand) findIssuers(f *awsFiles) {
	instance := d.instance(f)
	for _, id := range d.issuers() {
		f.script.run("The trusted token issuer for "+id.Issuer+".", d.lookUp(id, instance))
	}
}

// shellName is the shell's variable with the ARN of an issuer.
func shellName(id policy.Identity) string { return "issuer_" + hclName(id.Name) }

// compactText is a text in JSON.
func compactText(text string) string { return compactJSON(text) }

// application has the grant by which the application takes the tokens with
// some audiences, and the role that may ask it.
func (d Demand) application(f *awsFiles, role awsRole, audiences ...string) {
	grant := `'{"JwtBearer":{"AuthorizedTokenIssuers":[`
	for i, id := range d.issuers() {
		if i > 0 {
			grant += ","
		}
		grant += `{"TrustedTokenIssuerArn":"'"$` + shellName(id) + `"'","AuthorizedAudiences":` +
			strings.ReplaceAll(compactJSON(audiences), "'", `'\''`) + `}`
	}
	grant += `]}}'`
	application := d.Get("application")
	f.script.run(
		"The application takes these tokens only: the command replaces the issuers and audiences of its JWT bearer grant.",
		command("aws", "sso-admin", "put-application-grant", "--region", d.Get("region"), "--application-arn",
			application, "--grant-type", jwtBearer, "--grant", shellText(grant)))
	actor := hclObject{{"Iam", hclObject{{"ActorPolicy", permissionDocument(hclObject{
		{"Effect", "Allow"},
		{
			"Principal",
			hclObject{{"AWS", role.arn}},
		},
		{"Action", "sso-oauth:CreateTokenWithIAM"},
		{"Resource", application},
	})}}}}
	f.script.run("Only the role may ask it for identities.",
		command("aws", "sso-admin", "put-application-authentication-method", "--region", d.Get("region"),
			"--application-arn", application, "--authentication-method-type", "IAM", "--authentication-method",
			compactJSON(actor)))
}

// redshiftApplication has the issuers and audiences of Redshift's application.
func (d Demand) redshiftApplication(f *awsFiles, audiences ...string) {
	application := f.script.needs(
		Variable{
			Name: "REDSHIFT_APPLICATION_ARN",
			Doc:  "the ARN of Redshift's application at Identity Center",
			Find: command("aws", "redshift", "describe-redshift-idc-applications", "--region", d.Get("region"),
				"--query", "RedshiftIdcApplications[0].RedshiftIdcApplicationArn", "--output", "text"),
		},
	)
	var items []string
	for _, id := range d.issuers() {
		items = append(items, `{"TrustedTokenIssuerArn":"'"$`+shellName(id)+`"'","AuthorizedAudiencesList":`+
			strings.ReplaceAll(compactJSON(audiences), "'", `'\''`)+`}`)
	}
	f.script.run("Redshift takes these tokens only: the command replaces the issuers of its application.",
		command("aws", "redshift", "modify-redshift-idc-application", "--region", d.Get("region"),
			"--redshift-idc-application-arn", application, "--authorized-token-issuer-list",
			shellText("'["+strings.Join(items, ",")+"]'")))
}

// rotateIdentityCenter lists both audiences, switches, and lists the new one.
func rotateIdentityCenter(d, next Demand) (Script, error) {
	if d.Get("role") == "" {
		if next.Audience() == d.Audience() {
			return Script{}, usage(
				"target %q: Identity Center at Redshift compares only issuer and audience: rotate with --to-audience",
				d.Target.Name())
		}
		f := &awsFiles{tf: newTerraform()}
		d.tokenIssuers(f)
		d.redshiftApplication(f, d.Audience(), next.Audience())
		f.change(d, next)
		f.pause("the old audience " + d.Audience())
		d.redshiftApplication(f, next.Audience())
		return f.script, nil
	}
	old, err := d.identityRole()
	if err != nil {
		return Script{}, err
	}
	changed, err := next.identityRole()
	if err != nil {
		return Script{}, err
	}
	return rotateRole(old, changed, func(f *awsFiles, final bool) {
		switch {
		case next.Audience() == d.Audience():
		case final:
			d.application(f, old.role, next.Audience())
		default:
			d.tokenIssuers(f)
			d.application(f, old.role, d.Audience(), next.Audience())
		}
	})
}

// revokeIdentityCenter takes the issuers from Redshift's application, or closes the role.
func revokeIdentityCenter(d Demand) (Script, error) {
	if d.Get("role") != "" {
		return revokeAWS(d)
	}
	f := &awsFiles{tf: newTerraform()}
	application := f.script.needs(
		Variable{
			Name: "REDSHIFT_APPLICATION_ARN",
			Doc:  "the ARN of Redshift's application at Identity Center",
			Find: command("aws", "redshift", "describe-redshift-idc-applications", "--region", d.Get("region"),
				"--query", "RedshiftIdcApplications[0].RedshiftIdcApplicationArn", "--output", "text"),
		},
	)
	f.script.run("Keep what Redshift's application is now.",
		"test -e redshift-application.before.json ||",
		"  "+command("aws", "redshift", "describe-redshift-idc-applications", "--region", d.Get("region"),
			"--redshift-idc-application-arn", application)+" >redshift-application.before.json")
	d.findIssuers(f)
	f.script.run("Let no token in: from now on it must have an audience that none has.", "")
	d.redshiftApplication(f, "revoked.invalid")
	f.script.run(
		"Connections outlive the login. In the database, as a superuser, for each of the users of Identity Center:\n"+
			"SELECT pg_terminate_backend(process) FROM stv_sessions WHERE user_name LIKE 'AWSIDC:%';", "")
	f.script.run("Prove it: who logged in, as a superuser:\n"+
		"SELECT record_time, user_name, remote_host FROM sys_connection_log "+
		"WHERE user_name LIKE 'AWSIDC:%' ORDER BY record_time DESC;", "")
	f.script.undo("Redshift's application as it was, when the cause is removed.",
		"before=$(jq -c '.RedshiftIdcApplications[0].AuthorizedTokenIssuerList' redshift-application.before.json)",
		command("aws", "redshift", "modify-redshift-idc-application", "--region", d.Get("region"),
			"--redshift-idc-application-arn", application, "--authorized-token-issuer-list", shellVar("before")))
	return f.script, nil
}

// An idcReader gathers what files say of Identity Center.
type idcReader struct {
	issuers map[string]string // URL by ARN
	takes   []idcAudiences
	out     []Finding
	roles   []File
}

type idcAudiences struct {
	TrustedTokenIssuerArn   string
	AuthorizedAudiences     []string
	AuthorizedAudiencesList []string
}

const idcWants = "want what `aws sso-admin describe-trusted-token-issuer`, `aws sso-admin get-application-grant`, " +
	"`aws redshift describe-redshift-idc-applications` or `aws iam get-role` prints"

// readIdentityCenter reads trusted token issuers, an application's grant, and
// the role's trust.
func readIdentityCenter(d Demand, files []File) (Reading, error) {
	r := idcReader{issuers: map[string]string{}}
	for _, f := range files {
		if err := r.file(f); err != nil {
			return Reading{}, err
		}
	}
	admits, err := r.admits(d)
	if err != nil || d.Get("role") == "" {
		return Reading{Admits: admits, Findings: r.out}, err
	}
	role, err := readAWS(d, r.roles)
	if err != nil {
		return Reading{}, err
	}
	return Reading{Admits: logic.And(role.Admits, admits), Findings: append(role.Findings, r.out...)}, nil
}

func (r *idcReader) file(f File) error {
	var doc struct {
		TrustedTokenIssuerArn           string
		TrustedTokenIssuerConfiguration *struct {
			OidcJwtConfiguration struct{ IssuerUrl, ClaimAttributePath string }
		}
		Grant *struct {
			JwtBearer struct{ AuthorizedTokenIssuers []idcAudiences }
		}
		RedshiftIdcApplications  []struct{ AuthorizedTokenIssuerList []idcAudiences }
		Role, Statement          json.RawMessage
		AssumeRolePolicyDocument json.RawMessage
		ClientIDList             json.RawMessage
	}
	if err := json.Unmarshal(f.Text, &doc); err != nil {
		return usage("%s: %s: %v", f.Name, idcWants, err)
	}
	switch {
	case doc.TrustedTokenIssuerConfiguration != nil:
		c := doc.TrustedTokenIssuerConfiguration.OidcJwtConfiguration
		r.issuers[doc.TrustedTokenIssuerArn] = c.IssuerUrl
		if slices.Contains(
			[]string{"preferred_username", "name", "nickname", "login", "actor", "workflow", "head_ref"},
			c.ClaimAttributePath) {
			r.out = append(
				r.out,
				Finding{
					Name:     "chosen-user-claim",
					Severity: "error",
					Message: fmt.Sprintf("%s: the user is named by %s, "+
						"which the token's owner may choose: map email or sub", f.Name, c.ClaimAttributePath),
				},
			)
		}
	case doc.Grant != nil:
		r.takes = append(r.takes, doc.Grant.JwtBearer.AuthorizedTokenIssuers...)
	case doc.RedshiftIdcApplications != nil:
		for _, a := range doc.RedshiftIdcApplications {
			r.takes = append(r.takes, a.AuthorizedTokenIssuerList...)
		}
	case doc.Role != nil, doc.Statement != nil, doc.AssumeRolePolicyDocument != nil, doc.ClientIDList != nil:
		r.roles = append(r.roles, f)
	default:
		return usage("%s: %s", f.Name, idcWants)
	}
	return nil
}

// admits is met by the tokens that the application takes.
func (r *idcReader) admits(d Demand) (logic.Formula, error) {
	if len(r.takes) == 0 {
		if d.Get("role") != "" && len(r.issuers) == 0 && len(r.roles) > 0 {
			return logic.Undecided("the application's grant was not given: which audiences it takes"), nil
		}
		return logic.Never(), usage("no file has the audiences of the application: %s", idcWants)
	}
	var parts []logic.Formula
	for _, t := range r.takes {
		audience := logic.Equals("aud", slices.Concat(t.AuthorizedAudiences, t.AuthorizedAudiencesList)...)
		if url := r.issuers[t.TrustedTokenIssuerArn]; url != "" {
			parts = append(parts, logic.And(logic.Equals("iss", strings.TrimSuffix(url, "/"), url), audience))
		} else {
			parts = append(parts,
				logic.And(logic.Undecided("the trusted token issuer "+t.TrustedTokenIssuerArn+" was not given"),
					audience))
		}
	}
	return logic.Or(parts...), nil
}
