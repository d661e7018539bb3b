"""Reads the lake with a stored key, as a forgotten script would."""

import os

import duckdb

lake = duckdb.connect()
lake.execute("load httpfs")
lake.execute(
    f"create secret (type s3, key_id '{os.environ['S3_KEY_ID']}', secret '{os.environ['S3_SECRET']}', "
    f"endpoint '{os.environ['S3_ENDPOINT']}', url_style 'path', use_ssl false)"
)
print(lake.sql("select count(*) from read_parquet('s3://lake/orders.parquet')").fetchone()[0])
