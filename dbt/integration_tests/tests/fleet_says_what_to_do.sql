with expected as (
    {%- set rows = [
        ('acme/analytics', 'dbt_old', 'still used'),
        ('acme/analytics', 'dbt_gone', 'delete now'),
        ('acme/analytics', 'dbt_shared', 'migrate the others'),
        ('acme/warehouse', 'dbt_shared', 'migrate'),
        ('acme/finance', 'dbt@acme-dbt.iam.gserviceaccount.com', 'still used' if structures() else 'delete now'),
        ('acme/marketing', '', 'done'),
    ] %}
    {%- for repository, stored_user, advice in rows %}
    {% if not loop.first %}union all {% endif %}select '{{ repository }}' as repository, '{{ stored_user }}' as stored_user, '{{ advice }}' as advice
    {%- endfor %}
)

select repository, stored_user, advice
from (
    select repository, coalesce(stored_user, '') as stored_user, advice from {{ ref('oidc_dbt__fleet') }}
    union all
    select repository, stored_user, advice from expected
) as both_sides
group by repository, stored_user, advice
having count(*) <> 2
