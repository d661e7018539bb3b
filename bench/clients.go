//go:build unix

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"go.yaml.in/yaml/v4"
)

// clientVariable makes this program the command that `exec` runs: the client
// of a route.
const clientVariable = "OIDC_DBT_BENCH_CLIENT"

// clients connect as dbt's client libraries do, and return a function that
// sends one request.
var clients = map[string]func() (ask func() error, err error){
	"aws_container": func() (func() error, error) {
		return asking(http.DefaultClient, http.MethodGet, os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI"), "",
			http.Header{"Authorization": {os.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN")}}), nil
	},
	"azure_managed_identity": func() (func() error, error) {
		return asking(http.DefaultClient, http.MethodGet,
			os.Getenv("IDENTITY_ENDPOINT")+"?resource=https://database.windows.net", "",
			http.Header{"X-Identity-Header": {os.Getenv("IDENTITY_HEADER")}}), nil
	},
	"google_adc": func() (func() error, error) {
		text, err := os.ReadFile(os.Getenv("GOOGLE_APPLICATION_CREDENTIALS"))
		if err != nil {
			return nil, err
		}
		var adc struct {
			TokenURL string `json:"token_url"`
			Source   struct {
				Headers map[string]string `json:"headers"`
			} `json:"credential_source"`
		}
		if err := json.Unmarshal(text, &adc); err != nil {
			return nil, err
		}
		token, _ := strings.CutPrefix(adc.Source.Headers["Authorization"], "Bearer ")
		return form(adc.TokenURL, url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {token}}), nil
	},
	"federated_token_url": func() (func() error, error) {
		p, err := readProfile()
		return asking(http.DefaultClient, http.MethodGet, p.text("federated_token_url"), "",
			http.Header{"Authorization": {p.text("federated_token_header")}}), err
	},
	"token_endpoint": func() (func() error, error) {
		p, err := readProfile()
		endpoint, _ := p["token_endpoint"].(map[string]any)
		return form(fmt.Sprint(endpoint["request_url"]), url.Values{"client_secret": {os.Getenv("DBT_ENV_SECRET_OIDC_TOKEN")}}), err
	},
	"clickhouse": func() (func() error, error) {
		p, err := readProfile()
		return asking(http.DefaultClient, http.MethodPost, "http://"+p.address()+"/", "select 1",
			http.Header{"X-Clickhouse-Key": {os.Getenv("DBT_ENV_SECRET_OIDC_PASSWORD")}}), err
	},
	"databricks_metadata": func() (func() error, error) {
		p, err := readProfile()
		return asking(http.DefaultClient, http.MethodGet, os.Getenv("DATABRICKS_METADATA_SERVICE_URL"), "",
			http.Header{"X-Databricks-Metadata-Version": {"1"}, "X-Databricks-Host": {"https://" + p.text("host")}}), err
	},
	"postgres": func() (func() error, error) {
		p, err := readProfile()
		if err != nil {
			return nil, err
		}
		conn, err := pgconn.Connect(context.Background(),
			fmt.Sprintf("host=%v port=%v user=%v dbname=%v password=%v sslmode=disable", p["host"], p["port"], p["user"],
				p["database"], p.text("password")))
		if err != nil {
			return nil, err
		}
		return func() error {
			_, err := conn.Exec(context.Background(), "select 1").ReadAll()
			return err
		}, nil
	},
	"snowflake": func() (func() error, error) {
		p, err := readProfile()
		if err != nil {
			return nil, err
		}
		login, err := json.Marshal(map[string]any{"data": map[string]any{"ACCOUNT_NAME": p["account"], "LOGIN_NAME": "DBT",
			"AUTHENTICATOR": "OAUTH", "TOKEN": p.text("token")}})
		if err != nil {
			return nil, err
		}
		base, header := "http://"+p.address(), http.Header{"Content-Type": {"application/json"}}
		if err := asking(http.DefaultClient, http.MethodPost, base+"/session/v1/login-request", string(login), header)(); err != nil {
			return nil, err
		}
		header = http.Header{"Authorization": {`Snowflake Token="` + sessionToken + `"`}}
		return asking(http.DefaultClient, http.MethodPost, base+"/queries/v1/query-request", "{}", header), nil
	},
	"trino": func() (func() error, error) {
		p, err := readProfile()
		if err != nil {
			return nil, err
		}
		ca, err := os.ReadFile(p.text("cert"))
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(ca)
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
		return asking(client, http.MethodPost, "https://"+p.address()+"/v1/statement", "select 1",
			http.Header{"Authorization": {"Bearer " + os.Getenv("DBT_ENV_SECRET_OIDC_TOKEN")}}), nil
	},
}

// asking returns a function that sends a request and reads the reply, whose
// status must be 200.
func asking(client *http.Client, method, to, body string, header http.Header) func() error {
	return func() error {
		req, err := http.NewRequest(method, to, strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header = header
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("status is %d: %s", resp.StatusCode, text)
		}
		return nil
	}
}

func form(to string, values url.Values) func() error {
	return asking(http.DefaultClient, http.MethodPost, to, values.Encode(), http.Header{"Content-Type": {"application/x-www-form-urlencoded"}})
}

// A profile is the output of the profiles.yml that the run has written.
type profile map[string]any

func readProfile() (profile, error) {
	text, err := os.ReadFile(filepath.Join(os.Getenv("DBT_PROFILES_DIR"), "profiles.yml"))
	if err != nil {
		return nil, err
	}
	var all map[string]struct {
		Outputs map[string]map[string]any `yaml:"outputs"`
	}
	if err := yaml.Load(text, &all); err != nil {
		return nil, err
	}
	return all["shop"].Outputs["prod"], nil
}

// text returns a value, with the environment variable that it refers to filled in.
func (p profile) text(key string) string {
	v := fmt.Sprint(p[key])
	if before, rest, ok := strings.Cut(v, "{{ env_var('"); ok {
		name, after, _ := strings.Cut(rest, "') }}")
		v = before + os.Getenv(name) + after
	}
	return v
}

func (p profile) address() string { return fmt.Sprintf("%v:%v", p["host"], p["port"]) }
