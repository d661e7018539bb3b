package trust

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/oidc-dbt/oidc-dbt/internal/statement"
	"github.com/oidc-dbt/oidc-dbt/internal/strictyaml"
)

// A grantLanguage is how the owner of a warehouse gives a login what it needs
// and nothing else.
type grantLanguage struct {
	warehouse string
	comment   string // what begins one
	// needs are what must be known next to the schema and the user.
	needs []string
	// role is set where grants go to a role that the user gets, and roleKey
	// where the policy has its name.
	role, roleKey bool
	// qualified is set where a schema's name has its database's before it.
	qualified bool
	// longest is how many bytes a name may have; longer ones could be cut off to
	// the same name. 0 where the warehouse refuses them itself.
	longest int
	// reserved are names of the warehouse's own, by what they would be, in small
	// letters; a star at the end is for any more. Who has such a role gets what
	// it is granted, and the login gets what the role has.
	reserved map[string][]string
	// name writes an identifier, literal a string constant.
	name, literal func(string) string
	lines         []grantLine
	// write is for a warehouse whose grants are no lines.
	write func(*grantee) string
}

// A grantLine is one line of the grants. Braces are around what is known of the
// login: {schema} is an identifier, {'schema} a string constant, {$schema} a
// word for a shell. A line with {schema}, {source}, {builder} or {loader}, who
// builds the source, is repeated for each; one for which none is known is a
// comment for the owner.
type grantLine struct {
	when grantWhen
	text string
}

// A grantWhen says which logins a line is for: those that are all of it.
type grantWhen uint8

const (
	toReader  grantWhen = 1 << iota
	toBuilder           // who may write
	toUser              // a user that the warehouse has
	toLeased            // a user that Vault makes for each run
	toOpen              // a schema that claims complete
	toFixed             // any other
	always    grantWhen = 0
)

// A grantee is a login with what is to be granted to it.
type grantee struct {
	Demand
	language grantLanguage
	is       grantWhen
	notes    []string
	known    map[string]string // the single values of lines
	lists    map[string][]string
	loaders  map[string][]string // who builds a source
}

// Grants returns what the owners of warehouses run, so that each login can do
// what its guard admits, in its own schema, and nothing else.
func Grants(list []Demand) (string, error) {
	parts := make([]string, len(list))
	var builders []*grantee
	for i, d := range list {
		if mine, first := d.Case.Login.DBT.Type, list[0].Case.Login.DBT.Type; mine != first {
			return "", usage("grants for target %q are in the language of %s, those for target %q in that of %s: choose with --target",
				list[0].Target.Name(), first, d.Target.Name(), mine)
		}
		g, err := d.grantee()
		if err != nil {
			return "", err
		}
		if i == 0 {
			builders = d.builders()
		}
		g.distinct()
		g.built(builders)
		parts[i] = g.String()
	}
	return strings.Join(parts, "\n"), nil
}

// builders are the logins of the policy that build, at warehouses of this one's type.
func (d Demand) builders() (list []*grantee) {
	for _, name := range d.Policy.Targets() {
		t, err := d.Policy.Target(name)
		if err != nil || len(t.Rules()) > MaxRules {
			continue
		}
		for _, other := range Demands(d.Policy, t, Options{}) {
			if other.Case.Login.DBT.Type != d.Case.Login.DBT.Type {
				continue
			}
			if g, err := other.grantee(); err == nil && g.is&toBuilder != 0 {
				list = append(list, g)
			}
		}
	}
	return list
}

