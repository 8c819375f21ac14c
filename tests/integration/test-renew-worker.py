#!/usr/bin/env python3
"""The worker's renewal: whatever happens on the way, the identity in use stays as it is, the new one is proven before it
is handed over, and the cloud is left with no certificate more than the two."""

import collections
import json
import subprocess
import time

import harness
from authority import Authority
from gateway import FILES, Gateway
from mqtt_client import Client
from parts import Cloud, Tpm
from worker_channel import Worker, files_of, identity_of

SERIAL = "GW-0001"
TOPIC = "things/%t/enrolld/proof"
TEMPLATE = "enrolld-renew"


class Scene(harness.TestCase):
    """A device that has enrolled by its claim. attempt() is one attempt to renew that, with the checkpoint kept."""

    def scene(self, *options, backend="tpm2", topic=TOPIC):
        self.cloud = Cloud(self, *options)
        self.tpm = Tpm(self) if backend == "tpm2" else None
        self.gateway = Gateway(self, self.cloud, self.tpm, backend, serial=SERIAL)
        self.gateway.sections["Renewal"] = {}
        self.gateway.configure("fleet-claim", RenewTemplate=TEMPLATE, RenewParameter_ThingName="%t",
                               RenewParameter_SerialNumber="%s")
        self.gateway.configure("Cloud", ProveTopic=topic)
        self.worker = Worker(self.gateway)
        self.checkpoint = None
        self.current = self.enroll()

    def enroll(self):
        self.keep_distance()
        result = self.worker.job("enroll")
        self.assertTrue(result.done, result)
        self.old = identity_of(result)
        return files_of(result)

    def keep_distance(self):
        """One CONNECT per second and client id is all that AWS IoT Core takes; the daemon waits longer between two."""
        def is_over():
            seen = self.cloud.events(event="connect") + self.cloud.events(event="refused")
            return not seen or time.time() * 1000 > max(event["time"] for event in seen) + 1100

        harness.wait_for("a second without a CONNECT", is_over)

    def attempt(self, cut_at=None, cut_after=None, **fields):
        """cut_at: the stage whose checkpoint is stored when the power fails. cut_after: the one that the power fails
        behind, before the next."""
        stages = []

        def keep(text):
            stages.append(json.loads(text)["stage"])
            if cut_after in stages[:-1]:
                return False
            self.checkpoint = text
            return stages[-1] != cut_at

        self.keep_distance()
        files = dict(self.current) | ({"checkpoint": self.checkpoint} if self.checkpoint else {})
        result = self.worker.job("renew", files, keep, **fields)
        if cut_at or cut_after:
            self.assertEqual(result.fields, {}, result)
            if self.tpm:
                self.tpm.flush()
        return result

    def renew(self):
        result = self.attempt()
        self.assertTrue(result.done, result)
        return result

    def check(self, files):
        result = self.worker.job("check", files)
        self.assertTrue(result.done, result)
        return result.fields

    def status(self):
        return collections.Counter(self.cloud.device_certificates().values())

    def assertRenewed(self, result, pending=0, active=2, new_key=True):
        """The old identity is as good as ever, the new one is another certificate of the same thing."""
        new = identity_of(result)
        self.assertNotEqual(new["certificateId"], self.old["certificateId"])
        self.assertEqual(new["serialNumber"], self.old["serialNumber"])
        self.assertEqual(new["thingName"], self.old["thingName"])
        self.assertEqual(new["deviceConfiguration"], self.old["deviceConfiguration"])
        self.assertGreater(new["generation"], self.old["generation"])
        self.assertEqual(result.files["private-key"] != self.current["private-key"], new_key)
        for files in (self.current, result.files):
            self.check({role: files[role] for role in self.current})
        expected = {"ACTIVE": active} | ({"PENDING_ACTIVATION": pending} if pending else {})
        self.assertEqual(self.status(), collections.Counter(expected), self.cloud.device_certificates())
        things = self.cloud.things()
        self.assertEqual(set(things), {self.thing()})
        self.assertIn(new["certificateId"], things[self.thing()])
        self.assertIn(self.old["certificateId"], things[self.thing()])
        return new

    def template_body(self):
        return json.loads(self.cloud.registry()["templates"][TEMPLATE]["templateBody"])

    def set_template(self, body):
        self.cloud.edit(template=TEMPLATE, body=body)

    def make_others(self):
        """From now on the template makes another thing of the device; returns the good one."""
        body = self.template_body()
        wrong = json.loads(json.dumps(body))
        wrong["Resources"]["thing"]["Properties"]["ThingName"] = "somebody-else"
        self.set_template(wrong)
        return body

    def thing(self):
        return self.cloud.thing_name(SERIAL)

    def asked(self, operation="create-from-csr"):
        return len(self.cloud.events(event=operation))

    def assertFails(self, class_name, step, *words):
        result = self.attempt()
        self.assertEqual([result.fields.get(key) for key in ("RESULT", "CLASS", "STEP")],
                         ["failed", class_name, step], result)  # fmt: skip
        for word in words:
            self.assertIn(word, result.fields["MESSAGE"])
        self.check(self.current)
        return result


