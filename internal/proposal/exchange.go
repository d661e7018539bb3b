package proposal

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// A peer is an action that this one replaces.
type peer struct {
	action   string // as in `uses`, in lower case
	provider string
	// inputs are its inputs, by the provider's key.
	inputs map[string]string
	// federated reports whether a step of it logs in by an ID token, and holds
	// no stored secret.
	federated func(s *step) bool
}

// peers are known by their inputs as of their action.yml (aws v5, google v3,
// azure v2, vault v3, snowflake v2).
var peers = []peer{
	{
		"aws-actions/configure-aws-credentials",
		"aws",
		map[string]string{"role": "role-to-assume", "region": "aws-region", "audience": "audience",
			"session_name": "role-session-name"},
		func(s *step) bool { return s.with["role-to-assume"] != "" && s.with["aws-access-key-id"] == "" },
	},
	{"google-github-actions/auth", "gcp", map[string]string{"workload_identity_provider": "workload_identity_provider",
		"service_account": "service_account", "audience": "audience", "universe_domain": "universe"},
		func(s *step) bool { return s.with["workload_identity_provider"] != "" }},
	{"azure/login", "entra", map[string]string{"tenant": "tenant-id", "client_id": "client-id", "audience": "audience"},
		func(s *step) bool { return s.with["client-id"] != "" && s.with["creds"] == "" }},
	{
		"hashicorp/vault-action",
		"vault",
		map[string]string{"address": "url", "namespace": "namespace", "auth_path": "path", "role": "role",
			"audience": "jwtGithubAudience"},
		func(s *step) bool { return s.with["method"] == "jwt" },
	},
	{"snowflakedb/snowflake-cli-action", "oidc", nil, func(s *step) bool { return s.with["use-oidc"] == "true" }},
	{"snowflakedb/snowflake-actions", "oidc", nil, func(s *step) bool { return s.with["use-oidc"] == "true" }},
}

// peerOf returns the peer that a step uses.
func peerOf(s *step) (peer, bool) {
	name, _, _ := strings.Cut(strings.ToLower(s.uses), "@")
	for _, p := range peers {
		if p.action == name {
			return p, true
		}
	}
	return peer{}, false
}

// peerSteps returns the steps of a provider's peer in the jobs that use a target.
func (t *target) peerSteps(provider string) (list []*step) {
	for _, u := range t.uses {
		for _, s := range u.job.steps {
			if p, ok := peerOf(s); ok && p.provider == provider && !slices.Contains(list, s) {
				list = append(list, s)
			}
		}
	}
	return list
}

// defaults are the providers of types that have one for most users.
var defaults = map[string]string{
	"athena": "aws", "bigquery": "gcp", "clickhouse": "vault", "databricks": "databricks", "duckdb": "aws",
	"fabric": "entra", "postgres": "vault",
	"redshift": "aws", "snowflake": "oidc", "spark": "vault", "sqlserver": "entra", "trino": "oidc",
}

// places are the providers that a host or a path tells.
var places = map[string][]struct{ provider, part string }{
	"postgres": {
		{"aws", ".rds.amazonaws.com"},
		{"entra", ".postgres.database.azure.com"},
		{"databricks", ".database.cloud.databricks.com"},
		{"databricks", ".database.azuredatabricks.net"},
	},
	"duckdb": {{"gcp", "gs://"}, {"gcp", "gcs"}, {"entra", "azure"}, {"entra", "abfss://"}, {"aws", "s3"}},
	"spark":  {{"aws", "method: session"}},
}

// leased matches paths of Vault's engines that issue a login for a time.
var leased = lazy.MustCompile(`(?:^|\s|;)([A-Za-z0-9_./-]+/(?:static-)?creds/[A-Za-z0-9_./-]+)`)

// guessProvider chooses by the type, by what the output says of its place, and
// by the actions that log in today.
func guessProvider(t *target, block *yaml.Node) string {
	// A key of Vault's that lives as long as the run is what they have chosen;
	// one that is stored there is what this action does away with.
	for _, s := range t.peerSteps("vault") {
		if leased.MatchString(s.with["secrets"]) && adapter.Check(t.dbtType, "vault") == nil {
			return "vault"
		}
	}
	text := ""
	if block != nil {
		text, _ = flow(block, true)
	}
	for _, p := range places[t.dbtType] {
		if strings.Contains(strings.ToLower(text), p.part) {
			return p.provider
		}
	}
	for _, provider := range []string{"aws", "gcp", "entra"} {
		if len(t.peerSteps(provider)) > 0 && adapter.Check(t.dbtType, provider) == nil && t.dbtType != "snowflake" {
			return provider
		}
	}
	return defaults[t.dbtType]
}

// exchangeReader finds the values of a provider's keys.
type exchangeReader struct {
	t      *target
	block  *yaml.Node
	steps  []*step
	peer   peer
	fields []field
}

const (
	noUUID   = "00000000-0000-0000-0000-000000000000"
	noNumber = "000000000000"
)

