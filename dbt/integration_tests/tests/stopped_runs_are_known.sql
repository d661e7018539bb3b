-- SNOW-0 was stopped two minutes after its decision, when it had a credential.
select correlation_uid, outcome, decided_at, stopped_at
from {{ ref('oidc_dbt__decisions') }}
where
    (stopped_at is not null and (correlation_uid <> 'SNOW-0' or outcome <> 'issued' or stopped_at <= decided_at))
    or (stopped_at is null and correlation_uid = 'SNOW-0')
