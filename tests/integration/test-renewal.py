#!/usr/bin/env python3
"""The whole life of an identity: a successor in time, proven and committed, and the old certificate retired, by the
files of etc/aws and against the stand-in for AWS IoT Core."""

import json

import harness
from gateway import BusError, Gateway
from parts import Cloud, Tpm
from reader import Application, Reader

RETIRE_TOPIC = "$aws/rules/enrolld_retire/things/%t/retire"


class Case(harness.TestCase):
    def scene(self, *options, tpm=False, hooks=True, **renewal):
        self.cloud = Cloud(self, "--hooks", "--retire", "--control-port=0", *options)
        self.tpm = Tpm(self) if tpm else None
        self.gateway = Gateway(self, self.cloud, self.tpm, "tpm2" if tpm else "file")
        self.gateway.sections["Renewal"] = dict(renewal)
        self.gateway.configure(
            "fleet-claim", RenewTemplate="enrolld-renew", **{"RenewParameter.ThingName": "%t"}
        )

    def provision(self):
        self.gateway.start()
        self.gateway.wait_provisioned()

    def renew(self):
        """Asks for it; the result of its job, and what it says."""
        since = self.gateway.monitor.mark()
        number = int(self.gateway.call("Renew"))
        found = self.gateway.wait_signal("JobRemoved", since, lambda arguments: arguments[0] == number, 60)
        self.assertEqual(found[1], "renew")
        return found[2], found[3]

    def statuses(self):
        return sorted(self.cloud.device_certificates().values())


class Renewal(Case):
    def test_asked(self):
        self.scene(tpm=True)
        self.provision()
        first = self.gateway.identity()
        since = self.gateway.monitor.mark()
        self.assertEqual(self.renew(), ("done", ""))
        second = self.gateway.identity()
        self.assertEqual(self.gateway.wait_signal("IdentityChanged", since, lambda numbers: numbers == [2]), [2])
        self.assertEqual(second["thingName"], first["thingName"])
        self.assertNotEqual(second["certificateId"], first["certificateId"])
        self.assertEqual(second["generation"], 2)
        self.assertEqual(self.gateway.property("State"), "provisioned")
        self.assertEqual(self.gateway.property("CertificateId"), second["certificateId"])
        self.assertEqual(self.statuses(), ["ACTIVE", "ACTIVE"])
        self.assertEqual(self.cloud.things(), {first["thingName"]: self.cloud.things()[first["thingName"]]})

    def test_by_age(self):
        """Certificates without an end (2049) are renewed by MaxAge= alone; status says so."""
        self.scene(hooks=False)
        self.provision()
        self.assertEqual(self.gateway.property("RenewRule"), "never")
        self.assertEqual(self.gateway.property("RenewAfter"), 0)
        self.assertIn("MaxAge=", self.gateway.property("RenewHindrance"))
        self.gateway.configure("Renewal", MaxAge="365d")
        self.gateway.call("Reload")
        self.gateway.wait_property("RenewRule", "max-age")
        after = self.gateway.property("RenewAfter") / 1e6 - self.gateway.identity()["issuedAt"]
        self.assertTrue(0.9 * 365 * 86400 <= after <= 365 * 86400, after)
        self.gateway.configure("Renewal", MaxAge="3s")
        self.gateway.call("Reload")
        self.gateway.wait_property("Generation", 2)
        self.gateway.wait_property("State", "provisioned")
        self.assertEqual(self.statuses(), ["ACTIVE", "ACTIVE"])

    def test_by_lifetime(self):
        """A private authority's certificate of two minutes, which has dated it back by more than its RenewAfter: what is
        left counts. Nobody asks, and nobody restarts anything."""
        self.scene("--issuer=private:0.0007", Lifetime="2%")
        self.provision()
        self.assertEqual(self.gateway.property("RenewRule"), "lifetime")
        first = self.gateway.identity()
        self.assertLessEqual(self.gateway.property("RenewAfter") / 1e6, first["issuedAt"] + 10)
        self.gateway.wait_property("Generation", 2, 30)
        self.gateway.wait_property("State", "provisioned")
        self.assertEqual(self.gateway.identity()["thingName"], first["thingName"])

    def ten_in_a_row(self, follows):
        self.provision()
        reader = Reader(self, self.gateway)
        application = Application(self, self.gateway, self.cloud, follows)
        for _ in range(10):
            self.assertEqual(self.renew(), ("done", ""))
        self.assertEqual(self.gateway.property("Generation"), 11)
        self.gateway.wait_property("RetirePending", [])
        application.assert_nothing_lost()
        self.assertGreaterEqual(application.said, 200)
        reader.assert_whole(self)
        self.assertGreaterEqual(reader.count, 20)
        self.assertEqual(len(list((self.gateway.state / "generations").iterdir())), 2)
        return application

    def test_ten_in_a_row(self):
        """Under a reader that opens current/ all the time, and one connection of a stock client that publishes through all
        of them: it is not thrown out, and no message is lost."""
        self.scene()
        self.assertEqual(self.ten_in_a_row(follows=False).connections, 1)
        self.assertEqual(self.statuses(), 11 * ["ACTIVE"])

    def test_ten_in_a_row_retired(self):
        """The same where the cloud ends each old certificate, and with it the connections by that: the application has
        connected by the new one before."""
        self.scene(RetireTopic=RETIRE_TOPIC, RetireAcknowledged="yes")
        self.ten_in_a_row(follows=True)
        self.assertEqual(self.statuses(), ["ACTIVE"] + 10 * ["INACTIVE"])