class Straight(Scene):
    def test_renewal(self):
        self.scene()
        before = len(self.cloud.events())
        result = self.renew()
        new = self.assertRenewed(result)
        self.assertEqual(result.steps, ["configuration", "key", "request", "identity", "certificate", "register", "prove"])
        self.assertEqual((new["method"], new["keyOrigin"]), ("fleet-claim", "tpm"))
        events = self.cloud.events()[before:]
        connects = [(event["certificateId"], event["clientId"]) for event in events if event["event"] == "connect"]
        own = f"{self.thing()}-enrolld"
        self.assertEqual(connects, [(self.old["certificateId"], own), (new["certificateId"], own)])
        (proof,) = [event for event in events if event["event"] == "message"]
        self.assertEqual((proof["topic"], proof["certificateId"]),
                         (f"things/{self.thing()}/enrolld/proof", new["certificateId"]))  # fmt: skip
        self.assertEqual(json.loads(proof["payload"]),
                         {"certificateId": new["certificateId"], "thingName": self.thing()})  # fmt: skip
        self.assertEqual(self.tpm.handles("transient"), [])

    def test_one_after_the_other(self):
        self.scene("--issuer=private:1")
        for count in range(2, 5):
            result = self.renew()
            self.assertRenewed(result, active=count)
            self.current, self.old, self.checkpoint = files_of(result), identity_of(result), None
        self.assertEqual(self.asked(), 4)

    def test_reused_key(self):
        self.scene()
        self.gateway.configure("Renewal", ReuseKey="yes")
        result = self.renew()
        self.assertRenewed(result, new_key=False)
        self.assertEqual(self.tpm.handles("transient"), [])

    def test_reused_key_and_power_cuts(self):
        self.scene()
        self.gateway.configure("Renewal", ReuseKey="yes")
        self.attempt(cut_at="issued")
        self.attempt(cut_after="sent")
        self.assertRenewed(self.renew(), new_key=False)

    def test_key_of_the_cloud(self):
        self.scene()
        policy = self.cloud.registry()["policies"]["enrolld-device"]
        text = json.dumps(policy).replace("create-from-csr/*", "create/*")
        self.cloud.set_policy("enrolld-device", json.loads(text))
        self.gateway.configure("fleet-claim", KeySource="cloud")
        result = self.attempt()
        self.assertEqual(result.fields["RESULT"], "resume", result)
        result = self.renew()
        self.assertEqual(self.assertRenewed(result)["keyOrigin"], "cloud")
        self.assertEqual(self.asked("create"), 1)

    def test_parameters(self):
        """Only those of renewals go out; %o is the certificate that is renewed. No credential and no claim is needed."""
        self.scene()
        body = self.template_body()
        body["Parameters"]["Old"] = {"Type": "String"}
        body["Resources"]["thing"]["Properties"]["AttributePayload"] = {"Old": {"Ref": "Old"}}
        body["Resources"]["thing"]["OverrideSettings"]["AttributePayload"] = "MERGE"
        self.set_template(body)
        self.gateway.configure(
            "fleet-claim",
            Certificate="/nonexistent/claim.pem",
            PrivateKey="credential:claim-key",
            Parameter_SerialNumber="credential:other",
            RenewParameter_Old="%o",
        )
        self.assertRenewed(self.renew())
        attributes = self.cloud.registry()["things"][self.thing()]["attributes"]
        self.assertEqual(attributes["Old"], self.old["certificateId"])

    def test_device_configuration(self):
        """One that is empty or missing keeps the old, another one takes its place."""
        self.scene(backend="file")
        body = self.template_body()
        for configuration in (None, {}):
            changed = {key: value for key, value in body.items() if key != "DeviceConfiguration"}
            if configuration is not None:
                changed["DeviceConfiguration"] = configuration
            self.set_template(changed)
            self.checkpoint = None
            new = identity_of(self.renew())
            self.assertEqual(new["deviceConfiguration"], self.old["deviceConfiguration"])
        self.set_template(body | {"DeviceConfiguration": {"Environment": "after"}})
        self.checkpoint = None
        self.assertEqual(identity_of(self.renew())["deviceConfiguration"], {"Environment": "after"})

    def test_application_stays_online(self):
        """It is connected as the thing, with the identity that is renewed, and nobody takes its place."""
        self.scene(backend="file")
        for name, role in (("certificate.pem", "certificate"), ("private.pem", "private-key")):
            (self.directory / name).write_text(self.current[role])
        client = Client(self, self.cloud, self.thing(), self.directory / "certificate.pem",
                        self.directory / "private.pem")  # fmt: skip
        client.connected()
        self.assertRenewed(self.renew())
        client.publish(f"things/{self.thing()}/hello", b"still here")
        self.cloud.wait_event(event="message", topic=f"things/{self.thing()}/hello")
        own = [event for event in self.cloud.events(event="connect") if event["clientId"] == self.thing()]
        self.assertEqual(len(own), 1)

    def test_only_the_bare_name_is_allowed(self):
        """The enrolment may take the thing's name where nothing else is allowed, a renewal never."""
        self.scene(backend="file")
        policy = self.cloud.registry()["policies"]["enrolld-device"]
        policy["Statement"][0]["Resource"] = policy["Statement"][0]["Resource"][0]
        self.cloud.set_policy("enrolld-device", policy)
        self.enroll_again_as_bare()
        before = len(self.cloud.events())
        self.assertFails("denied", "identity", f"client id {self.thing()}-enrolld", "iot:Connect")
        refused = [event["clientId"] for event in self.cloud.events()[before:] if event["event"] == "refused"]
        self.assertEqual(refused, [f"{self.thing()}-enrolld"])

    def test_proof_is_never_the_application(self):
        """Nor does the proof of the new certificate take that name."""
        self.scene(backend="file")
        self.attempt(cut_at="registered")
        policy = self.cloud.registry()["policies"]["enrolld-device"]
        policy["Statement"][0]["Resource"] = policy["Statement"][0]["Resource"][0]
        self.cloud.set_policy("enrolld-device", policy)
        before = len(self.cloud.events())
        self.assertFails("denied", "prove", f"client id {self.thing()}-enrolld", "iot:Connect")
        ids = {event["clientId"] for event in self.cloud.events()[before:] if "clientId" in event}
        self.assertEqual(ids, {f"{self.thing()}-enrolld"})

    def enroll_again_as_bare(self):
        self.current = self.enroll()
        self.assertEqual(self.old["clientId"], self.thing())

    def test_by_hand(self):
        self.scene(backend="file")
        identity, renewed = self.directory / "identity", self.directory / "renewed"
        identity.mkdir()
        roles = {"certificate.pem": "certificate", "private.pem": "private-key", "root-ca.pem": "root-ca",
                 "identity.json": "identity"}  # fmt: skip
        for name in FILES:
            (identity / name).write_text(self.current[roles[name]])
        words = [harness.built("enrolld-worker"), "renew", f"--config={self.gateway.configuration}"]
        words += [f"--identity={identity}", f"--directory={renewed}"]
        done = subprocess.run(words, env=self.gateway.environment(), capture_output=True, text=True,
                              timeout=harness.DEADLINE)  # fmt: skip
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        self.assertEqual(sorted(path.name for path in renewed.iterdir()), sorted(FILES))
        new = json.loads((renewed / "identity.json").read_text())["certificateId"]
        self.assertEqual(self.cloud.certificates_of(self.thing()),
                         {self.old["certificateId"]: "ACTIVE", new: "ACTIVE"})  # fmt: skip


