//go:build e2e

// Package bigquery runs a real `dbt build` through dbt-bigquery against a server that demands the exchanged access token.
package bigquery

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

// A warehouse is as much of BigQuery's API as a dbt build needs: it keeps
// datasets, tables and finished jobs by name, and runs no SQL. It admits one
// principal.
type warehouse struct {
	google    *standin.Google
	principal string
	slow      func() // called before each query that contains "slow"

	mu       sync.Mutex
	resource map[string]map[string]any // datasets and tables, by path
	jobs     map[string]map[string]any
	queries  []string
	served   map[string]int // requests by bearer
	refused  int
}

func (w *warehouse) start(t *testing.T) (endpoint string) {
	w.resource, w.jobs, w.served = map[string]map[string]any{}, map[string]map[string]any{}, map[string]int{}
	mux := http.NewServeMux()
	const project = "/bigquery/v2/projects/{project}"
	mux.HandleFunc("GET "+project+"/datasets", w.list)
	mux.HandleFunc("POST "+project+"/datasets", w.insert)
	mux.HandleFunc("GET "+project+"/datasets/{dataset}", w.get)
	mux.HandleFunc("GET "+project+"/datasets/{dataset}/tables", w.list)
	mux.HandleFunc("GET "+project+"/datasets/{dataset}/routines", func(rw http.ResponseWriter, _ *http.Request) { send(rw, http.StatusOK, map[string]any{}) })
	mux.HandleFunc("GET "+project+"/datasets/{dataset}/tables/{table}", w.get)
	mux.HandleFunc("PATCH "+project+"/datasets/{dataset}/tables/{table}", w.get)
	mux.HandleFunc("POST "+project+"/jobs", w.query)
	mux.HandleFunc("GET "+project+"/jobs/{job}", w.job)
	mux.HandleFunc("GET "+project+"/queries/{job}", w.results)
	mux.HandleFunc("POST /upload/bigquery/v2/projects/{project}/jobs", w.upload)
	mux.HandleFunc("PUT /upload/bigquery/v2/projects/{project}/jobs", w.upload)
	mux.HandleFunc("/", func(rw http.ResponseWriter, r *http.Request) {
		t.Errorf("dbt asked for %s %s, which this server does not have", r.Method, r.URL)
		fail(rw, http.StatusNotImplemented, "notImplemented", r.URL.Path)
	})
	_, port := setup.Serve(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if !w.admits(rw, r) {
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if w.slow != nil && r.Method == http.MethodPost && bytes.Contains(body, []byte("slow")) {
			w.slow()
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		mux.ServeHTTP(rw, r)
	}))
	return fmt.Sprintf("http://127.0.0.1:%d", port)
}

// admits reports whether a request has a valid token of the principal.
func (w *warehouse) admits(rw http.ResponseWriter, r *http.Request) bool {
	bearer, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	token, ok := w.google.Token(bearer)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case !ok:
		w.refused++
		fail(rw, http.StatusUnauthorized, "authError", "Request had invalid authentication credentials.")
	case token.Principal != w.principal:
		w.refused++
		fail(rw, http.StatusForbidden, "accessDenied", "Access Denied: Project acme-dbt: "+token.Principal+" does not have bigquery.jobs.create")
	default:
		w.served[bearer]++
		return true
	}
	return false
}

func send(rw http.ResponseWriter, status int, v any) {
	rw.Header().Set("Content-Type", "application/json; charset=UTF-8")
	rw.WriteHeader(status)
	_ = json.NewEncoder(rw).Encode(v) // the client may be gone
}

func fail(rw http.ResponseWriter, status int, reason, message string) {
	send(rw, status, map[string]any{"error": map[string]any{"code": status, "message": message, "errors": []any{map[string]any{"reason": reason, "message": message}}}})
}

func (w *warehouse) list(rw http.ResponseWriter, r *http.Request) {
	kind := "datasets"
	if r.PathValue("dataset") != "" {
		kind = "tables"
	}
	items := []any{}
	for path, item := range w.resource {
		if parent, _, _ := strings.Cut(path, "/"+kind+"/"); strings.HasSuffix(r.URL.Path, parent+"/"+kind) && strings.Contains(path, "/"+kind+"/") {
			items = append(items, item)
		}
	}
	send(rw, http.StatusOK, map[string]any{kind: items})
}

