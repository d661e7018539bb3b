package trust

import (
	"fmt"
	"slices"
	"strings"
)

// rotateAWS trusts both at once, switches, and then trusts the new one only.
func rotateAWS(d, next Demand) (Script, error) {
	old, err := d.awsTrust()
	if err != nil {
		return Script{}, err
	}
	changed, err := next.awsTrust()
	if err != nil {
		return Script{}, err
	}
	return rotateRole(old, changed, func(*awsFiles, bool) {})
}

// rotateRole is the procedure for a role; more adds to the commands before the
// switch, and to the final ones.
func rotateRole(old, changed *awsTrust, more func(f *awsFiles, final bool)) (Script, error) {
	d, next := old.d, changed.d
	both := *changed
	both.statements = together(old.statements, changed.statements)
	overlap, err := both.document()
	if err != nil {
		return Script{}, err
	}
	final, err := changed.document()
	if err != nil {
		return Script{}, err
	}
	f := newAWSFiles(old.role)
	name := old.role.name
	f.script.run(
		"Keep the trust policy as it is now.",
		f.aws(old.role, "iam", "get-role", "--role-name", name, "--query",
			"Role.AssumeRolePolicyDocument")+" >"+quote(
			name+".before.json",
		),
	)
	if next.Audience() != d.Audience() {
		for _, id := range d.issuers() {
			f.script.run("The account's provider of "+id.Issuer+" takes the new audience next to the old one.",
				command("aws", "iam", "add-client-id-to-open-id-connect-provider", "--open-id-connect-provider-arn",
					old.role.provider(id.Issuer), "--client-id", next.Audience()))
		}
	}
	f.update(old.role, "The role trusts the new tokens next to the old ones. IAM takes some seconds to spread it.",
		overlap)
	more(f, false)
	f.change(d, next)
	f.script.run("Prove that the new tokens are in use: AssumeRoleWithWebIdentity of this role, without errors.",
		f.aws(old.role, "cloudtrail", "lookup-events", "--region", d.Get("region"), "--lookup-attributes",
			"AttributeKey=EventName,AttributeValue=AssumeRoleWithWebIdentity", "--max-results", 50,
			"--query", "Events[].CloudTrailEvent", "--output", "text"))
	f.pause("the old trust of " + name)
	f.update(old.role, "The role trusts only the new tokens.", final)
	more(f, true)
	if next.Audience() != d.Audience() {
		f.script.run(
			fmt.Sprintf(
				"The account's provider still takes the audience %s, which other roles may use. When none does:\n%s",
				d.Audience(), strings.Join(removals(old, d), "\n")),
			"",
		)
	}
	return f.script, nil
}

// update replaces the trust policy of a role.
func (f *awsFiles) update(r awsRole, doc, text string) {
	f.script.run(doc, setVariable("trust", text),
		f.aws(r, "iam", "update-assume-role-policy", "--role-name", r.name, "--policy-document", shellText(`"$trust"`)))
}

// pause waits for the owner before something is removed.
func (f *awsFiles) pause(what string) {
	f.script.wait("Wait here until every workflow has run once with the new tokens.", "Remove "+what+"?")
}

func removals(t *awsTrust, d Demand) (list []string) {
	for _, id := range d.issuers() {
		list = append(list,
			command("aws", "iam", "remove-client-id-from-open-id-connect-provider", "--open-id-connect-provider-arn",
				t.role.provider(id.Issuer), "--client-id", d.Audience()))
	}
	return list
}

// together returns the statements of both: as one where they differ in the
// values of one key only.
func together(old, changed []awsStatement) (list []awsStatement) {
	list = slices.Clone(changed)
	for i := range list {
		list[i].sid = "New" + list[i].sid
	}
	for _, s := range old {
		i := slices.IndexFunc(list, func(have awsStatement) bool { return sameButOne(have, s) })
		if i < 0 {
			list = append(list, s)
			continue
		}
		merged, _ := s.conditions.and(awsBlock{})
		for op, claims := range list[i].conditions {
			for claim, values := range claims {
				for _, v := range values {
					if !slices.Contains(merged[op][claim], v) {
						merged[op][claim] = append(slices.Clip(merged[op][claim]), v)
					}
				}
			}
		}
		list[i].conditions, list[i].sid = merged, s.sid
	}
	return list
}

// sameButOne reports whether two statements are about the same but for the
// values of one positive key.
func sameButOne(a, b awsStatement) bool {
	if a.effect != b.effect || a.issuer != b.issuer || len(a.conditions) != len(b.conditions) {
		return false
	}
	different := 0
	for op, claims := range a.conditions {
		if len(claims) != len(b.conditions[op]) {
			return false
		}
		for claim, values := range claims {
			other, ok := b.conditions[op][claim]
			switch {
			case !ok:
				return false
			case slices.Equal(values, other):
			case op == opNotLike || op == opNotIgnoring:
				return false
			default:
				different++
			}
		}
	}
	return different <= 1
}

// change is GitHub's and the policy's side of a rotation, and how it is verified.
func (f *awsFiles) change(d, next Demand) {
	if !slices.Equal(d.Options.SubTemplate, next.Options.SubTemplate) {
		next.customiseSubject(&f.script, next.repositories())
	}
	if next.Audience() != d.Audience() {
		f.script.run(
			fmt.Sprintf("Merge the policy with `audience: %s` in the exchange of target %q.", next.Audience(),
				d.Target.Name()), "")
	}
	f.script.run("Verify, in a job of each workflow:\n"+command("oidc-dbt", "explain", "--target", d.Target.Name()), "")
}
