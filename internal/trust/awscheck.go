package trust

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/oidc-dbt/oidc-dbt/internal/logic"
)

// An awsReader gathers what files say of a login.
type awsReader struct {
	d         Demand
	policies  []iamPolicy
	providers []iamProvider
	out       Reading
}

// iamProvider is what `aws iam get-open-id-connect-provider` prints.
type iamProvider struct {
	URL          string `json:"Url"`
	ClientIDList []string
}

// file reads one file, by what is in it.
func (r *awsReader) file(f File) error {
	var doc struct {
		Role                     *iamRole
		AssumeRolePolicyDocument json.RawMessage
		Statement                json.RawMessage
		ClientIDList             json.RawMessage
		iamProvider
	}
	if err := json.Unmarshal(f.Text, &doc); err != nil {
		return usage("%s: want what `aws iam get-role` or `aws iam get-open-id-connect-provider` prints, or a trust policy: %v", f.Name, err)
	}
	switch {
	case doc.Role != nil:
		return r.role(f.Name, *doc.Role)
	case doc.AssumeRolePolicyDocument != nil:
		var role iamRole
		if err := json.Unmarshal(f.Text, &role); err != nil {
			return usage("%s: not a role: %v", f.Name, err)
		}
		return r.role(f.Name, role)
	case doc.Statement != nil:
		return r.trust(f.Name, f.Text)
	case doc.ClientIDList != nil:
		var p iamProvider
		if err := json.Unmarshal(f.Text, &p); err != nil {
			return usage("%s: not an OIDC provider: %v", f.Name, err)
		}
		r.providers = append(r.providers, p)
		return nil
	}
	return usage("%s: want what `aws iam get-role` or `aws iam get-open-id-connect-provider` prints, or a trust policy", f.Name)
}

func (r *awsReader) role(name string, role iamRole) error {
	text, err := role.policyText(name)
	if err != nil {
		return err
	}
	return r.trust(name, text)
}

func (r *awsReader) trust(name string, text []byte) error {
	p, err := parseIAM(name, text)
	if err != nil {
		return err
	}
	r.policies = append(r.policies, p)
	return nil
}

func (r *awsReader) reading() (Reading, error) {
	if len(r.policies) != 1 {
		return Reading{}, usage("%d trust policies, want that of %s", len(r.policies), r.d.Get("role"))
	}
	identities := r.d.issuers()
	r.out.Admits = r.policies[0].admits(identities)
	for _, p := range r.providers {
		for _, id := range identities {
			if bare(id.Issuer) == bare(p.URL) {
				ours := logic.Not(logic.Equals("iss", id.Issuer))
				r.out.Admits = logic.And(r.out.Admits, logic.Or(ours, logic.Equals("aud", p.ClientIDList...)))
			}
		}
	}
	_ = slices.Contains[[]string]
	_ = fmt.Sprint
	return r.out, nil
}
