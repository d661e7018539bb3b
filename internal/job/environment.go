package job

import (
	"cmp"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// Provide is Fill with variables that override other identities and proxies.
func (f Folder) Provide(env Env, res Result) ([]adapter.Variable, error) {
	vars, err := f.Fill(res)
	if err != nil {
		return nil, err
	}
	add := func(value string, names ...string) {
		for _, name := range names {
			vars = append(vars, adapter.Variable{Name: name, Value: secret.New(value)})
		}
	}
	if res.Credential.AWS != nil {
		// Left out, the SDKs would read ~/.aws and ~/.boto, which may hold another identity.
		empty, err := f.Write("empty", nil)
		if err != nil {
			return nil, err
		}
		add(empty, "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "BOTO_CONFIG")
	}
	if res.Broker != nil {
		// It is on this machine: a proxy of the environment's could not reach it.
		upper, lower := env.Getenv("NO_PROXY"), env.Getenv("no_proxy")
		add(withLoopback(cmp.Or(upper, lower)), "NO_PROXY")
		add(withLoopback(cmp.Or(lower, upper)), "no_proxy")
	}
	return vars, nil
}

// engine is dbt 1.12's own name of DBT_PROFILES_DIR, which outranks it. It is
// for a single command: a job's later steps must be able to name another
// target's folder by the name that they know.
func (f Folder) engine(res Result) []adapter.Variable {
	if res.Profile == nil {
		return nil
	}
	return []adapter.Variable{{Name: "DBT_ENGINE_PROFILES_DIR", Value: secret.New(f.path)}}
}

// withLoopback returns a list of hosts without a proxy, and the broker's among
// them. A single asterisk is all hosts, and to Python's urllib no longer so
// with another entry.
func withLoopback(hosts string) string {
	const broker = "127.0.0.1"
	if strings.TrimSpace(hosts) == "" {
		return broker
	}
	for entry := range strings.SplitSeq(hosts, ",") {
		if entry = strings.TrimSpace(entry); entry == broker || entry == "*" {
			return hosts
		}
	}
	return hosts + "," + broker
}

// Fill writes the profile into the folder and returns every variable that the
// profile and the SDKs need, DBT_PROFILES_DIR first.
func (f Folder) Fill(res Result) ([]adapter.Variable, error) {
	if res.Profile == nil {
		return res.Variables, nil
	}
	if _, err := f.Write("profiles.yml", res.Profile); err != nil {
		return nil, err
	}
	return append([]adapter.Variable{{Name: "DBT_PROFILES_DIR", Value: secret.New(f.path)}}, res.Variables...), nil
}
