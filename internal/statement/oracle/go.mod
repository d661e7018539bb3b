module github.com/oidc-dbt/oidc-dbt/internal/statement/oracle

go 1.26.8

require (
	github.com/oidc-dbt/oidc-dbt v0.0.0
	github.com/pganalyze/pg_query_go/v6 v6.2.2
	github.com/sqlc-dev/doubleclick v1.0.0
	github.com/wasilibs/go-pgquery v0.0.0-20260728010200-155ebad2880e
	google.golang.org/protobuf v1.36.12
)

require (
	github.com/tetratelabs/wazero v1.12.0 // indirect
	github.com/wasilibs/wazero-helpers v0.0.0-20250123031827-cd30c44769bb // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/oidc-dbt/oidc-dbt => ../../..
