//go:build unix

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// threads is the number of concurrent clients when memory is measured.
const threads = 64

// A routeCase is one route of the broker, with a pair that uses it.
type routeCase struct {
	route, dbt, exchange string
}

// A report is what a client measured in a run.
type report struct {
	First  int64         // when the first byte arrived, in nanoseconds since 1970
	Each   time.Duration // the median of further requests, one after another
	Memory int64         // the peak memory of the broker's process in bytes, after threads concurrent clients
}

// routes measures each route, from the request for the ID token to the first
// byte at a client in the command that `exec` runs, and each request after that.
func routes(root string, runs int) error {
	issuer, err := standin.StartIssuer(nil)
	if err != nil {
		return err
	}
	defer issuer.Close()
	var asked atomic.Int64
	front, err := fronted(issuer.URL(), func(*http.Request) { asked.CompareAndSwap(0, time.Now().UnixNano()) },
		func(*http.Request) {})
	if err != nil {
		return err
	}
	defer front.Close()
	var started closers
	defer func() { started.close() }()
	cases, err := routeCases(root, issuer, &started)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	fmt.Printf("\nThe broker's routes, medians of %d runs; memory with %d clients at once.\n\n", runs, threads)
	fmt.Println("| route | token request to first byte | each further request | memory |")
	fmt.Println("| --- | --- | --- | --- |")
	for _, c := range cases {
		workspace := filepath.Join(root, "route-"+c.route)
		policy := policyOf(issuer.URL(), issuer.URL(), c.dbt, c.exchange)
		if err := writeProject(workspace, policy); err != nil {
			return err
		}
		var firsts, each, memory []int64
		for range runs {
			cmd := exec.Command(filepath.Join(root, "oidc-dbt"), "exec", "--target", "prod", "--audit-log",
				filepath.Join(workspace+"-audit.jsonl"), "--", self)
			cmd.Dir = workspace
			cmd.Env = append(os.Environ(), clientVariable+"="+c.route, "GITHUB_EVENT_NAME=push",
				"ACTIONS_ID_TOKEN_REQUEST_URL="+front.URL+"/token?api-version=2.0", "ACTIONS_ID_TOKEN_REQUEST_TOKEN="+issuer.RequestToken())
			var out, words bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &words
			asked.Store(0)
			if err := cmd.Run(); err != nil {
				return fmt.Errorf("route %s: %w\n%s", c.route, err, words.String())
			}
			var r report
			if err := json.Unmarshal(out.Bytes(), &r); err != nil {
				return fmt.Errorf("route %s: %w\n%s", c.route, err, words.String())
			}
			firsts, each, memory = append(firsts, r.First-asked.Load()), append(each, int64(r.Each)), append(memory, r.Memory)
		}
		fmt.Printf("| %s | %.1f ms | %.3f ms | %.1f MiB |\n", c.route, ms(middle(firsts)), ms(middle(each)), float64(middle(memory))/(1<<20))
	}
	return nil
}

func middle[T ~int64](values []T) time.Duration {
	slices.Sort(values)
	return time.Duration(values[len(values)/2])
}

