#!/usr/bin/env python3
"""Recovery by the claim as the cloud sees it: the pre-provisioning hook of etc/aws, and other hooks, run by the stand-in
for AWS IoT Core."""

import json

import harness
from mqtt_client import CREATE_FROM_CSR, Closed, make_request, register_thing
from parts import AwsError
from renewing import FIRST, OTHER, CloudOfTwo, Gateway


class Recovery(CloudOfTwo):
    """The hook of the claim's template."""

    serial, thing = "SN-7", "gateway-SN-7"

    def start(self, *options, **settings):
        super().start("--hooks", *options, **settings)
        self.gateway = Gateway(self, self.thing)

    def enroll(self, **parameters):
        """As a gateway that has nothing but the claim; the id of its certificate, or the status code of the refusal."""
        self.gateway.certificate, self.gateway.key = self.cloud.claim_certificate, self.cloud.claim_key
        client = self.gateway.connect("any-enroll")
        parameters = parameters or {"SerialNumber": self.serial}
        accepted, reply = self.gateway.ask(client, register_thing("enrolld"), **parameters)
        client.disconnect()
        return self.gateway.id if accepted else reply["statusCode"]

    def allow(self, value):
        self.cloud.aws("update-thing", "--thing-name", self.thing, "--attribute-payload",
                       json.dumps({"attributes": {"reprovision": value}, "merge": True}))  # fmt: skip

    def certificates(self):
        return self.cloud.certificates_of(self.thing)

    def test_thing_that_is_new_and_one_that_is_there(self):
        self.start()
        first = self.enroll()
        self.assertEqual(self.certificates(), {first: "ACTIVE"})
        self.assertEqual(self.enroll(), 403)
        self.assertEqual(self.certificates(), {first: "ACTIVE"})
        self.assertEqual(self.enroll(SerialNumber="SN-8") in self.cloud.device_certificates(), True)

    def test_each_way_to_be_dead(self):
        self.start()
        for status in ("INACTIVE", "REVOKED"):
            before = self.enroll()
            self.assertEqual(self.enroll(), 403)
            self.cloud.set_certificate(before, status)
        before = self.enroll()
        self.assertEqual(sorted(self.certificates().values()), ["ACTIVE", "INACTIVE", "REVOKED"])
        # One that lives among dead ones is enough for a no.
        self.assertEqual(self.enroll(), 403)
        arn = f"arn:aws:iot:eu-central-1:123456789012:cert/{before}"
        self.cloud.set_certificate(before, "INACTIVE")
        self.cloud.aws("detach-thing-principal", "--thing-name", self.thing, "--principal", arn)
        self.cloud.aws("delete-certificate", "--certificate-id", before, "--force-delete")
        self.assertIsInstance(self.enroll(), str)

    def test_expired(self):
        self.start("--issuer=private:30")
        first = self.enroll()
        self.cloud.edit(clockOffset=29 * 86400)
        self.assertEqual(self.enroll(), 403)
        self.cloud.edit(clockOffset=30 * 86400 + 60)
        second = self.enroll()
        self.assertEqual(self.certificates(), {first: "ACTIVE", second: "ACTIVE"})
        self.assertEqual(self.enroll(), 403)

    def test_thing_without_certificates(self):
        self.start()
        self.cloud.aws("create-thing", "--thing-name", self.thing)
        self.assertIsInstance(self.enroll(), str)

    def test_allowed_by_an_operator(self):
        self.start()
        first = self.enroll()
        self.allow("allowed")
        second = self.enroll()
        self.assertEqual(self.certificates(), {first: "ACTIVE", second: "ACTIVE"})
        self.assertEqual(self.cloud.registry()["things"][self.thing]["attributes"]["reprovision"], "allowed")
        self.allow("")
        self.assertEqual(self.cloud.registry()["things"][self.thing]["attributes"], {"SerialNumber": self.serial})
        self.assertEqual(self.enroll(), 403)

    def test_forbidden_by_an_operator(self):
        """A gateway that was stolen, and still has the claim."""
        self.start()
        first = self.enroll()
        self.allow("never")
        self.cloud.set_certificate(first, "REVOKED")
        self.assertEqual(self.enroll(), 403)
        for value in ("Allowed", "allowed,", "true"):
            self.allow(value)
            self.assertEqual(self.enroll(), 403)
        self.allow("")
        self.assertIsInstance(self.enroll(), str)

    def test_serial_numbers_that_are_none(self):
        self.start()
        wrong = ("", "a b", "a/b", "a" * 129, "a" * 125, "\u00e9", "a\n")
        for parameters in ({"Room": "7"}, *({"SerialNumber": serial} for serial in wrong)):
            self.assertEqual(self.enroll(**parameters), 403, parameters)
        self.assertEqual(sorted(self.cloud.things()), [FIRST, OTHER])

    def test_hooks_that_fail(self):
        self.start()
        broken = {
            "raise ValueError('x')": "ValueError",
            "return None": None,
            "return 7": None,
            "return {}": None,
            "return {'allowProvisioning': 'true'}": None,
            "return {'allowProvisioning': 1}": None,
            "return {'allowProvisioning': False}": None,
            "return {1, 2}": "without an answer",
            "import os; os._exit(0)": "without an answer",
            "import time; time.sleep(60)": "in time",
        }
        for count, (line, error) in enumerate(broken.items(), 1):
            self.set_hook(line)
            self.assertEqual(self.enroll(), 403, line)
            said = self.wait_function("enrolld-hook", count)[1]
            self.assertIn(error, said) if error else self.assertIsNone(said)
        file = self.directory / "hook.py"
        file.write_text("not Python")
        self.assertEqual(self.enroll(), 403)
        file.unlink()
        self.assertEqual(self.enroll(), 403)
        self.assertEqual(sorted(self.cloud.things()), [FIRST, OTHER])

    def set_hook(self, line):
        file = self.directory / "hook.py"
        file.write_text(f"def lambda_handler(event, context):\n    {line}\n")
        self.cloud.set_function("enrolld-hook", file)

    def test_what_a_hook_is_told_and_may_say(self):
        self.start()
        seen = self.directory / "seen"
        self.set_hook(f"import json; json.dump(event, open({str(seen)!r}, 'w')); "
                      "return {'allowProvisioning': True, 'parameterOverrides': {'SerialNumber': 'SN-9'}}")  # fmt: skip
        identifier = self.enroll()
        event = json.loads(seen.read_text())
        certificate = self.cloud.registry()["certificates"][identifier]
        self.assertEqual(event, {
            "claimCertificateId": self.cloud.claim_id,
            "certificateId": identifier,
            "certificatePem": certificate["pem"],
            "templateArn": "arn:aws:iot:eu-central-1:123456789012:provisioningtemplate/enrolld",
            "clientId": "any-enroll",
            "parameters": {"SerialNumber": self.serial},
        })  # fmt: skip
        self.assertEqual(list(certificate["things"]), ["gateway-SN-9"])

    def test_hook_of_a_template(self):
        """As operators set it and take it away."""
        self.start()
        template = ["--template-name", "enrolld"]
        hook = self.cloud.aws("describe-provisioning-template", *template)["preProvisioningHook"]
        self.assertTrue(hook["targetArn"].endswith(":function:enrolld-hook"), hook)
        first = self.enroll()
        self.cloud.aws("update-provisioning-template", *template, "--remove-pre-provisioning-hook")
        self.assertNotIn("preProvisioningHook", self.cloud.aws("describe-provisioning-template", *template))
        second = self.enroll()
        self.assertEqual(self.certificates(), {first: "ACTIVE", second: "ACTIVE"})
        hook = f"payloadVersion=2020-04-01,targetArn={hook['targetArn']}"
        self.cloud.aws("update-provisioning-template", *template, "--pre-provisioning-hook", hook)
        self.assertEqual(self.enroll(), 403)
        body = self.cloud.registry()["templates"]["enrolld"]["templateBody"]
        role = "arn:aws:iam::123456789012:role/x"
        words = ["--template-body", body, "--provisioning-role-arn", role, "--pre-provisioning-hook", hook]
        self.cloud.aws("create-provisioning-template", "--template-name", "third", "--enabled", *words)
        self.assertIn("preProvisioningHook", self.cloud.aws("describe-provisioning-template", "--template-name", "third"))
        with self.assertRaises(AwsError) as seen:
            self.cloud.aws("create-provisioning-template", "--template-name", "fourth", "--type", "JITP", *words)
        self.assertEqual(seen.exception.code, "InvalidRequestException")
        self.cloud.aws("delete-provisioning-template", "--template-name", "third")
        with self.assertRaises(AwsError) as seen:
            self.cloud.aws("describe-provisioning-template", "--template-name", "third")
        self.assertEqual(seen.exception.code, "ResourceNotFoundException")

    def test_table_of_rules_beside_it(self):
        self.start()
        self.cloud.hook({"serialPrefix": "SN-7", "result": "deny"})
        self.assertEqual(self.enroll(), 403)
        self.assertIsInstance(self.enroll(SerialNumber="SN-8"), str)

    def test_connection_that_ends_meanwhile(self):
        """What was asked is done all the same."""
        self.start()
        self.set_hook("import time; time.sleep(1); return {'allowProvisioning': True}")
        self.gateway.certificate, self.gateway.key = self.cloud.claim_certificate, self.cloud.claim_key
        client = self.gateway.connect("any-enroll")
        request = make_request(self.directory, "lost", f"/CN={self.serial}")
        _, reply = client.request(CREATE_FROM_CSR, certificateSigningRequest=request)
        body = {"certificateOwnershipToken": reply["certificateOwnershipToken"],
                "parameters": {"SerialNumber": self.serial}}  # fmt: skip
        client.publish(register_thing("enrolld"), json.dumps(body).encode())
        client.disconnect()
        self.cloud.wait_event(event="register-thing", result="accepted")
        self.assertEqual(self.certificates(), {reply["certificateId"]: "ACTIVE"})

    def test_faults_behind_a_hook(self):
        self.start()
        self.gateway.certificate, self.gateway.key = self.cloud.claim_certificate, self.cloud.claim_key
        for count, action in enumerate(("drop", "cut", "close", "reject", "duplicate"), 1):
            members = {"statusCode": 429, "errorCode": "Throttled"} if action == "reject" else {}
            self.cloud.fault("register-thing", action, **members)
            client = self.gateway.connect("any-enroll")
            request = make_request(self.directory, action, f"/CN={action}")
            _, reply = client.request(CREATE_FROM_CSR, certificateSigningRequest=request)
            body = {"certificateOwnershipToken": reply["certificateOwnershipToken"],
                    "parameters": {"SerialNumber": action}}  # fmt: skip
            topic = register_thing("enrolld")
            client.subscribe(f"{topic}/accepted", f"{topic}/rejected")
            client.publish(topic, json.dumps(body).encode())
            harness.wait_for(action, lambda: len(self.cloud.events(event="register-thing")) == count)
            if action in ("cut", "close"):
                with self.assertRaises(Closed):
                    client.reply(topic)
            elif action == "reject":
                self.assertEqual(client.reply(topic)[1]["statusCode"], 429)
            elif action == "duplicate":
                self.assertEqual([client.reply(topic)[0] for _ in range(2)], [True, True])
            status = self.cloud.registry()["certificates"][reply["certificateId"]]["status"]
            self.assertEqual(status, "PENDING_ACTIVATION" if action == "reject" else "ACTIVE", action)

    def test_many_at_once(self):
        self.start()
        self.gateway.certificate, self.gateway.key = self.cloud.claim_certificate, self.cloud.claim_key
        clients = {}
        topic = register_thing("enrolld")
        for number in range(10):
            client = self.gateway.connect(f"{number}-enroll")
            request = make_request(self.directory, f"many-{number}", f"/CN=SN-{number}")
            _, reply = client.request(CREATE_FROM_CSR, certificateSigningRequest=request)
            client.subscribe(f"{topic}/accepted", f"{topic}/rejected")
            clients[number] = client, reply["certificateOwnershipToken"]
        for number, (client, token) in clients.items():
            body = {"certificateOwnershipToken": token, "parameters": {"SerialNumber": f"SN-{number}"}}
            client.publish(topic, json.dumps(body).encode())
        for number, (client, _) in clients.items():
            accepted, reply = client.reply(topic)
            self.assertTrue(accepted, reply)
            self.assertEqual(reply["thingName"], f"gateway-SN-{number}")


if __name__ == "__main__":
    harness.main()
