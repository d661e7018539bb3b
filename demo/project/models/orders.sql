-- Written to the lake as Parquet, with the temporary credential.
{{ config(materialized='external', location='s3://lake/orders.parquet') }}
select order_id, customer, cast(ordered_on as date) as ordered_on, amount from {{ ref('raw_orders') }}