class Hook(Scene):
    """The hook of etc/aws, run by the stand-in: who asks is the certificate of the connection."""

    def test_own_thing(self):
        self.scene("--hooks", "--control-port=0", backend="file")
        self.assertRenewed(self.renew())

    def test_other_thing(self):
        self.scene("--hooks", "--control-port=0", backend="file")
        self.cloud.aws("create-thing", "--thing-name", "somebody-else")
        self.gateway.configure("fleet-claim", RenewParameter_ThingName="somebody-else")
        self.assertFails("denied", "register", "403", "hook")
        attached = self.cloud.aws("list-thing-principals", "--thing-name", "somebody-else")["principals"]
        self.assertEqual(attached, [])
        attached = self.cloud.aws("list-thing-principals", "--thing-name", self.thing())["principals"]
        self.assertEqual([arn.rpartition("/")[2] for arn in attached], [self.old["certificateId"]])


class Cuts(Scene):
    """The power fails at each checkpoint: one certificate per renewal, however often."""

    def assertCut(self, **cut):
        self.scene()
        self.attempt(**cut)
        self.assertRenewed(self.renew())
        self.assertEqual(self.asked(), 2)
        self.assertEqual(self.tpm.handles("transient"), [])

    def test_at_key(self):
        self.assertCut(cut_at="key")

    def test_at_issued(self):
        self.assertCut(cut_at="issued")

    def test_after_issued(self):
        self.assertCut(cut_after="issued")

    def test_at_sent(self):
        self.assertCut(cut_at="sent")

    def test_after_sent(self):
        """RegisterThing is done, and nobody here knows."""
        self.assertCut(cut_after="sent")

    def test_at_registered(self):
        self.assertCut(cut_at="registered")

    def test_reboot_loop(self):
        self.scene()
        for stage in ("key", "issued", "sent", "registered"):
            self.attempt(cut_at=stage)
        self.assertRenewed(self.renew())
        self.assertEqual(self.asked(), 2)

    def test_checkpoint_of_another_renewal(self):
        """It belongs to the certificate that was to be renewed."""
        self.scene()
        self.attempt(cut_at="registered")
        result = self.renew()
        self.current, self.old = files_of(result), identity_of(result)
        before = self.asked()
        result = self.renew()
        self.assertIn("it was made for other settings", "".join(result.notes))
        self.assertEqual(self.asked(), before + 1)
        self.assertRenewed(result, active=3)


