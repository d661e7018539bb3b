// Package fault gives an error one of the documented exit statuses, and a hint about what to do.
package fault

import "errors"

// A Class is why a run failed. Its number is the process's exit status.
type Class int

// The exit statuses: stable, documented, one per kind of failure.
const (
	Internal    Class = 1 // a bug, or a problem of the machine: disk full, a file that cannot be written
	Usage       Class = 2 // wrong input, flag or policy
	NoIdentity  Class = 3 // no ID token is available
	Rejected    Class = 4 // the ID token did not verify
	Denied      Class = 5 // the policy denies it
	Refused     Class = 6 // the provider refused, or the credential lives longer than allowed
	Unreachable Class = 7 // issuer or provider is down, or its reply is invalid
	Found       Class = 8 // a check found something; the status of a command that has done its work, and of no error
)

// String returns the class's name in audit records.
func (c Class) String() string {
	switch c {
	case Usage:
		return "usage"
	case NoIdentity:
		return "no_identity"
	case Rejected:
		return "token_rejected"
	case Denied:
		return "denied"
	case Refused:
		return "exchange_refused"
	case Unreachable:
		return "unreachable"
	default:
		return "internal"
	}
}

type classified struct {
	error
	class Class
	hint  string
}

func (e classified) Unwrap() error { return e.error }

// each returns the errors that e joins, each with e's class, or e itself if it
// has a hint, which applies to all of them.
func (e classified) each() []error {
	list := Each(e.error)
	if e.hint != "" || len(list) < 2 {
		return []error{e}
	}
	for i, err := range list {
		list[i] = classified{err, e.class, ""}
	}
	return list
}

// New returns err with its class; hint ("" for none) says what to do, and is
// printed once, by the outermost layer. A class that err already has is kept.
func New(class Class, err error, hint string) error {
	var have classified
	if errors.As(err, &have) {
		if have.hint != "" || hint == "" {
			return err
		}
		class = have.class
	}
	return classified{err, class, hint}
}

// ClassOf returns err's class, Internal if it has none.
func ClassOf(err error) Class {
	var e classified
	if errors.As(err, &e) {
		return e.class
	}
	return Internal
}

// WithHint returns an error's text, followed by its hint if it has one.
func WithHint(err error) string {
	if hint := Hint(err); hint != "" {
		return err.Error() + "\nhint: " + hint
	}
	return err.Error()
}

// Hint returns what to do about err, "" if it has no hint.
func Hint(err error) string {
	var e classified
	if errors.As(err, &e) {
		return e.hint
	}
	return ""
}

// Lasting returns err marked as permanent: another try would fail again, whatever its class.
func Lasting(err error) error { return lasting{err} }

type lasting struct{ error }

func (l lasting) Unwrap() error { return l.error }

// Lasts reports whether another try would end in err again: by its class
// (Denied, NoIdentity, Usage), or because it is marked by Lasting.
func Lasts(err error) bool {
	switch ClassOf(err) {
	case Denied, NoIdentity, Usage:
		return true
	}
	return errors.As(err, new(lasting))
}

// Each returns the errors that err joins (see errors.Join), none for nil.
func Each(err error) (list []error) {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			list = append(list, Each(err)...)
		}
		return list
	}
	if c, ok := err.(interface{ each() []error }); ok {
		return c.each()
	}
	return []error{err}
}

// A Place is where in a file an error is, and the error's text without the
// place. The run's page shows it as an annotation.
type Place struct {
	File         string // absolute, or relative to the workspace
	Line, Column int    // from 1; 0 for the file as a whole
	Text         string
}

// A Warning is a message of a run that continues, and the places that it is about.
type Warning struct {
	Text   string // includes the places
	Places []Place
}

// Warnings returns texts as warnings without places.
func Warnings(texts ...string) []Warning {
	list := make([]Warning, len(texts))
	for i, text := range texts {
		list[i].Text = text
	}
	return list
}

// At returns err with the places that its text mentions.
func At(err error, places ...Place) error { return placed{err, places} }

type placed struct {
	error
	places []Place
}

func (p placed) Unwrap() error   { return p.error }
func (p placed) Places() []Place { return p.places }

// Places returns the places of err and of all errors that it wraps, in order.
// The places given to At replace those of the error given to it.
func Places(err error) (list []Place) {
	if has, ok := err.(interface{ Places() []Place }); ok {
		return has.Places()
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			list = append(list, Places(err)...)
		}
		return list
	}
	if inner := errors.Unwrap(err); inner != nil {
		return Places(inner)
	}
	return nil
}
