//go:build unix

// Command bench measures the action as a whole process, from start to
// credential, against a bare program that links the same packages, sends the
// same requests and checks nothing. Both run in turn, on loopback, without and
// with 30 ms added to each request. Then it measures the broker's routes in a
// command that `exec` runs. It prints medians and ratios, and has no thresholds.
// With -step it measures a whole step with node instead, with -against
// another binary of the product, such as an older one.
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
	where := flag.Bool("where", false, "only measure where the time of a run with the provider `aws` goes, phase by phase")
	old := flag.String("against", "", "only measure GitHub's path with the provider `aws` against this other binary of the product")
	node := flag.String("step", "", "only measure a whole step of a workflow, with this node, against an empty action")
	flag.Parse()
	if err := bench(*runs, *where, *node, *old); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func bench(runs int, where bool, node, old string) error {
	root, err := os.MkdirTemp("", "oidc-dbt-bench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	for name, pkg := range map[string]string{"oidc-dbt": "github.com/oidc-dbt/oidc-dbt", "bare": "github.com/oidc-dbt/oidc-dbt/bench/bare"} {
		// The flags of main.js.
		build := exec.Command("go", "build", "-trimpath", "-tags=grpcnotrace,nethttpomithttp2", "-gcflags=all=-l",
			"-gcflags=runtime/...=", "-gcflags=internal/...=", "-gcflags=crypto/internal/...=", "-gcflags=go.opentelemetry.io/otel/...=",
			"-gcflags=github.com/oidc-dbt/oidc-dbt/internal/broker=", "-ldflags=-s -w -funcalign=16", "-o", filepath.Join(root, name), pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	switch {
	case node != "":
		return steps(root, node, runs)
	case old != "":
		return against(root, old, runs)
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
	if where {
		return measure(root, "aws", 0, runs, printPhases)
	}
	for _, provider := range []string{"aws", "gcp", "oidc"} {
		for _, delay := range []time.Duration{0, 30 * time.Millisecond} {
			if err := measure(root, provider, delay, runs, nil); err != nil {
				return fmt.Errorf("%s: %w", provider, err)
			}
		}
	}
	return routes(root, runs)
}

// fronted starts a server that passes requests on, and calls before and after for each.
func fronted(target string, before, after func(*http.Request)) (*httptest.Server, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	proxy := httputil.NewSingleHostReverseProxy(u)
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		before(r)
		proxy.ServeHTTP(w, r)
		after(r)
	})), nil
}

// A sample is what was measured of one run.
type sample struct {
	wall     time.Duration
	memory   int64 // bytes
	requests int64
	phases   [len(phaseNames)]time.Duration
}

// ownRoots returns an environment without additional certificate authorities:
// the action reads them when it starts, but the bare program never does, since
// the servers here have no TLS.
func ownRoots(environ []string) []string {
	return slices.DeleteFunc(environ, func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return name == "SSL_CERT_FILE" || name == "SSL_CERT_DIR" || name == "NODE_EXTRA_CA_CERTS"
	})
}

// measure runs both programs in turn, and prints a row of the table and what
// more prints, unless that is nil.
func measure(root, provider string, delay time.Duration, runs int, more func(action, bare sample)) error {
	c, err := startCase(root, provider, delay)
	if err != nil {
		return err
	}
	defer c.close()
	env := c.environment()
	var action, bare []sample
	for i := range runs + 2 {
		step, err := c.action(root, filepath.Join(root, "oidc-dbt"), env)
		if err != nil {
			return err
		}
		a, err := c.run(step)
		if err != nil {
			return err
		}
		b, err := c.run(c.bare(root, env))
		if err != nil {
			return err
		}
		if i >= 2 { // two runs warm the caches
			action, bare = append(action, a), append(bare, b)
		}
	}
	ratios := make([]float64, runs)
	differences := make([]time.Duration, runs)
	for i := range runs {
		ratios[i] = float64(action[i].wall) / float64(bare[i].wall)
		differences[i] = action[i].wall - bare[i].wall
	}
	slices.Sort(ratios)
	slices.Sort(differences)
	ma, mb := median(action), median(bare)
	fmt.Printf("| %s | %s | %.1f ms | %.1f ms | %+.1f ms | %.2f | %.1f MiB | %.1f MiB | %d | %d |\n", provider, delay,
		ms(ma.wall), ms(mb.wall), ms(differences[runs/2]), ratios[runs/2],
		float64(ma.memory)/(1<<20), float64(mb.memory)/(1<<20), ma.requests, mb.requests)
	if more != nil {
		more(ma, mb)
	}
	return nil
}

// A benchCase is one provider with one delay: the servers, and what both
// programs need to reach them.
type benchCase struct {
	closers
	provider    string
	issuer      *standin.Issuer
	issuerFront *httptest.Server
	endpoint    string // of the provider
	workspace   string
	requests    *atomic.Int64       // to all servers
	asked       func(*http.Request) // called for each, unless it is nil
	seen        timeline
}

