-- What was read back from the lake is what the seed held.
select * from {{ ref('customers') }} where customer = 'ada' and (orders <> 2 or total <> 19.75)
union all
select 'all', count(*), sum(total) from {{ ref('customers') }} having count(*) <> 3 or sum(total) <> 174.65
