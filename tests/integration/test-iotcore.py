#!/usr/bin/env python3
"""The stand-in for AWS IoT Core, driven by a plain client: what it does with tokens, how long a registration takes, what
its faults look like on the wire, and what it remembers."""

import json
import subprocess
import time

import harness
from mqtt_client import CREATE, CREATE_FROM_CSR, PUBACK, Client, Closed, make_request, register_thing
from parts import Cloud

REGISTER = register_thing(Cloud.template)
SERIAL = "GW-0001"
THING = Cloud.thing_name(SERIAL)
NOT_AUTHORIZED = 0x87
USED_TOKEN = "InvalidCertificateOwnershipToken"


class StandIn(harness.TestCase):
    """A device that has asked for a certificate, in small steps."""

    def start(self, *options):
        self.cloud = Cloud(self, "--connect-rate=off", "--claim-key=ecdsa", *options)
        self.request = make_request(self.directory, subject=f"/CN={SERIAL}")
        self.certificate = self.directory / "device.pem"

    def claim(self, client_id="claim", version=5):
        client = self.connect(f"{client_id}-enroll", self.cloud.claim_certificate, self.cloud.claim_key, version)
        self.assertEqual(client.connected(), 0)
        return client

    def connect(self, client_id, certificate, key, version=5):
        return Client(self, self.cloud, client_id, certificate, key, version)

    def device(self, client_id=THING, version=5):
        """Connects with the certificate that was issued."""
        return self.connect(client_id, self.certificate, self.directory / "device.key", version)

    def ask(self, client):
        """Has a certificate issued; returns the ownership token."""
        accepted, reply = client.request(CREATE_FROM_CSR, certificateSigningRequest=self.request)
        self.assertTrue(accepted, reply)
        self.certificate.write_text(reply["certificatePem"])
        self.certificate_id = reply["certificateId"]
        return reply["certificateOwnershipToken"]

    def register(self, client, token, serial=SERIAL, template=REGISTER):
        return client.request(template, certificateOwnershipToken=token, parameters={"SerialNumber": serial})

    def assertRegistered(self, answer):
        accepted, reply = answer
        self.assertTrue(accepted, reply)
        self.assertEqual(reply["thingName"], THING)
        return reply

    def assertRejected(self, answer, code=USED_TOKEN, status=400):
        accepted, reply = answer
        self.assertFalse(accepted, reply)
        self.assertEqual((reply["statusCode"], reply["errorCode"]), (status, code))

    def assertStatuses(self, *expected):
        self.assertEqual(sorted(self.cloud.device_certificates().values()), sorted(expected))


