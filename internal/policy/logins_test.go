package policy_test

import (
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// TestOneNotionOfALogin: what is left out of outputs that a run does not use,
// by its key or by itself, is also warned of in the one that it uses, and all
// that is a login also looks like one.
func TestOneNotionOfALogin(t *testing.T) {
	t.Parallel()
	for _, key := range []string{
		"password", "keyfile_json", "X-Api-Key", "fs.azure.account.key.acme", "my_token", "passcode", "PWD", "apikey",
		"access-key", "sharedkey", "x-credentials", "connection-string", "sas", "mytoken", "dbsecret",
	} {
		if !policy.LooksLikeLoginName(key) || !policy.LooksLikeLogin(key, "x") {
			t.Errorf("%s does not look like the name of a login", key)
		}
	}
	for _, value := range []string{
		"-----BEGIN PRIVATE KEY-----", "postgresql://me:hunter2@h/d", "host=h password=hunter2", `{"private_key": "hunter2"}`,
		"AccountKey=hunter2", "https://h/c?sig=hunter2", "Bearer hunter2", "basic hunter2", "AKIAIOSFODNN7EXAMPLE",
	} {
		if !policy.LooksLikeLoginValue(value) || !policy.LooksLikeLogin("x", value) {
			t.Errorf("%s does not look like a login", value)
		}
	}
	for key, value := range map[string]string{"schema": "marts", "http_path": "/sql/1.0", "host": "dw.acme.example", "query_tag": "dbt", "token": ""} {
		if policy.LooksLikeLogin(key, value) {
			t.Errorf("%s: %q looks like a login", key, value)
		}
	}
	const named = "{{ env_var('DBT_ENV_SECRET_X') }}"
	if !policy.NamesLoginVariable(named) || policy.HasLoginDefault(named) || policy.NamesLoginVariable("{{ env_var('SCHEMA') }}") {
		t.Errorf("%s is not recognised by the name of its variable only", named)
	}
	if !policy.HasLoginDefault("{{ env_var('DB_PASSWORD', 'hunter2') }}") {
		t.Error("a literal default of a password is not recognised")
	}
}

func TestWithoutLogin(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		host, shown string
		cut         bool
	}{
		{"db.acme.example", "db.acme.example", false},
		{"db.acme.example:5432", "db.acme.example:5432", false},
		{"user@db.acme.example", "user@db.acme.example", false},
		{"user:hunter2@db.acme.example:5432", "…@db.acme.example:5432", true},
		{"https://user:hunter2@db.acme.example/x", "https://…@db.acme.example/x", true},
		{":hunter2@db.acme.example", "…@db.acme.example", true},
		{"a:b@one,c:d@two", "…@…@two", true},
	} {
		if shown, cut := policy.WithoutLogin(c.host); shown != c.shown || cut != c.cut {
			t.Errorf("%q is shown as %q, %t, want %q, %t", c.host, shown, cut, c.shown, c.cut)
		}
	}
}
