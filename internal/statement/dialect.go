package statement

import (
	"strings"
	"sync"
)

// A dialect is what is known of one, as text.
type dialect struct {
	lexis     lexis
	heads     string // how statements begin: see heads.go
	actions   string // how what follows the name in ALTER … NAME begins
	functions string // which functions do more than read, by class
	tables    string // which functions in the place of a table only read
	settings  string // which settings a session may have
	engines   string // which engines of tables are the server's own
	guarded   string // settings that hold the session
	limits    string // settings that may limit it, or set them all
	strict    bool   // every comma of an ALTER is followed by an action
	loose     bool   // WITH also names expressions
}

// grammars compiles a dialect when it is first used.
var grammars = map[Dialect]func() *grammar{
	Postgres:   sync.OnceValue(func() *grammar { return compile(postgres()) }),
	Redshift:   sync.OnceValue(func() *grammar { return compile(redshift()) }),
	Snowflake:  sync.OnceValue(func() *grammar { return compile(snowflake()) }),
	Trino:      sync.OnceValue(func() *grammar { return compile(trino()) }),
	ClickHouse: sync.OnceValue(func() *grammar { return compile(clickhouse()) }),
}

// postgres expects standard_conforming_strings to be on, as it is unless it
// was turned off, and UTF-8 from the client: SET of either is not on its
// lists, and a proxy sees both when a session starts.
func postgres() dialect {
	return dialect{
		lexis: lexis{
			nested: nests, names: `"`, prefixed: true, dollars: dollarTags, wide: true,
			marks: "()[]{},.:=<>+-*/%^&|!~?@#`",
		},
		heads: postgresHeads, actions: postgresActions, functions: postgresFunctions, limits: "statement_timeout", strict: true,
	}
}

func redshift() dialect {
	return dialect{
		lexis: lexis{
			nested: isDisputed, unclear: "'", names: `"`, prefixed: true, dollars: dollarTags, wide: true,
			marks: "()[]{},.:=<>+-*/%^&|!~?@#",
		},
		heads: postgresHeads + redshiftHeads, actions: postgresActions + redshiftActions, functions: postgresFunctions,
		limits: "statement_timeout",
	}
}

func snowflake() dialect {
	return dialect{
		lexis: lexis{
			lineComments: []string{"//"}, nested: isDisputed, escaping: "'", names: `"`, dollars: dollarPairs,
			stages: true, chain: "->>", marks: "()[]{},.:=<>+-*/%^&|!?@",
		},
		heads: snowflakeHeads, actions: snowflakeActions, functions: snowflakeFunctions, settings: snowflakeSettings,
		limits: "statement_timeout_in_seconds",
	}
}

func trino() dialect {
	return dialect{
		lexis: lexis{nested: isText, names: "\"`", marks: "()[]{},.:=<>+-*/%&|!?"},
		heads: trinoHeads, actions: trinoActions, functions: trinoFunctions,
		limits: "query_max_run_time query_max_scan_physical_bytes",
	}
}

func clickhouse() dialect {
	return dialect{
		lexis: lexis{
			lineComments: []string{"//", "# ", "#!"}, nested: isDisputed, escaping: "'\"`", names: "\"`", dollars: hereDocs,
			marks: "()[]{},.:=<>+-*/%|!?@",
		},
		heads: clickhouseHeads, actions: clickhouseActions, functions: clickhouseFunctions, tables: clickhouseTables,
		settings: clickhouseSettings, engines: clickhouseEngines, guarded: "READONLY ALLOW_DDL", loose: true,
		limits: "max_execution_time max_bytes_to_read profile",
	}
}