// exchangeOf returns the keys of the provider.
func exchangeOf(t *target, block *yaml.Node) []field {
	x := exchangeReader{t: t, block: block}
	for _, s := range t.peerSteps(t.provider) {
		if p, ok := peerOf(s); ok && p.inputs != nil {
			x.steps, x.peer = append(x.steps, s), p
		}
	}
	switch t.provider {
	case "aws":
		x.aws()
	case "gcp":
		x.gcp()
	case "entra":
		x.entra()
	case "vault":
		x.vault()
	case "databricks":
		x.databricks()
	case "oidc":
		x.oidc()
	case "identity_center":
		x.identityCenter()
	default:
		x.add("token_url", "https://auth.example.com/token", "fill in: the token endpoint of your authorization server")
		x.add("audience", "https://auth.example.com", "fill in: what it expects as the ID token's audience")
		if t.dbtType == "clickhouse" {
			x.add("grant", "client_assertion", "guess")
		}
	}
	return x.fields
}

func (x *exchangeReader) add(key, value, comment string) {
	x.fields = append(x.fields, field{key: key, value: scalar(value), comment: comment})
}

// input returns a value of a peer's input, and where it is from; ask is what
// only the run knows of it.
func (x *exchangeReader) input(i int, key string) (value, whence, ask string) {
	if i >= len(x.steps) {
		return "", "", ""
	}
	s, name := x.steps[i], x.peer.inputs[key]
	value = s.with[name]
	for _, u := range x.t.uses {
		if !slices.Contains(u.job.steps, s) {
			continue
		}
		value = fillIn(value, u.run.matrix, environmentOf(u.workflow, u.job, s, u.run.matrix))
		if n := get(s.node, "with", name); n != nil {
			whence = u.workflow.path + ":" + strconv.Itoa(n.Line)
		}
		break
	}
	if m := expression.FindStringSubmatch(value); m != nil {
		return "", whence, m[1]
	}
	if !known(value) {
		return "", whence, name
	}
	return strings.TrimSpace(value), whence, ""
}

// carry adds a key by its peer's input, else by the profile's own key, else a
// placeholder.
func (x *exchangeReader) carry(key, own, otherwise, what string) {
	value, whence, ask := x.input(0, key)
	switch literal := scalarOf(x.block, own); {
	case value != "":
		x.add(key, value, "from "+whence)
	case ask != "":
		x.add(key, otherwise, "fill in: the value of "+ask+" ("+whence+")")
	case literal != "":
		x.add(key, literal, "guess: "+own+" of "+x.t.project.path)
	default:
		x.add(key, otherwise, "fill in: "+what)
	}
}

// further adds a key that has a default where the peer's input differs from it.
func (x *exchangeReader) further(key, standard string) {
	if value, whence, _ := x.input(0, key); value != "" && value != standard {
		x.add(key, value, "from "+whence)
	}
}

// scalarOf returns a literal of the output, "" where there is none.
func scalarOf(block *yaml.Node, key string) string {
	if block == nil || key == "" {
		return ""
	}
	if v := get(block, key); v != nil && v.Kind == yaml.ScalarNode && known(v.Value) && v.Tag != "!!null" {
		return v.Value
	}
	return ""
}

// deep returns the first literal of a key, wherever below a block it is.
func deep(n *yaml.Node, keys ...string) string {
	if n == nil {
		return ""
	}
	for _, key := range keys {
		if v := scalarOf(n, key); v != "" {
			return v
		}
	}
	for _, c := range n.Content {
		if v := deep(c, keys...); v != "" {
			return v
		}
	}
	return ""
}

var (
	hostRegion = lazy.MustCompile(
		`[./]([a-z]{2}(?:-[a-z]+)+-[0-9])\.(?:rds|redshift|redshift-serverless)?\.?amazonaws\.com|` +
			`\.([a-z]{2}(?:-[a-z]+)+-[0-9])\.(?:rds|redshift|redshift-serverless)\.`,
	)
	sessionText = lazy.MustCompile(`^[A-Za-z0-9_+=,.@-]{2,64}$`)
)

func (x *exchangeReader) aws() {
	x.carry("role", "assume_role_arn", "arn:aws:iam::"+noNumber+":role/dbt-"+strings.ToLower(x.t.name), "the role's ARN")
	region := "region_name"
	if x.t.dbtType != "athena" {
		region = "region"
	}
	value, _, ask := x.input(0, "region")
	if m := hostRegion.FindStringSubmatch(scalarOf(x.block, "host")); m != nil && value == "" && ask == "" {
		x.add("region", m[1]+m[2], "guess: the region of the host")
	} else if own := deep(x.block, "region", "s3_region"); own != "" && value+ask == "" && x.t.dbtType != "athena" {
		x.add("region", own, "guess: the region in "+x.t.project.path)
	} else {
		x.carry("region", region, "us-east-1", "the warehouse's region")
	}
	x.further("audience", "sts.amazonaws.com")
	if name, whence, _ := x.input(0, "session_name"); sessionText.MatchString(name) {
		x.add("session_name", name, "from "+whence)
	}
	if role, whence, _ := x.input(1, "role"); role != "" && x.steps[1].with["role-chaining"] == "true" {
		chain := []field{{key: "role", value: scalar(role), comment: "from " + whence}}
		if id := x.steps[1].with["role-external-id"]; id != "" && known(id) {
			chain = append(chain, field{key: "external_id", value: scalar(id)})
		}
		x.fields = append(x.fields, field{key: "then_assume", fields: chain})
	} else if len(x.steps) > 0 && (x.t.dbtType == "athena" || x.t.dbtType == "duckdb") {
		seconds, err := strconv.Atoi(x.steps[0].with["role-duration-seconds"])
		if d := time.Duration(seconds) * time.Second; err == nil && d >= 15*time.Minute && d <= 12*time.Hour {
			x.t.lifetime = strconv.Itoa(seconds/60) + "m"
		}
	}
}

