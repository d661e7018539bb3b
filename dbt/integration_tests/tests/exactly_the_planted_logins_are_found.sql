-- The logins that have no record, each with its reason, and no other.
{%- set planted = [] %}
{%- for kind, id, reason in [
    ('snowflake', 'bad-01', 'another_factor'), ('snowflake', 'bad-02', 'no_credential'), ('bigquery', 'bad-03', 'no_credential'),
    ('redshift', '904', 'no_credential'), ('databricks', 'bad-05', 'another_factor'), ('cloudtrail', 'AKIA0000000000000006', 'no_credential'),
    ('postgres', 'bad-07', 'no_credential'), ('postgres', 'bad-08', 'no_credential'), ('trino', 'bad-09', 'no_run'),
    ('clickhouse', 'bad-10', 'another_factor'), ('snowflake', 'bad-11', 'unknown_outcome'),
    ('cloudtrail', 'ASIA0000000000000012', 'unknown_outcome'),
] %}
  {%- if oidc_dbt_audit.reads(kind) %}{% do planted.append((id, reason)) %}{% endif %}
{%- endfor %}
with expected as (
    {%- for id, reason in planted %}
    {% if not loop.first %}union all {% endif %}select '{{ id }}' as login, '{{ reason }}' as reason
    {%- endfor %}
),

found as (
    select
        {{ dbt.split_part(dbt.split_part('login_id', "'@'", 1), "'/'", 1) }} as login,
        reason
    from {{ ref('oidc_dbt__unmatched_logins') }}
),

counted as (
    select login, reason, count(*) as times
    from (select 1 as expected, login, reason from expected union all select 0 as expected, login, reason from found) as both_sides
    group by login, reason
    having sum(expected) <> 1 or count(*) <> 2
)

select * from counted