// What functions do is beyond a lexer, so these lists are hygiene and promise
// nothing: a user's own function may do the same. What reads by a query in a
// string (crosstab) is no reading, since the string may undo a read-only
// session, and models that are built use it.
const postgresFunctions = `
write: nextval setval pg_notify crosstab*
run: set_config dblink* lo_* lowrite query_to_xml* cursor_to_xml* xpath_table connectby ts_stat ts_rewrite
run: pg_read_* pg_ls_* pg_stat_file pg_file_* pg_logdir_ls pg_terminate_backend pg_cancel_backend pg_reload_conf
run: pg_rotate_logfile* pg_switch_wal pg_switch_xlog pg_create_* pg_drop_* pg_copy_* pg_backup_* pg_start_backup
run: pg_stop_backup pg_promote pg_wal_replay_* pg_xlog_replay_* pg_logical_* pg_replication_* pg_sync_replication_slots
run: pg_import_system_collations pg_stat_reset* pg_stat_statements_reset pg_prewarm autoprewarm* pg_nextoid
run: pg_log_* pg_set_* pg_restore_* pg_clear_* binary_upgrade_* brin_summarize_* brin_desummarize_range
run: gin_clean_pending_list pg_execute_* pg_buffercache_evict* pg_truncate_visibility_map pg_surgery* heap_force_*
run: http http_* query_export_to_s3 table_import_from_s3
`

const snowflakeFunctions = `
read: system$typeof system$get_tag* system$last_change_commit_time system$clustering_* system$estimate_*
read: system$stream_* system$current_user_task_name system$reference system$query_reference
run: system$* get_presigned_url infer_schema
`

const trinoFunctions = `
run: query raw_query procedure
`

const clickhouseFunctions = `
run: file filecluster url urlcluster remote remotesecure s3* gcs* oss* cosn* azureblobstorage* hdfs* mysql postgresql mongodb*
run: redis sqlite odbc jdbc executable executable_pool iceberg* deltalake* hudi* paimon* arrowflight ytsaurus http
run: yamlregexptree cassandra library ldap catboostevaluate generateserialid
run: disk
`

const clickhouseTables = `
numbers numbers_mt zeros zeros_mt primes generateseries generate_series generaterandom values null format input view
merge dictionary cluster clusterallreplicas loop mergetreeindex mergetreeprojection
`

// A grammar is a dialect in the form in which it is used.
type grammar struct {
	*lexis
	heads, actions *node
	functions      map[string]rank
	prefixes       []prefix
	tables         map[string]bool
	settings       map[string]bool
	engines        map[string]bool
	guarded        map[string]bool
	limits         map[string]bool
	strict, loose  bool
}

// A prefix is what the names of some functions begin with.
type prefix struct {
	name string
	rank rank
}

func compile(d dialect) *grammar {
	g := &grammar{
		lexis: &d.lexis, heads: &node{}, actions: &node{}, functions: map[string]rank{},
		tables: set(d.tables), settings: set(d.settings), engines: set(d.engines),
		guarded: set(d.guarded), limits: set(d.limits), strict: d.strict, loose: d.loose,
	}
	g.heads.addAll(d.heads)
	g.actions.addAll(d.actions)
	for line := range strings.Lines(d.functions) {
		class, names, _ := strings.Cut(strings.TrimSpace(line), ": ")
		for name := range strings.FieldsSeq(strings.ToUpper(names)) {
			if begin, _, some := strings.Cut(name, "*"); some {
				g.prefixes = append(g.prefixes, prefix{begin, rankOf(class)})
			} else {
				g.functions[name] = rankOf(class)
			}
		}
	}
	return g
}

func set(names string) map[string]bool {
	m := map[string]bool{}
	for name := range strings.FieldsSeq(names) {
		m[strings.ToUpper(name)] = true
	}
	return m
}

// function returns the rank of calling a function of this name in capitals,
// and the name under which the lists have it.
func (g *grammar) function(upper []byte) (rank, string) {
	if r, ok := g.functions[string(upper)]; ok {
		return r, string(upper)
	}
	for _, p := range g.prefixes {
		if len(upper) >= len(p.name) && string(upper[:len(p.name)]) == p.name {
			return p.rank, p.name + "*"
		}
	}
	return read, ""
}
