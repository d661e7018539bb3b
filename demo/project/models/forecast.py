import os
import time


def model(dbt, session):
    """Stands for a model that takes its time: FORECAST_SECONDS."""
    dbt.config(materialized="table")
    dbt.ref("orders")
    time.sleep(float(os.environ.get("FORECAST_SECONDS", "0")))
    return session.sql("select 3 as months")
