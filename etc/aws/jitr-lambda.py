"""Just-in-time registration: a Lambda function that a rule calls with each message on
$aws/events/certificates/registered/+. It lets a gateway in whose certificate has registered itself.

The certificate becomes ACTIVE last: whatever fails before leaves it PENDING_ACTIVATION, which lets nobody in, and the
gateway's next attempt sends another message. Every step may be repeated.

Environment: POLICY_NAME, the policy of the gateways (default enrolld-device).
"""

import contextlib
import os
import re
import ssl

COMMON_NAME = bytes.fromhex("0603550403")  # the object identifier 2.5.4.3 in DER
THING_NAME = re.compile(r"[a-zA-Z0-9:_-]{1,128}")


def allowed(common_name, event):
    """Ask your production records here whether this gateway was made, and by whom: event["caCertificateId"] says whose
    authority has signed. The authority alone is trusted as the file is."""
    return THING_NAME.fullmatch(common_name) is not None


def lambda_handler(event, context, iot=None):
    """iot: the client to use, for tests. Returns what was done; an exception leaves the certificate as it was."""
    if iot is None:
        import boto3

        iot = boto3.client("iot")
    certificate_id = event["certificateId"]
    certificate = iot.describe_certificate(certificateId=certificate_id)["certificateDescription"]
    if certificate["status"] != "PENDING_ACTIVATION":
        return {"certificateId": certificate_id, "result": "kept", "status": certificate["status"]}
    name = common_name(certificate["certificatePem"])
    if not allowed(name, event):
        raise PermissionError(f"certificate {certificate_id}: no gateway {name!r}")
    arn = certificate["certificateArn"]
    iot.attach_policy(policyName=os.environ.get("POLICY_NAME", "enrolld-device"), target=arn)
    with contextlib.suppress(iot.exceptions.ResourceAlreadyExistsException):  # with attributes or a type: they stay
        iot.create_thing(thingName=name)
    iot.attach_thing_principal(thingName=name, principal=arn, thingPrincipalType="EXCLUSIVE_THING")
    iot.update_certificate(certificateId=certificate_id, newStatus="ACTIVE")
    return {"certificateId": certificate_id, "result": "activated", "thingName": name}


def element(data):
    """The first element of DER: its content, and what is behind it."""
    size, start = data[1], 2
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(data[2:start], "big")
    return data[start : start + size], data[start + size :]


def common_name(pem):
    """That of the certificate's subject: RFC 5280, section 4.1. The runtime has no library that reads certificates."""
    certificate, _ = element(ssl.PEM_cert_to_DER_cert(pem))
    rest, _ = element(certificate)
    if rest[0] == 0xA0:  # the version
        _, rest = element(rest)
    for _ in ("serialNumber", "signature", "issuer", "validity"):
        _, rest = element(rest)
    names, _ = element(rest)
    while names:
        relative_name, names = element(names)
        while relative_name:
            attribute, relative_name = element(relative_name)
            if attribute.startswith(COMMON_NAME):
                return element(attribute[len(COMMON_NAME) :])[0].decode()
    raise ValueError("the certificate has no common name")
