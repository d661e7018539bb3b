package trust

import (
	"regexp"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// A trinoGrantFile is rules of file-based access control, which match whole
// names. (Trino: File-based access control)
type trinoGrantFile struct {
	Catalogs   []trinoGrant      `json:"catalogs"`
	Schemas    []trinoGrant      `json:"schemas"`
	Tables     []trinoTableGrant `json:"tables"`
	Session    []trinoGrant      `json:"system_session_properties"`
	OfCatalogs []trinoGrant      `json:"catalog_session_properties"`
	Queries    []trinoGrant      `json:"queries"`
}

// A trinoGrant without a catalog or a schema is for all: nil says so, and no
// name that turns out to be empty.
type trinoGrant struct {
	User     string `json:"user"`
	Catalog  any    `json:"catalog,omitempty"`
	Schema   any    `json:"schema,omitempty"`
	Property string `json:"property,omitempty"`
	Allow    any    `json:"allow,omitempty"`
	Owner    any    `json:"owner,omitempty"`
}

type trinoTableGrant struct {
	trinoGrant

	Privileges []string `json:"privileges"`
}

var trinoGrants = grantLanguage{
	warehouse: "Trino", comment: "# ", needs: []string{"database"}, qualified: true,
	name: javaName, literal: pgLiteral, write: writeTrinoGrants,
}

// javaName is the expression for one name, which Trino has in small letters.
func javaName(name string) string { return regexp.QuoteMeta(strings.ToLower(name)) }

// The privileges of tables; with GRANT_SELECT others may read its views.
var (
	trinoReads  = []string{"SELECT"}
	trinoLends  = []string{"SELECT", "GRANT_SELECT"}
	trinoBuilds = []string{"SELECT", "GRANT_SELECT", "INSERT", "UPDATE", "DELETE", "OWNERSHIP"}
)

// file returns what the login may, and last that it may nothing else.
func (g *grantee) file() trinoGrantFile {
	user, own := regexp.QuoteMeta(g.known["user"]), javaName(g.known["database"])
	access, mine, lent := "read-only", trinoReads, trinoReads
	if g.is&toBuilder != 0 {
		access, mine, lent = "all", trinoBuilds, trinoLends
	}
	f := trinoGrantFile{
		Catalogs:   []trinoGrant{{User: user, Catalog: own, Allow: access}},
		Session:    []trinoGrant{{User: user, Allow: false}},
		OfCatalogs: []trinoGrant{{User: user, Allow: false}},
		Queries:    []trinoGrant{{User: user, Allow: []string{"execute"}}},
	}
	table := func(catalog, schema any, privileges []string) {
		f.Tables = append(f.Tables, trinoTableGrant{trinoGrant{User: user, Catalog: catalog, Schema: schema}, privileges})
	}
	for _, schema := range g.trinoSchemas() {
		if g.is&toBuilder != 0 {
			f.Schemas = append(f.Schemas, trinoGrant{User: user, Catalog: own, Schema: schema, Owner: true})
		}
		table(own, schema, mine)
	}
	catalogs := []string{own}
	for _, source := range g.lists["sources"] {
		catalog, schema := g.placed(source)
		table(javaName(catalog), javaName(schema), lent)
		if c := javaName(catalog); !slices.Contains(catalogs, c) {
			catalogs = append(catalogs, c)
			// Others may read a builder's views only where it has all of the catalog;
			// schemas and tables have rules of their own. (FileBasedSystemAccessControl,
			// checkCanCreateViewWithSelectFromColumns)
			f.Catalogs = append(f.Catalogs, trinoGrant{User: user, Catalog: c, Allow: access})
		}
	}
	table("system", "jdbc|metadata", trinoReads)
	table(nil, nil, []string{})
	f.Catalogs = append(f.Catalogs, trinoGrant{User: user, Catalog: "system", Allow: "read-only"}, trinoGrant{User: user, Allow: "none"})
	f.Schemas = append(f.Schemas, trinoGrant{User: user, Owner: false})
	return f
}

var javaClaim = lazy.MustCompile(`\\\$\\\{[^}]*\}`)

// trinoSchemas are expressions for the login's schemas.
func (g *grantee) trinoSchemas() (list []string) {
	for _, name := range g.lists["schemas"] {
		list = append(list, javaName(name))
	}
	if g.is&toOpen != 0 {
		list = append(list, javaClaim.ReplaceAllLiteralString(javaName(g.named("schema")), ".+"))
	}
	return list
}

// writeTrinoGrants writes the rules as a script.
func writeTrinoGrants(g *grantee) string {
	name := "etc/oidc-dbt-" + hclName(g.Name()) + "-rules.json"
	s := Script{About: append(g.head(),
		"Run it by bash on the coordinator. access-control.properties has access-control.name=file and names the file in security.config-file.",
		"The server reads one file. For several targets make one of theirs: concatenate the lists, section by section (catalogs, schemas …).",
		"The first rule that matches decides, and each user's last one refuses: give each target a user of its own.",
		"Users without a rule have nothing: put those of your own file after these, section by section.",
		"Session properties are refused, as the client sends them: let what models set pass by a rule before.",
		"A schema without a rule is not readable: name sources by --set sources=CATALOG.SCHEMA,CATALOG.SCHEMA and custom schemas by "+
			"--set schemas=NAME,NAME.")}
	home := s.needs(Variable{Name: "TRINO_HOME", Doc: "the folder of the coordinator that has etc/config.properties"})
	s.run("The rules. Restart the coordinator, unless security.refresh-period is set.",
		feed("cat >"+command(home)+"/"+quote(name), asJSON(g.file())))
	s.run("Check, as the user " + g.known["user"] + ": SHOW SCHEMAS FROM " + pgIdentifier(strings.ToLower(g.known["database"])) +
		" lists its own, the sources and information_schema.")
	return s.String()
}
