select 1 as id, '{{ run_started_at }}' as built_at
