{{ config(enabled=structures()) }}
select
    eventid, eventtime, eventsource, eventname, sourceipaddress, useragent, errorcode, responseelements,
    struct_pack(
        "type" := useridentity__type, arn := useridentity__arn, accesskeyid := useridentity__accesskeyid,
        sessioncontext := struct_pack(sessionissuer := struct_pack(arn := useridentity__sessionissuer__arn))
    ) as useridentity
from {{ ref('seed_cloudtrail') }}
