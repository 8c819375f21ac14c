"""Gateways as the cloud sees them when they renew, retire and recover: a plain client, and the stand-in with the rules and
hooks of etc/aws."""

import json

import harness
from authority import certificate_id
from mqtt_client import CREATE_FROM_CSR, Client, make_request, register_thing
from parts import Cloud

NOT_AUTHORIZED = 0x87
FIRST, OTHER = "GW-0001", "GW-0002"
RENEW = register_thing("enrolld-renew")


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

    def retire(self, old, client=None, to=None, **members):
        """The answer of the function: accepted, payload."""
        client = client or self.connect()
        answers = f"things/{self.thing}/retire"
        self.case.assertEqual(client.subscribe(f"{answers}/accepted", f"{answers}/rejected"), [0, 0])
        self.case.assertNotEqual(
            client.publish(to or answers, json.dumps({"old": old} | members).encode()), NOT_AUTHORIZED
        )
        return client.reply(answers)


class CloudOfTwo(harness.TestCase):
    def start(self, *options, front=False):
        """A cloud with two gateways."""
        options = ["--connect-rate=off", "--claim-key=ecdsa", "--control-port=0", *options]
        self.cloud = Cloud(self, f"--device={FIRST}", f"--device={OTHER}", *options, front=front)
        return Gateway(self, FIRST), Gateway(self, OTHER)

    def status(self, identifier):
        certificate = self.cloud.registry()["certificates"][identifier]
        return certificate["status"], list(certificate["things"])

    def wait_function(self, name, count=1):
        """What its call number count has said, and how it has failed."""
        events = harness.wait_for(f"{name} {count}", lambda: self.cloud.events(event="function", name=name)[count - 1 :])
        return events[0].get("result"), events[0].get("error")
