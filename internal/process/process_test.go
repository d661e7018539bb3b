package process_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/process"
)

// TestMain lets the test binary play the user's command: the tests need no
// shell and run on every platform.
func TestMain(m *testing.M) {
	switch os.Getenv("PROCESS_TEST_COMMAND") {
	case "":
		os.Exit(m.Run())
	case "exit3":
		fmt.Print("out")
		fmt.Fprint(os.Stderr, "err")
		os.Exit(3)
	case "killed":
		p, _ := os.FindProcess(os.Getpid())
		_ = p.Kill()
		select {}
	case "wait": // for a signal, and say which
		ctx, _ := process.Interruptible(context.Background())
		fmt.Println("ready")
		<-ctx.Done()
		fmt.Print(context.Cause(ctx))
		os.Exit(7)
	case "parent": // of one that waits
		exe, _ := os.Executable()
		_, _ = process.Run(context.Background(), process.Command{Args: []string{exe}, Env: append(os.Environ(), "PROCESS_TEST_COMMAND=wait"), Stdout: os.Stdout})
	case "twice": // as dbt: a second signal ends what the first began to end
		signals := make(chan os.Signal, 2)
		signal.Notify(signals, syscall.SIGTERM)
		fmt.Println("ready")
		<-signals
		fmt.Println("once")
		<-signals
		os.Exit(9)
	case "stream": // say something to the runner only
		if w := process.RunnerStream(os.Getenv, os.Stderr); w != nil {
			fmt.Fprint(w, "for the runner")
		}
	case "hold": // a pipe of the parent, if one is named, as a child does before it runs its program
		if pipe := os.Getenv("PROCESS_TEST_PIPE"); pipe != "" {
			if f, err := os.Open(pipe); err == nil {
				defer f.Close()
			}
		}
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "daemon", "daemon told by a signal", "daemon that fails", "daemon that hangs":
		daemon(os.Getenv("PROCESS_TEST_COMMAND"))
	}
}

func self(t *testing.T, command string, out, errOut io.Writer) process.Command {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return process.Command{Args: []string{exe}, Env: append(os.Environ(), "PROCESS_TEST_COMMAND="+command), Stdout: out, Stderr: errOut}
}

func TestRunReturnsTheCommandsStatus(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]int{"exit3": 3, "killed": 128 + int(syscall.SIGKILL)} {
		var out, errOut bytes.Buffer
		got, err := process.Run(context.Background(), self(t, command, &out, &errOut))
		if err != nil || got != want {
			t.Errorf("%s: status is %d, %v, want %d", command, got, err, want)
		}
		if command == "exit3" && (out.String() != "out" || errOut.String() != "err") {
			t.Errorf("output is %q and %q, want it untouched", out.String(), errOut.String())
		}
	}
}

// lineWriter tells when the first line was written.
type lineWriter struct {
	text  strings.Builder
	first chan struct{}
}

func (w *lineWriter) Write(p []byte) (int, error) {
	if w.text.Len() == 0 {
		defer close(w.first)
	}
	return w.text.Write(p)
}

// Not parallel: it signals its own process.
func TestRunForwardsSignals(t *testing.T) {
	out := &lineWriter{first: make(chan struct{})}
	c := self(t, "wait", out, io.Discard)
	told := make(chan struct{}, 2)
	c.Signalled = func() { told <- struct{}{} }
	go func() {
		<-out.first
		p, _ := os.FindProcess(os.Getpid())
		_ = p.Signal(syscall.SIGTERM)
	}()
	got, err := process.Run(context.Background(), c)
	if err != nil || got != 7 {
		t.Fatalf("status is %d, %v, want the command's own 7", got, err)
	}
	if want := "ready\nstopped by signal: terminated"; out.text.String() != want {
		t.Errorf("the command saw %q, want %q", out.text.String(), want)
	}
	<-told
	if len(told) > 0 {
		t.Error("told of a second signal")
	}
}

// Not parallel: it signals its own process.
func TestRunForwardsASecondSignal(t *testing.T) {
	lines, out := io.Pipe()
	c := self(t, "twice", out, io.Discard)
	go func() {
		p, _ := os.FindProcess(os.Getpid())
		for seen := bufio.NewScanner(lines); seen.Scan(); {
			_ = p.Signal(syscall.SIGTERM)
		}
	}()
	got, err := process.Run(context.Background(), c)
	out.Close()
	if err != nil || got != 9 {
		t.Fatalf("status is %d, %v, want the command's own 9", got, err)
	}
}

