-- Read back from the lake, with the same credential.
-- depends_on: {{ ref('orders') }}, {{ ref('forecast') }}
select customer, count(*) as orders, sum(amount) as total
from read_parquet('s3://lake/orders.parquet')
group by customer
