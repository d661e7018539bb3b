{{ config(enabled=structures()) }}
select
    insertid,
    {{ moment('"timestamp"') }} as "timestamp",
    struct_pack(
        servicename := servicename,
        methodname := methodname,
        authenticationinfo := struct_pack(
            principalemail := principalemail, principalsubject := principalsubject, serviceaccountkeyname := serviceaccountkeyname
        ),
        requestmetadata := struct_pack(callerip := callerip, callersupplieduseragent := callersupplieduseragent)
    ) as protopayload_auditlog
from {{ ref('seed_bigquery_log') }}
