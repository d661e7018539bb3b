package statement

import (
	"slices"
	"strings"
)

// A node is a place in the words that a statement may begin with.
type node struct {
	next  map[string]*node // by word
	path  string           // the words so far that are not optional, at most three
	known bool             // the words are a head, of this rank and mode
	rank  rank
	mode  mode
}

// A mode is how a statement goes on behind its head.
type mode string

const (
	asIs        mode = ""
	asQuery     mode = "query"       // something to read
	asWith      mode = "with"        // named queries, then a statement
	explained   mode = "explain"     // options, then a statement that does not run
	another     mode = "then"        // a statement
	afterAs     mode = "as"          // something, AS, a statement
	afterFrom   mode = "from"        // something, FROM, a statement
	afterFor    mode = "for"         // something, FOR, a statement
	inString    mode = "immediate"   // a statement in a string
	asAlter     mode = "alter"       // a name and actions
	asSchema    mode = "schema"      // statements inside are not understood
	asTable     mode = "table"       // an engine
	asInsert    mode = "insert"      // data that is not SQL
	asSettings  mode = "settings"    // NAME = VALUE
	asNames     mode = "names"       // names of settings
	asEncoding  mode = "encoding"    // a character set
	transaction mode = "transaction" // READ WRITE undoes a read-only session
	undoing     mode = "undo"        // undoes a read-only session
	limiting    mode = "limit"       // changes a setting, which may limit the session
	orBlock     mode = "block"       // a transaction, or a block of a script
)

// addAll adds lines of the form "CLASS [MODE]: PATTERN; …". A pattern is words
// in their order, of which [X] may be absent, X|Y is one of both, and X+Y is
// both. What follows the longest pattern that fits is the rest of the statement.
func (n *node) addAll(lines string) {
	for line := range strings.Lines(lines) {
		class, patterns, some := strings.Cut(strings.TrimSpace(line), ":")
		if !some {
			continue
		}
		name, m, _ := strings.Cut(class, " ")
		for pattern := range strings.SplitSeq(patterns, ";") {
			n.add(pattern, rankOf(name), mode(m))
		}
	}
}

// A place is a node, and the words that lead to it and are not optional.
type place struct {
	*node
	words []string
}

func (n *node) add(pattern string, r rank, m mode) {
	at := []place{{node: n}}
	for item := range strings.FieldsSeq(pattern) {
		choice, optional := strings.CutPrefix(item, "[")
		var reached []place
		for words := range strings.SplitSeq(strings.TrimSuffix(choice, "]"), "|") {
			for _, from := range at {
				reached = append(reached, from.follow(strings.Split(words, "+"), optional))
			}
		}
		if optional {
			reached = append(at, reached...)
		}
		at = reached
	}
	for _, end := range at {
		if end.known && (end.rank != r || end.mode != m) {
			panic("statement: two classes for " + pattern)
		}
		end.known, end.rank, end.mode, end.path = true, r, m, end.title()
	}
}

// follow returns the place behind the words, and makes it if there is none.
func (p place) follow(words []string, optional bool) place {
	for _, word := range words {
		if !optional {
			p.words = append(slices.Clone(p.words), word)
		}
		key := strings.ToUpper(word)
		child := p.next[key]
		if child == nil {
			child = &node{path: p.title()}
			if p.next == nil {
				p.next = map[string]*node{}
			}
			p.next[key] = child
		}
		p.node = child
	}
	return p
}

func (p place) title() string { return strings.Join(p.words[:min(3, len(p.words))], " ") }

