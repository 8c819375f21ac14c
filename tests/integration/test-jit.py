#!/usr/bin/env python3
"""Just-in-time provisioning and registration, from nothing to a published message; and what goes wrong on the way."""

import collections
import re
import sys

import harness
from authority import Authority, certificate_id
from gateway import Gateway
from harness import SOURCE_DIR, Process, wait_for
from parts import AwsError, Bus, Cloud, Tpm
from stock_client import StockClient

SERIAL = "GW-0001"
CONNECT_DISTANCE = 1.0  # AWS IoT Core quotas, "Connect requests per second per client ID"
REFUSALS = ("connack", "close", "handshake-alert", "handshake-close", "after-handshake-close")
# The first attempt of jitp: five CONNECTs in 15.5 s.
FIRST_ATTEMPT = 5
ALL_ALLOWED = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}

NOT_REGISTERED = "ResourceNotFound: no registered ACTIVE CA with auto-registration has issued it"
# What an operator is told: the table of docs/just-in-time.md.
MISTAKES = {
    "nothing was imported": "no certificate was imported",
    "no request was made before": "this device has made no request",
    "the certificate was issued for another request": "the certificate is not for this device's request",
    "the key does not belong to the certificate": "the certificate is not for the private key that came along",
    "the CA's certificate stands before the device's": "wrong order: ",
    "the certificate of a CA was imported in place of the device's": "a CA's own: the device's certificate is missing",
    "the certificate has expired": "the device's certificate has expired",
    "the common name is no thing name": "the certificate's common name is",
    "the CA is not registered, or in another account or region": NOT_REGISTERED,
    "the CA is `INACTIVE`": NOT_REGISTERED,
    "auto-registration of the CA is off": NOT_REGISTERED,
    "the chain lacks the CA's certificate": "or its issuer's certificate must be sent: import the whole chain",
    "the template wants what the certificate lacks": "PENDING_ACTIVATION: template or role has failed",
    "the Lambda fails, or no rule calls it": "PENDING_ACTIVATION: rule or Lambda has failed",
    "the policy does not allow the client id": "ACTIVE: its policy does not allow the client id",
}


