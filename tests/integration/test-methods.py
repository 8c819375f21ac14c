#!/usr/bin/env python3
"""Several methods in order: Methods=jitp fleet-claim, what falls through to the next one, and what does not."""

import collections
import json

import harness
from authority import Authority, certificate_id
from gateway import Gateway
from parts import Cloud
from stock_client import StockClient

SERIAL = "GW-0001"
CONNECT_DISTANCE = 1.0  # AWS IoT Core quotas, "Connect requests per second per client ID"
NOT_IMPORTED = "no certificate was imported: jitp needs `enrollctl import`, after `enrollctl request` or with a key"


class Scene(harness.TestCase):
    def scene(self, methods, *cloud_options):
        self.cloud = Cloud(self, *cloud_options, front=True)
        self.maker = Authority(self.directory, "maker")
        self.gateway = Gateway(self, self.cloud, backend="file", serial=SERIAL)
        self.gateway.sections["jitp"] = {}
        self.gateway.configure("Agent", Methods=methods, ThingName="%c")

    def register(self):
        self.cloud.register_authority(self.maker.path, template=self.cloud.jitp_template())

    def import_device(self):
        """Returns the certificate's id."""
        receipt = certificate_id(self.maker.device(SERIAL))
        key, chain = (str(self.directory / f"{SERIAL}.{suffix}") for suffix in ("key", "pem"))
        done = self.gateway.enrollctl("import", f"--key={key}", chain)
        self.assertEqual(done.returncode, 0, done.stderr)
        return receipt

    def methods(self):
        """Name and outcome of each."""
        return [method[:2] for method in self.gateway.property("Methods")]

    def message(self, name):
        return next(message for method, _, message in self.gateway.property("Methods") if method == name)

    def claims(self):
        """What happened under the claim certificate."""
        return self.cloud.events(certificateId=self.cloud.claim_id)

    def check_distance(self):
        """No client id has connected twice within a second."""
        seen = collections.defaultdict(list)
        for event in self.cloud.events(event="connect") + self.cloud.events(event="refused"):
            seen[event["clientId"]].append(event["time"] / 1000)
        for client_id, times in seen.items():
            times.sort()
            for first, second in zip(times, times[1:]):
                self.assertGreaterEqual(second - first, CONNECT_DISTANCE, f"CONNECTs of {client_id}: {times}")

    def publish(self):
        """A program that knows nothing of enrolld does."""
        thing = self.gateway.property("ThingName")
        topic = f"things/{thing}/hello"
        StockClient(self, self.gateway, self.cloud).publish(thing, topic, "21.5")
        event = self.cloud.wait_event(event="message", topic=topic)
        self.assertEqual((event["certificateId"], event["payload"]), (self.gateway.property("CertificateId"), "21.5"))

    def allow_any_client_id(self):
        policy = self.cloud.registry()["policies"]["enrolld-device"]
        for statement in policy["Statement"]:
            statement["Resource"] = "*"
        self.cloud.set_policy("enrolld-device", policy)

    def begin_without_inputs(self, **agent):
        """The claim's key is only there once provide_claim_key() was called."""
        self.gateway.configure("Agent", **agent)
        self.gateway.configure("fleet-claim", PrivateKey=self.gateway.directory / "claim.key")
        self.gateway.start()
        self.gateway.wait_property("LastError", lambda error: error[0] == "invalid")

    def provide_claim_key(self):
        (self.gateway.directory / "claim.key").write_bytes(self.cloud.claim_key.read_bytes())


