package adapter_test

import (
	"slices"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

const adcVariables = "GOOGLE_APPLICATION_CREDENTIALS=/step/file\nCLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE=/step/file\n"

func TestBigQueryByTheBroker(t *testing.T) {
	t.Parallel()
	testRender(t, []renderCase{
		{name: "a file in place of the token", provider: "gcp", block: standin.Block("bigquery"), served: true,
			want: "method: \"oauth\"\n" + adcVariables + "GOOGLE_CLOUD_PROJECT=acme-dbt\n"},
		{name: "a project that pays", provider: "gcp", block: `{type: bigquery, project: data, execution_project: payer, quota_project: quota}`, served: true,
			want: "method: \"oauth\"\n" + adcVariables + "GOOGLE_CLOUD_PROJECT=payer\n"},
	})
}

// TestBigQueryInAnotherUniverse: file and client name the same.
func TestBigQueryInAnotherUniverse(t *testing.T) {
	t.Parallel()
	const exchange = `{gcp: {workload_identity_provider: projects/1/locations/global/workloadIdentityPools/gh/providers/gh, universe_domain: apis-acme.goog, audience: acme}}`
	g := grant(t, issuer(t), standin.Block("bigquery"), exchange)
	r, err := adapter.Route("bigquery", "gcp", g.Exchange(), g.DBT().Block)
	want := route.Route{Kind: route.GoogleADC, Google: route.Google{
		Audience: "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/gh/providers/gh", Universe: "apis-acme.goog",
	}}
	if r != want || err != nil {
		t.Errorf("got %+v, %v, want %+v", r, err, want)
	}
	out, err := adapter.Render(adapter.Input{Facts: g, Type: "bigquery", Block: g.DBT().Block, Credential: standin.Credential("bigquery", "gcp"), Route: standin.Address()})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(out.Env, func(v adapter.Variable) bool {
		return v.Name == "GOOGLE_CLOUD_UNIVERSE_DOMAIN" && v.Value.Reveal() == "apis-acme.goog" && !v.Secret
	}) {
		t.Errorf("the client is not told the universe: %+v", out.Env)
	}
}

// TestGoogleWithoutDbt: a credentials-only target leads Google's tools to the broker.
func TestGoogleWithoutDbt(t *testing.T) {
	t.Parallel()
	g := grant(t, issuer(t), standin.Block("bigquery"), standin.Exchange("bigquery", "gcp"))
	r, err := adapter.Route("", "gcp", g.Exchange(), nil)
	if r.Kind != route.GoogleADC || r.Google.Audience == "" || err != nil {
		t.Errorf("got %+v, %v", r, err)
	}
	got := ""
	for _, v := range adapter.Environment(g, standin.Credential("", "gcp"), standin.Address()) {
		got += v.Name + "=" + v.Value.Reveal() + "\n"
	}
	if got != adcVariables {
		t.Errorf("got\n%swant\n%s", got, adcVariables)
	}
}
