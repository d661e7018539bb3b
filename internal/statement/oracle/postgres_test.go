package oracle

import (
	"slices"
	"strings"
	"testing"

	pg "github.com/pganalyze/pg_query_go/v6"
	pgquery "github.com/wasilibs/go-pgquery"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// postgresClasses is the least class of each of PostgreSQL's statements. One
// that is not here must be unknown to the classifier.
var postgresClasses = map[statement.Class]string{
	statement.Read: "SelectStmt ReturnStmt ExplainStmt VariableShowStmt FetchStmt",
	statement.Session: "TransactionStmt VariableSetStmt PrepareStmt DeallocateStmt DeclareCursorStmt ClosePortalStmt DiscardStmt ListenStmt " +
		"UnlistenStmt ConstraintsSetStmt",
	statement.Write: "InsertStmt UpdateStmt DeleteStmt MergeStmt TruncateStmt LockStmt NotifyStmt",
	statement.Define: "CreateStmt CreateTableAsStmt ViewStmt IndexStmt CreateSchemaStmt CreateSeqStmt AlterSeqStmt CreateDomainStmt AlterDomainStmt " +
		"CompositeTypeStmt CreateEnumStmt CreateRangeStmt AlterEnumStmt AlterTypeStmt CreateStatsStmt AlterStatsStmt AlterCollationStmt CommentStmt " +
		"RefreshMatViewStmt ReindexStmt ClusterStmt VacuumStmt DropStmt AlterTableStmt RenameStmt AlterObjectSchemaStmt AlterObjectDependsStmt " +
		"DefineStmt AlterTableMoveAllStmt ReplicaIdentityStmt",
	statement.Grant: "GrantStmt GrantRoleStmt AlterDefaultPrivilegesStmt AlterOwnerStmt",
	statement.Run: "CopyStmt CallStmt DoStmt ExecuteStmt CreateFunctionStmt AlterFunctionStmt CreateTrigStmt RuleStmt CreateExtensionStmt " +
		"AlterExtensionStmt AlterExtensionContentsStmt CreateFdwStmt AlterFdwStmt CreateForeignServerStmt AlterForeignServerStmt " +
		"CreateForeignTableStmt ImportForeignSchemaStmt CreateAmStmt CreatePLangStmt CreateOpClassStmt CreateOpFamilyStmt AlterOpFamilyStmt " +
		"AlterOperatorStmt CreateConversionStmt CreateCastStmt CreateTransformStmt AlterTSDictionaryStmt AlterTSConfigurationStmt",
	statement.Admin: "CreateUserMappingStmt AlterUserMappingStmt DropUserMappingStmt CreatePolicyStmt AlterPolicyStmt CreateEventTrigStmt " +
		"AlterEventTrigStmt CreateRoleStmt AlterRoleStmt AlterRoleSetStmt DropRoleStmt CreateTableSpaceStmt DropTableSpaceStmt " +
		"AlterTableSpaceOptionsStmt CreatedbStmt AlterDatabaseStmt AlterDatabaseSetStmt AlterDatabaseRefreshCollStmt DropdbStmt AlterSystemStmt " +
		"CheckPointStmt LoadStmt SecLabelStmt DropOwnedStmt ReassignOwnedStmt CreatePublicationStmt AlterPublicationStmt CreateSubscriptionStmt " +
		"AlterSubscriptionStmt DropSubscriptionStmt",
}

func classOf(name string) statement.Class {
	for class, names := range postgresClasses {
		if slices.Contains(strings.Fields(names), name) {
			return class
		}
	}
	return statement.Unknown
}

// relations are the kinds of objects that class define is about.
var relations = map[pg.ObjectType]bool{
	pg.ObjectType_OBJECT_TABLE: true, pg.ObjectType_OBJECT_VIEW: true, pg.ObjectType_OBJECT_MATVIEW: true, pg.ObjectType_OBJECT_INDEX: true,
	pg.ObjectType_OBJECT_SEQUENCE: true, pg.ObjectType_OBJECT_SCHEMA: true, pg.ObjectType_OBJECT_TYPE: true, pg.ObjectType_OBJECT_DOMAIN: true,
	pg.ObjectType_OBJECT_COLLATION: true, pg.ObjectType_OBJECT_STATISTIC_EXT: true, pg.ObjectType_OBJECT_COLUMN: true,
	pg.ObjectType_OBJECT_TABCONSTRAINT: true, pg.ObjectType_OBJECT_DOMCONSTRAINT: true, pg.ObjectType_OBJECT_ATTRIBUTE: true,
}

var administrative = map[pg.ObjectType]bool{
	pg.ObjectType_OBJECT_ROLE: true, pg.ObjectType_OBJECT_DATABASE: true, pg.ObjectType_OBJECT_TABLESPACE: true, pg.ObjectType_OBJECT_POLICY: true,
	pg.ObjectType_OBJECT_PUBLICATION: true, pg.ObjectType_OBJECT_SUBSCRIPTION: true, pg.ObjectType_OBJECT_EVENT_TRIGGER: true,
}

func ofObject(o pg.ObjectType) statement.Class {
	switch {
	case relations[o]:
		return statement.Define
	case administrative[o]:
		return statement.Admin
	}
	return statement.Run
}

// effects are functions that do more than read.
var effects = map[string]statement.Class{
	"nextval": statement.Write, "setval": statement.Write, "pg_notify": statement.Write, "set_config": statement.Run, "pg_read_file": statement.Run,
	"lo_import": statement.Run, "lo_export": statement.Run, "pg_terminate_backend": statement.Run, "dblink": statement.Run, "dblink_exec": statement.Run,
	"query_to_xml": statement.Run, "pg_ls_dir": statement.Run, "pg_reload_conf": statement.Run,
}

// postgresTruth says what PostgreSQL's parser makes of a text.
func postgresTruth(text string) (want truth, ok bool) {
	tree, err := pgquery.Parse(text)
	if err != nil {
		return truth{}, false
	}
	want = truth{class: statement.Read, statements: len(tree.Stmts)}
	for _, raw := range tree.Stmts {
		want.class = worst(want.class, ofMessage(&want, raw.Stmt.ProtoReflect()))
	}
	return want, true
}

// ofMessage walks a parse tree.
func ofMessage(want *truth, m protoreflect.Message) statement.Class {
	class := statement.Read
	switch node := m.Interface().(type) {
	case *pg.ExplainStmt:
		for _, option := range node.Options {
			if name := option.GetDefElem().GetDefname(); name == "analyze" {
				return ofMessage(want, node.Query.ProtoReflect())
			}
		}
		return statement.Read
	case *pg.InsertStmt, *pg.UpdateStmt, *pg.DeleteStmt, *pg.MergeStmt:
		defer func(before bool) { want.writing = before }(want.writing)
		want.writing, class = true, statement.Write
	default:
		class = ofNode(want, node)
	}
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.Message() == nil:
		case field.IsList():
			for i := range value.List().Len() {
				class = worst(class, ofMessage(want, value.List().Get(i).Message()))
			}
		default:
			class = worst(class, ofMessage(want, value.Message()))
		}
		return true
	})
	return class
}

