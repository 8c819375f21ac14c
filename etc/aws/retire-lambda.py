"""Retirement: a Lambda function that a rule calls with each message on things/THING/retire. A gateway that has renewed
its certificate asks there to have the old one taken away; the answer goes to .../accepted or .../rejected.

Who asks is what principal() says of the connection, never the payload. The old certificate becomes INACTIVE and is
detached from the thing; deleting it is for a later job, when nobody needs to set it ACTIVE again (README.md).

Every step may be repeated: a gateway sends its message until it has the answer, and what is retired already, or deleted,
is answered as accepted.

Environment: RETIRE_TOPIC, where gateways ask (default things/{thing}/retire).
"""

import json
import os
import re

import boto3

CERTIFICATE_ID = re.compile(r"[0-9a-f]{64}")


class Refused(Exception):
    """What the gateway is told."""


def lambda_handler(event, context):
    """event: what the rule selects: old, principal, topic. Returns what was done; an exception is for the log, and answers
    nobody."""
    iot = boto3.client("iot")
    current = describe(iot, event["principal"])
    if current is None or current["status"] != "ACTIVE":
        raise PermissionError(f"{event['principal']!r} is no ACTIVE certificate of this account")
    things = things_of(iot, current)
    if event["topic"] not in [os.environ.get("RETIRE_TOPIC", "things/{thing}/retire").format(thing=t) for t in things]:
        raise PermissionError(f"certificate {current['certificateId']} has no thing of topic {event['topic']!r}")
    old = event.get("old")
    try:
        result = retire(iot, current, set(things), old)
    except Refused as refusal:
        answer(iot, event["topic"] + "/rejected", {"old": old, "message": str(refusal)})
        return {"principal": current["certificateId"], "old": old, "result": "rejected", "reason": str(refusal)}
    answer(iot, event["topic"] + "/accepted", {"old": old})
    return {"principal": current["certificateId"], "old": old, "result": result}


def retire(iot, current, things, old_id):
    if not isinstance(old_id, str) or CERTIFICATE_ID.fullmatch(old_id) is None:
        raise Refused("old is no id of a certificate")
    if old_id == current["certificateId"]:
        raise Refused("old is the certificate in use")
    old = describe(iot, old_id)
    if old is None:
        return "gone"
    attached = things_of(iot, old)
    if not attached and old["status"] != "ACTIVE":
        return "kept"
    if not attached or not things.issuperset(attached):
        raise Refused("old is no certificate of this thing")
    # Else a certificate that has leaked could take its successor away.
    if old["creationDate"] > current["creationDate"]:
        raise Refused("old is newer than the certificate in use")
    if old["status"] == "ACTIVE":
        iot.update_certificate(certificateId=old_id, newStatus="INACTIVE")
    for thing in attached:
        iot.detach_thing_principal(thingName=thing, principal=old["certificateArn"])
    return "retired"


def describe(iot, certificate_id):
    """None: there is no such certificate. principal() is something else than an id for who has none."""
    if not isinstance(certificate_id, str) or CERTIFICATE_ID.fullmatch(certificate_id) is None:
        return None
    try:
        return iot.describe_certificate(certificateId=certificate_id)["certificateDescription"]
    except iot.exceptions.ResourceNotFoundException:
        return None


def things_of(iot, certificate):
    things, more = [], {}
    while True:
        page = iot.list_principal_things(principal=certificate["certificateArn"], **more)
        things += page["things"]
        if not page.get("nextToken"):
            return things
        more = {"nextToken": page["nextToken"]}


def answer(iot, topic, payload):
    endpoint = iot.describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"]
    data = boto3.client("iot-data", endpoint_url=f"https://{endpoint}")
    data.publish(topic=topic, qos=1, payload=json.dumps(payload).encode())
