package adapter

import (
	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/installed"
)

// A since is the first version of dbt's adapter that has what a row writes: an
// older one refuses the profile, or worse, ignores the key and logs in by
// another way. docs/versions.md has what was tried.
type since struct {
	version string
	has     string // what it has and older ones lack
	// direct and served are set where it is only written without a route that is
	// served, or only with one.
	direct, served bool
	// unless is a key of the user's own with which older versions do.
	unless string
}

var (
	snowflakeProxied  = since{version: "1.9.0", has: "`authenticator: jwt`", served: true}
	snowflakeJWT      = since{version: "1.9.0", has: "`authenticator: jwt`"}
	snowflakeWorkload = since{version: "1.12.0", has: "`workload_identity_provider`", direct: true}
	duckdbSecrets     = since{version: "1.8.2", has: "`secrets`"}
	// 1.8.4 does not, and dbt says so; a user of 1.8.3 is not to be stopped.
	trinoCert             = since{version: "1.8.3", has: "`cert: true`", direct: true, unless: "cert"}
	fabricAccessToken     = since{version: "1.8.8", has: "`authentication: ActiveDirectoryAccessToken`", direct: true}
	fabricFederated       = since{version: "1.10.1", has: "`federated_token_url`", served: true}
	fabricManagedIdentity = since{version: "1.10.1", has: "`credential_class`", served: true}
	fabricDriver          = since{version: "1.10.1", has: "a driver of its own, and needs no `driver`", unless: "driver"}
	sqlServerAccessToken  = since{version: "1.8.5", has: "`authentication: ActiveDirectoryAccessToken`", direct: true}
	sqlServerDriver       = since{version: "1.10.1", has: "`backend: mssql-python`, and needs no `driver`", unless: "driver"}
	identityCenter        = since{version: "1.9.1", has: "`token_endpoint`"}
)

// A TooOld is an installed adapter that does not take what is written for it.
type TooOld struct {
	installed.Package
	Want, Has string // the version that does, and what that one has
}

// CheckInstalled returns what is wrong with the version of dbt's adapter in the
// environment of dbt, a path, for the first of the blocks that it does not take;
// ok is false where there is none, or it is not certain. served says that a
// broker serves the pair's route.
func CheckInstalled(getenv func(string) string, dbt, dbtType, provider string, served bool, blocks ...*yaml.Node) (t TooOld, ok bool) {
	wanted := pairOf(dbtType, provider).since
	if len(wanted) == 0 {
		return t, false
	}
	if t.Package, ok = installed.Find(getenv, dbt, "dbt-"+dbtType); !ok {
		return t, false
	}
	for _, block := range blocks {
		for _, s := range wanted {
			if s.applies(served, block) && installed.Older(t.Version, s.version) && (t.Want == "" || installed.Older(t.Want, s.version)) {
				t.Want, t.Has = s.version, s.has
			}
		}
		if t.Want != "" {
			return t, true
		}
	}
	return t, false
}

func (s since) applies(served bool, block *yaml.Node) bool {
	return !(s.direct && served) && !(s.served && !served) && (s.unless == "" || value(block, s.unless) == nil)
}
