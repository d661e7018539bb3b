//go:build unix

// Command bench measures the action as a whole process, from start to
// credential, against a bare program that links the same packages, sends the
// same requests and checks nothing. Both run in turn, on loopback, without and
// with 30 ms added to each request. Then it measures the broker's routes in a
// command that `exec` runs. It prints medians and ratios, and judges nothing.
package main

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

const (
	role = "arn:aws:iam::123456789012:role/dbt-prod"
	pool = "projects/123/locations/global/workloadIdentityPools/gh/providers/gh"
)

func main() {
	if route := os.Getenv(clientVariable); route != "" {
		if err := measureClient(route); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	runs := flag.Int("n", 31, "counted runs of each program in each case")
	flag.Parse()
	if err := bench(*runs); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func bench(runs int) error {
	root, err := os.MkdirTemp("", "oidc-dbt-bench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	for name, pkg := range map[string]string{"oidc-dbt": "github.com/oidc-dbt/oidc-dbt", "bare": "github.com/oidc-dbt/oidc-dbt/bench/bare"} {
		build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(root, name), pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	info, err := os.Stat(filepath.Join(root, "oidc-dbt"))
	if err != nil {
		return err
	}
	fmt.Printf("binary: %.1f MiB, %s/%s, %d processors, medians of %d runs in turn\n\n", float64(info.Size())/(1<<20),
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runs)
	fmt.Println("| case | added per request | action | bare | difference | ratio | action's memory | bare's memory | " +
		"action's requests | bare's requests |")
	fmt.Println("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, provider := range []string{"aws", "gcp", "oidc"} {
		for _, delay := range []time.Duration{0, 30 * time.Millisecond} {
			if err := measure(root, provider, delay, runs); err != nil {
				return fmt.Errorf("%s: %w", provider, err)
			}
		}
	}
	return routes(root, runs)
}

// fronted puts a server behind one that calls before for each request.
func fronted(target string, before func()) (*httptest.Server, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	proxy := httputil.NewSingleHostReverseProxy(u)
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		before()
		proxy.ServeHTTP(w, r)
	})), nil
}

// sample is one run.
type sample struct {
	wall     time.Duration
	memory   int64 // bytes
	requests int64
}

// ownRoots returns an environment without further certificate authorities: the
// action reads them when it starts, the bare program not at all, since the
// servers here have no TLS.
func ownRoots(environ []string) []string {
	return slices.DeleteFunc(environ, func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return name == "SSL_CERT_FILE" || name == "SSL_CERT_DIR" || name == "NODE_EXTRA_CA_CERTS"
	})
}

