package broker_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"google.golang.org/api/bigquery/v2"
	"google.golang.org/api/option"

	"github.com/oidc-dbt/oidc-dbt/internal/route"
)

// TestGoogleADCInGo: Google's libraries for Go, which Terraform has, read the
// file as google-auth does.
func TestGoogleADCInGo(t *testing.T) {
	t.Parallel()
	b := startADC(t, route.Google{Audience: "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/gh/providers/gh"})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Header.Get("Authorization") != "Bearer marked-token" {
			w.WriteHeader(http.StatusUnauthorized)
		}
		fmt.Fprint(w, "{}")
	}))
	t.Cleanup(server.Close)
	service, err := bigquery.NewService(t.Context(), option.WithAuthCredentialsFile(option.ExternalAccount, b.Address().File), option.WithEndpoint(server.URL+"/"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := service.Datasets.List("acme-dbt").Context(t.Context()).Do(); err != nil {
		t.Error(err)
	}
}