func (x *exchangeReader) gcp() {
	project := cmpOr(scalarOf(x.block, "project"), scalarOf(x.block, "database"))
	if !gcpProject.MatchString(project) || x.t.dbtType != "bigquery" {
		project = "your-project"
	}
	x.carry(
		"workload_identity_provider",
		"workload_pool_provider_path",
		"projects/"+noNumber+"/locations/global/workloadIdentityPools/github/providers/github",
		"the provider's full name, with the project's number",
	)
	value, whence, ask := x.input(0, "service_account")
	own := cmpOr(scalarOf(x.block, "impersonate_service_account"))
	switch {
	case len(x.steps) > 0 && value == "" && ask == "" && x.peer.federated(x.steps[0]): // direct federation
	case value != "" || ask != "" || own != "":
		x.carry("service_account", "impersonate_service_account", "dbt@"+project+".iam.gserviceaccount.com", whence)
	default:
		x.add(
			"service_account",
			"dbt@"+project+".iam.gserviceaccount.com",
			"fill in: the service account; leave it out for direct federation",
		)
	}
	x.further("audience", "")
	x.further("universe_domain", "googleapis.com")
}

var gcpProject = lazy.MustCompile(`^[a-z][a-z0-9-]{4,28}[a-z0-9]$`)

func (x *exchangeReader) entra() {
	tenant, client := "tenant_id", "client_id"
	if x.t.dbtType == "databricks" {
		tenant, client = "azure_tenant_id", "azure_client_id"
	}
	x.carry("tenant", tenant, noUUID, "the tenant's id, or a domain of it")
	x.carry("client_id", client, noUUID, "the application's (client) id")
	if x.t.dbtType == "snowflake" || x.t.dbtType == "trino" {
		x.add("scope", "api://"+x.t.dbtType+".example.com/.default", "fill in: your own resource")
	}
	x.further("audience", "api://AzureADTokenExchange")
	for _, s := range x.steps {
		if strings.EqualFold(s.with["environment"], "azureusgovernment") {
			x.add("authority", "https://login.microsoftonline.us", "from environment: "+s.with["environment"])
		}
	}
}

func (x *exchangeReader) vault() {
	x.carry("address", "", "https://vault.example.com:8200", "the server")
	x.further("namespace", "")
	x.further("auth_path", "jwt")
	x.carry("role", "", "dbt-"+strings.ToLower(x.t.name), "the role of the JWT auth method")
	x.carry("audience", "", "https://vault.example.com", "one of the role's bound_audiences")
	for _, s := range x.steps {
		if m := leased.FindStringSubmatch(s.with["secrets"]); m != nil {
			x.add("secret", m[1], "from the secrets of "+s.uses)
			return
		}
	}
	x.add("secret", "database/creds/dbt-"+strings.ToLower(x.t.name), "fill in: the path that issues the login")
}

func (x *exchangeReader) databricks() {
	if x.t.dbtType == "databricks" {
		x.add("account_id", noUUID, "fill in: the account's id")
		x.carry("client_id", "client_id", noUUID, "the service principal's application id")
		return
	}
	x.add("host", "dbc-00000000-0000.cloud.databricks.com", "fill in: the workspace")
	x.carry("client_id", "user", noUUID, "the service principal's application id")
	x.add("database_instance", "dw", "fill in: the instance")
}

func (x *exchangeReader) oidc() {
	if x.t.dbtType == "snowflake" {
		x.add("audience", "snowflakecomputing.com", "")
		return
	}
	host := scalarOf(x.block, "host")
	if host == "" {
		x.add("audience", "trino.example.com", "fill in: what the server expects as audience")
		return
	}
	x.add("audience", host, "guess: what the server expects as audience")
}

func (x *exchangeReader) identityCenter() {
	x.add("region", "us-east-1", "fill in")
	if x.t.dbtType == "redshift" {
		x.add("audience", "redshift.example.com", "fill in: an audience that the application lists")
		return
	}
	x.add("application", "arn:aws:sso::"+noNumber+":application/ssoins-0000000000000000/apl-0000000000000000", "fill in")
	x.add("role", "arn:aws:iam::"+noNumber+":role/dbt-identity", "fill in")
	x.fields = append(x.fields, field{key: "then_assume", fields: []field{
		{key: "role", value: "arn:aws:iam::" + noNumber + ":role/dbt-person", comment: "fill in"}}})
}
