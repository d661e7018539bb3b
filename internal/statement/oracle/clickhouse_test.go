package oracle

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sqlc-dev/doubleclick/ast"
	"github.com/sqlc-dev/doubleclick/parser"

	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// clickhouseClasses is the least class of each of ClickHouse's statements.
var clickhouseClasses = map[statement.Class]string{
	statement.Read: "SelectWithUnionQuery SelectIntersectExceptQuery SelectQuery DescribeQuery ShowQuery ExplainQuery CheckQuery ExistsQuery " +
		"ShowGrantsQuery ShowPrivilegesQuery ShowCreateQuotaQuery ShowCreateSettingsProfileQuery ShowCreateRowPolicyQuery ShowCreateRoleQuery",
	statement.Session: "UseQuery SetQuery TransactionControlQuery",
	statement.Write:   "InsertQuery DeleteQuery UpdateQuery TruncateQuery",
	statement.Define:  "CreateQuery AlterQuery DropQuery UndropQuery RenameQuery ExchangeQuery OptimizeQuery SystemQuery CreateIndexQuery",
	statement.Grant:   "GrantQuery",
	statement.Run:     "AttachQuery DetachQuery BackupQuery RestoreQuery",
	statement.Admin: "KillQuery CreateQuotaQuery CreateSettingsProfileQuery AlterSettingsProfileQuery DropSettingsProfileQuery " +
		"CreateNamedCollectionQuery AlterNamedCollectionQuery DropNamedCollectionQuery CreateRowPolicyQuery DropRowPolicyQuery CreateRoleQuery " +
		"DropRoleQuery SetRoleQuery CreateResourceQuery DropResourceQuery CreateWorkloadQuery DropWorkloadQuery",
}

// beyond are functions, engines and sources of dictionaries that reach beyond the server's tables.
var beyond = strings.Fields("file url remote remotesecure s3 executable mysql postgresql hdfs jdbc odbc sqlite mongodb redis kafka http " +
	"azureblobstorage s3cluster iceberg deltalake gcs rabbitmq nats")

// clickhouseTruth says what the parser makes of a text.
func clickhouseTruth(text string) (want truth, ok bool) {
	defer func() {
		if recover() != nil { // the parser's own fault
			ok = false
		}
	}()
	list, err := parser.Parse(context.Background(), strings.NewReader(text))
	if err != nil {
		return truth{}, false
	}
	want = truth{class: statement.Read, statements: len(list)}
	for _, s := range list {
		want.class = worst(want.class, ofValue(&want, reflect.ValueOf(s)))
	}
	return want, true
}

// ofValue walks a parse tree.
func ofValue(want *truth, v reflect.Value) statement.Class {
	class := statement.Read
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		if !v.IsNil() {
			class = worst(ofTree(want, v.Interface()), ofValue(want, v.Elem()))
		}
	case reflect.Slice:
		for i := range v.Len() {
			class = worst(class, ofValue(want, v.Index(i)))
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[ast.ExplainQuery]() {
			return class
		}
		for i := range v.NumField() {
			class = worst(class, ofValue(want, v.Field(i)))
		}
	}
	return class
}

// ofTree is the class of one node of the tree, without what is inside it.
func ofTree(want *truth, node any) statement.Class {
	outside := func(name string) statement.Class {
		if slices.Contains(beyond, strings.ToLower(name)) {
			return statement.Run
		}
		return statement.Read
	}
	class := statement.Read
	if _, is := node.(ast.Statement); is {
		class = statement.Unknown
		for c, names := range clickhouseClasses {
			if slices.Contains(strings.Fields(names), reflect.TypeOf(node).Elem().Name()) {
				class = c
			}
		}
	}
	switch node := node.(type) {
	case *ast.FunctionCall:
		return outside(node.Name)
	case *ast.EngineClause:
		return outside(node.Name)
	case *ast.DictionarySource:
		return outside(node.Type)
	case *ast.IntoOutfileClause:
		return statement.Run
	case *ast.InsertQuery:
		if node.Function != nil || node.Infile != "" {
			return statement.Run
		}
	case *ast.CreateQuery:
		switch {
		case node.CreateUser, node.AlterUser:
			return statement.Admin
		case node.CreateFunction:
			return statement.Run
		}
	case *ast.DropQuery:
		switch {
		case node.User+node.Role+node.Quota+node.Policy+node.RowPolicy+node.SettingsProfile != "":
			return statement.Admin
		case node.Function != "":
			return statement.Run
		}
	case *ast.AlterCommand:
		if strings.Contains(string(node.Type), "FREEZE") || strings.Contains(string(node.Type), "FETCH") {
			return statement.Run
		}
	case *ast.SystemQuery:
		command := strings.ToUpper(node.Command)
		if !slices.ContainsFunc([]string{"SYNC", "REFRESH", "WAIT", "FLUSH DISTRIBUTED"}, func(p string) bool { return strings.HasPrefix(command, p) }) {
			return statement.Admin
		}
	case *ast.SettingExpr:
		if name := strings.ToLower(node.Name); name == "readonly" || name == "allow_ddl" {
			want.undoes = true
			return statement.Admin
		}
	}
	return class
}

func TestClickHouse(t *testing.T) {
	g := newGenerator(strings.ReplaceAll(clickhouseRules, "~", "`"))
	c := &count{reasons: map[string]int{}}
	try := func(text string, broken bool) {
		got := statement.Classify(statement.ClickHouse, text)
		if broken && (got.Class == statement.Unknown || strings.Contains(text, "dictionary")) {
			return // the parser may never come back from what does not end, and nothing is worse than unknown
		}
		want, ok := clickhouseTruth(text)
		if !ok || broken && want.statements != got.Statements || want.statements > got.Statements {
			c.unparsed++ // the parser goes on without a semicolon, where the server refuses the message
			return
		}
		want.statements = got.Statements
		c.compare(t, statement.ClickHouse, text, want)
	}
	last := "select 1"
	for i := range 15_000 {
		text := g.make("message", 7)
		if i%3 == 0 {
			try(g.spaced(text), true)
		} else {
			try(text, false)
		}
		if i < 4_000 { // of more, the parser does not come back from one
			try(g.mutated(text, last), true)
		}
		last = text
		if t.Failed() && i > 300 {
			break
		}
	}
	c.report(t)
	if parsed := c.equal + c.stricter; parsed < 10_000 && !t.Failed() {
		t.Errorf("the parser of ClickHouse's SQL parsed %d statements, want at least 10,000", parsed)
	}
}
