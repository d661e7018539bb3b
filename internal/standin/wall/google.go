package wall

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types/ref"
)

// Limits of a provider, from the reference of projects.locations.workloadIdentityPools.providers.
const (
	googleSubject    = 127     // bytes of a mapped google.subject
	googleMapped     = 8 << 10 // bytes of all mapped values
	googleAttributes = 50      // custom attributes
	googleKey        = 100     // characters of an attribute's name
	googleExpression = 2048    // characters of a mapping's expression
	googleCondition  = 4096    // characters of the condition
	googleAudiences  = 10
	googleAudience   = 256
	googleText       = 256 // description
	googleName       = 32  // display name
)

const googlePool = `projects/\d+/locations/global/workloadIdentityPools/[a-z0-9-]{4,32}`

// multiTenant are issuers for which Google requires a condition on their claims.
var multiTenant = []string{
	"https://token.actions.githubusercontent.com", "https://gitlab.com", "https://app.terraform.io",
}

// A GoogleIdentity is what a token becomes at a pool.
type GoogleIdentity struct {
	Subject    string
	Groups     []string
	Attributes map[string]string // without "attribute."
}

// A GoogleProvider is a provider of a workload identity pool.
type GoogleProvider struct {
	pool      string // projects/…/workloadIdentityPools/…, "" if the document does not say
	active    bool
	issuer    string
	audiences []string
	mapping   map[string]cel.Program
	condition cel.Program // nil: everything
}

// googleDocument is what `gcloud iam workload-identity-pools providers
// describe --format json` prints.
type googleDocument struct {
	Name               string            `json:"name"`
	Description        string            `json:"description"`
	DisplayName        string            `json:"displayName"`
	State              string            `json:"state"`
	Disabled           bool              `json:"disabled"`
	AttributeMapping   map[string]string `json:"attributeMapping"`
	AttributeCondition string            `json:"attributeCondition"`
	OIDC               *struct {
		IssuerURI        string   `json:"issuerUri"`
		AllowedAudiences []string `json:"allowedAudiences"`
	} `json:"oidc"`
}

var (
	googleProviderName = regexp.MustCompile(`^(` + googlePool + `)/providers/[a-z0-9-]{4,32}$`)
	googleAttribute    = regexp.MustCompile(`^attribute\.[a-z0-9_]+$`)
)

// Google reads a provider as gcloud describes it. Its error is what Google
// refuses, or a function of CEL that Google does not document for it.
func Google(provider []byte) (*GoogleProvider, error) {
	var doc googleDocument
	if err := read(provider, &doc); err != nil {
		return nil, err
	}
	if err := doc.check(); err != nil {
		return nil, err
	}
	p := &GoogleProvider{active: !doc.Disabled && (doc.State == "" || doc.State == "ACTIVE"), issuer: doc.OIDC.IssuerURI}
	p.audiences = doc.OIDC.AllowedAudiences
	if m := googleProviderName.FindStringSubmatch(doc.Name); m != nil {
		p.pool = m[1]
		if len(p.audiences) == 0 {
			p.audiences = []string{"https://iam.googleapis.com/" + doc.Name, "//iam.googleapis.com/" + doc.Name}
		}
	} else if doc.Name != "" || len(p.audiences) == 0 {
		return nil, fmt.Errorf("invalid provider name %q", doc.Name)
	}
	return p, p.compile(doc)
}