func dataset(project, name string) (path string, item map[string]any) {
	return project + "/datasets/" + name, map[string]any{
		"id": project + ":" + name, "location": "EU", "datasetReference": map[string]string{"projectId": project, "datasetId": name},
	}
}

func (w *warehouse) insert(rw http.ResponseWriter, r *http.Request) {
	var in struct {
		Reference struct {
			Dataset string `json:"datasetId"`
		} `json:"datasetReference"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		fail(rw, http.StatusBadRequest, "invalid", err.Error())
		return
	}
	path, item := dataset(r.PathValue("project"), in.Reference.Dataset)
	w.resource[path] = item
	send(rw, http.StatusOK, item)
}

func (w *warehouse) get(rw http.ResponseWriter, r *http.Request) {
	item, ok := w.resource[strings.TrimPrefix(r.URL.Path, "/bigquery/v2/projects/")]
	if !ok {
		fail(rw, http.StatusNotFound, "notFound", "Not found: "+r.URL.Path)
		return
	}
	send(rw, http.StatusOK, item)
}

func (w *warehouse) table(project, dataset, name, kind string) {
	w.resource[project+"/datasets/"+dataset+"/tables/"+name] = map[string]any{
		"id": project + ":" + dataset + "." + name, "type": kind, "location": "EU", "numRows": "3", "numBytes": "1",
		"tableReference": map[string]string{"projectId": project, "datasetId": dataset, "tableId": name},
		"schema":         map[string]any{"fields": []any{map[string]string{"name": "customer", "type": "STRING"}}},
	}
}

var create = regexp.MustCompile("(?is)create (?:or replace )?(view|table|schema)(?: if not exists)? `([^`]+)`(?:\\.`([^`]+)`(?:\\.`([^`]+)`)?)?")

// query is a job that runs SQL, which ends immediately.
func (w *warehouse) query(rw http.ResponseWriter, r *http.Request) {
	var in map[string]any
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		fail(rw, http.StatusBadRequest, "invalid", err.Error())
		return
	}
	sql := in["configuration"].(map[string]any)["query"].(map[string]any)
	text := sql["query"].(string)
	w.queries = append(w.queries, text)
	if m := create.FindStringSubmatch(text); m != nil {
		if strings.EqualFold(m[1], "schema") {
			path, item := dataset(m[2], m[3])
			w.resource[path] = item
		} else {
			w.table(m[2], m[3], m[4], strings.ToUpper(m[1]))
		}
	}
	project := r.PathValue("project")
	result := fmt.Sprint("result", len(w.queries))
	w.table(project, "_anonymous", result, "TABLE")
	sql["destinationTable"] = map[string]any{"projectId": project, "datasetId": "_anonymous", "tableId": result}
	send(rw, http.StatusOK, w.done(project, in, "SELECT"))
}

// upload is a job that loads a file, from one request or two.
func (w *warehouse) upload(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var in map[string]any
	if id := r.URL.Query().Get("upload_id"); id != "" {
		send(rw, http.StatusOK, w.jobs[id])
		return
	}
	text := string(body)
	if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/") {
		text = text[strings.Index(text, "{"):]
	}
	if err := json.NewDecoder(strings.NewReader(text)).Decode(&in); err != nil {
		fail(rw, http.StatusBadRequest, "invalid", err.Error())
		return
	}
	to := in["configuration"].(map[string]any)["load"].(map[string]any)["destinationTable"].(map[string]any)
	w.table(to["projectId"].(string), to["datasetId"].(string), to["tableId"].(string), "TABLE")
	job := w.done(r.PathValue("project"), in, "LOAD")
	if r.URL.Query().Get("uploadType") == "resumable" {
		rw.Header().Set("Location", "http://"+r.Host+r.URL.Path+"?upload_id="+job["jobReference"].(map[string]any)["jobId"].(string))
	}
	send(rw, http.StatusOK, job)
}

func (w *warehouse) done(project string, in map[string]any, kind string) map[string]any {
	reference, _ := in["jobReference"].(map[string]any)
	id, _ := reference["jobId"].(string)
	if id == "" {
		id = fmt.Sprintf("job%d", len(w.jobs))
	}
	job := map[string]any{
		"id": project + ":EU." + id, "jobReference": map[string]any{"projectId": project, "jobId": id, "location": "EU"},
		"configuration": in["configuration"], "status": map[string]any{"state": "DONE"},
		"statistics": map[string]any{"query": map[string]any{"statementType": kind, "totalBytesProcessed": "1", "totalBytesBilled": "1"}, "load": map[string]any{"outputRows": "3"}},
	}
	w.jobs[id] = job
	return job
}

func (w *warehouse) job(rw http.ResponseWriter, r *http.Request) {
	job, ok := w.jobs[r.PathValue("job")]
	if !ok {
		fail(rw, http.StatusNotFound, "notFound", "Not found: Job")
		return
	}
	send(rw, http.StatusOK, job)
}

// results answers every query like a test that found no failures.
func (w *warehouse) results(rw http.ResponseWriter, r *http.Request) {
	job, ok := w.jobs[r.PathValue("job")]
	if !ok {
		fail(rw, http.StatusNotFound, "notFound", "Not found: Job")
		return
	}
	field := func(name, kind string) any { return map[string]string{"name": name, "type": kind, "mode": "NULLABLE"} }
	cell := func(v string) any { return map[string]string{"v": v} }
	send(rw, http.StatusOK, map[string]any{
		"jobComplete": true, "jobReference": job["jobReference"], "totalRows": "1",
		"schema": map[string]any{"fields": []any{field("failures", "INTEGER"), field("should_warn", "BOOLEAN"), field("should_error", "BOOLEAN")}},
		"rows":   []any{map[string]any{"f": []any{cell("0"), cell("false"), cell("false")}}},
	})
}

func start(t *testing.T, principal string, changes ...func(*standin.GoogleConfig)) (*warehouse, *standin.Issuer, string) {
	t.Helper()
	issuer := setup.Issuer(t)
	config := standin.GoogleConfig{
		IssuerURL: issuer.URL(), Provider: setup.Pool,
		Condition:       func(claims map[string]any) bool { return claims["repository_id"] == "487920697" },
		ServiceAccounts: map[string][]string{setup.ServiceAccount: {setup.Subject}},
	}
	for _, change := range changes {
		change(&config)
	}
	google, err := standin.StartGoogle(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(google.Close)
	w := &warehouse{google: google, principal: principal}
	return w, issuer, w.start(t)
}

func TestDbtBuild(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, principal, account string }{
		{"direct", setup.Subject, ""},
		{"through a service account", setup.ServiceAccount, ", service_account: " + setup.ServiceAccount + ", iam_endpoint: $GOOGLE"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, issuer, endpoint := start(t, tt.principal)
			workspace := setup.Project(t, issuer,
				fmt.Sprintf("{type: bigquery, project: acme-dbt, dataset: marts, location: EU, threads: 4, api_endpoint: %q}", endpoint),
				strings.ReplaceAll("{gcp: {workload_identity_provider: "+setup.Pool+", sts_endpoint: $GOOGLE"+tt.account+"}}", "$GOOGLE", fmt.Sprintf("%q", w.google.URL())))
			env, step := setup.Authenticate(t, issuer, workspace)
			if got, ok := w.google.Token(step.Outputs["token"]); !ok || got.Principal != tt.principal {
				t.Errorf("output token is %q's, want %q's", got.Principal, tt.principal)
			}
			setup.Build(t, setup.Python(t), issuer, workspace, env)
			if len(w.queries) == 0 || w.refused > 0 {
				t.Errorf("%d queries, %d refusals; want some and none", len(w.queries), w.refused)
			}

			// The server refuses requests without the token, and with an ID token in its place.
			for _, token := range []string{"ya29.made-up", issuer.Sign("https://iam.googleapis.com/"+setup.Pool, nil)} {
				env["DBT_ENV_SECRET_OIDC_TOKEN"] = token
				if out, err := setup.DBT(t, setup.Python(t), workspace, env, "show", "--inline", "select 1"); err == nil {
					t.Errorf("dbt passed with another token:\n%s", out)
				}
			}
			if w.refused == 0 {
				t.Error("the server refused nothing")
			}
		})
	}
}
