with counted as (
    select
        sum(case when target = 'snow' and rule_number = 2 and is_review_due then 1 else 0 end) as due_although_reviewed,
        sum(case when rule_number = 0 and denied_requests <> 1 then 1 else 0 end) as wrong_denials,
        sum(case when target = 'pg' and credentials_issued <> 4 then 1 else 0 end) as wrong_issues,
        count(distinct target) as targets
    from {{ ref('oidc_dbt__access_review') }}
)

select * from counted where due_although_reviewed <> 0 or wrong_denials <> 0 or wrong_issues <> 0 or targets <> 9
