-- The vars oidc_dbt_users and oidc_dbt_watched as rows. A watched user that belongs to no target has no credential.
{%- set rows = [] %}
{%- for target_name, users in (var('oidc_dbt_users') or {}).items() %}
  {%- for user in ([users] if users is string else users) %}{% do rows.append((target_name, user)) %}{% endfor %}
{%- endfor %}
{%- for user in var('oidc_dbt_watched') or [] %}{% do rows.append((none, user)) %}{% endfor %}
{%- for target_name, user in rows %}
select
    {% if target_name is none %}{{ oidc_dbt_audit.text_null() }}{% else %}{{ oidc_dbt_audit.text(oidc_dbt_audit.literal(target_name)) }}{% endif %} as target,
    {{ oidc_dbt_audit.text(oidc_dbt_audit.literal(user | lower)) }} as user_pattern
{%- if not loop.last %}
union all
{%- endif %}
{%- else %}
select {{ oidc_dbt_audit.text_null() }} as target, {{ oidc_dbt_audit.text_null() }} as user_pattern
limit 0
{%- endfor %}
