with counted as (
    select outcome, count(*) as requests from {{ ref('oidc_dbt__decisions') }} group by outcome
),

expected as (
    {%- for outcome, requests in [('issued', 25), ('renewed', 1), ('denied', 1), ('failed', 1), ('skipped', 1), ('stopped', 1), ('unknown', 2)] %}
    {% if not loop.first %}union all {% endif %}select '{{ outcome }}' as outcome, {{ requests }} as requests
    {%- endfor %}
)

select outcome, requests
from (select outcome, requests from counted union all select outcome, requests from expected) as both_sides
group by outcome, requests
having count(*) <> 2