// ofNode is the class of one node of the tree, without what is inside it.
func ofNode(want *truth, node any) statement.Class {
	switch node := node.(type) {
	case *pg.IntoClause:
		if !want.writing { // where the parser accepts it, and the server does not
			return statement.Define
		}
	case *pg.LockingClause:
		return statement.Write
	case *pg.FuncCall:
		name := node.Funcname[len(node.Funcname)-1].GetString_().GetSval()
		want.undoes = want.undoes || name == "set_config"
		if class := effects[name]; class != "" {
			return class
		}
	case *pg.DropStmt:
		return ofObject(node.RemoveType)
	case *pg.RenameStmt:
		return ofObject(node.RenameType)
	case *pg.AlterObjectSchemaStmt:
		return ofObject(node.ObjectType)
	case *pg.DefineStmt:
		return ofObject(node.Kind)
	case *pg.AlterTableStmt:
		return worst(statement.Define, ofObject(node.Objtype))
	case *pg.AlterTableCmd:
		switch t := node.Subtype; {
		case t == pg.AlterTableType_AT_ChangeOwner:
			return statement.Grant
		case strings.Contains(t.String(), "RowSecurity"), strings.Contains(t.String(), "Trig"), strings.Contains(t.String(), "Rule"):
			return statement.Admin
		}
	case *pg.CreateSchemaStmt:
		if node.Authrole != nil {
			return statement.Grant
		}
		return statement.Define
	case *pg.TransactionStmt:
		if strings.Contains(node.Kind.String(), "PREPARE") {
			return statement.Admin
		}
		want.undoes = want.undoes || writable(node.Options)
		return statement.Session
	case *pg.VariableSetStmt:
		return ofSetting(want, node)
	default:
		if name := messageName(node); strings.HasSuffix(name, "Stmt") && name != "RawStmt" {
			return classOf(name)
		}
	}
	return statement.Read
}

func messageName(node any) string {
	m, ok := node.(interface{ ProtoReflect() protoreflect.Message })
	if !ok {
		return ""
	}
	return string(m.ProtoReflect().Descriptor().Name())
}

// writable says whether the options of a transaction have READ WRITE.
func writable(options []*pg.Node) bool {
	for _, option := range options {
		if e := option.GetDefElem(); e.GetDefname() == "transaction_read_only" && e.GetArg().GetAConst().GetIval().GetIval() == 0 {
			return true
		}
	}
	return false
}

func ofSetting(want *truth, node *pg.VariableSetStmt) statement.Class {
	switch node.Name {
	case "default_transaction_read_only", "transaction_read_only":
		want.undoes = true
	case "TRANSACTION", "SESSION CHARACTERISTICS":
		want.undoes = want.undoes || writable(node.Args)
	case "role", "session_authorization":
		return statement.Admin
	case "client_encoding":
		for _, arg := range node.Args {
			if s := arg.GetAConst().GetSval().GetSval(); !strings.EqualFold(s, "UTF8") && !strings.EqualFold(s, "UTF-8") && !strings.EqualFold(s, "UNICODE") {
				return statement.Admin
			}
		}
	case "standard_conforming_strings", "session_replication_role", "row_security", "local_preload_libraries":
		return statement.Unknown
	}
	return statement.Session
}

func TestPostgres(t *testing.T) {
	g := newGenerator(postgresRules)
	c := &count{reasons: map[string]int{}}
	try := func(text string) {
		if want, ok := postgresTruth(text); ok {
			c.compare(t, statement.Postgres, text, want)
		} else {
			c.unparsed++
		}
	}
	last := "select 1"
	for i := range 22_000 {
		text := g.make("message", 7)
		if i%3 == 0 {
			text = g.spaced(text)
		}
		try(text)
		if i%2 == 0 {
			try(g.mutated(text, last))
		}
		last = text
		if t.Failed() && i > 2_000 {
			break
		}
	}
	c.report(t)
	if parsed := c.equal + c.stricter; parsed < 20_000 && !t.Failed() {
		t.Errorf("PostgreSQL parsed %d statements, want at least 20,000", parsed)
	}
}