class Tokens(StandIn):
    def test_used_once(self):
        self.start()
        client = self.claim()
        token = self.ask(client)
        self.assertStatuses("PENDING_ACTIVATION")
        self.assertEqual(self.cloud.registry()["certificates"][self.certificate_id]["requestedBy"], "claim-enroll")
        self.assertRegistered(self.register(client, token))
        self.assertRejected(self.register(client, token))
        self.assertRejected(self.register(client, "another"))
        self.assertRejected(self.register(client, ""))
        self.assertEqual(self.cloud.certificates_of(THING), {self.certificate_id: "ACTIVE"})

    def test_reuse_repeats_the_success(self):
        self.start("--token-reuse=on")
        client = self.claim()
        token = self.ask(client)
        first = self.assertRegistered(self.register(client, token))
        # Nothing is done again: not with other parameters either, nor after an operator's change.
        self.cloud.set_certificate(self.certificate_id, "INACTIVE")
        self.assertEqual(self.assertRegistered(self.register(client, token, "GW-0002")), first)
        self.assertEqual(self.cloud.things(), {THING: [self.certificate_id]})
        self.assertEqual(self.cloud.certificates_of(THING), {self.certificate_id: "INACTIVE"})
        self.assertStatuses("INACTIVE")
        told = self.cloud.events(event="register-thing", result="accepted")
        self.assertEqual([event.get("repeated") for event in told], [None, True])

    def test_reply_that_a_fault_has_amended_is_repeated_as_it_was(self):
        self.start("--token-reuse=on")
        client = self.claim()
        token = self.ask(client)
        for _ in range(2):
            self.cloud.fault("register-thing", "amend", payload=json.dumps({"thingName": "other"}))
            accepted, reply = self.register(client, token)
            self.assertTrue(accepted)
            self.assertEqual(reply["thingName"], "other")
        self.assertRegistered(self.register(client, token))

    def test_reuse_has_limits(self):
        """Not for a revoked or deleted certificate, nor after the hour, nor with another template."""
        self.start("--token-reuse=on")
        client = self.claim()
        token = self.ask(client)
        self.assertRegistered(self.register(client, token))
        policy = json.loads(json.dumps(self.cloud.registry()["policies"]["enrolld-claim"]).replace("enrolld/", "*/"))
        self.cloud.set_policy("enrolld-claim", policy)
        self.cloud.edit(template="other", body=self.cloud.template_body())
        self.assertRejected(self.register(client, token, template=register_thing("other")))
        self.cloud.set_certificate(self.certificate_id, "REVOKED")
        self.assertRejected(self.register(client, token))
        self.cloud.set_certificate(self.certificate_id, "ACTIVE")
        self.assertRegistered(self.register(client, token))
        self.cloud.edit(clockOffset=3600)
        self.assertRejected(self.register(client, token))

    def test_reuse_survives_a_restart_of_the_cloud(self):
        self.start("--token-reuse=on")
        client = self.claim()
        token = self.ask(client)
        first = self.assertRegistered(self.register(client, token))
        client.close()
        self.cloud.stop()
        self.cloud.start()
        self.assertEqual(self.assertRegistered(self.register(self.claim(), token)), first)

    def test_binding_and_reuse(self):
        """Who else may use a token, before and after it is used: every combination."""
        self.start("--device=other")
        policy = json.dumps(self.cloud.registry()["policies"]["enrolld-device"])
        self.cloud.set_policy("enrolld-device", json.loads(policy.replace("/enrolld-renew/", "/enrolld/")))
        other = self.connect("other", self.cloud.directory / "other.pem", self.cloud.directory / "other.key")
        self.assertEqual(other.connected(), 0)
        allowed = {"none": "same again other", "principal": "same again", "connection": "same"}
        for binding, who in allowed.items():
            for reuse in (False, True):
                self.cloud.options(**{"token-binding": binding, "token-reuse": reuse})
                for requester in ("same", "again", "other"):
                    with self.subTest(binding=binding, reuse=reuse, requester=requester):
                        same = self.claim("first")
                        users = {"same": same, "again": self.claim("second"), "other": other}
                        fresh = self.ask(same)
                        used = self.ask(same)
                        self.assertRegistered(self.register(same, used))
                        good = requester in who.split()
                        check = self.assertRegistered if good else self.assertRejected
                        check(self.register(users[requester], fresh))
                        check = self.assertRegistered if good and reuse else self.assertRejected
                        check(self.register(users[requester], used))
                        same.disconnect()
                        users["again"].disconnect()

    def test_binding_to_a_connection_outlives_the_broker(self):
        """No connection after a restart is taken for one before it."""
        self.start("--token-binding=connection")
        client = self.claim()
        token = self.ask(client)
        client.close()
        self.cloud.stop()
        self.cloud.start()
        self.assertRejected(self.register(self.claim(), token))

    def test_token_lives_for_an_hour(self):
        self.start()
        client = self.claim()
        token = self.ask(client)
        self.cloud.edit(clockOffset=3600)
        self.assertRejected(self.register(client, token))
        harness.wait_for("the pending certificate is deleted", lambda: self.cloud.device_certificates() == {})

    def test_keys_made_in_the_cloud(self):
        """CreateKeysAndCertificate: RSA of 2048 bits, the private key is told once."""
        self.start()
        policy = self.cloud.registry()["policies"]["enrolld-claim"]
        policy = json.loads(json.dumps(policy).replace("certificates/create-from-csr/", "certificates/create*/"))
        self.cloud.set_policy("enrolld-claim", policy)
        client = self.claim()
        for payload in (b"", b"{}"):
            client.subscribe(f"{CREATE}/accepted", f"{CREATE}/rejected")
            client.publish(CREATE, payload)
            accepted, reply = client.reply(CREATE)
            self.assertTrue(accepted, reply)
        names = {"certificateId", "certificatePem", "privateKey", "certificateOwnershipToken"}
        self.assertEqual(set(reply), names)
        self.certificate.write_text(reply["certificatePem"])
        (self.directory / "device.key").write_text(reply["privateKey"])
        words = ["openssl", "x509", "-noout", "-subject", "-text", "-in", self.certificate]
        shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        self.assertIn("CN = AWS IoT Certificate", shown.replace("CN=", "CN = "))
        self.assertIn("(2048 bit)", shown)
        self.assertNotIn(reply["privateKey"].splitlines()[1], (self.cloud.state / "registry.json").read_text())
        self.assertRegistered(self.register(client, reply["certificateOwnershipToken"]))
        self.assertEqual(self.device().connected(), 0)
        self.assertStatuses("ACTIVE", "PENDING_ACTIVATION")