const postgresHeads = `
read query: SELECT|VALUES|TABLE
read with: WITH
read: SHOW|FETCH|MOVE
read explain: EXPLAIN [VERBOSE]
read then: EXPLAIN ANALYZE|ANALYSE [VERBOSE]
session: COMMIT|ROLLBACK|ABORT|END; SAVEPOINT|RELEASE; DISCARD|DEALLOCATE|LISTEN|UNLISTEN|CLOSE
session transaction: BEGIN; START TRANSACTION; SET [SESSION|LOCAL] TRANSACTION; SET SESSION CHARACTERISTICS
session as: PREPARE
session for: DECLARE
session: SET CONSTRAINTS; SET [SESSION|LOCAL] TIME+ZONE; RESET ALL
session: SET [SESSION|LOCAL] application_name|client_min_messages|search_path|schema|timezone|datestyle|intervalstyle
session limit: SET [SESSION|LOCAL] statement_timeout
session: SET [SESSION|LOCAL] lock_timeout|idle_in_transaction_session_timeout|transaction_timeout
session: SET [SESSION|LOCAL] work_mem|maintenance_work_mem|temp_buffers|hash_mem_multiplier|effective_cache_size
session: SET [SESSION|LOCAL] random_page_cost|seq_page_cost|cpu_tuple_cost|default_statistics_target|constraint_exclusion
session: SET [SESSION|LOCAL] from_collapse_limit|join_collapse_limit|geqo|jit|synchronous_commit|plan_cache_mode
session: SET [SESSION|LOCAL] enable_hashjoin|enable_mergejoin|enable_nestloop|enable_seqscan|enable_indexscan|enable_sort
session: SET [SESSION|LOCAL] enable_bitmapscan|enable_indexonlyscan|enable_material|enable_hashagg|enable_partitionwise_join
session: SET [SESSION|LOCAL] enable_partitionwise_aggregate|max_parallel_workers_per_gather|max_parallel_workers
session: SET [SESSION|LOCAL] extra_float_digits|bytea_output|xmloption|default_transaction_isolation|transaction_isolation
session: RESET application_name|client_min_messages|search_path|timezone|statement_timeout|lock_timeout|work_mem
session encoding: SET [SESSION|LOCAL] client_encoding|NAMES
session undo: SET [SESSION|LOCAL] default_transaction_read_only|transaction_read_only
session undo: RESET default_transaction_read_only|transaction_read_only
admin: SET [SESSION|LOCAL] ROLE; RESET ROLE; SET [SESSION|LOCAL] SESSION+AUTHORIZATION; RESET SESSION+AUTHORIZATION
write: INSERT INTO; UPDATE; DELETE FROM; MERGE INTO; TRUNCATE; LOCK; NOTIFY
define: CREATE [OR+REPLACE] [GLOBAL|LOCAL] [TEMP|TEMPORARY|UNLOGGED] TABLE
define: CREATE [OR+REPLACE] [GLOBAL|LOCAL] [TEMP|TEMPORARY] [RECURSIVE] VIEW; CREATE MATERIALIZED VIEW
define: CREATE [UNIQUE] INDEX; CREATE [TEMP|TEMPORARY|UNLOGGED] SEQUENCE; CREATE TYPE|DOMAIN|COLLATION|STATISTICS
define schema: CREATE SCHEMA
define: DROP TABLE|VIEW|MATERIALIZED+VIEW|INDEX|SCHEMA|SEQUENCE|TYPE|DOMAIN|COLLATION|STATISTICS
define alter: ALTER TABLE|VIEW|MATERIALIZED+VIEW|INDEX|SCHEMA|SEQUENCE|TYPE|DOMAIN|COLLATION|STATISTICS
define: COMMENT ON; REFRESH MATERIALIZED VIEW; REINDEX|CLUSTER|VACUUM|ANALYZE|ANALYSE
grant: GRANT|REVOKE; ALTER DEFAULT PRIVILEGES; ALTER LARGE OBJECT
run: CALL|DO|EXECUTE|COPY; IMPORT FOREIGN SCHEMA
run: CREATE [OR+REPLACE] FUNCTION|PROCEDURE|AGGREGATE|RULE|TRANSFORM; CREATE [OR+REPLACE] [TRUSTED] [PROCEDURAL] LANGUAGE
run: CREATE [OR+REPLACE] [CONSTRAINT] TRIGGER; CREATE [DEFAULT] CONVERSION; CREATE CAST|OPERATOR|EXTENSION|SERVER
run: CREATE TEXT+SEARCH|FOREIGN+TABLE|FOREIGN+DATA+WRAPPER|ACCESS+METHOD
run: ALTER|DROP FUNCTION|PROCEDURE|ROUTINE|AGGREGATE|RULE|TRANSFORM|LANGUAGE|TRIGGER|CONVERSION|CAST|OPERATOR|EXTENSION
run: ALTER|DROP SERVER|TEXT+SEARCH|FOREIGN+TABLE|FOREIGN+DATA+WRAPPER|ACCESS+METHOD; DROP PROCEDURAL LANGUAGE
admin: CREATE|ALTER|DROP ROLE|USER|GROUP|DATABASE|TABLESPACE|POLICY|PUBLICATION|SUBSCRIPTION|EVENT+TRIGGER
admin: ALTER SYSTEM; SECURITY LABEL; CHECKPOINT; REASSIGN OWNED; DROP OWNED; LOAD
admin: PREPARE TRANSACTION; COMMIT|ROLLBACK PREPARED; DISCARD ALL
`

