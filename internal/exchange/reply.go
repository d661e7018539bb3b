package exchange

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// Refused is the provider's own refusal: its code and its words, which are
// foreign, quoted and cut, and without the token should it echo that.
func Refused(code, message string, hint string, secrets ...secret.Value) error {
	words := make([]string, 0, 2)
	for _, s := range []string{code, message} {
		if s != "" {
			words = append(words, Quoted(s, secrets))
		}
	}
	if len(words) == 0 {
		words = append(words, "no reason given")
	}
	return fault.New(fault.Refused, fmt.Errorf("refused: %s", strings.Join(words, ": ")), hint)
}

// maxWords cuts a provider's message. AWS's longest, with two ARNs, are under 400 characters.
const maxWords = 400

// Quoted returns a provider's words for an error.
func Quoted(s string, secrets []secret.Value) string {
	s = without(strings.ToValidUTF8(s, "\uFFFD"), secrets)
	if runes := []rune(s); len(runes) > maxWords {
		s = string(runes[:maxWords]) + "…"
	}
	return strconv.Quote(s)
}

// window is how much of a secret, in a row, counts as an echo of it. Half a
// token is of use to an attacker who can guess the rest: the header is the same
// in each.
const window = 12

// without replaces every part of s that is also in one of the secrets. Chance
// alone makes window characters equal once in 10^21 tries.
func without(s string, secrets []secret.Value) string {
	hidden := make([]bool, len(s))
	found := false
	for _, v := range secrets {
		text := v.Reveal()
		size := min(window, len(text))
		for i := 0; size > 0 && i+size <= len(s); i++ {
			if strings.Contains(text, s[i:i+size]) {
				found = true
				for j := i; j < i+size; j++ {
					hidden[j] = true
				}
			}
		}
	}
	if !found {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		switch {
		case !hidden[i]:
			b.WriteByte(s[i])
		case i == 0 || !hidden[i-1]:
			b.WriteString("…")
		}
	}
	return b.String()
}

// Unreachable is a reply of no use, or none. Where another try would meet the
// same, or a proxy is in the way, the transport knows what to do.
func Unreachable(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if hint := web.Hint(err); hint != "" || web.Refusal(err) != nil {
		return fault.New(fault.Unreachable, err, hint)
	}
	return fault.New(fault.Unreachable, err, statusPage)
}

const statusPage = "run the job again; if it persists, see the provider's status page"

// Foreign is a reply that a service does not give: another server's, or that of
// a proxy on the way. It comes again.
func Foreign(service, format string, args ...any) error {
	return fault.New(fault.Unreachable, fmt.Errorf(format, args...),
		fmt.Sprintf("another server, such as a proxy, may be answering at this address instead of %s: check the endpoint", service))
}

// Replied is a status without the service's own words; one of a moment is marked.
func Replied(service string, status int) error {
	if web.Transient(status) {
		return web.Temporary(Unreachable("%s replied with status %d", service, status))
	}
	return Foreign(service, "%s replied with status %d", service, status)
}

// NoReply is the error of a request that had no reply, or half of one, marked
// where another try may cure it.
func NoReply(err error) error { return web.FailedAs(err, Unreachable("%w", web.Cause(err))) }

// CheckURL is policy.Key.Check for endpoints.
func CheckURL(value string) error {
	_, err := web.CheckURL(value)
	return err
}

// Matching returns a policy.Key.Check that wants a match of a pattern, of
// shortest to longest bytes. (Bounds inside a pattern are unrolled when it is
// compiled, which is at every start.)
func Matching(pattern *lazy.Regexp, shortest, longest int, want string) func(string) error {
	return func(value string) error {
		if len(value) < shortest || len(value) > longest || !pattern.MatchString(value) {
			return fmt.Errorf("want %s", want)
		}
		return nil
	}
}

// Named returns a policy.Key.Check for an audience that a vendor knows as a
// name: as an address it is another one, which the vendor refuses.
func Named(want string) func(string) error {
	return func(value string) error {
		if _, rest, ok := strings.Cut(value, "://"); ok && strings.EqualFold(strings.TrimSuffix(rest, "/"), want) {
			return fmt.Errorf("must be a name, not a URL: write %q", want)
		}
		return nil
	}
}

// CheckAudience returns the fault of sending a token of a vendor's audience to
// another host, which could use it at the vendor: endpoints are the keys of v
// that hold URLs, in their order.
func CheckAudience(v policy.Values, audience string, endpoints ...string) (faults []policy.KeyError) {
	for _, key := range endpoints {
		if err := v.CheckAudience(audience, v.Get(key)); v.Get(key) != "" && err != nil {
			faults = append(faults, policy.KeyError{Key: key, Err: err})
		}
	}
	return faults
}

// IssuerUnreachable is the reply of a service that could not get the issuer's
// keys in time, which comes as a refusal, and is none: the next try works.
func IssuerUnreachable(service, words string, secrets []secret.Value) error {
	return fault.New(fault.Unreachable, fmt.Errorf("%s cannot reach the issuer: %s", service, Quoted(words, secrets)),
		"run the job again; if it persists, check that the service can reach the issuer's discovery document and keys")
}
