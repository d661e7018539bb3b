package policy

import (
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// loginWords are how the names of keys that hold a login end, as words joined
// by `_`: of settings, headers, Hadoop's properties, all that an adapter passes on.
var loginWords = []string{
	"pass", "passwd", "passphrase", "pwd", "token", "secret", "secret_key", "secret_access_key", "access_key", "key_id",
	"private_key", "account_key", "shared_key", "storage_key", "encryption_key", "api_key", "apikey", "keyfile_json", "credential",
	"credentials", "authorization", "cookie", "sas", "bearer", "connection_string",
	"trino_user", "trino_original_user", "presto_user", "presto_original_user",
}

// accountWords are words of such names that have an account behind them, as Hadoop's do.
var accountWords = []string{"account_key", "client_secret", "azure_sas", "sas_fixed_token"}

// There are two degrees. What is a login (SecretName, SecretValue) is refused in
// a policy, and is taken out of the output that dbt reads. What only looks like
// one may be a setting that dbt needs: it is left out of outputs that the run
// does not use, and in the one that it uses it is kept, with a warning.

// likeName matches names that look like a login's.
var likeName = lazy.MustCompile(`(?i)(?:token|secret|password|passwd|passphrase|passcode|pwd|(?:api|access|account|` +
	`private|shared|encryption)[-_]?key|(?:^|[-_])(?:authorization|cookie|credentials?|connection[-_]?string|sas))$`)

// likeInside matches a login within JSON, the parameters of a storage account,
// or the value of an authorization header.
var likeInside = lazy.MustCompile(`(?i)["'](?:[a-z_]*(?:password|token|secret|private_?key))["']\s*:\s*["'][^"'{]|` +
	`(?:accountkey|sharedaccesskey|sharedaccesssignature|[?&]sig)=[^&;\s{]|^\s*(?:bearer|basic)\s+\S`)

// variableText matches a reference to a variable whose name suggests a login,
// such as one with dbt's prefix DBT_ENV_SECRET_.
const variableText = `(?i)env_var\s*\(\s*["']([^"']*(?:pass(?:word|wd|phrase|code)?|pwd|token|secret|private_?key|` +
	`access_?key|account_?key|api_?key|credential)[^"']*)["']`

var (
	likeVariable = lazy.MustCompile(variableText)
	likeDefault  = lazy.MustCompile(variableText + `\s*,\s*(?:default\s*=\s*)?(?:"[^"]|'[^']|[0-9])`)
)

// LooksLikeLoginName reports whether a key is, or looks like, a login's.
func LooksLikeLoginName(key string) bool { return secretName(key) || likeName.MatchString(key) }

// LooksLikeLoginValue reports whether a value is, or looks like, a login under
// any key.
func LooksLikeLoginValue(value string) bool {
	return secretValue.MatchString(value) || likeInside.MatchString(value) || likeValue.MatchString(value)
}

// NamesLoginVariable reports whether Jinja refers to a variable that is named
// like a login's.
func NamesLoginVariable(jinja string) bool { return likeVariable.MatchString(jinja) }

// HasLoginDefault reports whether Jinja has a literal default for such a variable.
func HasLoginDefault(jinja string) bool { return likeDefault.MatchString(jinja) }

// likeWords are words of names that speak of a login without being known for one.
var likeWords = []string{
	"secret", "token", "password", "passwd", "credential", "credentials", "apikey", "auth", "login", "bearer", "jwt",
}

// likeValue matches values of vendors' own forms: AWS's key ids, tokens of
// GitHub, Databricks and Slack, and JWTs.
var likeValue = lazy.MustCompile(`^(?:` + vendorForms + `)$`).Where(func(s string) bool {
	return slices.ContainsFunc([]string{"AKIA", "ASIA", "gh", "dapi", "xox", "eyJ"}, func(p string) bool { return strings.HasPrefix(s, p) })
})

const vendorForms = `(?:AKIA|ASIA)[A-Z0-9]{12,}|gh[pousr]_\w{20,}|dapi[0-9a-f]{30,}|xox[a-z]-[\w-]{10,}|` +
	`eyJ[\w-]+\.[\w-]+\.[\w-]*`

// words returns a name in lower case with `_` between its words:
// fs.s3a.access.key, X-Api-Key and accessKeyId have three each.
func words(name string) string {
	var out strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if !unicode.IsLetter(r) && !unicode.IsNumber(r) {
			out.WriteByte('_')
			continue
		}
		if i > 0 && unicode.IsUpper(r) {
			before, ends := runes[i-1], i+1 < len(runes) && unicode.IsLower(runes[i+1])
			if unicode.IsLower(before) || unicode.IsNumber(before) || unicode.IsUpper(before) && ends {
				out.WriteByte('_')
			}
		}
		out.WriteRune(unicode.ToLower(r))
	}
	return out.String()
}