const postgresActions = `
define: ADD|ALTER|DROP|RENAME|SET|RESET|ATTACH|DETACH|VALIDATE|CLUSTER|INHERIT|REPLICA|OF|NOT|NO|DEPENDS|REFRESH
define: AS|INCREMENT|MINVALUE|MAXVALUE|START|RESTART|CACHE|CYCLE|OWNED
grant: OWNER
admin: ENABLE|DISABLE|FORCE; NO FORCE
`

const redshiftHeads = `
read: DESCRIBE|DESC
session: USE; RESET USE
session: SET [SESSION|LOCAL] query_group|wlm_query_slot_count|enable_result_cache_for_session
session: SET [SESSION|LOCAL] enable_case_sensitive_identifier|describe_field_name_in_uppercase|json_serialization_enable
session: SET [SESSION|LOCAL] json_serialization_parse_nested_strings|navigate_super_null_on_error|cast_super_null_on_error
session: SET [SESSION|LOCAL] analyze_threshold_percent|use_fips_ssl|auto_mv|mv_enable_aqmv_for_session
session: RESET query_group|wlm_query_slot_count|enable_result_cache_for_session|enable_case_sensitive_identifier
write: INSERT; DELETE
run: UNLOAD|CANCEL; CREATE [OR+REPLACE] EXTERNAL|LIBRARY|MODEL; ALTER|DROP EXTERNAL|LIBRARY|MODEL
admin: CREATE|ALTER|DROP DATASHARE|IDENTITY|RLS|MASKING; ATTACH|DETACH
`

const redshiftActions = `
define: APPEND|AUTO|QUOTA
admin: ROW|MASKING
`

