package statement

// A code is a keyword that means something inside a statement.
type code uint8

const (
	kwAs code = iota + 1
	kwArray
	kwAuthorization
	kwClause // what may follow the tables of a query
	kwCluster
	kwCreate
	kwDefiner
	kwDelete
	kwDescribe
	kwEngine
	kwExecute
	kwExists
	kwFor
	kwFormat
	kwFrom
	kwFunction
	kwGoverning // what kinds of policies there are
	kwGrant
	kwIdentifier
	kwIf
	kwInfile
	kwInsert
	kwInto
	kwJoin
	kwKey
	kwMerge
	kwOn
	kwOnly
	kwOperator // what an operand follows
	kwOutfile
	kwParallel
	kwPolicy
	kwProcedure
	kwRead
	kwRecursive
	kwSecurity
	kwSelect
	kwSession
	kwSet
	kwSettings
	kwShare
	kwTable
	kwUpdate
	kwValues
	kwWith
	kwWrite
)

var codes = map[string]code{
	"AS": kwAs, "AUTHORIZATION": kwAuthorization, "CLUSTER": kwCluster,
	"CREATE": kwCreate, "DELETE": kwDelete, "ENGINE": kwEngine, "EXECUTE": kwExecute, "EXISTS": kwExists, "FOR": kwFor,
	"FORMAT": kwFormat, "FROM": kwFrom, "FUNCTION": kwFunction, "GRANT": kwGrant, "IDENTIFIER": kwIdentifier, "IF": kwIf,
	"INFILE": kwInfile, "INSERT": kwInsert, "INTO": kwInto, "KEY": kwKey, "MERGE": kwMerge, "ON": kwOn, "ONLY": kwOnly,
	"OUTFILE": kwOutfile, "PARALLEL": kwParallel, "POLICY": kwPolicy, "POLICIES": kwPolicy, "PROCEDURE": kwProcedure, "READ": kwRead,
	"RECURSIVE": kwRecursive, "SELECT": kwSelect, "SESSION": kwSession, "SET": kwSet, "SETTINGS": kwSettings,
	"SHARE": kwShare, "TABLE": kwTable, "UPDATE": kwUpdate, "VALUES": kwValues, "WITH": kwWith, "WRITE": kwWrite,
	"ACCESS": kwGoverning, "AGGREGATION": kwGoverning, "JOIN": kwJoin, "LIFECYCLE": kwGoverning,
	"MASKING": kwGoverning, "PRIVACY": kwGoverning, "PROJECTION": kwGoverning, "RLS": kwGoverning,
	"ARRAY": kwArray, "DEFINER": kwDefiner, "DESC": kwDescribe, "DESCRIBE": kwDescribe, "SECURITY": kwSecurity,
	"AND": kwOperator, "BETWEEN": kwOperator, "CASE": kwOperator, "DIV": kwOperator, "ELSE": kwOperator, "ESCAPE": kwOperator,
	"ILIKE": kwOperator, "IN": kwOperator, "INTERVAL": kwOperator, "IS": kwOperator, "LIKE": kwOperator, "MOD": kwOperator,
	"NOT": kwOperator, "OR": kwOperator, "OVER": kwOperator, "REGEXP": kwOperator, "THEN": kwOperator, "USING": kwOperator,
	"WHEN":   kwOperator,
	"EXCEPT": kwClause, "GROUP": kwClause, "HAVING": kwClause, "INTERSECT": kwClause, "LIMIT": kwClause, "ORDER": kwClause,
	"PREWHERE": kwClause, "QUALIFY": kwClause, "UNION": kwClause, "WHERE": kwClause, "WINDOW": kwClause,
}

func codeOf(upper []byte) code { return codes[string(upper)] }