// grantee is what the login itself says, without who builds what it reads. It
// returns an error for what must be known, or has no place in a grant.
func (d Demand) grantee() (*grantee, error) {
	target, dbtType := d.Target.Name(), d.Case.Login.DBT.Type
	language, ok := grantLanguages[dbtType]
	switch {
	case dbtType == "":
		return nil, usage("target %q: the policy does not say the type of its warehouse, whose language grants are in", target)
	case !ok:
		return nil, usage("target %q: no grants are generated for type %q: use %s", target, dbtType, d.Target.NativeControl())
	}
	g := &grantee{Demand: d, language: language, known: map[string]string{}, lists: map[string][]string{}, loaders: map[string][]string{}}
	for _, step := range []func() error{g.settings, g.level, g.names, g.check} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// settings returns an error for a setting that would be ignored.
func (g *grantee) settings() error {
	valid := g.language.settings()
	for _, name := range slices.Sorted(maps.Keys(g.Options.Values)) {
		if !slices.Contains(valid, name) && name != "principal-id" && name != "pool" { // which have flags of their own
			return usage("flag --set: unknown name %q, valid names are %q%s", name, valid, strictyaml.Synonyms{}.DidYouMean(name, valid))
		}
	}
	return nil
}

// settings are the names of what can be set.
func (l grantLanguage) settings() []string {
	names := []string{"kind", "schema", "schemas", "sources", "user"}
	if l.role {
		names = append(names, "role")
	}
	for _, key := range []string{"builders", "database", "execution_project", "location", "warehouse"} {
		if slices.Contains(l.needs, key) || slices.ContainsFunc(l.lines, func(l grantLine) bool {
			return strings.Contains(l.text, strings.TrimSuffix(key, "s")+"}")
		}) {
			names = append(names, key)
		}
	}
	slices.Sort(names)
	return names
}

// level sets whether the login only reads: that is so if none of its guards
// admits anything that writes, or if it is asked for.
func (g *grantee) level() error {
	var reads, builds []string
	observed := false
	for _, r := range g.Case.Rules {
		guard := r.Guard()
		if guard == nil || slices.ContainsFunc(guard.Admits(), writes) {
			builds = append(builds, strconv.Itoa(r.Index+1))
			continue
		}
		reads = append(reads, strconv.Itoa(r.Index+1))
		observed = observed || guard.Observe
	}
	kind := g.Options.Values["kind"]
	switch g.is = toBuilder; {
	case kind != "" && !slices.Contains(grantKinds, kind):
		return usage("flag --set: unknown kind %q, valid kinds are %q", kind, grantKinds)
	case kind == "builder" && len(builds) == 0:
		return usage("target %q: kind is %q, and its guards admit only reading: leave the kind out, or change the guard", g.Target.Name(), kind)
	case kind == "reader" && len(builds) > 0:
		g.is = toReader
		g.notes = append(g.notes, "The policy lets it build. It is a reader by --set kind=reader: the warehouse refuses what writes.")
	case len(builds) == 0:
		g.is = toReader
		if observed {
			g.notes = append(g.notes, "Its guard only observes: what that would deny, the warehouse denies with these grants.")
		}
	case len(reads) > 0:
		g.notes = append(g.notes, fmt.Sprintf("Rule %s builds and rule %s reads, with one login: between them there is only the guard. "+
			"Give who reads a target with a login of its own.", strings.Join(builds, ", "), strings.Join(reads, ", ")))
	case !g.Target.Guarded():
		g.notes = append(g.notes, "The target has no guard: it builds.")
	}
	return nil
}

var grantKinds = []string{"reader", "builder"}

func writes(c statement.Class) bool { return c == statement.Write || c == statement.Define }

// names finds what lines are filled with.
func (g *grantee) names() error {
	for _, key := range []string{"database", "warehouse", "execution_project", "location"} {
		g.known[key] = g.named(key)
	}
	if g.known["execution_project"] == "" {
		g.known["execution_project"] = g.known["database"]
	}
	g.known["user"] = g.grantUser()
	switch {
	case g.Provider() == "vault" && g.Get("static") != "true" && g.Options.Values["user"] == "":
		g.is |= toLeased
		g.known["user"] = ""
	case g.known["user"] == "":
		return g.unknown("the user", "user")
	default:
		g.is |= toUser
	}
	for _, key := range g.language.needs {
		if g.known[key] == "" {
			return g.unknown("the "+key, key)
		}
	}
	if g.language.role {
		if g.known["role"] = g.grantRole(); g.known["role"] == "" {
			return g.unknown("the role", "role")
		}
	}
	for _, key := range []string{"schemas", "sources", "builders"} {
		if text := g.Options.Values[key]; text != "" {
			g.lists[key] = strings.Split(text, ",")
		}
	}
	return g.schemas()
}

// schemas puts the schema before the others, unless only claims complete it.
func (g *grantee) schemas() error {
	switch schema := g.named("schema"); {
	case schema == "":
		return g.unknown("the schema", "schema")
	case !strings.Contains(schema, "${"):
		g.is |= toFixed
		g.lists["schemas"] = append([]string{schema}, g.lists["schemas"]...)
	case g.is&toBuilder != 0 && g.language.open(schema):
		g.is |= toOpen
	case g.lists["schemas"] == nil:
		return usage("target %q: its schema is %q, which claims complete: add --set schemas=NAME,NAME with those that it may use",
			g.Target.Name(), schema)
	}
	return nil
}

// open reports whether grants can be for a schema that claims complete. Trino's
// are for a pattern, which must begin with what others' schemas do not.
func (l grantLanguage) open(schema string) bool {
	if l.write != nil {
		return !strings.HasPrefix(schema, "${")
	}
	return slices.ContainsFunc(l.lines, func(l grantLine) bool { return l.when&toOpen != 0 })
}

func (g *grantee) unknown(what, key string) error {
	return usage("target %q: the policy does not say %s: add --set %s=NAME", g.Target.Name(), what, key)
}

// check returns an error for names that no grant can be for.
func (g *grantee) check() error {
	for key, list := range g.everything() {
		for _, name := range list {
			switch {
			case strings.Contains(name, "${"):
				return usage("target %q: %s is %q, which claims complete, and grants are for one: give each a target of its own",
					g.Target.Name(), key, name)
			case !plainName(name):
				return usage("target %q: %s is %q, which no grant is generated for: want printable characters, and no space at the ends",
					g.Target.Name(), key, name)
			case g.language.isReserved(key, name):
				return usage("target %q: %s is %q, which is %s's own: others would get the grants, or the login its rights: name one that "+
					"only this login has", g.Target.Name(), key, name, g.language.warehouse)
			case strings.HasPrefix(name, "-") && g.inShell(key):
				return usage("target %q: %s is %q, which a command would take for an option", g.Target.Name(), key, name)
			case g.language.longest > 0 && len(name) > g.language.longest:
				return usage("target %q: %s %q has %d bytes, and %s takes %d", g.Target.Name(), key, name, len(name), g.language.warehouse,
					g.language.longest)
			case (key == "schemas" || key == "sources") && !g.language.schemaName(name, key == "sources"):
				return g.noSchema(key, name)
			}
		}
	}
	return nil
}

func (l grantLanguage) isReserved(key, name string) bool {
	name = strings.ToLower(strings.Trim(name, `"`)) // which Snowflake's names may be in
	return slices.ContainsFunc(l.reserved[key], func(own string) bool {
		start, more := strings.CutSuffix(own, "*")
		return name == own || more && strings.HasPrefix(name, start)
	})
}

// inShell reports whether a name begins a word of a command.
func (g *grantee) inShell(key string) bool {
	word := " {$" + strings.TrimSuffix(key, "s") + "}"
	return strings.Contains(g.creates(), word) ||
		slices.ContainsFunc(g.language.lines, func(l grantLine) bool { return strings.Contains(l.text, word) })
}

// schemaName reports whether a name is of a schema. A dot is not quoted: a name
// of two would be another one than was meant.
func (l grantLanguage) schemaName(name string, source bool) bool {
	database, schema, ok := strings.Cut(name, ".")
	return !ok || source && l.qualified && plainName(database) && plainName(schema) && !strings.Contains(schema, ".")
}

func (g *grantee) noSchema(key, name string) error {
	if key == "sources" && g.language.qualified {
		return usage("target %q: %s is %q: want SCHEMA or DATABASE.SCHEMA", g.Target.Name(), key, name)
	}
	return usage("target %q: %s is %q: want a schema's name without a dot", g.Target.Name(), key, name)
}

// distinct leaves out what is there twice: a schema of the login's own is no
// source.
func (g *grantee) distinct() {
	seen := map[string]bool{}
	for _, key := range []string{"schema", "source"} {
		var list []string
		for _, name := range g.lists[key+"s"] {
			switch whole := g.schemaForms(key, name)[1]; {
			case !seen[whole]:
				list = append(list, name)
				seen[whole] = true
			case key == "source" && !slices.Contains(list, name):
				g.notes = append(g.notes, fmt.Sprintf("The source %q is left out: it is there already, or a schema of its own.", name))
			}
		}
		g.lists[key+"s"] = list
	}
}

// everything are all names, in an order.
func (g *grantee) everything() func(yield func(string, []string) bool) {
	return func(yield func(string, []string) bool) {
		for _, key := range []string{"user", "role", "database", "warehouse", "execution_project", "location"} {
			if name := g.known[key]; name != "" && !yield(key, []string{name}) {
				return
			}
		}
		for _, key := range []string{"schemas", "sources", "builders"} {
			if !yield(key, g.lists[key]) {
				return
			}
		}
	}
}

// plainName reports whether a name is what it seems to be: others could end a
// comment or a line, or be read as another name.
func plainName(name string) bool {
	return name != "" && name == strings.TrimSpace(name) && utf8.ValidString(name) &&
		!strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
}

// grantAliases are dbt's other names of keys.
var grantAliases = map[string][]string{"database": {"dbname", "catalog", "project"}, "schema": {"dataset"}}

// named returns what a flag or the policy says.
func (g *grantee) named(key string) string {
	if text := g.Options.Values[key]; text != "" {
		return text
	}
	for _, name := range append([]string{key}, grantAliases[key]...) {
		if text := g.DBT(name); text != "" {
			return text
		}
	}
	return ""
}

// grantUser returns who the login is at the warehouse, "" where nothing says it.
func (g *grantee) grantUser() string {
	user, account := g.named("user"), g.Get("service_account")
	switch dbtType := g.Case.Login.DBT.Type; {
	case g.Options.Values["user"] != "":
	case dbtType == "bigquery" && account != "":
		user = "serviceAccount:" + account
	case dbtType == "postgres" && g.Provider() == "gcp" && account != "":
		user = strings.TrimSuffix(account, ".gserviceaccount.com") // (Cloud SQL: IAM database users)
	case dbtType == "databricks":
		user = g.Get("client_id")
	case dbtType == "trino":
		user = g.trinoUser()
	case dbtType == "redshift" && g.Provider() == "aws" && (user == "" || g.serverless()):
		role := g.finalRole()
		user = "IAMR:" + role[strings.LastIndexByte(role, '/')+1:] // (Redshift: GetClusterCredentialsWithIAM)
	}
	return user
}

// serverless reports whether Redshift is a workgroup's, which ignores the user.
func (g *grantee) serverless() bool {
	return g.DBT("is_serverless") == "true" || g.DBT("serverless_work_group") != "" ||
		strings.Contains(g.DBT("host"), ".redshift-serverless.")
}

// creates is how the warehouse makes the user, "" where it has no statement of
// its own for that.
func (g *grantee) creates() string { return grantLogins[g.Case.Login.DBT.Type+" "+g.Provider()] }

// grantRole returns the name of the role that the user gets.
func (g *grantee) grantRole() string {
	switch name := g.Options.Values["role"]; {
	case name != "":
		return name
	case g.language.roleKey:
		return g.DBT("role")
	case g.is&toReader != 0:
		return "dbt_" + g.Name() + "_reader"
	}
	return "dbt_" + g.Name() + "_builder"
}

// owner is who owns what the login builds, "" for another one each time.
func (g *grantee) owner() string {
	switch {
	case g.is&toLeased == 0:
		return g.known["user"]
	case g.Case.Login.DBT.Type == "redshift": // whose roles own nothing
		return ""
	}
	return g.known["role"]
}

// built finds who builds what the login reads: other builders in the same
// database, unless they are named.
func (g *grantee) built(builders []*grantee) {
	if named := g.lists["builders"]; named != nil {
		for _, source := range g.lists["sources"] {
			g.loaders[source] = named
		}
		return
	}
	others := slices.DeleteFunc(slices.Clone(builders), func(other *grantee) bool {
		return other.Name() == g.Name() || other.server() != g.server()
	})
	g.lists["builders"] = owners(others, g.named("schema"))
	for _, source := range g.lists["sources"] {
		g.loaders[source] = owners(others, source)
	}
}

// owners are who owns what others build in a schema.
func owners(others []*grantee, schema string) (names []string) {
	for _, other := range others {
		if owner := other.owner(); other.named("schema") == schema && owner != "" && !slices.Contains(names, owner) {
			names = append(names, owner)
		}
	}
	return names
}

// server is where the login's database is.
func (g *grantee) server() string {
	return strings.Join([]string{g.DBT("host"), g.DBT("port"), g.named("database")}, "\x00")
}

// String writes what the owner reads and runs.
func (g *grantee) String() string {
	if g.language.write != nil {
		return g.language.write(g)
	}
	var b strings.Builder
	for _, line := range g.head() {
		b.WriteString(g.language.comment + line + "\n")
	}
	fill := g.filler()
	for _, l := range g.language.lines {
		if l.when&g.is == l.when {
			g.line(&b, l.text, fill)
		}
	}
	return b.String()
}

// head says what the grants are for.
func (g *grantee) head() []string {
	kind := "builder"
	if g.is&toReader != 0 {
		kind = "reader"
	}
	return append([]string{fmt.Sprintf("%s: the %s of target %q, from the policy by `oidc-dbt trust generate --format grants`.",
		g.language.warehouse, kind, g.Name())}, g.notes...)
}

// filler are the single values, in their three forms.
func (g *grantee) filler() (pairs []string) {
	for key, list := range g.everything() {
		if name := g.known[key]; name != "" {
			pairs = append(pairs, g.forms(key, list[0])...)
		}
	}
	if g.is&toUser != 0 {
		pairs = append(pairs, "{login}", strings.NewReplacer(pairs...).Replace(g.creates()))
	}
	role := g.language.name(g.known["role"])
	return append(pairs,
		"{'create role}", g.language.literal("BEGIN CREATE ROLE "+role+" NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END"))
}

func (g *grantee) forms(key, name string) []string {
	return []string{"{" + key + "}", g.language.name(name), "{'" + key + "}", g.language.literal(name), "{$" + key + "}", quote(name)}
}

// A grantRow is what one line is filled with.
type grantRow struct {
	fill            []string
	comment, source string
}

// line writes one line, or as many as there are schemas, sources or builders,
// each statement once.
func (g *grantee) line(b *strings.Builder, text string, fill []string) {
	if strings.HasSuffix(text, "{login}") && g.creates() == "" {
		return
	}
	first := grantRow{fill: fill}
	if rest, ok := strings.CutPrefix(text, "# "); ok {
		text, first.comment = rest, g.language.comment
	}
	rows := []grantRow{first}
	for _, key := range []string{"schema", "source", "builder", "loader"} {
		if !strings.Contains(text, "{"+key) && !strings.Contains(text, key+"}") {
			continue
		}
		var longer []grantRow
		for _, row := range rows {
			longer = append(longer, g.each(row, key)...)
		}
		rows = longer
	}
	for _, row := range rows {
		line := row.comment + strings.NewReplacer(row.fill...).Replace(text) + "\n"
		if row.comment != "" || !strings.Contains("\n"+b.String(), "\n"+line) {
			b.WriteString(line)
		}
	}
}

// each returns a row for each name of a list.
func (g *grantee) each(row grantRow, key string) (rows []grantRow) {
	list := g.lists[key+"s"]
	if key == "loader" {
		list = g.loaders[row.source]
	}
	if len(list) == 0 && key != "schema" {
		list, row.comment = []string{strings.ToUpper(key)}, g.language.comment
	}
	for _, name := range list {
		next := grantRow{append(slices.Clone(row.fill), g.schemaForms(key, name)...), row.comment, row.source}
		if key == "source" {
			next.source = name
		}
		rows = append(rows, next)
	}
	return rows
}

// schemaForms are the forms of a schema's name, or of a builder's.
func (g *grantee) schemaForms(key, name string) []string {
	pairs := g.forms(key, name)
	if key == "builder" || key == "loader" || !g.language.qualified {
		return append(pairs, "{create "+key+"}", g.language.literal("CREATE SCHEMA "+pairs[1]))
	}
	database := g.known["database"]
	if key == "source" {
		database, name = g.placed(name)
	}
	pairs[1] = g.language.name(database) + "." + g.language.name(name)
	return append(pairs, "{"+key+" database}", g.language.name(database))
}

// placed returns the database and the schema of a source.
func (g *grantee) placed(source string) (database, schema string) {
	if database, schema, ok := strings.Cut(source, "."); ok {
		return database, schema
	}
	return g.known["database"], source
}