func (d googleDocument) check() error {
	custom := 0
	for _, key := range slices.Sorted(maps.Keys(d.AttributeMapping)) {
		name, ok := strings.CutPrefix(key, "attribute.")
		switch {
		case key == "google.subject" || key == "google.groups":
		case !ok || !googleAttribute.MatchString(key) || len(name) > googleKey:
			return fmt.Errorf("attributeMapping has the invalid key %q", key)
		default:
			custom++
		}
		if n := utf8.RuneCountInString(d.AttributeMapping[key]); n == 0 || n > googleExpression {
			return fmt.Errorf("attributeMapping %s has %d characters, want 1 to %d", key, n, googleExpression)
		}
	}
	switch n := utf8.RuneCountInString(d.AttributeCondition); {
	case d.OIDC == nil || !strings.HasPrefix(d.OIDC.IssuerURI, "https://"):
		return errors.New("oidc.issuerUri is no https URL")
	case d.AttributeMapping["google.subject"] == "":
		return errors.New("attributeMapping has no google.subject")
	case custom > googleAttributes:
		return fmt.Errorf("attributeMapping has %d custom attributes, more than %d", custom, googleAttributes)
	case n > googleCondition:
		return fmt.Errorf("attributeCondition has %d characters, more than %d", n, googleCondition)
	case n == 0 && slices.Contains(multiTenant, d.OIDC.IssuerURI):
		return fmt.Errorf("attributeCondition must reference one of the claims of %s", d.OIDC.IssuerURI)
	case len(d.OIDC.AllowedAudiences) > googleAudiences:
		return fmt.Errorf("oidc.allowedAudiences has %d values, more than %d", len(d.OIDC.AllowedAudiences), googleAudiences)
	case utf8.RuneCountInString(d.Description) > googleText:
		return fmt.Errorf("description has more than %d characters", googleText)
	case utf8.RuneCountInString(d.DisplayName) > googleName:
		return fmt.Errorf("displayName has more than %d characters", googleName)
	}
	for _, a := range d.OIDC.AllowedAudiences {
		if n := utf8.RuneCountInString(a); n == 0 || n > googleAudience {
			return fmt.Errorf("oidc.allowedAudiences has a value of %d characters, want 1 to %d", n, googleAudience)
		}
	}
	return nil
}

func (p *GoogleProvider) compile(doc googleDocument) error {
	p.mapping = map[string]cel.Program{}
	for _, key := range slices.Sorted(maps.Keys(doc.AttributeMapping)) {
		program, _, err := googleCEL(doc.AttributeMapping[key], "assertion")
		if err != nil {
			return fmt.Errorf("attributeMapping %s: %w", key, err)
		}
		p.mapping[key] = program
	}
	if doc.AttributeCondition == "" {
		return nil
	}
	program, variables, err := googleCEL(doc.AttributeCondition, "assertion", "google", "attribute")
	if err != nil {
		return fmt.Errorf("attributeCondition: %w", err)
	}
	if len(variables) == 0 && slices.Contains(multiTenant, p.issuer) {
		return fmt.Errorf("attributeCondition must reference one of the claims of %s", p.issuer)
	}
	p.condition = program
	return nil
}

// Pool is the pool's resource name, as members of bindings have it.
func (p *GoogleProvider) Pool() string { return p.pool }

// Identity exchanges a token. An expression that fails, as one does that
// reads a claim which is not there, fails the exchange, and so does a mapped
// value that is not text, or too long.
func (p *GoogleProvider) Identity(claims map[string]any) (GoogleIdentity, bool) {
	issuer, _ := text(claims, "iss")
	if !p.active || issuer != p.issuer || !anyIn(values(claims["aud"]), p.audiences) {
		return GoogleIdentity{}, false
	}
	assertion := plain(claims)
	id := GoogleIdentity{Attributes: map[string]string{}}
	google, attribute, size := map[string]any{}, map[string]any{}, 0
	for key, program := range p.mapping {
		out, _, err := program.Eval(map[string]any{"assertion": assertion})
		if err != nil {
			return GoogleIdentity{}, false
		}
		mapped, isText := out.Value().(string)
		size += len(mapped)
		switch name := strings.TrimPrefix(key, "attribute."); {
		case key == "google.groups":
			groups, ok := celTexts(out)
			if !ok {
				return GoogleIdentity{}, false
			}
			id.Groups, google["groups"] = groups, groups
			size += len(strings.Join(groups, ""))
		case !isText:
			return GoogleIdentity{}, false
		case key == "google.subject":
			id.Subject, google["subject"] = mapped, mapped
		default:
			id.Attributes[name], attribute[name] = mapped, mapped
		}
	}
	if id.Subject == "" || len(id.Subject) > googleSubject || size > googleMapped {
		return GoogleIdentity{}, false
	}
	if p.condition != nil {
		out, _, err := p.condition.Eval(map[string]any{"assertion": assertion, "google": google, "attribute": attribute})
		if admitted, ok := celBool(out, err); !ok || !admitted {
			return GoogleIdentity{}, false
		}
	}
	return id, true
}

func celBool(out ref.Val, err error) (value, ok bool) {
	if err != nil {
		return false, false
	}
	value, ok = out.Value().(bool)
	return value, ok
}