class Outcomes(StandIn):
    def registered(self, *options):
        self.start(*options)
        client = self.claim()
        self.assertRegistered(self.register(client, self.ask(client)))
        return client

    def test_registration_takes_time(self):
        self.registered("--propagation=3600")
        self.assertEqual(self.device().connected(), NOT_AUTHORIZED)
        event = self.cloud.wait_event(event="refused")
        self.assertEqual(event["certificateId"], self.certificate_id)
        self.assertIn("propagated", event["reason"])
        # The claim was not made by RegisterThing.
        self.claim("another").disconnect()
        self.cloud.options(propagation=0)
        self.assertEqual(self.device().connected(), 0)

    def test_registration_ends_by_the_clock(self):
        self.start("--propagation=1.5")
        client = self.claim()
        begin = time.monotonic()
        self.assertRegistered(self.register(client, self.ask(client)))

        def connects():
            device = self.device()
            code = device.connected()
            device.close()
            return code == 0

        self.assertFalse(connects())
        harness.wait_for("the certificate is honoured", connects)
        self.assertGreaterEqual(time.monotonic() - begin, 1.5)

    def test_options_are_set_together_or_not_at_all(self):
        self.start()
        for options in ({"propagation": -1}, {"refusal": "maybe"}, {"colour": 1}, {"state": "/"}):
            with self.assertRaises(AssertionError):
                self.cloud.options(**{"token-reuse": True, **options})
        client = self.claim()
        token = self.ask(client)
        self.assertRegistered(self.register(client, token))
        self.assertRejected(self.register(client, token))

    def test_certificate_is_made_inactive(self):
        """Accepted, and yet the device cannot connect until somebody activates it."""
        self.start()
        body = self.cloud.template_body()
        (certificate,) = [part for part in body["Resources"].values() if part["Type"] == "AWS::IoT::Certificate"]
        certificate["Properties"]["Status"] = "INACTIVE"
        self.cloud.set_template(body=body)
        client = self.claim()
        self.assertRegistered(self.register(client, self.ask(client)))
        self.assertEqual(self.cloud.certificates_of(THING), {self.certificate_id: "INACTIVE"})
        self.assertEqual(self.device().connected(), NOT_AUTHORIZED)
        self.assertEqual(self.cloud.wait_event(event="refused")["reason"], "INACTIVE")
        self.cloud.set_certificate(self.certificate_id, "ACTIVE")
        self.assertEqual(self.device().connected(), 0)

    def test_template_is_disabled_and_enabled(self):
        self.start()
        self.cloud.set_template(enabled=False)
        client = self.claim()
        token = self.ask(client)
        self.assertRejected(self.register(client, token), "ResourceNotFound", 404)
        self.cloud.set_template(enabled=True)
        self.assertRegistered(self.register(client, token))
        with self.assertRaises(AssertionError):
            self.cloud.set_template(body="{")

    def test_policy_is_replaced(self):
        self.registered()
        right = self.cloud.registry()["policies"]["enrolld-device"]
        nothing = {"Effect": "Allow", "Action": "iot:Connect", "Resource": "arn:aws:iot:::client/nobody"}
        self.cloud.set_policy("enrolld-device", {"Version": "2012-10-17", "Statement": [nothing]})
        self.assertEqual(self.device().connected(), NOT_AUTHORIZED)
        self.cloud.set_policy("enrolld-device", right)
        self.assertEqual(self.device().connected(), 0)
        with self.assertRaises(AssertionError):
            self.cloud.set_policy("enrolld-device", {"Version": "2012-10-17"})

    def test_client_id_of_the_serial_number(self):
        """A device whose reply was lost does not know its thing: its certificate's common name lets it in."""
        self.registered()
        self.assertEqual(self.device(f"{SERIAL}-enrolld").connected(), 0)
        self.assertEqual(self.device(f"{THING}-enrolld").connected(), 0)
        for client_id in ("GW-0002-enrolld", SERIAL, "-enrolld", "${iot:Certificate.Subject.CommonName}-enrolld"):
            self.assertEqual(self.device(client_id).connected(), NOT_AUTHORIZED, client_id)

    def test_certificate_without_a_common_name(self):
        self.start()
        self.request = make_request(self.directory, subject=f"/O={SERIAL}")
        client = self.claim()
        self.assertRegistered(self.register(client, self.ask(client)))
        for client_id in ("-enrolld", "${iot:Certificate.Subject.CommonName}-enrolld"):
            self.assertEqual(self.device(client_id).connected(), NOT_AUTHORIZED, client_id)
        self.assertEqual(self.device(f"{THING}-enrolld").connected(), 0)

    def test_refusal_by_closing(self):
        self.registered()
        self.cloud.options(refusal="close", propagation=3600)
        with self.assertRaises(Closed):
            self.device().connected()
        self.cloud.options(refusal="connack")
        self.assertEqual(self.device().connected(), NOT_AUTHORIZED)
        with self.assertRaises(Closed):
            self.device(version=4).connected()


