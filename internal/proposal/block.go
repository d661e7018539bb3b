package proposal

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// readBlock makes the `dbt:` block: the user's output without its logins, or
// `from` where a copy would lose what anchors and variables do.
func (c *chooser) readBlock(t *target, block *yaml.Node) {
	spec := c.req.Catalog.Adapters[t.dbtType]
	if block == nil {
		t.from = false
		t.block = template(t)
		return
	}
	b := blockReader{t: t, spec: spec, use: firstUse(t), kept: map[string]bool{}}
	for i := 0; i+1 < len(block.Content); i += 2 {
		b.pair(block.Content[i].Value, block.Content[i+1])
	}
	for name := range b.kept {
		delete(t.logins, name)
	}
	for _, key := range spec.Required {
		names := spec.NamesOf(key)
		if !slices.ContainsFunc(b.fields, func(f field) bool { return slices.Contains(names, f.key) }) {
			f := placeholder(t, names)
			f.comment = "guess: " + t.project.path + " has none"
			b.fields, b.with = append(b.fields, f), append(b.with, f)
		}
	}
	if user := valueOf(b.fields, "user"); !strings.Contains(user, "{") {
		t.user = user
	}
	t.from = t.from && targetName.MatchString(t.output) &&
		(b.odd || b.jinja || t.project.source.Shared(t.project.profile, t.output))
	if t.from {
		t.block = []field{{key: "from", value: scalar(t.project.from)}}
		if t.output != t.name {
			t.block = append(t.block, field{key: "output", value: scalar(t.output)})
		}
		if len(b.with) > 0 {
			t.block = append(
				t.block,
				field{key: "with", comment: "in place of what the file leaves to variables", fields: b.with},
			)
		}
		return
	}
	t.block = append([]field{{key: "type", value: t.dbtType}}, b.fields...)
	if t.output != t.name && targetName.MatchString(t.output) {
		t.block = append(t.block, field{key: "output", value: scalar(t.output)})
	}
}

// firstUse returns the use by which variables are looked up.
func firstUse(t *target) *use {
	if len(t.uses) == 0 {
		return nil
	}
	return &t.uses[0]
}

// A blockReader takes an output apart.
type blockReader struct {
	t      *target
	spec   policy.Adapter
	use    *use
	fields []field
	with   []field // those that `from` needs
	odd    bool    // a value that a policy cannot hold as dbt reads it
	jinja  bool
	kept   map[string]bool // variables that dbt still reads
}

func (b *blockReader) pair(key string, v *yaml.Node) {
	name := b.spec.Canonical(key)
	written := slices.Contains(b.spec.Written, name) && !b.spec.IsLogin(name)
	switch {
	case key == "type":
		return
	case written, b.spec.IsLogin(name) && v.Tag != "!!bool":
		b.login(v)
		return
	case name == "user" && slices.Contains(b.spec.Given[b.t.provider], name):
		b.login(v) // it comes with the credential
		return
	case v.Tag == "!!null" && slices.Contains(b.spec.Required, name):
		return
	}
	v, kept := b.without(v, []string{name})
	if !kept {
		b.leaveOut(key)
		return
	}
	if v == nil {
		return
	}
	if v.Kind == yaml.ScalarNode && policy.IsJinja(v.Value) && b.spec.WantsLiteral(b.t.provider, name, name) {
		f := b.literal(key, v.Value)
		b.fields, b.with = append(b.fields, f), append(b.with, f)
		return
	}
	value, odd := flow(v, true)
	if hasJinja(v) {
		b.jinja = true
		b.keep(v)
	}
	b.odd = b.odd || odd
	b.fields = append(b.fields, field{key: key, value: value})
}

// leaveOut says that a value is not copied.
func (b *blockReader) leaveOut(key string) {
	f := field{comment: fmt.Sprintf("fix: %s is left out, since it holds a secret", key)}
	if !slices.ContainsFunc(b.fields, func(o field) bool { return o.comment == f.comment }) {
		b.fields = append(b.fields, f)
	}
}

// keep remembers the variables that a kept value is read from.
func (b *blockReader) keep(v *yaml.Node) {
	for _, m := range variables.FindAllStringSubmatch(v.Value, -1) {
		b.kept[m[1]] = true
	}
	for _, c := range v.Content {
		b.keep(c)
	}
}

// login remembers the variables that a login is read from.
func (b *blockReader) login(v *yaml.Node) {
	for _, m := range variables.FindAllStringSubmatch(v.Value, -1) {
		b.t.logins[m[1]] = true
	}
	for _, c := range v.Content {
		b.login(c)
	}
}