class Scene(harness.TestCase):
    def scene(self, *cloud_options, method="jitp", backend="tpm2"):
        self.cloud = Cloud(self, *cloud_options, front=True)
        self.tpm = Tpm(self) if backend == "tpm2" else None
        self.maker = Authority(self.directory, "maker")
        self.gateway = self.make_gateway(method, backend=backend)

    def make_gateway(self, method="jitp", serial=SERIAL, backend="file"):
        bus = Bus(self, name=f"bus-{serial}")
        gateway = Gateway(self, self.cloud, self.tpm if backend == "tpm2" else None, backend, bus, serial, serial)
        gateway.sections.update({"jitp": {}, "jitr": {}, "Request": {}, "Renewal": {}})
        gateway.configure("Agent", Methods=method, ThingName="%c")
        return gateway

    def register(self, **settings):
        """The maker's authority, with the template of etc/aws."""
        settings = {"template": self.cloud.jitp_template()} | settings
        return self.cloud.register_authority(self.maker.path, **settings)

    def check_distance(self):
        """No client id has connected twice within a second."""
        seen = collections.defaultdict(list)
        for event in self.cloud.events(event="connect") + self.cloud.events(event="refused"):
            seen[event["clientId"]].append(event["time"] / 1000)
        for client_id, times in seen.items():
            times.sort()
            for first, second in zip(times, times[1:]):
                self.assertGreaterEqual(second - first, CONNECT_DISTANCE, f"CONNECTs of {client_id}: {times}")

    def request(self, *options, gateway=None):
        """The request as enrollctl prints it."""
        done = (gateway or self.gateway).enrollctl("request", *options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def import_chain(self, chain, *options, gateway=None):
        """Imports through a pipe; returns the receipt."""
        done = (gateway or self.gateway).enrollctl("import", *options, "-", input=chain)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    def import_signed(self, gateway=None):
        """What the operator does: has the device's request signed. Returns the certificate's id."""
        certificate = self.maker.sign(self.request(gateway=gateway))
        receipt = self.import_chain(certificate + self.maker.pem, gateway=gateway)
        self.assertEqual(receipt, certificate_id(certificate))
        return receipt

    def check_provisioned(self, receipt, key_origin="tpm", serial=SERIAL):
        """The certificate is the one that was imported, and no other is known."""
        gateway = self.gateway
        gateway.wait_provisioned()
        self.assertEqual(gateway.property("CertificateId"), receipt)
        self.assertEqual(gateway.property("ThingName"), serial)
        self.assertEqual(gateway.property("KeyOrigin"), key_origin)
        self.assertEqual(gateway.property("LastError"), ["", "", "", 0])
        self.assertEqual(self.cloud.device_certificates()[receipt], "ACTIVE")
        self.assertEqual(self.cloud.things(), {serial: [receipt]})
        self.assertFalse((gateway.state / "staged").exists())

    def publish(self, receipt, serial=SERIAL):
        """A program that knows nothing of enrolld does."""
        self.check_distance()
        client = StockClient(self, self.gateway, self.cloud, self.tpm)
        topic = f"things/{serial}/hello"
        client.publish(serial, topic, "21.5")
        event = self.cloud.wait_event(event="message", topic=topic)
        self.assertEqual((event["certificateId"], event["payload"]), (receipt, "21.5"))

    def pauses(self, receipt):
        """Seconds between the CONNECTs with that certificate."""
        events = self.refusals(receipt) + self.cloud.events(event="connect", certificateId=receipt)
        times = [event["time"] / 1000 for event in events]
        return [second - first for first, second in zip(times, times[1:])]

    def refusals(self, receipt):
        return self.cloud.events(event="refused", certificateId=receipt)


class Template(Scene):
    """jitp."""

    def test_signed_request(self):
        self.scene()
        self.register()
        self.gateway.start()
        request = self.request()
        self.assertEqual(self.request(), request)
        receipt = self.import_chain(self.maker.sign(request) + self.maker.pem)
        self.check_provisioned(receipt)
        self.publish(receipt)
        self.assertEqual(self.gateway.identity()["method"], "jitp")
        # The first CONNECT is refused by design; that is no failure, and no reason to ask for its policy.
        reasons = [error[2] for error in self.gateway.signalled("LastError") if error[0] == "not-yet"]
        self.assertRegex(reasons[0], "^the first connection of a new certificate is always refused; asked again: ")
        self.assertNotIn("?", reasons[0])
        self.assertNotIn("backoff", self.gateway.signalled("State"))
        self.assertIn(len(self.refusals(receipt)), (1, 2, 3))

    def test_successor(self):
        """What is imported beside an identity in use is its successor: with a new key, and then with the same."""
        self.scene()
        self.register()
        self.gateway.start()
        in_use = [self.import_signed()]
        self.check_provisioned(in_use[0])
        for reuse in ("no", "yes"):
            self.gateway.configure("Renewal", ReuseKey=reuse)
            self.gateway.call("Reload")
            self.assertIn("`enrollctl request`", self.gateway.property("RenewHindrance"))
            key = self.gateway.read("private.pem")
            in_use.append(self.import_signed())
            self.gateway.wait_property("CertificateId", in_use[-1])
            self.gateway.wait_property("State", "provisioned")
            self.assertEqual(self.gateway.read("private.pem") == key, reuse == "yes")
            self.assertFalse((self.gateway.state / "staged").exists())
        things = self.cloud.things()
        self.assertEqual((list(things), sorted(things[SERIAL])), ([SERIAL], sorted(in_use)))
        self.assertEqual(self.gateway.property("RenewRule"), "never")
        self.publish(in_use[-1])

    def test_key_from_the_factory(self):
        self.scene()
        self.register()
        self.maker.device(SERIAL)
        key, chain = (self.directory / f"{SERIAL}.{suffix}" for suffix in ("key", "pem"))
        self.gateway.start()
        receipt = self.import_chain(chain.read_text(), f"--key={key}")
        self.check_provisioned(receipt, key_origin="imported")
        self.publish(receipt)
        secret = "".join(key.read_text().splitlines()[1:3])
        for path in self.gateway.files():
            self.assertNotIn(secret, path.read_text(errors="replace").replace("\n", ""), path)
        # A receipt that was lost is had by importing again, and so the key goes after all; another one is refused.
        self.maker.device("other")
        other = self.gateway.enrollctl("import", str(self.directory / "other.pem"))
        self.assertEqual(other.returncode, 1, other.stdout)
        self.assertIn("this device has made no request", other.stderr)
        self.assertEqual(self.import_chain(chain.read_text(), "--wipe", f"--key={key}"), receipt)
        self.assertFalse(key.exists())
        self.assertEqual(self.gateway.property("State"), "provisioned")

    def test_key_in_a_file(self):
        self.scene(backend="file")
        self.register()
        self.gateway.start()
        receipt = self.import_signed()
        self.check_provisioned(receipt, key_origin="file")
        self.publish(receipt)

    def test_names(self):
        """ThingName= and ClientId= by the certificate's common name and id."""
        self.scene(backend="file")
        self.register()
        policy = self.cloud.registry()["policies"]["enrolld-device"]
        for statement in policy["Statement"]:
            statement["Resource"] = "*"
        self.cloud.set_policy("enrolld-device", policy)
        self.gateway.configure("Request", Subject="CN=box-%s,O=Example")
        self.gateway.configure("Agent", ClientId="%c:%i")
        self.gateway.start()
        receipt = self.import_signed()
        self.check_provisioned(receipt, "file", serial=f"box-{SERIAL}")
        self.publish(receipt, serial=f"box-{SERIAL}")
        event = self.cloud.events(event="connect", certificateId=receipt)[0]
        self.assertEqual(event["clientId"], f"box-{SERIAL}:{receipt}")

    def test_policy_for_the_bare_name(self):
        """Many policies allow no other client id than the thing's name."""
        self.scene(backend="file")
        self.register()
        policy = self.cloud.registry()["policies"]["enrolld-device"]
        connect = policy["Statement"][0]
        bare = "client/${iot:Connection.Thing.ThingName}"
        connect["Resource"] = [name for name in connect["Resource"] if name.endswith(bare)]
        self.assertEqual(len(connect["Resource"]), 1)
        self.cloud.set_policy("enrolld-device", policy)
        self.gateway.start()
        receipt = self.import_signed()
        self.check_provisioned(receipt, "file")
        self.publish(receipt)
        self.assertEqual(self.gateway.identity()["clientId"], SERIAL)
        self.assertNotIn("backoff", self.gateway.signalled("State"))

    def test_activation_after_the_first_attempt(self):
        """Later than the first attempt lasts: the schedule of [Retry] finds it, with two CONNECTs per attempt."""
        self.scene("--jitp-delay=20", backend="file")
        self.register()
        self.gateway.configure("Retry", NotYet="2s 2s")
        self.gateway.start()
        receipt = self.import_signed()
        error = self.gateway.wait_signalled("LastError", lambda error: "describe-certificate" in error[2])
        self.assertEqual(error[:2], ["not-yet", "register"])
        self.assertRegex(error[2], rf"^refused {FIRST_ATTEMPT} times in 1[5-9] s, last: ")
        self.assertIn(f"the agent's client id is {SERIAL}-enrolld. To learn why: `aws iot describe", error[2])
        self.assertIn(f"--certificate-id {receipt}", error[2])
        self.check_provisioned(receipt, "file")
        self.assertIn("backoff", self.gateway.signalled("State"))
        classes = [error[0] for error in self.gateway.signalled("LastError")]
        self.assertEqual(set(classes[classes.index("not-yet") :]), {"", "not-yet"})
        # Later attempts have no burst: of two pauses in a row one is that within the attempt.
        pauses = self.pauses(receipt)[FIRST_ATTEMPT - 1 :]
        self.assertTrue(all(max(pair) > 3.9 for pair in zip(pauses, pauses[1:])), pauses)
        self.check_distance()

    def test_restart_while_pending(self):
        """The import survives, and nothing is asked of the operator again."""
        self.scene("--jitp-delay=4", backend="file")
        self.register()
        self.gateway.start()
        receipt = self.import_signed()
        self.cloud.wait_event(event="refused", certificateId=receipt)
        self.gateway.kill()
        self.reap_orphans()
        self.gateway.start()
        self.check_provisioned(receipt, "file")


class Lambda(Scene):
    """jitr."""

    def scene(self, *options):
        super().scene("--lambda", "--control-port=0", *options, method="jitr")
        wait_for("the control plane listens", (self.cloud.state / "control-port").is_file)
        self.cloud.register_authority(self.maker.path)

    def start_lambda(self, *options):
        process = Process(
            "iotcore-lambda",
            [sys.executable, "-B", SOURCE_DIR / "tests/iotcore/iotcore-lambda", self.cloud.directory, *options],
            self.directory / "lambda.log",
        )
        self.show_on_failure("iotcore-lambda", process.log)
        self.addCleanup(process.stop)
        self.cloud.wait_event(event="subscribe", clientId="jitr-lambda")

    def check_provisioned(self, receipt):
        """The subscriber that calls the Lambda has a certificate and a thing of its own."""
        self.gateway.wait_provisioned()
        self.assertEqual(self.gateway.property("CertificateId"), receipt)
        self.assertEqual(self.cloud.certificates_of(SERIAL), {receipt: "ACTIVE"})
        self.assertEqual(self.gateway.identity()["method"], "jitr")
        self.publish(receipt)

    def test_signed_request(self):
        self.scene()
        self.start_lambda()
        self.gateway.start()
        self.check_provisioned(self.import_signed())

    def test_lambda_comes_later(self):
        """Its first call was lost; each CONNECT calls it again."""
        self.scene()
        self.gateway.start()
        receipt = self.import_signed()
        wait_for("two refusals", lambda: len(self.refusals(receipt)) >= 2)
        self.start_lambda()
        self.check_provisioned(receipt)
        self.assertNotIn("backoff", self.gateway.signalled("State"))


class Claim(Scene):
    """%c of a device that imports nothing: the cloud calls the certificates of a whole fleet the same."""

    def check_client_id(self, expected, **changes):
        self.scene(method="fleet-claim", backend="file")
        self.gateway.configure("Request", Subject="CN=box-%s")
        self.gateway.configure("Agent", ClientId="%c-enrolld", ThingName=None)
        self.gateway.configure("fleet-claim", **changes)
        self.cloud.set_policy("enrolld-claim", ALL_ALLOWED)
        self.cloud.set_policy("enrolld-device", ALL_ALLOWED)
        self.gateway.start()
        self.gateway.wait_provisioned()
        receipt = self.gateway.property("CertificateId")
        event = self.cloud.events(event="connect", certificateId=receipt)[0]
        self.assertEqual(event["clientId"], expected)

    def test_name_that_was_asked_for(self):
        self.check_client_id(f"box-{SERIAL}-enrolld")

    def test_key_of_the_cloud(self):
        self.check_client_id(f"{SERIAL}-enrolld", KeySource="cloud")


class Forms(Scene):
    """Every form of a refusal is taken for "not yet", whatever it looks like."""

    def test_each_form(self):
        self.scene(backend="file")
        self.register()
        cases = [(refusal, version) for refusal in REFUSALS for version in ("1.2", "1.3")]
        for number, (refusal, version) in enumerate(cases):
            with self.subTest(refusal=refusal, version=version):
                self.check_form(f"GW-1{number:03}", refusal, version)
        self.check_distance()

    def check_form(self, serial, refusal, version):
        self.cloud.options(**{"refusal": refusal, "tls-version": version})
        gateway = self.make_gateway(serial=serial)
        gateway.start()
        receipt = self.import_signed(gateway)
        gateway.wait_provisioned()
        self.assertEqual(gateway.property("CertificateId"), receipt)
        self.assertNotIn("backoff", gateway.signalled("State"))
        self.assertGreaterEqual(len(self.refusals(receipt)), 1)
        gateway.stop()


class Mistakes(Scene):
    """Each likely one, and the words that an operator gets."""

    def expect(self, mistake, text):
        self.assertIn(MISTAKES[mistake], text)

    def test_document(self):
        text = (SOURCE_DIR / "docs/just-in-time.md").read_text()
        rows = re.findall(r"^\| (.+) \| `([^|`]+)` \| .+ \|$", text, re.MULTILINE)
        self.assertEqual(dict(rows), MISTAKES)

    # What `enrollctl import` refuses. Nothing has changed afterwards.

    def refuse(self, mistake, chain, *options):
        staged = self.gateway.state / "staged"
        before = staged.read_bytes() if staged.exists() else None
        done = self.gateway.enrollctl("import", *options, "-", input=chain)
        self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
        self.expect(mistake, done.stderr)
        self.assertEqual(staged.read_bytes() if staged.exists() else None, before)

    def test_import(self):
        self.scene(backend="file")
        self.gateway.start()
        error = self.gateway.wait_property("LastError", lambda error: error[0] != "")
        self.expect("nothing was imported", error[2])
        foreign = self.maker.device("GW-9999") + self.maker.pem
        self.refuse("no request was made before", foreign)
        request = self.request()
        self.refuse("the certificate was issued for another request", foreign)
        self.maker.device("GW-9998")
        self.refuse("the key does not belong to the certificate", foreign, f"--key={self.directory / 'GW-9998.key'}")
        leaf = self.maker.sign(request)
        self.refuse("the CA's certificate stands before the device's", self.maker.pem + leaf)
        self.refuse("the certificate of a CA was imported in place of the device's", self.maker.pem)
        self.refuse("the certificate has expired", self.maker.sign(request, days=-1) + self.maker.pem)
        request = self.request("--subject=CN=gw.example.com")
        self.refuse("the common name is no thing name", self.maker.sign(request) + self.maker.pem)
        self.assertEqual(self.cloud.events(event="connect") + self.cloud.events(event="refused"), [])

    # What only the cloud can see: devices that are refused at the same time.

    def device(self, serial, mistake, alone=False, method="jitp"):
        """A device of a maker of its own."""
        maker = Authority(self.directory, f"maker-{serial}")
        gateway = self.make_gateway(method, serial)
        gateway.start()
        request = self.request(gateway=gateway)
        receipt = self.import_chain(maker.sign(request) + ("" if alone else maker.pem), gateway=gateway)
        self.devices.append((mistake, gateway, receipt))
        return maker

    def ask(self, message, receipt):
        """Runs the command that the message names; returns the status of the certificate."""
        words = re.search(r"To learn why: `aws iot ([^`]*)`\.", message)
        self.assertIsNotNone(words, message)
        self.assertIn(receipt, words[1])
        try:
            return self.cloud.aws(*words[1].split())["certificateDescription"]["status"]
        except AwsError as error:
            self.assertIn("ResourceNotFoundException", str(error))
            return "ResourceNotFound"

    def scene_of_devices(self, *options):
        self.scene("--control-port=0", "--require-issuer=on", *options, backend="file")
        wait_for("the control plane listens", (self.cloud.state / "control-port").is_file)
        self.devices = []

    def check_devices(self, seconds=harness.DEADLINE):
        for mistake, gateway, receipt in self.devices:
            with self.subTest(mistake=mistake):
                error = gateway.wait_signalled("LastError", lambda error: "To learn why: `aws iot" in error[2], seconds)
                self.assertEqual(error[:2], ["not-yet", "register"])
                self.expect(mistake, error[2])
                # The message says of each answer what it means.
                self.assertIn(f" {self.ask(error[2], receipt)}: ", error[2])

    def test_refused_by_the_cloud(self):
        self.scene_of_devices()
        template = self.cloud.jitp_template()
        demanding = self.cloud.jitp_template()
        demanding["Parameters"]["AWS::IoT::Certificate::Country"] = {"Type": "String"}
        nobody = self.cloud.jitp_template()
        del nobody["Resources"]["policy"]
        self.device("GW-1", "the CA is not registered, or in another account or region")
        for serial, mistake, alone, settings in (
            ("GW-2", "the CA is `INACTIVE`", False, {"template": template, "status": "INACTIVE"}),
            ("GW-3", "auto-registration of the CA is off", False,
             {"template": template, "autoRegistrationStatus": "DISABLE"}),
            ("GW-4", "the chain lacks the CA's certificate", True, {"template": template}),
            ("GW-5", "the template wants what the certificate lacks", False, {"template": demanding}),
            ("GW-6", "the policy does not allow the client id", False, {"template": nobody}),
        ):  # fmt: skip
            maker = self.device(serial, mistake, alone)
            self.cloud.register_authority(maker.path, **settings)
        self.check_devices()
        self.check_distance()

    def test_lambda_is_dead(self):
        """The first attempt would last for a minute: it is cut short, where the network is gone for a moment."""
        self.scene_of_devices()
        maker = self.device("GW-7", "the Lambda fails, or no rule calls it", method="jitr")
        self.cloud.register_authority(maker.path)
        ((_, gateway, receipt),) = self.devices
        self.cloud.wait_event(event="refused", certificateId=receipt)
        self.cloud.stop()
        gateway.wait_signalled("State", "backoff")
        since = gateway.monitor.mark()
        self.cloud.start()
        wait_for(
            lambda: f"a whole attempt: {gateway.describe()}",
            lambda: any("refused 2 times" in error[2] for error in gateway.signalled("LastError", since)),
        )
        gateway.since = since
        self.check_devices()


if __name__ == "__main__":
    harness.main()
