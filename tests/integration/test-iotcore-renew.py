#!/usr/bin/env python3
"""Renewal, retirement and recovery as the cloud sees them: the rule, the functions and the policies of etc/aws, run by
the stand-in for AWS IoT Core, driven by a plain client."""

import json

import harness
from authority import certificate_id
from mqtt_client import CREATE_FROM_CSR, Client, make_request, register_thing
from parts import Cloud

NOT_AUTHORIZED = 0x87
FIRST, OTHER = "GW-0001", "GW-0002"
RENEW = register_thing("enrolld-renew")
UNKNOWN = 64 * "0"


class Gateway:
    """A thing with a certificate, which may get others."""

    def __init__(self, case, thing):
        self.case, self.cloud, self.thing, self.number = case, case.cloud, thing, 0
        self.certificate = self.cloud.directory / f"{thing}.pem"
        self.key = self.cloud.directory / f"{thing}.key"

    @property
    def id(self):
        return certificate_id(self.certificate.read_text())

    def connect(self, client_id=None):
        client = Client(self.case, self.cloud, client_id or f"{self.thing}-enrolld", self.certificate, self.key)
        self.case.assertEqual(client.connected(), 0)
        return client

    def ask(self, client, template=RENEW, **parameters):
        """A certificate, and the answer of RegisterThing for it: accepted, reply."""
        self.number += 1
        name = f"{self.thing}-{self.number}"
        request = make_request(self.case.directory, name, f"/CN={self.thing}")
        accepted, reply = client.request(CREATE_FROM_CSR, certificateSigningRequest=request)
        self.case.assertTrue(accepted, reply)
        pem = self.case.directory / f"{name}.pem"
        pem.write_text(reply["certificatePem"])
        token = reply["certificateOwnershipToken"]
        answer = client.request(template, certificateOwnershipToken=token, parameters=parameters)
        if answer[0]:
            self.certificate, self.key = pem, self.case.directory / f"{name}.key"
        return answer

    def renew(self):
        client = self.connect()
        accepted, reply = self.ask(client, ThingName=self.thing)
        self.case.assertTrue(accepted, reply)
        self.case.assertEqual(reply["thingName"], self.thing)
        client.disconnect()
        return reply

    def retire(self, old, client=None, topic=None, **members):
        """The answer of the function: accepted, payload."""
        client = client or self.connect()
        answers = f"things/{self.thing}/retire"
        self.case.assertEqual(client.subscribe(f"{answers}/accepted", f"{answers}/rejected"), [0, 0])
        self.case.assertNotEqual(
            client.publish(topic or answers, json.dumps({"old": old} | members).encode()), NOT_AUTHORIZED
        )
        return client.reply(answers)


class Cloudy(harness.TestCase):
    def start(self, *options, devices=(FIRST, OTHER)):
        names = [f"--device={name}" for name in devices]
        self.cloud = Cloud(self, "--connect-rate=off", "--claim-key=ecdsa", "--control-port=0", *names, *options)
        self.gateways = [Gateway(self, name) for name in devices]
        return self.gateways

    def status(self, identifier):
        certificate = self.cloud.registry()["certificates"][identifier]
        return certificate["status"], list(certificate["things"])

    def wait_function(self, name, count=1):
        """What its call number count has said, and how it has failed."""
        events = harness.wait_for(f"{name} {count}", lambda: self.cloud.events(event="function", name=name)[count - 1 :])
        return events[0].get("result"), events[0].get("error")


class Renewal(Cloudy):
    def test_by_the_policy_of_devices(self):
        """It has all that a renewal, the proof and the retirement need."""
        gateway, _ = self.start("--hooks", "--retire")
        old = gateway.id
        reply = gateway.renew()
        self.assertEqual(reply.get("deviceConfiguration", {}), {})
        self.assertNotEqual(gateway.id, old)
        client = gateway.connect()
        self.assertNotEqual(client.publish(f"things/{FIRST}/proof", b"{}"), NOT_AUTHORIZED)
        self.assertEqual(gateway.retire(old, client), (True, {"old": old}))
        self.assertEqual(self.status(old), ("INACTIVE", []))
        self.assertEqual(self.status(gateway.id), ("ACTIVE", [FIRST]))
        self.assertEqual(self.cloud.registry()["certificates"][gateway.id]["policies"], ["enrolld-device"])
        self.assertEqual(self.cloud.events(event="denied"), [])

    def test_no_other_thing(self):
        gateway, other = self.start("--hooks")
        client = gateway.connect()
        for parameters in ({"ThingName": OTHER}, {"ThingName": "new"}, {}, {"ThingName": FIRST.lower()}):
            accepted, reply = gateway.ask(client, **parameters)
            self.assertFalse(accepted, parameters)
            self.assertEqual(reply["statusCode"], 403, reply)
        self.assertEqual(self.cloud.certificates_of(OTHER), {other.id: "ACTIVE"})
        self.assertEqual(self.cloud.certificates_of(FIRST), {gateway.id: "ACTIVE"})
        self.assertEqual(sorted(self.cloud.things()), [FIRST, OTHER])

    def test_attributes_stay(self):
        gateway, _ = self.start("--hooks")
        self.cloud.aws("update-thing", "--thing-name", FIRST, "--attribute-payload", "attributes={Room=7}")
        gateway.renew()
        self.assertEqual(self.cloud.registry()["things"][FIRST]["attributes"], {"Room": "7"})

    def test_nothing_but_the_template_for_renewals(self):
        """A device may not register under the claim's template, where it could name any serial number."""
        gateway, _ = self.start("--hooks")
        client = gateway.connect()
        topic = register_thing("enrolld")
        self.assertEqual(client.subscribe(f"{topic}/accepted"), [NOT_AUTHORIZED])
        self.assertEqual(client.publish(topic, b"{}"), NOT_AUTHORIZED)


class Retirement(Cloudy):
    def test_basic_ingest(self):
        gateway, _ = self.start("--retire")
        old = gateway.id
        gateway.renew()
        topic = f"$aws/rules/enrolld_retire/things/{FIRST}/retire"
        self.assertEqual(gateway.retire(old, topic=topic), (True, {"old": old}))
        self.assertEqual(self.status(old), ("INACTIVE", []))
        # Not for another thing's topic, nor with another ending.
        client = gateway.connect()
        for name in (topic.replace(FIRST, OTHER), topic + "/more", "$aws/rules/enrolld_retire"):
            self.assertEqual(client.publish(name, b"{}"), NOT_AUTHORIZED)


if __name__ == "__main__":
    harness.main()
