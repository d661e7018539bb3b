package trust

import (
	"fmt"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/logic"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// trinoLanguage is a coordinator that verifies ID tokens itself: properties for
// issuer and audience, and a file that maps subjects to users. A subject that no
// rule of the file matches is refused.
// (Trino: JWT authentication, User mapping; UserMapping.java)
var trinoLanguage = language{generate: generateTrino, read: readTrino, rotate: rotateTrino, revoke: revokeTrino}

const (
	trinoJWT     = "http-server.authentication.jwt."
	trinoMapping = "etc/oidc-dbt-users.json"
)

// A trinoRule is a rule of the file; the first one that matches decides.
type trinoRule struct {
	Pattern string `json:"pattern"`
	User    string `json:"user,omitempty"`
	Allow   *bool  `json:"allow,omitempty"`
}

type trinoFile struct {
	Rules []trinoRule `json:"rules"`
}

func generateTrino(d Demand) (Wall, error) {
	w := Wall{}
	t, err := d.trinoTrust(&w)
	if err != nil {
		return w, err
	}
	w.Documents = []Document{{"trino.properties", t.properties(d.Audience())}, {"trino-users.json", asJSON(t.file)}}
	w.Script = t.script(d)
	w.Notes = append(w.Notes, "the file replaces all rules for users: with several targets at one coordinator, put the "+
		"rules of all into one file",
		fmt.Sprintf("subjects become Trino's user %q: give that user its rights in the access control", t.user))
	return w, nil
}

// A trinoTrust is what the coordinator is told.
type trinoTrust struct {
	issuer policy.Identity
	user   string
	file   trinoFile
}

func (d Demand) trinoTrust(w *Wall) (trinoTrust, error) {
	t := trinoTrust{issuer: d.Rules[0].Identity, user: d.trinoUser()}
	denied := t.deny(d)
	var subjects []logic.Formula
	owns := make([]logic.Formula, len(d.Rules))
	holds := make([][]string, len(d.Rules))
	for i, r := range d.Rules {
		rep := report(r)
		if r.Identity.Issuer != t.issuer.Issuer {
			rep.narrower("iss", "a coordinator verifies the tokens of one issuer, "+t.issuer.Issuer, "another coordinator for that identity")
		} else {
			s := d.subjectsOnly(r)
			owns[i], holds[i] = t.allow(s.Patterns), append([]string{}, s.Holds...)
			subjects = append(subjects, owns[i])
			for _, g := range s.Narrower {
				rep.narrower(g.Claim, g.Why, g.ClosesWith)
			}
			if len(s.Patterns) == 0 {
				rep.narrower("sub", "Trino maps subjects, and this rule has none", s.Unknown)
			}
		}
		w.Rules = append(w.Rules, rep)
	}
	if len(t.file.Rules) == 0 {
		return t, usage("target %q: Trino maps subjects, and no rule says which: name `sub` in the rules", d.Target.Name())
	}
	base := logic.And(logic.Equals("iss", t.issuer.Issuer), logic.Equals("aud", d.Audience()), logic.Not(denied))
	w.Admits = logic.And(base, logic.Or(subjects...))
	d.reportTrino(w, base, owns, holds)
	return t, nil
}

// reportTrino asks the search that compares trust with policies what of each
// rule the subjects hold it to.
func (d Demand) reportTrino(w *Wall, base logic.Formula, owns []logic.Formula, holds [][]string) {
	find := newSearch(d, w.Admits)
	denied := len(d.Deny) > 0 && find(logic.And(w.Admits, d.DenyFormula())) != nil
	for i, r := range d.Rules {
		if holds[i] == nil {
			continue
		}
		rep := &w.Rules[i]
		if own := logic.And(base, owns[i]); find(own) != nil {
			d.judge(rep, r, own, holds[i], find, "Trino maps the subject and reads no other claim")
		}
		if denied {
			rep.wider("deny", "Trino does not see the claims that are denied", "")
		}
		missing := logic.And(r.Formula(), logic.Equals("aud", d.Audience()), logic.Not(d.DenyFormula()), logic.Not(w.Admits), d.known())
		switch refused := find(missing); {
		case refused == nil:
			rep.Narrower = nil
		case len(rep.Narrower) == 0:
			rep.narrower("sub", fmt.Sprintf("the rule also admits other subjects, such as %q", refused["sub"]), "name the subjects in the rule")
		}
	}
}

// trinoUser is the user that the subjects become.
func (d Demand) trinoUser() string {
	for _, user := range []string{d.Options.Values["user"], d.DBT("user")} {
		if user != "" {
			return user
		}
	}
	return "oidc-dbt-" + d.Name()
}

// allow adds the subjects of a rule, and returns what they match.
func (t *trinoTrust) allow(patterns []string) logic.Formula {
	parts := make([]logic.Formula, len(patterns))
	for i, p := range patterns {
		parts[i] = logic.Is("sub", patternOf("sub", p))
		rule := trinoRule{Pattern: javaPattern(p), User: javaReplacement.Replace(t.user)}
		if !slices.Contains(t.file.Rules, rule) {
			t.file.Rules = append(t.file.Rules, rule)
		}
	}
	return logic.Or(parts...)
}

// deny adds the denied subjects, which come first; what is denied by other
// claims Trino does not see.
func (t *trinoTrust) deny(d Demand) logic.Formula {
	var parts []logic.Formula
	no := false
	for _, r := range d.Deny {
		if r.Identity.Issuer != t.issuer.Issuer || len(r.Conditions) != 1 || r.Conditions[0].Claim != "sub" {
			continue
		}
		for _, p := range r.Conditions[0].Patterns {
			parts = append(parts, logic.Is("sub", patternOf("sub", p)))
			t.file.Rules = append(t.file.Rules, trinoRule{Pattern: javaPattern(p), Allow: &no})
		}
	}
	return logic.Or(parts...)
}

// javaReplacement escapes what Matcher.replaceAll interprets.
var javaReplacement = strings.NewReplacer(`\`, `\\`, `$`, `\$`)

// javaPattern is the Java expression of a pattern: it is matched with the whole
// subject, and the anchors keep replaceAll from finding a part of it again.
func javaPattern(pattern string) string {
	return "^" + strings.ReplaceAll(strings.ReplaceAll(policy.Expression("sub", pattern), `\x{2028}`, `\u2028`), `\x{2029}`, `\u2029`) + "$"
}

// properties are those of the coordinator that decide who logs in.
func (t trinoTrust) properties(audience string) string {
	var b strings.Builder
	set := func(name, value string) { b.WriteString(name + "=" + propertyText(value) + "\n") }
	b.WriteString("# Part of etc/config.properties on the coordinator. Tokens need TLS, and internal-communication.shared-secret.\n")
	set("http-server.authentication.type", "JWT")
	b.WriteString(trinoJWT + "key-file=" + t.keys() + "\n")
	set(trinoJWT+"required-issuer", t.issuer.Issuer)
	set(trinoJWT+"required-audience", audience)
	set(trinoJWT+"principal-field", "sub")
	set(trinoJWT+"user-mapping.file", trinoMapping)
	return b.String()
}

// keys is the address of the issuer's keys, from the environment where it is
// found by discovery. (Trino: Secrets)
func (t trinoTrust) keys() string {
	switch {
	case t.issuer.JWKS != "":
		return propertyText(t.issuer.JWKS)
	case t.issuer.Kind == "github":
		return propertyText(strings.TrimSuffix(t.issuer.Issuer, "/") + "/.well-known/jwks")
	}
	return "${ENV:OIDC_DBT_JWKS_URL}"
}

// propertyText writes a value of a properties file. (java.util.Properties, load)
func propertyText(text string) string {
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == '\\' || i == 0 && (r == ' ' || r == '=' || r == ':'):
			b.WriteString(`\` + string(r))
		case r < ' ' || r >= 0x7f && r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// script installs the files next to what the coordinator has.
func (t trinoTrust) script(d Demand) (s Script) {
	home := s.needs(Variable{Name: "TRINO_HOME", Doc: "the folder of the coordinator that has etc/config.properties"})
	config := fmt.Sprintf(`"$%s/etc/config.properties"`, home)
	mapping := fmt.Sprintf(`"$%s/%s"`, home, trinoMapping)
	s.run("Who becomes which user. Trino reads it when it starts.", t.keepFile(mapping), feed("cat >"+mapping, asJSON(t.file)))
	if t.keys() == "${ENV:OIDC_DBT_JWKS_URL}" {
		s.run("The address of the issuer's keys goes into the coordinator's environment, as OIDC_DBT_JWKS_URL:",
			command("curl", "-fsS", strings.TrimSuffix(t.issuer.Issuer, "/")+"/.well-known/openid-configuration")+" | jq -r .jwks_uri")
	}
	s.run("Whose tokens are accepted. What the coordinator has already is not changed.",
		"if grep -q '^http-server.authentication.' "+config+"; then",
		`  echo "etc/config.properties has http-server.authentication already: put these lines in its place" >&2`,
		feed("  cat", t.properties(d.Audience())), "else", feed("  cat >>"+config, t.properties(d.Audience())), "fi")
	s.run("Restart the coordinator, as you always do. An expression that it cannot read keeps it from starting.")
	return s
}

// keepFile keeps a file that there is.
func (trinoTrust) keepFile(file string) string {
	return "[ ! -e " + file + " ] || cp -p " + file + " " + file + `".$(date +%Y%m%dT%H%M%S)"`
}
