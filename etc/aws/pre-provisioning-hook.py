"""The hook of the template `enrolld`: a Lambda function that AWS IoT asks before RegisterThing does anything, whenever a
gateway enrolls by the claim. Whoever has the claim can name any serial number, and a certificate is *added* to a thing
that exists already; so:

- a thing that does not exist may be made;
- an existing one gets a certificate if all those that it has are dead: deleted, INACTIVE, REVOKED or expired. So a
  gateway whose certificate has expired recovers by itself, and one that was taken out of service by an operator, too,
  unless the operator also says `reprovision=never`;
- else, as with a gateway whose TPM was cleared, only if an operator allows it by the thing's attribute
  `reprovision=allowed`. It stays allowed until the operator takes the attribute away; README.md has the commands.

AWS IoT takes an error, and no answer within five seconds, for a no.

Environment: THING_PREFIX, how the template begins the names of things (default gateway-).
"""

import os
import re
import time

import boto3

THING_NAME = re.compile(r"[a-zA-Z0-9:_-]{1,128}")


def made_by_us(serial):
    """Ask your production records here whether there is a gateway of that serial number."""
    return THING_NAME.fullmatch(serial) is not None


def lambda_handler(event, context):
    serial = event["parameters"].get("SerialNumber", "")
    allowed, reason = decide(boto3.client("iot"), serial, event["certificateId"])
    # For the log: the gateway hears no more than 403.
    print({"serial": serial, "clientId": event["clientId"], "allowed": allowed, "reason": reason})
    return {"allowProvisioning": allowed}


def decide(iot, serial, new_id):
    name = os.environ.get("THING_PREFIX", "gateway-") + serial
    if not made_by_us(serial) or THING_NAME.fullmatch(name) is None:
        return False, "no gateway of ours"
    try:
        thing = iot.describe_thing(thingName=name)
    except iot.exceptions.ResourceNotFoundException:
        return True, "a new thing"
    reprovision = thing.get("attributes", {}).get("reprovision", "")
    if reprovision:
        return reprovision == "allowed", f"reprovision={reprovision}"
    for arn in principals_of(iot, name):
        if not arn.endswith(f":cert/{new_id}") and is_alive(iot, arn):
            return False, f"{arn} is alive"
    return True, "no certificate of the thing is alive"


def principals_of(iot, name):
    more = {}
    while True:
        page = iot.list_thing_principals(thingName=name, **more)
        yield from page["principals"]
        if not page.get("nextToken"):
            return
        more = {"nextToken": page["nextToken"]}


def is_alive(iot, arn):
    kind, _, certificate_id = arn.rpartition(":cert/")
    if not kind:
        return True  # an identity of Amazon Cognito: nobody knows
    try:
        certificate = iot.describe_certificate(certificateId=certificate_id)["certificateDescription"]
    except iot.exceptions.ResourceNotFoundException:
        return False
    if certificate["status"] in ("INACTIVE", "REVOKED"):
        return False
    return certificate["validity"]["notAfter"].timestamp() > time.time()