class Replies(Scene):
    def assertLost(self, operation, pending=0):
        """The cloud has done it, and does not say so."""
        self.scene(topic=None)
        self.cloud.fault(operation, "cut", who="device")
        result = self.attempt()
        self.assertEqual(result.fields["CLASS"], "network", result)
        self.check(self.current)
        self.assertRenewed(self.renew(), pending=pending)

    def test_create_lost(self):
        """The certificate that nobody has was never registered: AWS forgets it after an hour."""
        self.assertLost("create-from-csr", pending=1)
        self.assertEqual(self.asked(), 3)

    def test_register_lost(self):
        self.assertLost("register-thing")
        self.assertEqual(self.asked(), 2)

    def test_name_that_was_never_told(self):
        """The reply to the first RegisterThing was lost: ThingName= stands in for it."""
        self.scene(backend="file", topic=None)
        identity = json.loads(self.current["identity"]) | {"thingName": ""}
        self.current["identity"] = json.dumps(identity)
        self.assertFails("invalid", "configuration", "RenewParameter.ThingName=", "%t", "has no value here")
        self.gateway.configure("Agent", ThingName="gateway-%s")
        self.assertRenewed(self.renew())

    def test_throttled(self):
        self.scene(backend="file")
        self.cloud.fault("register-thing", "reject", who="device", statusCode=429, errorCode="Throttled")
        self.assertFails("cloud-busy", "register", "429")
        self.assertRenewed(self.renew())
        self.assertEqual(self.asked(), 2)

    def test_hook_denies(self):
        self.scene(backend="file")
        self.cloud.hook({"serialPrefix": "GW", "result": "deny"})
        self.assertFails("denied", "register", "403")
        told = self.assertFails("denied", "register", "403")
        self.assertNotIn("RenewParameter", told.fields["MESSAGE"])
        self.cloud.hook()
        self.assertRenewed(self.renew())
        self.assertEqual(self.asked(), 2)

    def test_hook_is_told_too_little(self):
        self.scene(backend="file")
        self.gateway.configure("fleet-claim", RenewParameter_ThingName=None)
        self.cloud.hook({"serialPrefix": "GW", "result": "deny"})
        self.assertFails("denied", "register", "403", "RenewParameter.ThingName=%t is not set")


