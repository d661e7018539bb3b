package review_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/review"
)

func TestParseGrants(t *testing.T) {
	t.Parallel()
	two := []review.Principal{{Name: "DBT_PROD", Type: "SERVICE", Factor: "WORKLOAD_IDENTITY", LastUsed: "2026-11-20"}, {Name: "ADA"}}
	for _, tt := range []struct {
		name, text string
		want       []review.Principal
		err        string
	}{
		{"CSV", "principal,type,factor,last_used\nDBT_PROD,SERVICE,WORKLOAD_IDENTITY,2026-11-20\nADA,,,\n", two, ""},
		{"Excel", "\uFEFFFACTOR,owner,Principal,last_used,type\r\nWORKLOAD_IDENTITY,x,DBT_PROD,2026-11-20,SERVICE\r\n,,ADA\r\n", two, ""},
		{"JSON lines", "{\"principal\":\"DBT_PROD\",\"type\":\"SERVICE\",\"factor\":\"WORKLOAD_IDENTITY\",\"last_used\":\"2026-11-20\"}\n" +
			"{\"principal\":\"ADA\",\"other\":1}\n", two, ""},
		{"an array", "[{\"principal\":\"ADA\"}]", two[1:], ""},
		{"empty", " \n", nil, "is empty"},
		{"no principal", "user,type\nADA,x\n", nil, `has no column "principal", want the columns ["principal" "type" "factor" "last_used"]`},
		{"a user without a name", "principal,type\nADA,x\n,x\n", nil, "user 2 has no principal"},
		{"half an object", "{\"principal\":\"ADA\"}\n{\"principal\":", nil, "user 2: unexpected EOF"},
		{"semicolons", "principal;type\nADA;x\n", nil, "has semicolons between its cells, want commas: save it again as CSV UTF-8 with commas"},
	} {
		got, err := review.ParseGrants([]byte(tt.text))
		if diff := cmp.Diff(tt.want, got); message(err) != tt.err || diff != "" {
			t.Errorf("%s: %v, want %q (-want +got):\n%s", tt.name, err, tt.err, diff)
		}
	}
}

// TestReconcile: rules without a user, and users without a rule.
func TestReconcile(t *testing.T) {
	t.Parallel()
	src := source("prod", first, "staging", first, "own", first)
	a, err := review.NewAccess(t.Context(), review.AccessInput{
		Policy: parse(t, src), Now: today, Period: fourth(t),
		Login: func(t *policy.Target) map[string]string {
			return map[string]string{"role": "arn:aws:iam::1:role/team/" + t.Name(), "user": map[string]string{
				"prod": "DBT_PROD", "own": "DBT_${repository_id}_X"}[t.Name()]}
		},
		Principals: []review.Principal{
			{Name: "dbt_prod", Factor: "WORKLOAD_IDENTITY", LastUsed: "2026-11-20"}, {Name: "DBT_PROD", Factor: "RSA_KEYPAIR"},
			{Name: "DBT_42_X"}, {Name: "DBT_42_Y", Type: "SERVICE", Factor: "PASSWORD"}, {Name: "dbt_"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range a.Lines {
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s: %s", l.Kind, l.Target, l.User, l.InWarehouse)))
	}
	want := []string{
		"allow prod DBT_PROD: there, by WORKLOAD_IDENTITY, last used 2026-11-20; there, by RSA_KEYPAIR",
		"allow staging : not there",
		"allow own DBT_${repository_id}_X: there",
		"user  DBT_42_Y: there, by PASSWORD, and no rule",
		"user  dbt_: there, and no rule",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}