// secretName reports whether a key of any adapter, at any depth,
// holds a login by its name.
func secretName(name string) bool {
	w := words(name)
	if slices.Contains(secretKeys, w) || strings.HasSuffix(w, "password") {
		return true
	}
	ends := func(word string) bool { return strings.HasSuffix("_"+w, "_"+word) }
	holds := func(word string) bool { return strings.Contains("_"+w, "_"+word+"_") }
	return (slices.ContainsFunc(loginWords, ends) || slices.ContainsFunc(accountWords, holds)) && !strings.HasSuffix(w, "kms_key_id")
}

// IsLogin reports whether the value at a path of a block, the keys from the
// block's own down, is a login of its own. The places in lists do not count.
func (a Adapter) IsLogin(path ...string) bool {
	key := path[len(path)-1]
	if a.IsName(path...) {
		return false
	}
	return secretName(key) || containsFold(a.Secret, key) || len(path) > 1 && under(a.Nested, path)
}

// IsName reports whether the value at a path is a name, though its key is that
// of a login elsewhere.
func (a Adapter) IsName(path ...string) bool { return under(a.Names, path) }

// NamedLogin reports whether a text is a header or a setting that holds a
// login by its name: `X-Api-Key: …`.
func NamedLogin(text string) bool {
	end := strings.IndexAny(text, ":=")
	return end > 0 && secretName(strings.TrimSpace(text[:end])) && strings.TrimSpace(text[end+1:]) != ""
}

// PairedLogin returns the value of a login that has its name next to it, as a
// list of two has it, or a mapping of name and value; nil for anything else.
func PairedLogin(n *yaml.Node) *yaml.Node {
	name, v := (*yaml.Node)(nil), (*yaml.Node)(nil)
	switch {
	case n.Kind == yaml.SequenceNode && len(n.Content) == 2:
		name, v = n.Content[0], n.Content[1]
	case n.Kind == yaml.MappingNode:
		for _, key := range []string{"name", "key", "header"} {
			if name == nil {
				name = valueOf(n, key)
			}
		}
		v = valueOf(n, "value")
	}
	if name == nil || v == nil || name.Kind != yaml.ScalarNode || v.Kind != yaml.ScalarNode || v.Value == "" || !secretName(name.Value) {
		return nil
	}
	return v
}

// LooksLikeLogin reports whether a value that is none by IsLogin looks like a
// login: by its key, by itself, or by words anywhere in its key, where it is
// too long for a switch.
func LooksLikeLogin(key, value string) bool {
	w := "_" + words(key) + "_"
	like := func(word string) bool { return strings.Contains(w, "_"+word+"_") || strings.Contains(w, "_"+word+"s_") }
	if value == "" {
		return false
	}
	return LooksLikeLoginName(key) || LooksLikeLoginValue(value) || len(value) >= 8 && slices.ContainsFunc(likeWords, like)
}

// IsVendorToken reports whether a value has the form of a vendor's token.
func IsVendorToken(value string) bool { return likeValue.MatchString(value) }

// under reports whether a path matches one of the patterns: a key of the
// block, `.` and a key somewhere below it.
func under(patterns, path []string) bool {
	return len(path) > 1 && slices.ContainsFunc(patterns, func(p string) bool {
		top, key, _ := strings.Cut(p, ".")
		return strings.EqualFold(top, path[0]) && strings.EqualFold(key, path[len(path)-1])
	})
}

func containsFold(list []string, s string) bool {
	return slices.ContainsFunc(list, func(e string) bool { return strings.EqualFold(e, s) })
}

// userPassword matches a user and a password in front of a host, as URLs have
// them, with or without the URL's scheme.
var userPassword = lazy.MustCompile(`[^\s:/@]*:[^\s/@]+@`).Where(func(s string) bool { return strings.Contains(s, "@") })

// WithoutLogin returns a host as an error may show it, and whether a login was
// left out.
func WithoutLogin(host string) (shown string, cut bool) {
	shown = userPassword.ReplaceAllLiteralString(host, "…@")
	return shown, shown != host
}
