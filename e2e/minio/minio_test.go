//go:build e2e

// Package minio runs a real dbt build against MinIO: a token service and an S3 store that share no code with ours.
package minio

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

const audience, property = setup.LakeAudience, setup.LakeProperty

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

// start starts MinIO, which verifies the issuer's tokens, with an empty bucket `lake`.
func start(t *testing.T) (endpoint, data string, issuer *standin.Issuer) {
	t.Helper()
	server, issuer := setup.Lake(t)
	return server.URL, server.Data, issuer
}

// workspace has the usual project, which writes the seed's rows to the bucket.
func workspace(t *testing.T, address string, issuer *standin.Issuer, threads int) string {
	t.Helper()
	dir := setup.Project(t, issuer,
		fmt.Sprintf(`{type: duckdb, path: shop.duckdb, schema: main, threads: %d, secrets: [{type: s3, endpoint: %q, url_style: path, use_ssl: false}]}`, threads, address),
		fmt.Sprintf(`{aws: {role: "arn:aws:iam::123456789012:role/ignored", region: us-east-1, endpoint: "http://%s"}}`, address))
	setup.Write(t, dir, "models/orders.sql", "{{ config(materialized='external', location='s3://lake/orders.parquet') }}\nselect * from {{ ref('raw_orders') }}\n")
	setup.Write(t, dir, "models/read_back.sql", "-- depends_on: {{ ref('orders') }}\nselect count(*) as orders from read_parquet('s3://lake/orders.parquet')\n")
	return dir
}

func TestDbtBuild(t *testing.T) {
	t.Parallel()
	endpoint, data, issuer := start(t)
	dir := workspace(t, strings.TrimPrefix(endpoint, "http://"), issuer, 1)
	env, step := setup.Authenticate(t, issuer, dir)
	out := setup.Build(t, setup.Python(t), issuer, dir, env)
	if !strings.Contains(out, "PASS=5 WARN=0 ERROR=0") {
		t.Errorf("dbt did not build five nodes:\n%s", out)
	}
	for _, name := range []string{"aws-secret-access-key", "aws-session-token"} {
		if v := step.Outputs[name]; v == "" || strings.Contains(out, v) {
			t.Errorf("output %s is empty or in dbt's output", name)
		}
	}
	if _, err := os.Stat(filepath.Join(data, "lake", "orders.parquet")); err != nil {
		t.Errorf("the store does not have the file: %v", err)
	}

	// The store must refuse the same request without the session token.
	env["DBT_ENV_SECRET_OIDC_AWS_SESSION_TOKEN"] = "made-up"
	if out, err := setup.DBT(t, setup.Python(t), dir, env, "build", "--select", "read_back"); err == nil {
		t.Errorf("dbt passed with a session token of its own:\n%s", out)
	}
}

// TestItVerifiesTheTokenItself bypasses the action: MinIO, too, refuses tokens
// that the policy would refuse.
func TestItVerifiesTheTokenItself(t *testing.T) {
	t.Parallel()
	endpoint, _, issuer := start(t)
	other := setup.Issuer(t)
	for _, tt := range []struct {
		name, token string
		status      int
		says        string
	}{
		{"good", issuer.Sign(audience, nil), http.StatusOK, "<AccessKeyId>"},
		{"another audience", issuer.Sign("snowflakecomputing.com", nil), http.StatusBadRequest, "InvalidParameterValue"},
		{"expired", issuer.Sign(audience, map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}), http.StatusBadRequest, "expired"},
		{"another key", other.Sign(audience, map[string]any{"iss": issuer.URL(), property: "readwrite"}), http.StatusBadRequest, "InvalidParameterValue"},
		{"no property of the repository", issuer.Sign(audience, map[string]any{property: nil}), http.StatusBadRequest, "InvalidParameterValue"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, err := (&setup.MinIOServer{URL: endpoint}).AssumeRole(tt.token)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != tt.status || !strings.Contains(string(body), tt.says) {
				t.Errorf("got %s, %v: %s\nwant %d with %q", resp.Status, err, body, tt.status, tt.says)
			}
		})
	}
}

// TestDeniedByMinIO: MinIO refuses a token that the policy allows.
func TestDeniedByMinIO(t *testing.T) {
	t.Parallel()
	endpoint, _, issuer := start(t)
	claims := standin.GitHubClaims()
	issuer.SetClaims(claims) // the property is missing
	dir := workspace(t, strings.TrimPrefix(endpoint, "http://"), issuer, 1)
	step, err := standin.RunStep(t.Context(), standin.StepConfig{
		Binary: setup.Binary(t), Root: t.TempDir(), Workspace: dir, Inputs: map[string]string{"target": "prod"}, Env: issuer.RunnerEnv(),
	})
	if err != nil {
		t.Fatal(err)
	}
	log, _, err := step.Log()
	if err != nil {
		t.Error(err)
	}
	if step.Status != 6 || step.Outputs["aws-access-key-id"] != "" || !strings.Contains(log, "InvalidParameterValue") {
		t.Errorf("the step ended with status %d:\n%s", step.Status, log)
	}
	setup.NoSecrets(t, issuer, "the log", log+step.Summary)
}
