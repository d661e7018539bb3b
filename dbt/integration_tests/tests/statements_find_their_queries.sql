-- Four statements are in a log; the fifth is in none.
select statement_key, statement_sha256, query_id
from {{ ref('oidc_dbt__statements') }}
where (statement_key like '%drop table gone%') <> (query_id is null)
