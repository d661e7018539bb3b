package policy

import (
	"errors"
	"fmt"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
)

// suited holds the rules of a target to identities that its provider can serve,
// and sets the audience of people's ID tokens, which is always their client.
func (d *document) suited(t *Target) {
	for _, r := range t.rules {
		if err := t.identityFault(*r.identity, t.dbt.Type, d.catalog.Adapters[t.dbt.Type].Logins[t.provider]); err != nil {
			d.Report(d.allowed.Content[r.index], "%v", err)
		}
	}
	if t.exchange.Get("audience") != "" || len(t.identities) == 0 {
		return
	}
	for _, id := range t.identities {
		if id.Kind != "people" || id.Audience != t.identities[0].Audience {
			return
		}
	}
	t.audience = t.identities[0].Audience
}

// identityFault returns why the provider has no credential for an identity at a
// warehouse of dbt's type, whose own login it is; both are "" where that is not
// known yet.
func (t *Target) identityFault(id Identity, dbtType, login string) error {
	switch {
	case id.Kind == "", t.spec.People == nil || !t.spec.People(t.exchange): // a fault already, or none
		return nil
	case id.Kind != "people":
		return fmt.Errorf("identity %q is of kind %q, and this credential of provider %q is for identities of kind \"people\" only",
			id.Name, id.Kind, t.provider)
	case !t.spec.OwnLogin || dbtType == "":
		return nil
	case login != "" && id.AWSSSO == nil:
		return fmt.Errorf("identity %q has no aws_sso, and type %q takes from provider %q the session of a role in IAM Identity Center",
			id.Name, dbtType, t.provider)
	case login == "" && id.AWSSSO != nil:
		return fmt.Errorf("identity %q has aws_sso, which gives no access token, and type %q takes one from provider %q: "+
			"name an identity with client_id", id.Name, dbtType, t.provider)
	}
	return nil
}

// CheckIdentities returns an error of class Usage where the provider has no
// credential for an identity of the target's rules at a warehouse of dbt's type.
// Parse has done it for a type that the policy names.
func (t *Target) CheckIdentities(dbtType, login string) error {
	var errs []error
	for _, id := range t.identities {
		if err := t.identityFault(id, dbtType, login); err != nil {
			errs = append(errs, fmt.Errorf("target %q: %w", t.name, err))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return fault.New(fault.Usage, errors.Join(errs...), "")
}