const snowflakeHeads = `
read query: SELECT|VALUES
read with: WITH
read: SHOW|DESCRIBE|DESC
read explain: EXPLAIN [USING+TEXT|USING+JSON|USING+TABULAR]
session: COMMIT|ROLLBACK; START TRANSACTION; USE; UNSET
session query: SET
session block: BEGIN
session settings: ALTER SESSION SET
session names: ALTER SESSION UNSET
admin: USE ROLE|SECONDARY+ROLE|SECONDARY+ROLES
write: INSERT [OVERWRITE] [ALL|FIRST] INTO; INSERT [OVERWRITE] ALL|FIRST; UPDATE; DELETE FROM; MERGE INTO; TRUNCATE
define: CREATE [OR+REPLACE|OR+ALTER] [LOCAL|GLOBAL] [TEMP|TEMPORARY|VOLATILE|TRANSIENT] TABLE
define: CREATE [OR+REPLACE|OR+ALTER] [TRANSIENT] DYNAMIC|ICEBERG|HYBRID|DYNAMIC+ICEBERG TABLE
define: CREATE [OR+REPLACE|OR+ALTER] [SECURE] [LOCAL|GLOBAL] [TEMP|TEMPORARY|VOLATILE] [RECURSIVE] VIEW
define: CREATE [OR+REPLACE|OR+ALTER] [SECURE] MATERIALIZED|SEMANTIC VIEW
define: CREATE [OR+REPLACE|OR+ALTER] [TRANSIENT] SCHEMA; CREATE [OR+REPLACE] SEQUENCE|STREAM
define: CREATE [OR+REPLACE|OR+ALTER] [TEMP|TEMPORARY|VOLATILE] FILE+FORMAT
define: DROP|UNDROP TABLE|VIEW|SCHEMA|SEQUENCE|STREAM|FILE+FORMAT|DYNAMIC+TABLE|ICEBERG+TABLE|HYBRID+TABLE
define: DROP|UNDROP MATERIALIZED+VIEW|SEMANTIC+VIEW|DYNAMIC+ICEBERG+TABLE
define alter: ALTER TABLE|VIEW|SCHEMA|SEQUENCE|STREAM|FILE+FORMAT|DYNAMIC+TABLE|ICEBERG+TABLE|HYBRID+TABLE
define alter: ALTER MATERIALIZED+VIEW|SEMANTIC+VIEW|DYNAMIC+ICEBERG+TABLE
define: COMMENT [IF+EXISTS] ON
grant: GRANT|REVOKE
run: CALL|EXECUTE|COPY|PUT|GET|REMOVE|RM|LIST|LS
run: DECLARE|LET|RETURN|IF|ELSEIF|ELSE|FOR|WHILE|LOOP|REPEAT|UNTIL|CASE|WHEN|OPEN|FETCH|CLOSE|RAISE|EXCEPTION|END
run: BREAK|CONTINUE|NULL|AWAIT|CANCEL
run: CREATE [OR+REPLACE|OR+ALTER] [TEMP|TEMPORARY] [SECURE] [AGGREGATE|EXTERNAL] FUNCTION
run: CREATE [OR+REPLACE|OR+ALTER] [TEMP|TEMPORARY] [SECURE] PROCEDURE; CREATE [OR+REPLACE] EXTERNAL+TABLE|EVENT+TABLE
run: CREATE [OR+REPLACE|OR+ALTER] TASK|ALERT|PIPE|STREAMLIT|NOTEBOOK|SERVICE|MODEL|AGENT
run: CREATE [OR+REPLACE|OR+ALTER] [TEMP|TEMPORARY] STAGE
run: CREATE [OR+REPLACE] CORTEX|DATA+METRIC+FUNCTION|DBT+PROJECT|GIT+REPOSITORY|IMAGE+REPOSITORY
run: ALTER|DROP FUNCTION|PROCEDURE|TASK|ALERT|PIPE|STAGE|STREAMLIT|NOTEBOOK|SERVICE|MODEL|AGENT|CORTEX|EXTERNAL+TABLE
run: ALTER|DROP EVENT+TABLE|DATA+METRIC+FUNCTION|DBT+PROJECT|GIT+REPOSITORY|IMAGE+REPOSITORY
admin: CREATE [OR+REPLACE|OR+ALTER] USER|ROLE|DATABASE+ROLE|WAREHOUSE|RESOURCE+MONITOR|SHARE|SECRET|CONNECTION|TAG
admin: CREATE [OR+REPLACE|OR+ALTER] [TRANSIENT] DATABASE; CREATE [OR+REPLACE] APPLICATION|COMPUTE+POOL|EXTERNAL+VOLUME
admin: CREATE [OR+REPLACE|OR+ALTER] [API|NOTIFICATION|SECURITY|STORAGE|CATALOG|EXTERNAL+ACCESS] INTEGRATION
admin: CREATE [OR+REPLACE|OR+ALTER] NETWORK|ROW+ACCESS|MASKING|SESSION|PASSWORD|AUTHENTICATION|AGGREGATION POLICY
admin: CREATE [OR+REPLACE|OR+ALTER] PROJECTION|JOIN|PRIVACY|PACKAGES|FEATURE|STORAGE+LIFECYCLE POLICY
admin: CREATE [OR+REPLACE] NETWORK RULE; CREATE [OR+REPLACE] FAILOVER|REPLICATION|MANAGED|ORGANIZATION|ACCOUNT
admin: ALTER|DROP|UNDROP USER|ROLE|DATABASE|WAREHOUSE|RESOURCE+MONITOR|SHARE|SECRET|CONNECTION|TAG|APPLICATION|ACCOUNT
admin: ALTER|DROP INTEGRATION|API|NOTIFICATION|SECURITY|STORAGE|CATALOG|EXTERNAL+ACCESS|EXTERNAL+VOLUME|NETWORK|ROW|MASKING
admin: ALTER|DROP SESSION+POLICY|PASSWORD|AUTHENTICATION|AGGREGATION|PROJECTION|JOIN|PRIVACY|PACKAGES|FEATURE|COMPUTE
admin: ALTER|DROP FAILOVER|REPLICATION|MANAGED|ORGANIZATION
`