class Faults(StandIn):
    def test_connect_is_refused(self):
        self.start("--device=other")
        other = [self.cloud.directory / "other.pem", self.cloud.directory / "other.key"]
        self.cloud.fault("connect", "refuse", who="claim", times=0)
        for _ in range(3):
            client = self.connect("a-enroll", self.cloud.claim_certificate, self.cloud.claim_key)
            self.assertEqual(client.connected(), NOT_AUTHORIZED)
        self.assertEqual(self.connect("other", *other).connected(), 0)
        told = self.cloud.events(event="fault", operation="connect", action="refuse")
        self.assertEqual([event["certificateId"] for event in told], 3 * [self.cloud.claim_id])
        self.assertEqual(self.cloud.events(event="refused")[0]["reason"], "injected fault")
        self.cloud.clear_faults()
        self.claim().disconnect()
        self.cloud.fault("connect", "refuse", who="device")
        self.claim().disconnect()
        self.assertEqual(self.connect("other", *other).connected(), NOT_AUTHORIZED)
        self.assertEqual(self.connect("other", *other).connected(), 0)

    def test_connect_ends_without_answer(self):
        self.start()
        self.cloud.fault("connect", "hangup")
        with self.assertRaises(Closed):
            self.connect("a-enroll", self.cloud.claim_certificate, self.cloud.claim_key).connected()
        self.claim()

    def test_subscribe_is_refused(self):
        self.start()
        client = self.claim()
        self.cloud.fault("subscribe", "refuse", topic="*/rejected")
        filters = [f"{CREATE_FROM_CSR}/accepted", f"{CREATE_FROM_CSR}/rejected"]
        self.assertEqual(client.subscribe(*filters), [0, NOT_AUTHORIZED])
        self.assertEqual(client.subscribe(*filters), [0, 0])
        self.cloud.fault("subscribe", "refuse")
        with self.assertRaises(Closed):
            self.claim("old", version=4).subscribe(*filters)
        self.cloud.fault("subscribe", "hangup")
        self.assertClosed(lambda: client.subscribe(*filters))

    def test_publish_is_refused(self):
        self.start()
        client = self.claim()
        self.cloud.fault("publish", "refuse", topic="*/provision/*")
        self.cloud.fault("create-from-csr", "refuse")
        self.assertEqual(client.publish(CREATE_FROM_CSR, b"{}"), NOT_AUTHORIZED)
        token = self.ask(client)
        body = json.dumps({"certificateOwnershipToken": token}).encode()
        self.assertEqual(client.publish(REGISTER, body), NOT_AUTHORIZED)
        self.assertEqual(self.cloud.events(event="register-thing"), [])
        self.assertRegistered(self.register(client, token))

    def assertClosed(self, action, reason=None):
        """reason: that of the DISCONNECT, None for none."""
        with self.assertRaises(Closed) as seen:
            action()
        self.assertEqual(seen.exception.reason, reason)

    def test_silence_does_nothing(self):
        """The request is acknowledged and forgotten; with `drop` it is carried out."""
        self.start()
        client = self.claim()
        token = self.ask(client)
        for action, statuses in (("silence", ["PENDING_ACTIVATION"]), ("drop", ["ACTIVE"])):
            self.cloud.fault("register-thing", action)
            client.subscribe(f"{REGISTER}/accepted", f"{REGISTER}/rejected")
            body = json.dumps({"certificateOwnershipToken": token, "parameters": {"SerialNumber": SERIAL}})
            self.assertNotEqual(client.publish(REGISTER, body.encode()), NOT_AUTHORIZED)
            self.cloud.wait_event(event="fault", operation="register-thing", action=action)
            self.assertStatuses(*statuses)
            # Replies keep their order, so none came before this one.
            accepted, _ = client.request(CREATE_FROM_CSR)
            self.assertFalse(accepted)
            self.assertIsNone(client.reply(REGISTER, seconds=0))
        self.assertRejected(self.register(client, token))

    def lost_request(self, action, reason):
        """RegisterThing on a connection that ends; returns whether the request was acknowledged, and its token."""
        client = self.claim("lost")
        token = self.ask(client)
        self.cloud.fault("register-thing", action)
        body = json.dumps({"certificateOwnershipToken": token, "parameters": {"SerialNumber": SERIAL}})
        client.send_publish(REGISTER, body.encode())
        self.assertClosed(lambda: client.take(lambda *_: False), reason)
        return any(first >> 4 == PUBACK for first, _ in client.packets), token

    def test_end_of_connection_before_and_after_the_deed(self):
        self.start()
        acknowledged, token = self.lost_request("hangup", None)
        self.assertFalse(acknowledged)
        self.assertStatuses("PENDING_ACTIVATION")
        self.assertRegistered(self.register(self.claim(), token))
        acknowledged, _ = self.lost_request("cut", None)
        self.assertFalse(acknowledged)
        self.assertStatuses("ACTIVE", "ACTIVE")
        acknowledged, token = self.lost_request("close", 0x98)
        self.assertTrue(acknowledged)
        self.assertStatuses("ACTIVE", "ACTIVE", "ACTIVE")
        self.assertRejected(self.register(self.claim(), token))

    def test_fault_that_stays(self):
        self.start()
        client = self.claim()
        self.cloud.fault("create-from-csr", "reject", times=0, statusCode=429, errorCode="Throttled")
        for _ in range(3):
            answer = client.request(CREATE_FROM_CSR, certificateSigningRequest=self.request)
            self.assertRejected(answer, "Throttled", 429)
        self.cloud.clear_faults()
        self.ask(client)

    def test_faults_that_are_none(self):
        self.start()
        wrong = (
            ("connect", "drop", {}),
            ("publish", "reject", {}),
            ("connect", "refuse", {"topic": "*"}),
            ("publish", "refuse", {"who": "me"}),
            ("publish", "refuse", {"times": -1}),
            ("publish", "refuse", {"time": 1}),
            ("sleep", "refuse", {}),
            ("create", "amend", {"payload": "[]"}),
        )
        for operation, action, members in wrong:
            with self.assertRaises(AssertionError, msg=(operation, action, members)):
                self.cloud.fault(operation, action, **members)