func writeProject(workspace, policy string) error {
	if err := os.MkdirAll(filepath.Join(workspace, ".github"), 0o755); err != nil {
		return err
	}
	for name, text := range map[string]string{".github/oidc-dbt.yml": policy, "dbt_project.yml": "name: shop\nprofile: shop\n"} {
		if err := os.WriteFile(filepath.Join(workspace, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// routeCases starts the providers and warehouses of the routes.
func routeCases(root string, issuer *standin.Issuer, c *closers) ([]routeCase, error) {
	sts, err := startSTS(issuer, c)
	if err != nil {
		return nil, err
	}
	google, err := startGoogle(issuer, c)
	if err != nil {
		return nil, err
	}
	tokens, err := startAuthServer(issuer, c)
	if err != nil {
		return nil, err
	}
	databricks, err := startDatabricks(issuer, c)
	if err != nil {
		return nil, err
	}
	entra, err := startEntra(issuer, c)
	if err != nil {
		return nil, err
	}
	database, err := startDatabase()
	if err != nil {
		return nil, err
	}
	c.add(func() { database.Close() })
	trino, ca, err := startTrino(root, c)
	if err != nil {
		return nil, err
	}
	port := func(s *httptest.Server) string { return s.URL[strings.LastIndexByte(s.URL, ':')+1:] }
	aws := fmt.Sprintf("{aws: {role: %q, region: eu-central-1, endpoint: %q}}", role, sts.URL())
	exchange := fmt.Sprintf(`{token_exchange: {token_url: "%s/token", grant: client_assertion, `+
		`audience: "https://auth.example"}}`, tokens.URL())
	return []routeCase{
		{"aws_container", standin.Block("athena"), aws},
		{"azure_managed_identity", standin.Block("sqlserver"),
			fmt.Sprintf("{entra: {tenant: acme.example, client_id: %s, authority: %q}}", principal, entra.URL())},
		{"google_adc", "{type: bigquery, project: acme-dbt, dataset: marts}",
			fmt.Sprintf("{gcp: {workload_identity_provider: %s, sts_endpoint: %q}}", pool, google.URL())},
		{"databricks_metadata", "{type: databricks, host: dbc-a1b2c3d4-e5f6.cloud.databricks.com, " +
			"http_path: /sql/1.0/warehouses/abc, schema: marts}",
			fmt.Sprintf("{databricks: {host: %q, account_id: %s, client_id: %s}}", databricks.URL(), account, principal)},
		{"federated_token_url", standin.Block("fabric"), standin.Exchange("fabric", "entra")},
		{"token_endpoint", standin.Block("redshift"), standin.Exchange("redshift", "identity_center")},
		{"clickhouse", fmt.Sprintf("{type: clickhouse, host: 127.0.0.1, port: %s, schema: marts}", port(startClickHouse(c))), exchange},
		{"postgres", fmt.Sprintf("{type: postgres, host: 127.0.0.1, port: %d, user: dbt, database: analytics, "+
			"schema: marts}", database.Addr().(*net.TCPAddr).Port), aws},
		{"snowflake", fmt.Sprintf("{type: snowflake, account: acme-prod, host: 127.0.0.1, port: %s, protocol: http, "+
			"user: DBT, database: D, schema: S, warehouse: W}", port(startSnowflake(c))), `{oidc: {audience: snowflakecomputing.com}}`},
		{"trino", fmt.Sprintf("{type: trino, host: 127.0.0.1, port: %s, database: lake, schema: marts, cert: %q}", port(trino), ca), exchange},
	}, nil
}

// measureClient is the client, in the command that `exec` runs.
func measureClient(route string) error {
	connect, ok := clients[route]
	if !ok {
		return fmt.Errorf("no client for route %q", route)
	}
	ask, err := connect()
	if err != nil {
		return err
	}
	var r report
	if err := ask(); err != nil {
		return err
	}
	r.First = time.Now().UnixNano()
	times := make([]time.Duration, 200)
	for i := range times {
		began := time.Now()
		if err := ask(); err != nil {
			return err
		}
		times[i] = time.Since(began)
	}
	r.Each = middle(times)
	var wait sync.WaitGroup
	errs := make(chan error, threads)
	for range threads {
		wait.Go(func() {
			ask, err := connect()
			for i := 0; i < 10 && err == nil; i++ {
				err = ask()
			}
			errs <- err
		})
	}
	wait.Wait()
	for range threads {
		if err := <-errs; err != nil {
			return err
		}
	}
	if r.Memory, err = peakMemory(os.Getppid()); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// peakMemory returns the peak resident size of a process, 0 if the system does
// not report it.
func peakMemory(pid int) (int64, error) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if os.IsNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var kib int64
		if _, err := fmt.Sscanf(lines.Text(), "VmHWM: %d kB", &kib); err == nil {
			return kib << 10, nil
		}
	}
	return 0, nil
}