func TestRunDoesNotStartAfterAnInterrupt(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(process.Interrupt{Signal: syscall.SIGTERM})
	var out bytes.Buffer
	c := self(t, "exit3", &out, &out)
	_, err := process.Run(ctx, c)
	if want := fmt.Sprintf("start %q: stopped by signal: terminated", c.Args[0]); err == nil || err.Error() != want {
		t.Errorf("error is %v, want %q", err, want)
	}
	if out.Len() > 0 {
		t.Errorf("the command ran: %q", out.String())
	}
	if got := (process.Interrupt{Signal: syscall.SIGTERM}).Status(); got != 143 {
		t.Errorf("status is %d, want 143", got)
	}
}

func TestFindNamesTheMissingProgram(t *testing.T) {
	t.Parallel()
	_, err := process.Find("dbtt-no-such-program")
	if err == nil || !strings.HasPrefix(err.Error(), `find the command: exec: "dbtt-no-such-program": `) || fault.ClassOf(err) != fault.Usage {
		t.Errorf("error is %v (status %d), want it to name the program, status 2", err, fault.ClassOf(err))
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	base := []string{
		"HOME=/home/u", "PATH=/bin", "DBT_TARGET=dev", "DBT_ENGINE_PROFILE=x", "DBT_PROFILES_DIR=/old",
		"ACTIONS_ID_TOKEN_REQUEST_URL=u", "ACTIONS_ID_TOKEN_REQUEST_TOKEN=t",
		"AWS_ACCESS_KEY_ID=stale", "AWS_PROFILE=prod", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/x", "AWS_SHARED_CREDENTIALS_FILE=/h/.aws",
		"GOOGLE_APPLICATION_CREDENTIALS=/k.json", "DBT_ENV_SECRET_OIDC_TOKEN=earlier", "DBT_ENV_SECRET_MINE=kept",
		"REQUESTS_CA_BUNDLE=/ca.pem", "CURL_CA_BUNDLE=/ca.pem",
	}
	tests := []struct {
		name         string
		kind         string
		set          []string
		passIdentity bool
		env, removed []string
	}{{
		name: "aws", kind: "aws_session", set: []string{"DBT_PROFILES_DIR=/new", "AWS_ACCESS_KEY_ID=fresh"},
		env: []string{"HOME=/home/u", "PATH=/bin", "GOOGLE_APPLICATION_CREDENTIALS=/k.json", "DBT_ENV_SECRET_MINE=kept", "REQUESTS_CA_BUNDLE=/ca.pem", "CURL_CA_BUNDLE=/ca.pem", "DBT_PROFILES_DIR=/new", "AWS_ACCESS_KEY_ID=fresh"},
		removed: []string{"ACTIONS_ID_TOKEN_REQUEST_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE",
			"DBT_ENGINE_PROFILE", "DBT_ENV_SECRET_OIDC_TOKEN", "DBT_TARGET"},
	}, {
		name: "aws, by the broker", kind: "aws_container", set: []string{"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:1/", "BOTO_CONFIG=/empty", "AWS_SHARED_CREDENTIALS_FILE=/empty"},
		env: []string{"HOME=/home/u", "PATH=/bin", "GOOGLE_APPLICATION_CREDENTIALS=/k.json", "DBT_ENV_SECRET_MINE=kept", "REQUESTS_CA_BUNDLE=/ca.pem", "CURL_CA_BUNDLE=/ca.pem",
			"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:1/", "BOTO_CONFIG=/empty", "AWS_SHARED_CREDENTIALS_FILE=/empty"},
		removed: []string{"ACTIONS_ID_TOKEN_REQUEST_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL", "AWS_ACCESS_KEY_ID", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_PROFILE",
			"DBT_ENGINE_PROFILE", "DBT_ENV_SECRET_OIDC_TOKEN", "DBT_PROFILES_DIR", "DBT_TARGET"},
	}, {
		name: "the proxy to Trino", kind: "trino", set: []string{"DBT_PROFILES_DIR=/new"},
		env: []string{"HOME=/home/u", "PATH=/bin", "AWS_ACCESS_KEY_ID=stale", "AWS_PROFILE=prod", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/x", "AWS_SHARED_CREDENTIALS_FILE=/h/.aws",
			"GOOGLE_APPLICATION_CREDENTIALS=/k.json", "DBT_ENV_SECRET_MINE=kept", "DBT_PROFILES_DIR=/new"},
		removed: []string{"ACTIONS_ID_TOKEN_REQUEST_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL", "CURL_CA_BUNDLE", "DBT_ENGINE_PROFILE", "DBT_ENV_SECRET_OIDC_TOKEN", "DBT_TARGET", "REQUESTS_CA_BUNDLE"},
	}, {
		name: "google, identity passed on", kind: "google_access_token", passIdentity: true,
		env: []string{"HOME=/home/u", "PATH=/bin", "ACTIONS_ID_TOKEN_REQUEST_URL=u", "ACTIONS_ID_TOKEN_REQUEST_TOKEN=t",
			"AWS_ACCESS_KEY_ID=stale", "AWS_PROFILE=prod", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/x", "AWS_SHARED_CREDENTIALS_FILE=/h/.aws", "DBT_ENV_SECRET_MINE=kept", "REQUESTS_CA_BUNDLE=/ca.pem", "CURL_CA_BUNDLE=/ca.pem"},
		removed: []string{"DBT_ENGINE_PROFILE", "DBT_ENV_SECRET_OIDC_TOKEN", "DBT_PROFILES_DIR", "DBT_TARGET", "GOOGLE_APPLICATION_CREDENTIALS"},
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			withheld := []string{"ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"}
			if tt.passIdentity {
				withheld = nil
			}
			env, removed := process.Environment(base, tt.set, []string{tt.kind}, withheld)
			if !slices.Equal(env, tt.env) {
				t.Errorf("environment is\n%q, want\n%q", env, tt.env)
			}
			if !slices.Equal(removed, tt.removed) {
				t.Errorf("removed are\n%q, want\n%q", removed, tt.removed)
			}
		})
	}
}

// TestNoOtherWayToThePostgresProxy: variables that make libpq connect elsewhere,
// require TLS or another form of login, or use another password are removed.
func TestNoOtherWayToThePostgresProxy(t *testing.T) {
	t.Parallel()
	gone := []string{
		"PGCHANNELBINDING", "PGGSSENCMODE", "PGHOSTADDR", "PGPASSFILE", "PGPASSWORD", "PGREQUIREAUTH", "PGREQUIREPEER", "PGREQUIRESSL",
		"PGSERVICE", "PGSERVICEFILE", "PGSSLCERT", "PGSSLKEY", "PGSSLNEGOTIATION", "PGSSLROOTCERT",
	}
	base := []string{"PGOPTIONS=-c work_mem=1GB", "PGSSLMODE=require"}
	for _, name := range gone {
		base = append(base, name+"=stale")
	}
	for _, kind := range []string{"database_login", "access_token"} {
		env, removed := process.Environment(base, []string{"PGSSLMODE=disable"}, []string{kind, "postgres"}, nil)
		if want := []string{"PGOPTIONS=-c work_mem=1GB", "PGSSLMODE=disable"}; !slices.Equal(env, want) {
			t.Errorf("with a credential of kind %q environment is\n%q, want\n%q", kind, env, want)
		}
		if !slices.Equal(removed, gone) {
			t.Errorf("with a credential of kind %q removed are\n%q, want\n%q", kind, removed, gone)
		}
	}
}

// TestNoOtherWayToThePasswordFile: variables that libpq prefers to the file, or
// that make it connect elsewhere, are removed.
func TestNoOtherWayToThePasswordFile(t *testing.T) {
	t.Parallel()
	gone := []string{"PGHOSTADDR", "PGPASSWORD", "PGSERVICE", "PGSERVICEFILE", "PGSSLCERT", "PGSSLKEY"}
	base := []string{"PGPASSFILE=/home/somebody/.pgpass", "PGOPTIONS=-c work_mem=1GB"}
	for _, name := range gone {
		base = append(base, name+"=stale")
	}
	env, removed := process.Environment(base, []string{"PGPASSFILE=/tmp/step/pgpass"}, []string{"google_access_token", "pgpassfile"}, nil)
	if want := []string{"PGOPTIONS=-c work_mem=1GB", "PGPASSFILE=/tmp/step/pgpass"}; !slices.Equal(env, want) {
		t.Errorf("environment is\n%q, want\n%q", env, want)
	}
	if !slices.Equal(removed, gone) {
		t.Errorf("removed are\n%q, want\n%q", removed, gone)
	}
}

// TestNoOtherWayToGoogle: variables that google-auth, BigQuery's client, gcloud
// and Terraform prefer to the file, or send its token by, are removed.
func TestNoOtherWayToGoogle(t *testing.T) {
	t.Parallel()
	gone := []string{
		"BIGQUERY_EMULATOR_HOST", "CLOUDSDK_AUTH_ACCESS_TOKEN", "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE", "CLOUDSDK_AUTH_DISABLE_CREDENTIALS", "CLOUDSDK_AUTH_IMPERSONATE_SERVICE_ACCOUNT",
		"GCLOUD_KEYFILE_JSON", "GOOGLE_BACKEND_CREDENTIALS", "GOOGLE_BACKEND_IMPERSONATE_SERVICE_ACCOUNT", "GOOGLE_CLOUD_KEYFILE_JSON",
		"GOOGLE_CLOUD_QUOTA_PROJECT", "GOOGLE_CREDENTIALS", "GOOGLE_GHA_CREDS_PATH", "GOOGLE_IMPERSONATE_SERVICE_ACCOUNT", "GOOGLE_OAUTH_ACCESS_TOKEN",
		"STORAGE_EMULATOR_HOST",
	}
	// Not logins: variables about the machine's identity, and names of a project
	// or universe, whose clients refuse a credential of another one.
	kept := []string{"GOOGLE_CLOUD_PROJECT=p", "GOOGLE_CLOUD_UNIVERSE_DOMAIN=u", "GOOGLE_API_USE_CLIENT_CERTIFICATE=true", "GCE_METADATA_HOST=h", "NO_GCE_CHECK=true", "CLOUDSDK_CONFIG=/c"}
	base := slices.Clone(kept)
	for _, name := range append(gone, "GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE") {
		base = append(base, name+"=stale")
	}
	set := []string{"GOOGLE_APPLICATION_CREDENTIALS=/ours", "CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE=/ours"}
	env, removed := process.Environment(base, set, []string{"google_access_token", "google_adc"}, nil)
	if want := slices.Concat(kept, set); !slices.Equal(env, want) {
		t.Errorf("environment is\n%q, want\n%q", env, want)
	}
	if !slices.Equal(removed, gone) {
		t.Errorf("removed are\n%q, want\n%q", removed, gone)
	}
}

func TestShell(t *testing.T) {
	t.Parallel()
	tests := []struct {
		shell, goos string
		name        string
		args        []string
		err         string
	}{
		{shell: "", goos: "linux", name: "run.sh", args: []string{"bash", "--noprofile", "--norc", "-eo", "pipefail", "/t/s"}},
		{shell: "", goos: "windows", name: "run.ps1", args: []string{"pwsh", "-NoProfile", "-NonInteractive", "-Command", ". '/t/s'"}},
		{shell: "sh", goos: "linux", name: "run.sh", args: []string{"sh", "-e", "/t/s"}},
		{shell: "perl -w {0}", goos: "linux", name: "run.sh", args: []string{"perl", "-w", "/t/s"}},
		{shell: "fish", goos: "linux", err: `input shell: unknown shell "fish", valid shells are ["bash" "cmd" "powershell" "pwsh" "python" "sh"]`},
	}
	for _, tt := range tests {
		script, err := process.Shell(tt.shell, tt.goos, "dbt build")
		if msg := message(err); msg != tt.err {
			t.Errorf("shell %q: error is %q, want %q", tt.shell, msg, tt.err)
			continue
		}
		if tt.err == "" && (script.Name != tt.name || !slices.Equal(script.Command("/t/s"), tt.args)) {
			t.Errorf("shell %q: got %q %q, want %q %q", tt.shell, script.Name, script.Command("/t/s"), tt.name, tt.args)
		}
		if tt.err == "" && !strings.Contains(script.Text, "dbt build") {
			t.Errorf("shell %q: text is %q, want the run block in it", tt.shell, script.Text)
		}
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestInterruptibleEndsWithItsParent(t *testing.T) {
	t.Parallel()
	parent, cancel := context.WithCancel(context.Background())
	ctx, stop := process.Interruptible(parent)
	defer stop()
	cancel()
	select {
	case <-ctx.Done():
	case <-time.After(5 * time.Minute):
		t.Fatal("the context did not end with its parent")
	}
}

// TestEnvironmentOfRoutes: no variable of the job makes a client bypass the broker.
func TestEnvironmentOfRoutes(t *testing.T) {
	t.Parallel()
	for kind, tt := range map[string]struct{ base, set, removed string }{
		"databricks_metadata": {
			base:    "DATABRICKS_AUTH_TYPE=pat DATABRICKS_CLIENT_SECRET=s DATABRICKS_CONFIG_PROFILE=p DATABRICKS_METADATA_SERVICE_URL=u ARM_CLIENT_ID=i",
			set:     "DATABRICKS_AUTH_TYPE=metadata-service DATABRICKS_METADATA_SERVICE_URL=ours",
			removed: "ARM_CLIENT_ID DATABRICKS_CLIENT_SECRET DATABRICKS_CONFIG_PROFILE",
		},
		"azure_managed_identity": {
			base:    "IDENTITY_ENDPOINT=e IDENTITY_HEADER=h IDENTITY_SERVER_THUMBPRINT=t IMDS_ENDPOINT=e MSI_ENDPOINT=e MSI_SECRET=s AZURE_POD_IDENTITY_AUTHORITY_HOST=h",
			set:     "IDENTITY_ENDPOINT=ours IDENTITY_HEADER=ours",
			removed: "AZURE_POD_IDENTITY_AUTHORITY_HOST IDENTITY_SERVER_THUMBPRINT IMDS_ENDPOINT MSI_ENDPOINT MSI_SECRET",
		},
		"azure_federated_token_file": {
			base:    "AZURE_CLIENT_SECRET=s AZURE_CLIENT_CERTIFICATE_PATH=p AZURE_USERNAME=u AZURE_PASSWORD=p AZURE_TOKEN_CREDENTIALS=dev IDENTITY_ENDPOINT=e MSI_ENDPOINT=e AZURE_CLIENT_ID=i",
			set:     "AZURE_FEDERATED_TOKEN_FILE=ours AZURE_CLIENT_ID=ours",
			removed: "AZURE_CLIENT_CERTIFICATE_PATH AZURE_CLIENT_SECRET AZURE_PASSWORD AZURE_TOKEN_CREDENTIALS AZURE_USERNAME IDENTITY_ENDPOINT MSI_ENDPOINT",
		},
		"federated_token_url": {
			base:    "AZURE_AUTHORITY_HOST=https://login.microsoftonline.us AZURE_REGIONAL_AUTHORITY_NAME=westus",
			set:     "AZURE_AUTHORITY_HOST=ours",
			removed: "AZURE_REGIONAL_AUTHORITY_NAME",
		},
		"snowflake": {
			base:    "SNOWFLAKE_TOKEN=t SNOWFLAKE_TOKEN_FILE_PATH=p SNOWFLAKE_PASSWORD=p SNOWFLAKE_USER=u HTTPS_PROXY=http://elsewhere",
			set:     "HTTPS_PROXY=ours https_proxy=ours",
			removed: "SNOWFLAKE_PASSWORD SNOWFLAKE_TOKEN SNOWFLAKE_TOKEN_FILE_PATH SNOWFLAKE_USER",
		},
		"snowflake_token_file": {
			base:    "SNOWFLAKE_TOKEN=t SNOWFLAKE_TOKEN_FILE_PATH=p SNOWFLAKE_PASSWORD=p",
			set:     "SNOWFLAKE_TOKEN_FILE_PATH=ours",
			removed: "SNOWFLAKE_PASSWORD SNOWFLAKE_TOKEN",
		},
		"snowflake_client": {
			base: "SNOWFLAKE_PRIVATE_KEY=k SNOWFLAKE_PRIVATE_KEY_FILE=f SNOWFLAKE_OAUTH_CLIENT_SECRET=s SNOWFLAKE_DEFAULT_CONNECTION_NAME=dev SNOWFLAKE_CONNECTIONS_DEV_HOST=evil.example " +
				"SNOWFLAKE_SESSION_TOKEN=t SNOWFLAKE_MASTER_TOKEN=t SNOWSQL_PWD=p SNOWFLAKE_HOST=evil.example SNOWFLAKE_WORKLOAD_IDENTITY_IMPERSONATION_PATH=p",
			set: "SNOWFLAKE_HOST=ours",
			removed: "SNOWFLAKE_CONNECTIONS_DEV_HOST SNOWFLAKE_DEFAULT_CONNECTION_NAME SNOWFLAKE_MASTER_TOKEN SNOWFLAKE_OAUTH_CLIENT_SECRET SNOWFLAKE_PRIVATE_KEY SNOWFLAKE_PRIVATE_KEY_FILE " +
				"SNOWFLAKE_SESSION_TOKEN SNOWFLAKE_WORKLOAD_IDENTITY_IMPERSONATION_PATH SNOWSQL_PWD",
		},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			set := strings.Fields(tt.set)
			env, removed := process.Environment(strings.Fields(tt.base), set, []string{"", kind}, nil)
			if !slices.Equal(env, set) || strings.Join(removed, " ") != tt.removed {
				t.Errorf("environment is %q, want %q; removed are %q, want %s", env, set, removed, tt.removed)
			}
		})
	}
}