func measure(root, provider string, delay time.Duration, runs int) error {
	issuer, err := standin.StartIssuer(nil)
	if err != nil {
		return err
	}
	defer issuer.Close()
	sts, err := standin.StartSTS(standin.STSConfig{IssuerURL: issuer.URL(), Roles: map[string]standin.Role{
		role: {Audience: "sts.amazonaws.com", Claims: map[string][]string{"sub": {"repo:acme/analytics:environment:production"}}},
	}})
	if err != nil {
		return err
	}
	defer sts.Close()
	google, err := standin.StartGoogle(standin.GoogleConfig{IssuerURL: issuer.URL(), Provider: pool})
	if err != nil {
		return err
	}
	defer google.Close()
	var requests atomic.Int64
	front := func(target string) *httptest.Server {
		server, ferr := fronted(target, func() {
			requests.Add(1)
			time.Sleep(delay)
		})
		if ferr != nil {
			err = ferr
			return nil
		}
		return server
	}
	issuerFront, stsFront, googleFront := front(issuer.URL()), front(sts.URL()), front(google.URL())
	if err != nil {
		return err
	}
	for _, server := range []*httptest.Server{issuerFront, stsFront, googleFront} {
		defer server.Close()
	}

	dbt, exchange, endpoint := "{type: duckdb, path: x.duckdb}",
		fmt.Sprintf("{aws: {role: %q, region: eu-central-1, endpoint: %q}}", role, stsFront.URL), stsFront.URL
	switch provider {
	case "gcp":
		dbt, exchange, endpoint = "{type: bigquery, project: acme-dbt, dataset: marts}",
			fmt.Sprintf("{gcp: {workload_identity_provider: %s, sts_endpoint: %q}}", pool, googleFront.URL), googleFront.URL
	case "oidc":
		dbt, exchange, endpoint = "{type: snowflake, account: acme-prod, user: DBT, database: D, schema: S, warehouse: W}",
			"{oidc: {audience: snowflakecomputing.com}}", ""
	}
	keys := issuerFront.URL + "/.well-known/jwks"
	workspace := filepath.Join(root, provider+delay.String())
	policy := fmt.Sprintf("version: 1\nidentities:\n  github: {issuer: %q, kind: github, jwks_uri: %q}\ntargets:\n"+
		"  prod:\n    dbt: %s\n    exchange: %s\n    allow:\n"+
		"      - {repository: acme/analytics, repository_id: \"487920697\", environment: production, ref: refs/heads/main}\n",
		issuer.URL(), keys, dbt, exchange)
	if err := writeProject(workspace, policy); err != nil {
		return err
	}
	env := append(ownRoots(os.Environ()), "ACTIONS_ID_TOKEN_REQUEST_URL="+issuerFront.URL+"/token?api-version=2.0",
		"ACTIONS_ID_TOKEN_REQUEST_TOKEN="+issuer.RequestToken())
	action := func() (*exec.Cmd, error) {
		temp, err := os.MkdirTemp(root, "temp")
		if err != nil {
			return nil, err
		}
		cmd := exec.Command(filepath.Join(root, "oidc-dbt"))
		cmd.Dir = workspace
		cmd.Env = append(env, "GITHUB_ACTIONS=true", "GITHUB_EVENT_NAME=push", "GITHUB_WORKSPACE="+workspace,
			"RUNNER_TEMP="+temp, "INPUT_TARGET=prod")
		for _, name := range []string{"OUTPUT", "ENV", "STATE", "PATH", "STEP_SUMMARY"} {
			path := filepath.Join(temp, name)
			if err := os.WriteFile(path, nil, 0o644); err != nil {
				return nil, err
			}
			cmd.Env = append(cmd.Env, "GITHUB_"+name+"="+path)
		}
		return cmd, nil
	}
	bare := func() (*exec.Cmd, error) {
		cmd := exec.Command(filepath.Join(root, "bare"), provider, endpoint, keys)
		cmd.Env = env
		return cmd, nil
	}
	var a, b []sample
	for i := range runs + 2 {
		for _, p := range []struct {
			make func() (*exec.Cmd, error)
			into *[]sample
		}{{action, &a}, {bare, &b}} {
			cmd, err := p.make()
			if err != nil {
				return err
			}
			requests.Store(0)
			began := time.Now()
			out, err := cmd.CombinedOutput()
			wall := time.Since(began)
			if err != nil {
				return fmt.Errorf("%w\n%s", err, out)
			}
			if i >= 2 { // two runs warm the caches
				*p.into = append(*p.into, sample{wall, maxRSS(cmd), requests.Load()})
			}
		}
	}
	ratios := make([]float64, runs)
	differences := make([]time.Duration, runs)
	for i := range runs {
		ratios[i] = float64(a[i].wall) / float64(b[i].wall)
		differences[i] = a[i].wall - b[i].wall
	}
	slices.Sort(ratios)
	slices.Sort(differences)
	ma, mb := median(a), median(b)
	fmt.Printf("| %s | %s | %.1f ms | %.1f ms | %+.1f ms | %.2f | %.1f MiB | %.1f MiB | %d | %d |\n", provider, delay,
		ms(ma.wall), ms(mb.wall), ms(differences[runs/2]), ratios[runs/2],
		float64(ma.memory)/(1<<20), float64(mb.memory)/(1<<20), ma.requests, mb.requests)
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func median(samples []sample) sample {
	middle := func(value func(sample) int64) int64 {
		values := make([]int64, len(samples))
		for i, s := range samples {
			values[i] = value(s)
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	return sample{
		time.Duration(middle(func(s sample) int64 { return int64(s.wall) })),
		middle(func(s sample) int64 { return s.memory }),
		middle(func(s sample) int64 { return s.requests }),
	}
}

func maxRSS(cmd *exec.Cmd) int64 {
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	if runtime.GOOS == "darwin" {
		return usage.Maxrss // bytes there
	}
	return usage.Maxrss << 10 // KiB elsewhere
}