// without returns a value without the logins in it, nil where nothing else is
// in it; kept is false for a value that is a secret under any key.
func (b *blockReader) without(v *yaml.Node, path []string) (out *yaml.Node, kept bool) {
	switch v.Kind {
	case yaml.ScalarNode:
		return v, !isSecret(path[len(path)-1], v)
	case yaml.MappingNode, yaml.SequenceNode:
		copied := *v
		copied.Content = nil
		paired := policy.PairedLogin(v)
		step := 1
		if v.Kind == yaml.MappingNode {
			step = 2
		}
		for i := 0; i+step-1 < len(v.Content); i += step {
			value, at := v.Content[i+step-1], path
			if step == 2 {
				at = append(slices.Clone(path), v.Content[i].Value)
				if b.spec.IsLogin(at...) && value.Tag != "!!bool" {
					b.login(value)
					continue
				}
			}
			one, kept := b.without(value, at)
			if !kept || one == nil || value == paired {
				b.leaveOut(strings.Join(at, "."))
				b.login(value)
				continue
			}
			if step == 2 {
				copied.Content = append(copied.Content, v.Content[i])
			}
			copied.Content = append(copied.Content, one)
		}
		if len(copied.Content) == 0 && len(v.Content) > 0 {
			return nil, true
		}
		return &copied, true
	}
	return v, true
}

// isSecret reports whether a value is a secret by its form, by its key's name,
// or as the default of a variable with such a name.
func isSecret(key string, v *yaml.Node) bool {
	switch {
	case v.Tag != "!!str":
		return false
	case policy.IsJinja(v.Value):
		return policy.HasLoginDefault(v.Value) || policy.SecretValue(v.Value)
	}
	return policy.LooksLikeLogin(key, v.Value) || policy.NamedLogin(v.Value)
}

func hasJinja(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && policy.IsJinja(n.Value) || slices.ContainsFunc(n.Content, hasJinja)
}

var (
	variables = lazy.MustCompile(`env_var\s*\(\s*["']([^"']+)["']`)
	// oneVariable is a value that is one variable, with or without a default and filters.
	oneVariable = lazy.MustCompile(`^\s*\{\{\s*env_var\s*\(\s*["']([^"']+)["']\s*` +
		`(?:,\s*["']?([^"')]*)["']?\s*)?\)\s*(?:\|[^}]*)?\}\}\s*$`)
)

// A resolved value is the value of a variable, as far as it is known.
type resolved struct {
	value  string
	name   string // of the variable, "" where the value is no single one
	whence string
}

// resolve looks a variable of a profile up where dbt runs.
func resolve(jinja string, u *use) resolved {
	m := oneVariable.FindStringSubmatch(jinja)
	if m == nil {
		return resolved{}
	}
	r := resolved{name: m[1]}
	if u != nil {
		for _, n := range []*yaml.Node{u.run.step.env, get(u.job.node, "env"), get(u.workflow.root, "env")} {
			v := get(n, m[1])
			if v == nil {
				continue
			}
			if value := fillIn(v.Value, u.run.matrix, nil); !strings.Contains(value, "${{") {
				return resolved{value, m[1], fmt.Sprintf("%s:%d", u.workflow.path, v.Line)}
			} else if source := expression.FindStringSubmatch(value); source != nil {
				r.whence = source[1]
			}
			return r
		}
	}
	if m[2] != "" {
		r.value, r.whence = m[2], "its default"
	}
	return r
}

// literal returns the literal in the place of a variable.
func (b *blockReader) literal(key, jinja string) field {
	v := resolve(jinja, b.use)
	for _, m := range variables.FindAllStringSubmatch(jinja, -1) {
		b.t.logins[m[1]] = true
	}
	if v.value != "" && known(v.value) {
		value := scalar(v.value)
		if decimal.MatchString(v.value) {
			value = v.value
		}
		return field{key: key, value: value, comment: fmt.Sprintf("guess: %s, by %s", v.name, v.whence)}
	}
	f := placeholder(b.t, b.spec.NamesOf(b.spec.Canonical(key)))
	f.key = key
	switch {
	case v.whence != "":
		f.comment = fmt.Sprintf("fill in: the value of %s (%s)", v.name, v.whence)
	case v.name != "":
		f.comment = "fill in: the value of " + v.name
	default:
		f.comment = "fill in: a literal in place of Jinja"
	}
	return f
}