class OtherThing(Scene):
    def test_it_is_refused(self):
        """A template that makes another thing of the device: nothing is handed over, and the account is not littered."""
        self.scene(backend="file")
        body = self.make_others()
        words = ("for the thing somebody-else", f"this device is {self.thing()}", "RenewTemplate=")
        for _ in range(4):
            self.assertFails("invalid", "register", *words)
        self.assertEqual(self.asked(), 2)
        self.assertEqual(self.cloud.certificates_of(self.thing()), {self.old["certificateId"]: "ACTIVE"})
        self.set_template(body)
        self.gateway.configure("fleet-claim", RenewParameter_Reason="mended")  # whoever mends it says so here
        result = self.renew()
        self.assertEqual(identity_of(result)["thingName"], self.thing())

    def test_patience(self):
        """Once in 24 attempts, at most an hour apart, another certificate is asked for: the cloud may have been mended."""
        self.scene(backend="file")
        body = self.make_others()
        self.assertFails("invalid", "register")
        self.set_template(body)
        for _ in range(24):
            self.assertFails("invalid", "register", "somebody-else")
        self.assertEqual(self.asked(), 2)
        self.assertEqual(identity_of(self.renew())["thingName"], self.thing())
        self.assertEqual(self.asked(), 3)

    def test_power_cut_behind_the_reply(self):
        """What was refused is not forgotten, and never proven."""
        self.scene(backend="file")
        self.make_others()
        self.attempt(cut_at="registered")
        before = len(self.cloud.events(event="connect"))
        self.assertFails("invalid", "register", "somebody-else")
        self.assertEqual(len(self.cloud.events(event="connect")), before)


