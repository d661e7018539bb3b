//go:build unix

package command_test

import (
	"os"
	"strings"
	"testing"
)

// TestTooOld: each way to run dbt says that its adapter is too old, and asks for nothing.
func TestTooOld(t *testing.T) {
	t.Parallel()
	s := newStep(t)
	s.policy(`
  prod:
    dbt: {type: snowflake, account: acme-prod, user: dbt, database: marts, schema: dbo}
    exchange: {oidc: {audience: snowflakecomputing.com}}`)
	s.write("workspace/dbt_project.yml", "name: analytics\nprofile: analytics\n")
	s.write("venv/lib/python3.12/site-packages/dbt_snowflake-1.8.4.dist-info/METADATA", "")
	s.write("venv/pyvenv.cfg", "")
	s.write("venv/bin/python3.12", "")
	s.write("venv/bin/dbt", "#!"+s.at("venv/bin/python3.12")+"\nimport sys\nfrom dbt.cli.main import cli\n")
	if err := os.Chmod(s.at("venv/bin/dbt"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.env["PATH"] = s.at("venv/bin") + ":" + s.env["PATH"]
	const direct, served = "want 1.12.0 or later, which has `workload_identity_provider`", "want 1.9.0 or later, which has `authenticator: jwt`"
	for name, tt := range map[string]struct {
		inputs map[string]string // of the action, nil for the command
		args   []string
		want   string
	}{
		"a plain step": {map[string]string{"TARGET": "prod"}, nil, direct},
		"run":          {map[string]string{"TARGET": "prod", "RUN": "dbt build"}, nil, served},
		"exec":         {nil, []string{"exec", "--target", "prod", "--", "dbt", "build"}, served},
		"serve":        {nil, []string{"serve", "--target", "prod", "--dir", s.at("served")}, served},
	} {
		for input, value := range tt.inputs {
			s.env["INPUT_"+input] = value
		}
		r := s.here(tt.args...)
		for input := range tt.inputs {
			delete(s.env, "INPUT_"+input)
		}
		all := strings.NewReplacer("%22", `"`, "%0A", "\n").Replace(r.stdout + r.stderr)
		if r.status != 2 || !strings.Contains(all, "adapter dbt-snowflake 1.8.4 in ") || !strings.Contains(all, tt.want) {
			t.Errorf("%s: status %d:\n%s", name, r.status, all)
		}
	}
	if issued := s.issuer.Issued(); len(issued) > 0 {
		t.Errorf("%d ID tokens were issued", len(issued))
	}
}