func startCase(root, provider string, delay time.Duration) (c *benchCase, err error) {
	c = &benchCase{provider: provider, workspace: filepath.Join(root, provider+delay.String()), requests: new(atomic.Int64)}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.issuer, err = standin.StartIssuer(nil); err != nil {
		return nil, err
	}
	c.add(c.issuer.Close)
	if c.issuerFront, err = c.front(c.issuer.URL(), delay); err != nil {
		return nil, err
	}
	dbt, exchange, err := c.startProvider(delay)
	if err != nil {
		return nil, err
	}
	return c, writeProject(c.workspace, policyOf(c.issuer.URL(), c.issuerFront.URL, dbt, exchange))
}

// front starts a server that counts and delays each request before it passes it on.
func (c *benchCase) front(target string, delay time.Duration) (*httptest.Server, error) {
	server, err := fronted(target, func(r *http.Request) {
		c.requests.Add(1)
		if c.asked != nil {
			c.asked(r)
		}
		c.seen.arrived(r)
		time.Sleep(delay)
	}, c.seen.answered)
	if err == nil {
		c.add(server.Close)
	}
	return server, err
}

// startProvider starts the provider and returns the policy's blocks for it.
func (c *benchCase) startProvider(delay time.Duration) (dbt, exchange string, err error) {
	switch c.provider {
	case "oidc":
		return "{type: snowflake, account: acme-prod, user: DBT, database: D, schema: S, warehouse: W}",
			"{oidc: {audience: snowflakecomputing.com}}", nil
	case "gcp":
		google, err := startGoogle(c.issuer, &c.closers)
		if err != nil {
			return "", "", err
		}
		front, err := c.front(google.URL(), delay)
		if err != nil {
			return "", "", err
		}
		c.endpoint = front.URL
		return "{type: bigquery, project: acme-dbt, dataset: marts}",
			fmt.Sprintf("{gcp: {workload_identity_provider: %s, sts_endpoint: %q}}", pool, c.endpoint), nil
	}
	sts, err := startSTS(c.issuer, &c.closers)
	if err != nil {
		return "", "", err
	}
	front, err := c.front(sts.URL(), delay)
	if err != nil {
		return "", "", err
	}
	c.endpoint = front.URL
	return "{type: duckdb, path: x.duckdb}",
		fmt.Sprintf("{aws: {role: %q, region: eu-central-1, endpoint: %q}}", role, c.endpoint), nil
}

// environment is what both programs are started with.
func (c *benchCase) environment() []string {
	return append(ownRoots(os.Environ()), "ACTIONS_ID_TOKEN_REQUEST_URL="+c.issuerFront.URL+"/token?api-version=2.0",
		"ACTIONS_ID_TOKEN_REQUEST_TOKEN="+c.issuer.RequestToken())
}

// action returns the product's command, as a runner starts it.
func (c *benchCase) action(root, binary string, env []string) (*exec.Cmd, error) {
	temp, err := os.MkdirTemp(root, "temp")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(binary)
	cmd.Dir = c.workspace
	cmd.Env = append(env, "GITHUB_ACTIONS=true", "GITHUB_EVENT_NAME=push", "GITHUB_WORKSPACE="+c.workspace,
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

// bare returns the command of the program that checks nothing.
func (c *benchCase) bare(root string, env []string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(root, "bare"), c.provider, c.endpoint, keysURL(c.issuerFront.URL))
	cmd.Env = env
	return cmd
}

// run measures one run of a program.
func (c *benchCase) run(cmd *exec.Cmd) (s sample, err error) {
	c.requests.Store(0)
	began := c.seen.begin()
	out, err := cmd.CombinedOutput()
	ended := time.Now()
	if err != nil {
		return s, fmt.Errorf("%w\n%s", err, out)
	}
	return sample{ended.Sub(began), maxRSS(cmd), c.requests.Load(), c.seen.phases(ended)}, nil
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
	m := sample{
		wall:     time.Duration(middle(func(s sample) int64 { return int64(s.wall) })),
		memory:   middle(func(s sample) int64 { return s.memory }),
		requests: middle(func(s sample) int64 { return s.requests }),
	}
	for i := range m.phases {
		m.phases[i] = time.Duration(middle(func(s sample) int64 { return int64(s.phases[i]) }))
	}
	return m
}

func maxRSS(cmd *exec.Cmd) int64 {
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	return peakOf(usage)
}

func peakOf(usage *syscall.Rusage) int64 {
	if runtime.GOOS == "darwin" {
		return usage.Maxrss // bytes there
	}
	return usage.Maxrss << 10 // KiB elsewhere
}