const snowflakeActions = `
define: RENAME|SWAP|CLUSTER|DROP|ADD|ALTER|MODIFY|SET|UNSET|SUSPEND|RESUME|RECLUSTER|REFRESH
admin: SET|UNSET TAG; ENABLE|DISABLE
`

const snowflakeSettings = `
autocommit binary_input_format binary_output_format client_result_column_case_insensitive date_input_format
date_output_format error_on_nondeterministic_merge error_on_nondeterministic_update geography_output_format
geometry_output_format json_indent jdbc_treat_decimal_as_int lock_timeout query_tag quoted_identifiers_ignore_case
python_connector_query_result_format rows_per_resultset statement_queued_timeout_in_seconds
statement_timeout_in_seconds strict_json_output time_input_format time_output_format timestamp_day_is_always_24h
timestamp_input_format timestamp_ltz_output_format timestamp_ntz_output_format timestamp_output_format
timestamp_type_mapping timestamp_tz_output_format timezone two_digit_century_start use_cached_result
week_of_year_policy week_start transaction_default_isolation_level
`

const trinoHeads = `
read query: SELECT|VALUES|TABLE
read with: WITH
read: SHOW|DESCRIBE|DESC
read explain: EXPLAIN
read then: EXPLAIN ANALYZE [VERBOSE]
session limit: SET|RESET SESSION
session: COMMIT|ROLLBACK; USE; SET TIME+ZONE; SET PATH; DEALLOCATE PREPARE
session transaction: START TRANSACTION
session from: PREPARE
read immediate: EXECUTE IMMEDIATE
admin: SET ROLE; SET|RESET SESSION+AUTHORIZATION
write: INSERT INTO; UPDATE; DELETE FROM; MERGE INTO; TRUNCATE TABLE
define: CREATE [OR+REPLACE] TABLE|VIEW|MATERIALIZED+VIEW; DROP TABLE|VIEW|MATERIALIZED+VIEW|SCHEMA
define schema: CREATE SCHEMA
define alter: ALTER TABLE|VIEW|MATERIALIZED+VIEW|SCHEMA
define: COMMENT ON; REFRESH MATERIALIZED VIEW; ANALYZE
grant: GRANT|REVOKE|DENY
run: CALL|EXECUTE; CREATE [OR+REPLACE] FUNCTION; DROP FUNCTION
admin: CREATE|DROP ROLE|CATALOG
`

const trinoActions = `
define: ADD|ALTER|DROP|RENAME|SET|REFRESH
define: EXECUTE optimize|optimize_manifests|expire_snapshots|remove_orphan_files|drop_extended_stats
grant: SET AUTHORIZATION
run: EXECUTE
`

