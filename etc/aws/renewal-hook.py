"""The hook of the template `enrolld-renew`: a Lambda function that AWS IoT asks before RegisterThing does anything,
whenever a gateway renews its certificate. The gateway is connected with the certificate that it has, and names its
thing: a new certificate is for the very thing that this one hangs on, and for no other.

AWS IoT takes an error, and no answer within five seconds, for a no. Nothing is retired here: the new certificate has
not proven anything yet (retire-lambda.py).
"""

import boto3


def lambda_handler(event, context):
    thing = event["parameters"].get("ThingName")
    things = things_of(boto3.client("iot"), event["templateArn"], event["claimCertificateId"])
    # For the log: the gateway hears no more than 403.
    print({"principal": event["claimCertificateId"], "things": things, "wanted": thing})
    return {"allowProvisioning": thing in things}


def things_of(iot, template_arn, certificate_id):
    arn = template_arn.rpartition(":")[0] + ":cert/" + certificate_id
    things, more = [], {}
    while True:
        page = iot.list_principal_things(principal=arn, **more)
        things += page["things"]
        if not page.get("nextToken"):
            return things
        more = {"nextToken": page["nextToken"]}
