package policy

// blank is the value of ${claim} where there is no token.
const blank = "placeholder"

// An Outline is a target's settings without an identity. It is no Grant: no
// exchange takes it.
type Outline struct {
	target *Target
	dbt    DBT
}

// Outline returns the target with the word `placeholder` for each ${claim} of
// its dbt block.
func (t *Target) Outline() Outline {
	return Outline{t, t.dbt.filled(func(text string) string { return placeholder.ReplaceAllLiteralString(text, blank) })}
}

// Target returns the target's name.
func (o Outline) Target() string { return o.target.name }

// Provider returns the provider's name.
func (o Outline) Provider() string { return o.target.provider }

// GuardedAudience is Target.GuardedAudience.
func (o Outline) GuardedAudience() string { return o.target.GuardedAudience() }

// Exchange returns the provider's block, claims not filled in.
func (o Outline) Exchange() Values { return o.target.exchange }

// DBT returns the dbt block.
func (o Outline) DBT() DBT { return o.dbt }

// Direct reports whether dbt is to connect to the warehouse itself.
func (o Outline) Direct() bool { return o.target.direct }

// Claim returns "": there is no token.
func (o Outline) Claim(string) string { return "" }

// Run returns "": there is no run yet.
func (o Outline) Run() string { return "" }