class History(StandIn):
    def test_each_version_is_kept(self):
        self.start("--history=on")
        client = self.claim()
        marks = [time.time_ns() // 1000]
        token = self.ask(client)
        marks.append(time.time_ns() // 1000)
        self.assertRegistered(self.register(client, token))
        marks.append(time.time_ns() // 1000)
        self.assertEqual(len(self.cloud.history()), 3)
        self.assertEqual(json.loads(self.cloud.history()[-1][1].read_text()), self.cloud.registry())
        client.close()
        for mark, statuses in zip(marks, ([], ["PENDING_ACTIVATION"], ["ACTIVE"])):
            self.cloud.stop()
            self.cloud.restore(mark)
            self.cloud.start()
            self.assertStatuses(*statuses)
        # The past can be lived otherwise, and stays as it was.
        self.cloud.stop()
        self.cloud.restore(marks[1])
        self.cloud.start()
        self.assertRegistered(self.register(self.claim(), token))
        versions = dict(self.cloud.history())
        self.cloud.stop()
        self.cloud.restore(marks[1])
        self.assertStatuses("PENDING_ACTIVATION")
        self.assertEqual(self.cloud.history(), sorted(versions.items()))

    def test_none_is_kept_unless_asked_for(self):
        self.start()
        self.ask(self.claim())
        self.assertEqual(self.cloud.history(), [])


if __name__ == "__main__":
    harness.main()