// templates are outputs of each type, or of a pair of type and provider, for
// projects without a profiles.yml; the values show the form of what is to be filled in.
var templates = map[string]string{
	"athena": "s3_staging_dir: s3://your-bucket/staging/\nregion_name: us-east-1\n" +
		"database: awsdatacatalog\nschema: marts",
	"bigquery":   "project: your-project\ndataset: marts",
	"clickhouse": "host: clickhouse.example.com\nport: 8443\nsecure: true\nschema: marts",
	"databricks": "host: dbc-00000000-0000.cloud.databricks.com\nhttp_path: /sql/1.0/warehouses/0000000000000000\n" +
		"catalog: main\nschema: marts",
	"duckdb":       "path: warehouse.duckdb\nschema: main",
	"duckdb entra": "path: warehouse.duckdb\nschema: main\nsecrets: [{type: azure, account_name: youraccount}]",
	"fabric":       "host: WORKSPACE.datawarehouse.fabric.microsoft.com\ndatabase: marts\nschema: dbo",
	"fabric vault": "host: WORKSPACE.datawarehouse.fabric.microsoft.com\ntenant_id: " + noUUID + "\n" +
		"database: marts\nschema: dbo",
	"postgres": "host: postgres.example.com\nport: 5432\nuser: dbt\ndatabase: analytics\nschema: marts\n" +
		"sslmode: verify-full\nsslrootcert: /etc/ssl/certs/ca-certificates.crt",
	"redshift": "host: CLUSTER.abc123.us-east-1.redshift.amazonaws.com\nport: 5439\nuser: dbt\n" +
		"dbname: analytics\nschema: marts",
	"snowflake": "account: ORGANIZATION-ACCOUNT\nuser: DBT_PROD\nrole: TRANSFORMER\ndatabase: ANALYTICS\n" +
		"warehouse: TRANSFORMING\nschema: marts",
	"spark":       "method: thrift\nhost: spark.example.com\nport: 10001\nuse_ssl: true\nschema: marts",
	"spark aws":   "method: session\nhost: NA\nschema: marts",
	"spark entra": "method: session\nhost: NA\nschema: marts",
	"sqlserver": "driver: ODBC Driver 18 for SQL Server\nhost: SERVER.database.windows.net\nport: 1433\n" +
		"database: marts\nschema: dbo",
	"trino": "host: trino.example.com\nport: 443\ndatabase: lake\nschema: marts",
}

// usual are keys of a template whose values will often do.
var usual = []string{"schema", "dataset", "port", "sslmode", "sslrootcert", "use_ssl", "secure", "driver"}

// templateOf returns the fields of a template.
func templateOf(t *target) (fields []field) {
	text, ok := templates[t.dbtType+" "+t.provider]
	if !ok {
		text = templates[t.dbtType]
	}
	for _, line := range strings.Split(text, "\n") {
		key, value, _ := strings.Cut(line, ": ")
		if host := hosts[t.dbtType+" "+t.provider]; host != "" && key == "host" {
			value = host
		}
		fields = append(fields, field{key: key, value: value})
	}
	return fields
}

// hosts show the form of a provider's own servers.
var hosts = map[string]string{
	"postgres aws":        "DATABASE.abc123.us-east-1.rds.amazonaws.com",
	"postgres entra":      "SERVER.postgres.database.azure.com",
	"postgres databricks": "instance-00000000.database.cloud.databricks.com",
	"databricks entra":    "adb-0000000000000000.0.azuredatabricks.net",
}

// template returns the block of a target whose output is not written yet.
func template(t *target) []field {
	fields := []field{{key: "type", value: t.dbtType}}
	for _, f := range templateOf(t) {
		if t.provider == "vault" && f.key == "user" {
			continue
		}
		if value, whence := t.fromJob(f.key); value != "" {
			f.value, f.comment = scalar(value), "guess: "+whence
		} else if f.comment = "fill in"; slices.Contains(usual, f.key) {
			f.comment = "guess"
		}
		fields = append(fields, f)
	}
	return append(fields, field{key: "threads", value: "4", comment: "guess"})
}

// clientVariables are what the vendors' own clients read, by type and key.
var clientVariables = map[string]string{
	"snowflake account": "SNOWFLAKE_ACCOUNT", "snowflake user": "SNOWFLAKE_USER", "snowflake role": "SNOWFLAKE_ROLE",
	"snowflake database": "SNOWFLAKE_DATABASE", "snowflake warehouse": "SNOWFLAKE_WAREHOUSE",
	"snowflake schema": "SNOWFLAKE_SCHEMA", "databricks host": "DATABRICKS_HOST",
	"databricks http_path": "DATABRICKS_HTTP_PATH",
	"bigquery project":     "GOOGLE_CLOUD_PROJECT", "postgres host": "PGHOST", "postgres user": "PGUSER",
	"postgres database": "PGDATABASE",
}

// fromJob returns a key's value as the job that runs dbt has it, in a variable
// or in an input of the action that logs in today, and where it is from.
func (t *target) fromJob(key string) (value, whence string) {
	name, isProject := clientVariables[t.dbtType+" "+key], t.dbtType == "bigquery" && key == "project"
	for _, u := range t.uses {
		if value := environmentOf(u.workflow, u.job, u.run.step, u.run.matrix)[name]; value != "" && known(value) {
			return value, name + " of " + u.workflow.path
		}
		for _, s := range u.job.steps {
			p, ok := peerOf(s)
			if id := s.with["project_id"]; ok && p.provider == "gcp" && isProject && id != "" && known(id) {
				return id, "project_id of " + u.workflow.path
			}
		}
	}
	return "", ""
}

// placeholder returns a value of the right form for a key, by any of its names.
func placeholder(t *target, names []string) field {
	for _, f := range templateOf(t) {
		if slices.Contains(names, f.key) {
			return f
		}
	}
	return field{key: names[0], value: strings.ToUpper(names[0])}
}