class Order(Scene):
    def test_nothing_imported(self):
        """The first method whose inputs are there is taken."""
        self.scene("jitp fleet-claim")
        self.gateway.start()
        self.gateway.wait_provisioned()
        self.assertEqual(self.methods(), [["jitp", "unusable"], ["fleet-claim", "done"]])
        self.assertEqual(self.message("jitp"), NOT_IMPORTED)
        self.assertEqual(self.gateway.property("Method"), "fleet-claim")
        self.assertEqual(self.gateway.identity()["method"], "fleet-claim")
        self.assertEqual(self.gateway.property("LastError"), ["", "", "", 0])
        done = self.gateway.enrollctl("status")
        self.assertIn("jitp", done.stdout)
        self.assertIn("unusable", done.stdout)
        status = json.loads(self.gateway.enrollctl("status", "--json").stdout)
        self.assertIn(NOT_IMPORTED, json.dumps(status["Methods"]))
        self.publish()

    def test_staged_certificate_of_another_key(self):
        """As after a mix-up of files: it is not sent, and the next method is taken."""
        self.scene("jitp fleet-claim")
        self.register()
        self.gateway.configure("Cloud", Endpoint="nowhere.invalid")
        self.begin_without_inputs()
        self.import_device()
        self.gateway.stop()
        staged = json.loads((self.gateway.state / "staged").read_text())
        staged["certificate"] = self.maker.device("GW-0002") + self.maker.pem
        (self.gateway.state / "staged").write_text(json.dumps(staged))
        self.provide_claim_key()
        self.gateway.configure("Cloud", Endpoint="localhost")
        self.gateway.start()
        self.gateway.wait_provisioned()
        self.assertEqual(self.methods(), [["jitp", "unusable"], ["fleet-claim", "done"]])
        self.assertIn("the imported certificate is for another key", self.message("jitp"))

    def test_imported(self):
        self.scene("jitp fleet-claim")
        self.register()
        self.begin_without_inputs()
        receipt = self.import_device()
        self.provide_claim_key()
        self.gateway.wait_provisioned()
        self.assertEqual(self.gateway.property("CertificateId"), receipt)
        self.assertEqual(self.methods()[0], ["jitp", "done"])
        self.assertEqual(self.gateway.property("Method"), "jitp")
        self.assertEqual(self.claims(), [])

    def test_neither_can_be_used(self):
        self.scene("jitp fleet-claim")
        self.gateway.configure("fleet-claim", Certificate="/nonexistent/claim.pem")
        self.gateway.start()
        error = self.gateway.wait_property("LastError", lambda error: error[0] != "")
        self.assertEqual(error[:2], ["invalid", "configuration"])
        self.assertIn("none of the methods can be used", error[2])
        self.assertIn(f"jitp: {NOT_IMPORTED}", error[2])
        self.assertIn("Certificate=/nonexistent/claim.pem cannot be read: No such file or directory", error[2])
        self.assertEqual(self.methods(), [["jitp", "unusable"], ["fleet-claim", "unusable"]])

    def test_claim_that_cannot_be_read(self):
        """The order is that of the list, not that of ours."""
        self.scene("fleet-claim jitp")
        self.register()
        self.gateway.configure("fleet-claim", PrivateKey="/nonexistent/claim.key")
        self.gateway.start()
        self.gateway.wait_property("LastError", lambda error: error[0] == "invalid")
        receipt = self.import_device()
        self.gateway.wait_provisioned()
        self.assertEqual(self.gateway.property("CertificateId"), receipt)
        self.assertEqual(self.methods(), [["fleet-claim", "unusable"], ["jitp", "done"]])
        self.assertIn("/nonexistent/claim.key", self.message("fleet-claim"))

    def deny_jitp(self, **agent):
        """Nobody knows the authority of what is imported; patience ends with the first attempt."""
        self.scene("jitp fleet-claim")
        self.allow_any_client_id()
        self.gateway.configure("jitp", Patience="1s")
        self.gateway.configure("Retry", NotYet="2s 2s")
        self.begin_without_inputs(**agent)
        receipt = self.import_device()
        self.provide_claim_key()
        self.gateway.wait_property("Methods", lambda methods: methods[0][1] == "not-yet")
        return receipt

    def test_denied_waits(self):
        receipt = self.deny_jitp()
        error = self.gateway.wait_property("LastError", lambda error: error[0] == "denied")
        self.assertIn(f"--certificate-id {receipt}`. ResourceNotFound: no registered ACTIVE CA", error[2])
        self.gateway.wait_property("State", "failed")
        self.assertEqual(self.methods()[0], ["jitp", "denied"])
        self.assertEqual(self.claims(), [])
        self.assertIn("describe-certificate", self.gateway.enrollctl("status").stdout)

    def test_denied_goes_on(self):
        """Only where OnDenied=next says so; the change of method is in the log. Both connect with one client id."""
        self.deny_jitp(OnDenied="next", ClientId="%s")
        self.gateway.wait_provisioned()
        self.assertEqual(self.methods(), [["jitp", "denied"], ["fleet-claim", "done"]])
        self.assertEqual(self.gateway.property("Method"), "fleet-claim")
        self.assertIn("next comes fleet-claim", self.gateway.log.read_text())
        self.assertFalse((self.gateway.state / "staged").exists())
        connected = self.cloud.events(event="connect", certificateId=self.gateway.property("CertificateId"))
        self.assertEqual(connected[0]["clientId"], SERIAL)
        self.check_distance()
        self.publish()

    def test_pending_does_not_go_on(self):
        """"Not yet" is no reason for another method, whatever OnDenied= says."""
        self.scene("jitp fleet-claim", "--jitp-delay=20")
        self.register()
        self.begin_without_inputs(OnDenied="next")
        receipt = self.import_device()
        self.provide_claim_key()
        self.gateway.wait_property("Methods", lambda methods: methods[0][1] == "not-yet")
        self.gateway.wait_provisioned(2 * harness.DEADLINE)
        self.assertEqual(self.gateway.property("CertificateId"), receipt)
        self.assertEqual(self.claims(), [])


class Configuration(Scene):
    """A mistake in one section refuses the whole configuration, so that no typing error changes the method."""

    def refused(self, message):
        self.gateway.start()
        error = self.gateway.wait_property("LastError", lambda error: error[0] != "")
        self.assertEqual(error[:2], ["invalid", "configuration"])
        self.assertIn(message, error[2])
        self.assertEqual(self.cloud.events(event="connect"), [])

    def line(self, word):
        lines = self.gateway.configuration.read_text().splitlines()
        return next(number for number, text in enumerate(lines, 1) if text.startswith(word))

    def test_unknown_key(self):
        self.scene("jitp fleet-claim")
        self.gateway.configure("fleet-claim", Templat="enrolld")
        self.refused(f"enrolld.conf:{self.line('Templat=')}: the method fleet-claim knows no key Templat=")

    def test_unknown_key_of_a_method_that_cannot_be_used(self):
        self.scene("jitp fleet-claim")
        self.gateway.configure("jitp", Patiense="1h")
        self.refused(f"enrolld.conf:{self.line('Patiense=')}: the method jitp knows no key Patiense=")

    def test_patience(self):
        """Seen before anything is tried; and no reason for another method."""
        self.scene("jitp fleet-claim")
        self.gateway.configure("jitp", Patience="soon")
        self.refused(f"enrolld.conf:{self.line('Patience=')}: Patience=soon is no time span")
        self.assertEqual(self.cloud.events(event="refused"), [])

    def test_method_that_is_not_there(self):
        self.scene("jitp fleet-claims")
        self.refused("there is no plugin for the method fleet-claims")

    def test_method_twice(self):
        self.scene("jitp jitp")
        self.refused("Methods=")

    def test_on_denied(self):
        self.scene("jitp fleet-claim")
        self.gateway.configure("Agent", OnDenied="maybe")
        self.refused("OnDenied=")


if __name__ == "__main__":
    harness.main()