const clickhouseHeads = `
read query: SELECT|FROM|SHOW|DESCRIBE|DESC|EXISTS|CHECK
read with: WITH
read explain: EXPLAIN [AST|SYNTAX|QUERY+TREE|PLAN|PIPELINE|ESTIMATE]
session: USE; BEGIN [TRANSACTION]; COMMIT|ROLLBACK
session settings: SET
admin: SET ROLE; SET DEFAULT+ROLE
write insert: INSERT [INTO] [TABLE]
write: DELETE FROM; UPDATE; TRUNCATE
define table: CREATE|REPLACE [OR+REPLACE] [TEMPORARY] TABLE; CREATE|REPLACE [OR+REPLACE] VIEW|MATERIALIZED+VIEW
define table: CREATE|REPLACE [OR+REPLACE] DICTIONARY; CREATE DATABASE|SCHEMA
define: CREATE [UNIQUE] INDEX; DROP [TEMPORARY] TABLE|VIEW; DROP DICTIONARY|DATABASE|SCHEMA|INDEX
define: RENAME; EXCHANGE TABLES|DICTIONARIES; UNDROP TABLE; OPTIMIZE TABLE
define: SYSTEM SYNC+REPLICA|SYNC+DATABASE+REPLICA|REFRESH+VIEW|WAIT+VIEW|FLUSH+DISTRIBUTED
define alter: ALTER [TEMPORARY] TABLE
grant: GRANT|REVOKE
run: ATTACH|DETACH|BACKUP|RESTORE|EXECUTE; CREATE [OR+REPLACE] FUNCTION; DROP FUNCTION
admin: SYSTEM|KILL|MOVE; CREATE [OR+REPLACE] USER|ROLE|QUOTA|MASKING+POLICY
admin: CREATE [OR+REPLACE] [ROW] POLICY; CREATE [OR+REPLACE] [SETTINGS] PROFILE
admin: CREATE [OR+REPLACE] NAMED+COLLECTION|WORKLOAD|RESOURCE
admin: ALTER|DROP USER|ROLE|QUOTA|POLICY|ROW+POLICY|PROFILE|SETTINGS+PROFILE|MASKING+POLICY|NAMED+COLLECTION|WORKLOAD
admin: ALTER|DROP RESOURCE; ALTER DATABASE
`

const clickhouseActions = `
define: ADD|DROP|CLEAR|MODIFY|ALTER|COMMENT|RENAME|MATERIALIZE|ATTACH|DETACH|REPLACE|MOVE|UPDATE|DELETE|RESET|REMOVE|APPLY
grant: MODIFY SQL|DEFINER
run: FREEZE|UNFREEZE|FETCH|EXPORT|FORGET
`

const clickhouseSettings = `
allow_experimental_json_type allow_experimental_lightweight_delete allow_experimental_object_type
allow_nondeterministic_mutations alter_sync async_insert date_time_input_format date_time_output_format
distributed_ddl_output_mode distributed_ddl_task_timeout distributed_product_mode enable_lightweight_delete final
input_format_null_as_default insert_distributed_sync join_algorithm join_use_nulls lightweight_deletes_sync log_comment
max_block_size max_bytes_before_external_group_by max_bytes_before_external_sort max_execution_time max_insert_threads
max_memory_usage max_partitions_per_insert_block max_threads mutations_sync optimize_on_insert prefer_localhost_replica
replication_alter_partitions_sync select_sequential_consistency session_timezone use_query_cache wait_for_async_insert
`

const clickhouseEngines = `
mergetree replacingmergetree summingmergetree aggregatingmergetree collapsingmergetree versionedcollapsingmergetree
coalescingmergetree graphitemergetree replicatedmergetree replicatedreplacingmergetree replicatedsummingmergetree
replicatedaggregatingmergetree replicatedcollapsingmergetree replicatedversionedcollapsingmergetree
replicatedcoalescingmergetree replicatedgraphitemergetree sharedmergetree sharedreplacingmergetree
sharedsummingmergetree sharedaggregatingmergetree sharedcollapsingmergetree sharedversionedcollapsingmergetree
sharedcoalescingmergetree distributed memory log tinylog stripelog null set join buffer dictionary merge view
materializedview generaterandom atomic replicated shared ordinary lazy
`
