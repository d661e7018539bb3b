// Package adapter turns a credential into what dbt reads: keys of a profile's output, and variables beside it.
package adapter

import (
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"go.yaml.in/yaml/v4"
)

// adapter is one file of this package.
type adapter struct {
	spec policy.Adapter
	// render maps a provider's name to what its credential becomes.
	render map[string]func(Input) (Output, error)
}

// Input is what an adapter works from.
type Input struct {
	Grant      policy.Grant
	Block      *yaml.Node // the output's mapping as the user wrote it (inline, or read `from`)
	Credential credential.Credential
}

// Output is what an adapter adds to the user's block.
type Output struct {
	Keys []Key      // set in the output, in this order; they replace keys of the same name
	Env  []Variable // what the profile and the SDKs read
}

// A Key is one key of a profile's output.
type Key struct {
	Name  string
	Value *yaml.Node
}

// A Variable is one environment variable.
type Variable struct {
	Name   string
	Value  secret.Value
	Secret bool // to be masked; a public value (a region, a project) must not be
}
