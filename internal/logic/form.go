package logic

// A Form is how a condition is put together.
type Form int

// The forms. Those with parts are FormAnd, FormOr and FormNot; FormIs and FormHas
// are of a claim.
const (
	FormAlways Form = iota
	FormNever
	FormUndecided
	FormAnd
	FormOr
	FormNot
	FormIs
	FormHas
)

// Form returns the condition's form, for those who write it in another language.
func (f Formula) Form() Form {
	return [...]Form{
		opTrue: FormAlways, opFalse: FormNever, opUnknown: FormUndecided, opAnd: FormAnd, opOr: FormOr, opNot: FormNot,
		opIs: FormIs, opHas: FormHas,
	}[f.op]
}

// Parts returns the conditions that the condition is made of.
func (f Formula) Parts() []Formula { return f.parts }

// Claim returns the claim that the condition is about, "" for none.
func (f Formula) Claim() string { return f.claim }

// Literals returns the texts that the condition compares a claim with.
func (f Formula) Literals(claim string) (list []string) {
	for _, in := range f.languages(claim) {
		if text, ok := in.Text(); ok {
			list = append(list, text)
		}
	}
	return list
}

// Language returns what the claim is to be, of a condition of FormIs.
func (f Formula) Language() Language { return f.in }