class Retirement(Case):
    """The old certificate ends in the cloud, by etc/aws/retire-rule.json and retire-lambda.py."""

    def test_told_and_acknowledged(self):
        self.scene(RetireTopic=RETIRE_TOPIC, RetireAcknowledged="yes")
        self.provision()
        first = self.gateway.property("CertificateId")
        self.assertEqual(self.renew(), ("done", ""))
        self.gateway.wait_property("RetirePending", [])
        self.assertEqual(self.cloud.device_certificates()[first], "INACTIVE")
        self.assertEqual(self.cloud.things()[self.gateway.property("ThingName")], [self.gateway.property("CertificateId")])
        self.assertEqual(self.gateway.property("LastError")[0], "")
        self.assertFalse((self.gateway.state / "retire").exists())

    def test_through_power_cuts(self):
        """Told again at each start until it is acknowledged."""
        self.scene(RetireTopic=RETIRE_TOPIC, RetireAcknowledged="yes")
        self.provision()
        first = self.gateway.property("CertificateId")
        self.cloud.set_function("enrolld-retire", "/nonexistent")
        self.assertEqual(self.renew(), ("done", ""))
        self.gateway.wait_property("RetirePending", [first])
        for _ in range(2):
            self.cloud.wait_event(event="function", name="enrolld-retire", result=None)
            self.gateway.kill()
            self.gateway.start()
            self.gateway.wait_property("RetirePending", [first])
        self.assertEqual(self.cloud.device_certificates()[first], "ACTIVE")
        self.gateway.kill()
        self.cloud.set_function("enrolld-retire", harness.SOURCE_DIR / "etc/aws/retire-lambda.py")
        self.gateway.start()
        self.gateway.wait_property("RetirePending", [first])
        self.gateway.wait_property("RetirePending", [])
        self.assertEqual(self.cloud.device_certificates()[first], "INACTIVE")


class Refused(Case):
    """A certificate that the cloud does not accept any more."""

    def check(self):
        since = self.gateway.monitor.mark()
        number = int(self.gateway.call("Check"))
        found = self.gateway.wait_signal("JobRemoved", since, lambda arguments: arguments[0] == number, 60)
        self.assertEqual(found[1], "check")
        return found[2], found[3]

    def test_wait(self):
        """It heals by itself when it is activated again: the same certificate."""
        self.scene()
        self.provision()
        self.assertEqual(self.check(), ("done", ""))
        certificate = self.gateway.property("CertificateId")
        self.cloud.set_certificate(certificate, "INACTIVE")
        result, detail = self.check()
        self.assertEqual(result, "failed")
        self.assertIn("denied: prove: ", detail)
        self.assertGreater(self.gateway.property("RefusedSince"), 0)
        self.assertEqual(self.gateway.property("State"), "provisioned")
        self.cloud.set_certificate(certificate, "ACTIVE")
        self.gateway.wait_property("RefusedSince", 0, 60)
        self.assertEqual(self.gateway.property("CertificateId"), certificate)
        self.assertEqual(self.statuses(), ["ACTIVE"])

    def test_enroll(self):
        """By the claim, as all principals of the thing are dead; the old certificate is not asked for again."""
        self.scene(OnRefused="enroll", RefusedGrace="2s")
        self.provision()
        first = self.gateway.identity()
        self.cloud.set_certificate(first["certificateId"], "REVOKED")
        self.assertEqual(self.check()[0], "failed")
        self.gateway.wait_property("Generation", 2, 90)
        self.gateway.wait_provisioned()
        self.assertEqual(self.gateway.identity()["thingName"], first["thingName"])
        self.assertEqual(self.gateway.property("RefusedSince"), 0)
        self.assertEqual(self.statuses(), ["ACTIVE", "REVOKED"])


class Recovery(Case):
    def test_expired(self):
        """Nobody renews it: it ends while the daemon runs, and a claim that is valid brings another one for the same thing, as
        the hook finds all of its certificates dead."""
        self.scene("--issuer=private:0.0002", RenewMethod="none")
        self.provision()
        first = self.gateway.identity()
        self.assertEqual(self.gateway.property("RenewRule"), "never")
        self.assertIn("RenewMethod=none", self.gateway.property("RenewHindrance"))
        self.gateway.wait_property("State", "enrolling", 60)
        self.assertIn("expired on ", self.gateway.wait_signalled("LastError", lambda error: error[1] == "verify")[2])
        self.gateway.wait_property("Generation", 2)
        self.gateway.wait_provisioned()
        self.assertEqual(self.gateway.identity()["thingName"], first["thingName"])
        self.assertNotEqual(self.gateway.property("CertificateId"), first["certificateId"])
        self.assertIn("expires in less than 1 day, and nothing will renew it", self.gateway.log.read_text())


class RootCa(Case):
    def test_follows(self):
        """A changed RootCA= comes into current/ without another certificate."""
        self.scene()
        self.provision()
        self.gateway.wait_signal("IdentityChanged")  # of the beginning, which comes behind the state
        pem = self.cloud.root_ca.read_text()
        self.assertEqual(self.gateway.read("root-ca.pem"), pem)
        more = self.directory / "more.pem"
        more.write_text(pem + pem)
        self.gateway.configure("Cloud", RootCA=more)
        since = self.gateway.monitor.mark()
        self.gateway.call("Reload")
        self.assertEqual(self.gateway.wait_signal("IdentityChanged", since), [1])
        self.assertEqual(self.gateway.read("root-ca.pem"), pem + pem)
        more.write_text("nothing of the kind")
        self.gateway.call("Reload")
        harness.wait_for("the log tells", lambda: "RootCA=" in self.gateway.log.read_text())
        self.assertEqual(self.gateway.read("root-ca.pem"), pem + pem)
        self.assertEqual(self.gateway.property("State"), "provisioned")
        self.assertEqual(len(self.statuses()), 1)


if __name__ == "__main__":
    harness.main()