class Proof(Scene):
    def deny_publish(self):
        policy = self.cloud.registry()["policies"]["enrolld-device"]
        self.allowed = json.loads(json.dumps(policy))
        policy["Statement"][2]["Resource"] = policy["Statement"][2]["Resource"][1:]
        self.cloud.set_policy("enrolld-device", policy)

    def test_publish_denied(self):
        """Connects but may not publish: never handed over, and kept for when the policy is mended."""
        self.scene(backend="file")
        self.deny_publish()
        topic = f"things/{self.thing()}/enrolld/proof"
        for _ in range(3):
            self.assertFails("denied", "prove", f"refused the message to {topic}: Not authorized (0x87)",
                             "connects but may not publish", f"iot:Publish on topic/{topic}")  # fmt: skip
        self.assertEqual(self.asked(), 2)
        self.cloud.set_policy("enrolld-device", self.allowed)
        self.assertRenewed(self.renew())
        self.assertEqual(self.asked(), 2)

    def test_enrolment_proves_it_too(self):
        self.scene(backend="file")
        self.deny_publish()
        self.keep_distance()
        result = self.worker.job("enroll")
        self.assertEqual((result.fields["CLASS"], result.fields["STEP"]), ("denied", "prove"), result)
        self.assertIn("connects but may not publish", result.fields["MESSAGE"])

    def test_topic_that_cannot_be(self):
        """Before anything is asked of the cloud."""
        self.scene(backend="file")
        before = len(self.cloud.events(event="connect"))
        self.gateway.configure("Cloud", ProveTopic="1/2/3/4/5/6/7/8/9")
        self.assertFails("invalid", "configuration", "ProveTopic=", "more than 7 slashes")
        self.assertEqual(len(self.cloud.events(event="connect")), before)

    def test_busy(self):
        self.scene(backend="file")
        self.cloud.fault("publish", "hangup", who="device", times=0, topic="things/*")
        result = self.assertFails("network", "prove")
        self.cloud.clear_faults()
        self.assertRenewed(self.renew())
        self.assertEqual(self.asked(), 2)


class Settings(Scene):
    def test_what_is_missing(self):
        self.scene(backend="file")
        before = len(self.cloud.events(event="connect"))
        self.gateway.configure("fleet-claim", RenewTemplate=None)
        self.assertFails("invalid", "configuration", "RenewTemplate= is missing in section [fleet-claim]")
        self.gateway.configure("fleet-claim", RenewTemplate="no template")
        self.assertFails("invalid", "identity", "RenewTemplate=no template is no template name")
        self.gateway.configure("Renewal", RenewMethod="none")
        self.assertFails("invalid", "configuration", "RenewMethod=none")
        self.gateway.configure("Renewal", RenewMethod="other")
        self.assertFails("invalid", "configuration", "there is no plugin for the method other")
        self.gateway.configure("Renewal", RenewMethod="jitp")
        self.gateway.sections["jitp"] = {}
        self.assertFails("invalid", "configuration", "no certificate was imported")
        self.assertEqual(len(self.cloud.events(event="connect")), before)

    def test_wrong_template(self):
        """The device's own policy, and the key of renewals."""
        self.scene(backend="file")
        self.gateway.configure("fleet-claim", RenewTemplate="enrolld-renewal")
        self.assertFails("denied", "identity", "provisioning-templates/enrolld-renewal/",
                         "does the device's policy allow iot:Subscribe", "is RenewTemplate= right?")  # fmt: skip

    def test_damaged_identity(self):
        self.scene(backend="file")
        good = self.current
        self.current = good | {"identity": "{}"}
        result = self.attempt()
        self.assertEqual((result.fields["CLASS"], result.fields["STEP"]), ("invalid", "verify"), result)
        self.current = good | {"certificate": "none"}
        result = self.attempt()
        self.assertEqual((result.fields["CLASS"], result.fields["STEP"]), ("invalid", "verify"), result)
        self.assertEqual(self.asked(), 1)


