#!/usr/bin/env python3
"""An attempt that was cut off or failed is gone on with: whatever happens between the request for a certificate and the
commit, the device ends with one ACTIVE certificate, and it is the one that the device uses."""

import collections
import hashlib
import json
import os
import signal
import ssl

import harness
from attacker import Attack, Attacker, End
from gateway import Gateway
from parts import Cloud, Tpm

NO_ANSWER = Attack("FIN", end=End.FIN, cloud=False)


class Checkpoint(harness.TestCase):
    def scene(self, *options, tpm=False):
        self.cloud = Cloud(self, *options)
        tpm = Tpm(self) if tpm else None
        self.gateway = Gateway(self, self.cloud, tpm, "tpm2" if tpm else "file")

    def stage(self):
        try:
            return json.loads((self.gateway.state / "checkpoint-fleet-claim").read_text())["stage"]
        except FileNotFoundError:
            return None

    def wait_stage(self, wanted):
        harness.wait_for(lambda: f"checkpoint {wanted}, it is {self.stage()}", lambda: self.stage() == wanted)

    def held_id(self):
        pem = json.loads((self.gateway.state / "checkpoint-fleet-claim").read_text())["certificate"]
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()

    def assertOneCertificate(self, pending=0, inactive=0):
        """Provisioned, and the cloud's litter is counted."""
        self.gateway.wait_provisioned(60)
        status = self.cloud.device_certificates()
        self.assertEqual(status[self.gateway.property("CertificateId")], "ACTIVE")
        counted = collections.Counter(status.values())
        self.assertEqual(counted, collections.Counter({"ACTIVE": 1, "INACTIVE": inactive, "PENDING_ACTIVATION": pending}), status)
        self.assertEqual(list(self.gateway.state.glob("checkpoint*")), [])
        self.assertEqual(list(self.gateway.state.glob("incoming")), [])

    def cut_off(self):
        self.gateway.kill()
        self.reap_orphans()

    def assertResumes(self, stage, **fault):
        """Power fails while the cloud keeps a reply to itself."""
        self.cloud.edit(fault={"action": "drop", **fault})
        self.gateway.start()
        self.wait_stage(stage)
        self.cloud.wait_event(event=fault["operation"])
        self.cut_off()
        self.gateway.start()

    # Where power may fail.

    def test_key_is_kept(self):
        self.scene(tpm=True)
        self.assertResumes("key", operation="create-from-csr")
        key = json.loads((self.gateway.state / "checkpoint-fleet-claim").read_text())["privateKey"]
        self.assertOneCertificate(pending=1)  # its reply was lost: the cloud forgets it after an hour
        self.assertEqual(self.gateway.read("private.pem"), key)

    def test_issued_certificate_is_registered(self):
        """Refused by the hook at first: the same certificate, with the same token, is registered in the end."""
        self.scene(tpm=True)
        self.cloud.hook({"serialPrefix": "GW", "result": "deny"})
        self.gateway.start()
        self.wait_stage("issued")
        self.gateway.wait_property("State", "failed")
        self.cut_off()
        self.cloud.hook()
        self.gateway.start()
        self.assertOneCertificate()
        self.assertEqual(len(self.cloud.events(event="create-from-csr")), 1)

    def test_denials_do_not_litter(self):
        self.scene()
        self.cloud.hook({"serialPrefix": "GW", "result": "deny"})
        self.gateway.start()
        harness.wait_for(
            lambda: f"three refusals: {self.cloud.events(event='register-thing')}",
            lambda: len(self.cloud.events(event="register-thing")) >= 3,
        )
        self.cloud.hook()
        self.assertOneCertificate()
        self.assertEqual(len(self.cloud.events(event="create-from-csr")), 1)

    def assertReplyLost(self, *options, **counts):
        """RegisterThing is done, its reply is lost, and power fails."""
        self.scene(*options, tpm=True)
        self.assertResumes("sent", operation="register-thing")
        self.assertOneCertificate(**counts)
        self.assertEqual(len(self.cloud.events(event="create-from-csr")), 1)

    def test_reply_lost(self):
        self.assertReplyLost()
        self.assertEqual(self.gateway.property("ThingName"), "")

    def test_reply_lost_and_named_by_the_operator(self):
        self.scene()
        self.gateway.configure("Agent", ThingName="gateway-%s")
        self.assertResumes("sent", operation="register-thing")
        self.assertOneCertificate()
        self.assertEqual(self.gateway.property("ThingName"), self.cloud.thing_name("GW-0001"))

    def test_reply_lost_binding_principal(self):
        self.assertReplyLost("--token-binding=principal")

    def test_reply_lost_binding_connection(self):
        self.assertReplyLost("--token-binding=connection")

    def test_reply_lost_reuse(self):
        """Where the cloud takes the token a second time, it tells the name of the thing again."""
        for binding in ("none", "principal"):
            with self.subTest(binding=binding):
                self.directory = self.directory / binding
                self.directory.mkdir()
                # The claim connects again sooner than any wait of the product would let it.
                self.assertReplyLost("--connect-rate=off", "--token-reuse=on", f"--token-binding={binding}")
                self.assertEqual(self.gateway.property("ThingName"), self.cloud.thing_name("GW-0001"))

    def test_request_lost(self):
        """RegisterThing never reaches the cloud: with a token that may be used again nothing is left behind."""
        self.scene()
        self.cloud.edit(fault={"operation": "register-thing", "action": "silence"})
        self.gateway.start()
        self.wait_stage("sent")
        self.cut_off()
        self.gateway.start()
        self.assertOneCertificate()
        self.assertEqual(len(self.cloud.events(event="create-from-csr")), 1)

    def test_request_lost_binding_connection(self):
        """The token died with the connection: that certificate can never be registered, and the cloud forgets it."""
        self.scene("--token-binding=connection")
        self.cloud.edit(fault={"operation": "register-thing", "action": "silence"})
        self.gateway.start()
        self.wait_stage("sent")
        self.cut_off()
        self.gateway.start()
        self.assertOneCertificate(pending=1)

    def test_registered_certificate_is_proven(self):
        """Power fails while the certificate is not honoured yet."""
        self.scene("--propagation=5", tpm=True)
        self.gateway.configure("Retry", Propagation="30s")
        self.gateway.start()
        self.wait_stage("registered")
        self.cut_off()
        self.gateway.start()
        self.assertOneCertificate()
        self.assertEqual(self.gateway.property("ThingName"), self.cloud.thing_name("GW-0001"))
        self.assertEqual(self.gateway.identity()["deviceConfiguration"]["Environment"], "production")
        for operation in ("create-from-csr", "register-thing"):
            self.assertEqual(len(self.cloud.events(event=operation)), 1)

    def test_worker_dies_at_each_stage(self):
        for stage in ("sent", "registered"):
            with self.subTest(stage=stage):
                self.directory = self.directory / stage
                self.directory.mkdir()
                self.scene("--propagation=3")
                for operation in ("create-from-csr", "register-thing"):
                    self.cloud.edit(fault={"operation": operation, "action": "delay", "milliseconds": 1000})
                self.gateway.start()
                self.wait_stage(stage)
                for pid in self.gateway.workers():
                    os.kill(pid, signal.SIGKILL)
                self.assertOneCertificate()

    def strict_policy(self):
        """As many have it: a device may only connect under the name of its thing."""
        policy = self.cloud.registry()["policies"]["enrolld-device"]
        policy["Statement"][0]["Resource"] = [
            "arn:aws:iot:eu-central-1:123456789012:client/${iot:Connection.Thing.ThingName}"
        ]
        self.cloud.set_policy("enrolld-device", policy)

    def test_reply_lost_strict_policy(self):
        self.scene()
        self.strict_policy()
        self.gateway.configure("Agent", ThingName="gateway-%s")
        self.assertResumes("sent", operation="register-thing")
        self.assertOneCertificate()

    def test_reply_lost_strict_policy_without_a_name(self):
        """The one case that costs a second certificate; the message says what would have saved it."""
        self.scene()
        self.strict_policy()
        self.assertResumes("sent", operation="register-thing")
        self.gateway.wait_provisioned(60)
        self.assertIn("ThingName=", self.gateway.log.read_text())
        self.assertEqual(len(self.cloud.events(event="create-from-csr")), 2)

    def test_refusal_after_a_lost_reply(self):
        """A hook that admits a serial number once refuses the second request: the certificate of the first is good."""
        self.scene("--propagation=4")
        self.gateway.configure("Retry", Denied="1s 1s")
        self.cloud.fault("register-thing", "drop")
        self.gateway.start()
        self.wait_stage("sent")
        self.cloud.wait_event(event="register-thing")
        self.cut_off()
        self.cloud.fault("register-thing", "reject", statusCode=403, errorCode="AccessDenied", times=0)
        self.gateway.start()
        self.assertOneCertificate()

    def test_device_configuration_that_is_too_large(self):
        """Left out, and told; name and identity are not lost with it."""
        for size in (13000, 72000):
            with self.subTest(size=size):
                self.directory = self.directory / str(size)
                self.directory.mkdir()
                self.scene()
                large = {"deviceConfiguration": {"Text": "x" * size}}
                self.cloud.fault("register-thing", "amend", payload=json.dumps(large))
                self.gateway.start()
                self.assertOneCertificate()
                self.assertEqual(self.gateway.property("ThingName"), self.cloud.thing_name("GW-0001"))
                self.assertNotIn("deviceConfiguration", self.gateway.identity())
                self.assertIn("device configuration is left out", self.gateway.log.read_text())

    def test_reply_without_a_name(self):
        self.scene()
        self.gateway.configure("Agent", ThingName="gateway-%s")
        self.cloud.fault("register-thing", "amend", payload='{"thingName": null}')
        self.gateway.start()
        self.assertOneCertificate()
        self.assertEqual(self.gateway.property("ThingName"), self.cloud.thing_name("GW-0001"))

    # When a certificate is given up.

    def test_refused_certificate_is_given_up_ever_more_slowly(self):
        """The template makes INACTIVE certificates: 1 attempt for the first one, 2 for the next, 4 for the third."""
        self.scene()
        template = self.cloud.template_body()
        template["Resources"]["certificate"]["Properties"]["Status"] = "INACTIVE"
        self.cloud.set_template(body=template)
        self.gateway.configure("Retry", Propagation="0s", Denied="1s 1s")
        self.gateway.start()
        attempts = lambda: self.gateway.property("Attempt")
        harness.wait_for(lambda: f"attempt 5, it is {attempts()}", lambda: attempts() >= 5)
        self.assertEqual(len(self.cloud.events(event="create-from-csr")), 3)
        # The operator activates what the device holds.
        self.cloud.set_certificate(self.held_id(), "ACTIVE")
        self.assertOneCertificate(inactive=2)

    def hold_unanswered(self, doubts):
        """A registered certificate; so many attempts to prove it have had no answer."""
        self.scene("--propagation=3600", "--connect-rate=off")
        self.attacker = Attacker(self, self.cloud.port)
        self.gateway.configure("Cloud", Port=self.attacker.port)
        # Refused for as long as it likes: the certificate is not given up before the cut.
        self.gateway.configure("Retry", Propagation="1h")
        self.gateway.start()
        self.wait_stage("registered")
        self.cut_off()
        self.gateway.configure("Retry", Propagation="0s")
        path = self.gateway.state / "checkpoint-fleet-claim"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"doubts": doubts}))
        self.cloud.options(propagation=0)

    def test_certificate_without_an_answer_is_replaced_after_long(self):
        """A cloud may turn away what it has forgotten without a word: not for ever."""
        self.hold_unanswered(143)
        first = self.held_id()
        self.attacker.next_attacks = [NO_ANSWER]
        self.gateway.start()
        self.gateway.wait_provisioned(60)
        self.assertNotEqual(self.gateway.property("CertificateId"), first)
        self.assertEqual(len(self.cloud.events(event="create-from-csr")), 2)

    def test_certificate_without_an_answer_is_kept(self):
        """Also in the attempt of doubt, where the claim has no answer either: then it is the network."""
        for doubts in (0, 143):
            with self.subTest(doubts=doubts):
                self.directory = self.directory / str(doubts)
                self.directory.mkdir()
                self.hold_unanswered(doubts)
                first = self.held_id()
                self.attacker.attack = NO_ANSWER
                self.gateway.start()
                attempt = lambda: self.gateway.property("Attempt")
                harness.wait_for(lambda: f"attempt 4, it is {attempt()}", lambda: attempt() >= 4)
                self.assertEqual(self.gateway.property("LastError")[0], "network")
                self.attacker.attack = None
                self.assertOneCertificate()
                self.assertEqual(self.gateway.property("CertificateId"), first)

    def test_other_settings_make_it_worthless(self):
        """A checkpoint is for one template and its parameters; what is used is never a mixture."""
        self.scene()
        self.cloud.hook({"serialPrefix": "GW", "result": "deny"})
        self.gateway.start()
        self.wait_stage("issued")
        self.gateway.wait_property("State", "failed")
        self.gateway.configure("Agent", SerialNumber="literal:NEW-1")
        self.gateway.call("Reload")
        self.gateway.wait_provisioned()
        self.assertEqual(self.gateway.property("ThingName"), self.cloud.thing_name("NEW-1"))
        self.assertIn("made for other settings", self.gateway.log.read_text())

    def test_garbage_is_not_used(self):
        self.scene()
        self.gateway.state.mkdir(mode=0o711)
        for text in ("", "{", "{}", "x" * 70000, '{"schema":1,"stage":"issued"}'):
            with self.subTest(text=text[:40]):
                (self.gateway.state / "checkpoint-fleet-claim").write_text(text)
                self.gateway.start()
                self.gateway.wait_provisioned()
                self.gateway.stop()
                (self.gateway.state / "current").unlink()


if __name__ == "__main__":
    harness.main()