class Imported(Scene):
    """jitp: the certificate that renews was imported."""

    def imported_scene(self, **agent):
        self.cloud = Cloud(self, front=True)
        self.tpm = None
        self.maker = Authority(self.directory, "maker")
        self.cloud.register_authority(self.maker.path, template=self.cloud.jitp_template())
        self.gateway = Gateway(self, self.cloud, None, "file", serial=SERIAL)
        self.gateway.sections |= {"Renewal": {}, "jitp": {}}
        self.gateway.configure("Agent", Methods="jitp", **agent)
        self.worker, self.checkpoint = Worker(self.gateway), None
        result = self.worker.job("enroll", {"staged": self.staged(SERIAL)})
        self.assertTrue(result.done, result)
        self.old, self.current = identity_of(result), files_of(result)

    def staged(self, name):
        pem = self.maker.device(name)
        key = (self.directory / f"{name}.key").read_text()
        return json.dumps({"schema": 1, "keyOrigin": "file", "privateKey": key, "certificate": pem + self.maker.pem})

    def renew_by(self, staged):
        self.keep_distance()
        return self.worker.job("renew", self.current | {"staged": staged})

    def test_renewal(self):
        self.imported_scene(ThingName="%c")
        result = self.renew_by(self.staged(SERIAL))
        self.assertTrue(result.done, result)
        new = identity_of(result)
        self.assertEqual((new["method"], new["thingName"]), ("jitp", SERIAL))
        self.assertEqual(self.cloud.certificates_of(SERIAL),
                         {self.old["certificateId"]: "ACTIVE", new["certificateId"]: "ACTIVE"})  # fmt: skip
        ids = {event["clientId"] for event in self.cloud.events(certificateId=new["certificateId"])
               if "clientId" in event}  # fmt: skip
        self.assertEqual(ids, {f"{SERIAL}-enrolld"})

    def test_check_tells_of_it(self):
        """What was imported makes a renewal due, but not one by another method, nor does a key that waits."""
        self.imported_scene(ThingName="%c")
        staged = self.staged(SERIAL)
        waiting = json.dumps({key: value for key, value in json.loads(staged).items() if key != "certificate"})

        def told(text):
            fields = self.worker.job("check", self.current | {"staged": text}).fields
            return fields["IMPORTED"], fields["HINDRANCE"] == ""

        self.assertEqual(told(staged), ("yes", True))
        self.assertEqual(told(waiting), ("no", False))
        self.gateway.configure("Renewal", RenewMethod="fleet-claim")
        self.gateway.sections["fleet-claim"] = {"RenewTemplate": TEMPLATE}
        self.gateway.configure()
        self.assertEqual(told(staged), ("no", True))

    def test_certificate_in_use(self):
        self.imported_scene()
        staged = json.loads(self.staged("other")) | {"certificate": self.current["certificate"],
                                                     "privateKey": self.current["private-key"]}  # fmt: skip
        result = self.renew_by(json.dumps(staged))
        self.assertEqual(result.fields["CLASS"], "invalid", result)
        self.assertIn("the certificate that was imported is the one in use", result.fields["MESSAGE"])

    def test_another_thing(self):
        self.imported_scene(ThingName="%c")
        result = self.renew_by(self.staged("GW-0002"))
        self.assertEqual(result.fields["CLASS"], "invalid", result)
        self.assertIn("for the thing GW-0002, and this device is GW-0001", result.fields["MESSAGE"])
        self.assertEqual([key for key in self.cloud.things() if key == "GW-0002"], [])

    def test_by_another_method(self):
        """An identity of jitp renews by RegisterThing under its own certificate."""
        self.imported_scene(ThingName="%c")
        self.gateway.configure("Renewal", RenewMethod="fleet-claim")
        self.gateway.sections["fleet-claim"] = {"RenewTemplate": TEMPLATE, "RenewParameter.ThingName": "%t"}
        self.gateway.configure()
        result = self.renew()
        new = identity_of(result)
        self.assertEqual((new["method"], new["thingName"], new["keyOrigin"]), ("fleet-claim", SERIAL, "file"))
        self.assertEqual(self.cloud.certificates_of(SERIAL),
                         {self.old["certificateId"]: "ACTIVE", new["certificateId"]: "ACTIVE"})  # fmt: skip


if __name__ == "__main__":
    harness.main()
