#!/usr/bin/env python3
"""An identity in use: whether the cloud accepts it, what becomes of one that it refuses, and of the one before."""

import harness
from gateway import Gateway
from parts import Cloud

RETIRE_TOPIC = "$aws/rules/enrolld_retire/things/%t/retire"


class Case(harness.TestCase):
    def begin(self, *options, **renewal):
        self.cloud = Cloud(self, "--hooks", "--retire", "--control-port=0", *options)
        self.gateway = Gateway(self, self.cloud, backend="file")
        self.gateway.sections["Renewal"] = dict(renewal)
        self.gateway.configure("Retry", Denied="1s 2s", Network="1s 2s", Internal="1s 2s")
        self.gateway.configure(
            "fleet-claim", RenewTemplate="enrolld-renew", **{"RenewParameter.ThingName": "%t"}
        )
        self.gateway.start()
        self.gateway.wait_provisioned()
        self.first = self.gateway.property("CertificateId")

    def ask(self, verb):
        """Calls Check() or Renew(); the result of its job, and what it says."""
        since = self.gateway.monitor.mark()
        number = int(self.gateway.call(verb))
        found = self.gateway.wait_signal("JobRemoved", since, lambda arguments: arguments[0] == number, 90)
        self.assertEqual(found[1], verb.lower())
        return found[2], found[3]


class Refusal(Case):
    def test_refused_and_healed(self):
        """INACTIVE: it is said, nothing is lost, and it heals by itself once it is ACTIVE: the same certificate."""
        self.begin()
        self.assertEqual(self.ask("Check"), ("done", ""))
        self.assertEqual(self.gateway.property("RefusedSince"), 0)
        self.cloud.set_certificate(self.first, "INACTIVE")
        result, detail = self.ask("Check")
        self.assertEqual(result, "failed")
        self.assertRegex(detail, "^denied: prove: .*0x87")
        since = self.gateway.property("RefusedSince")
        self.assertGreater(since, 0)
        self.assertEqual(self.gateway.property("State"), "provisioned")
        self.assertEqual(self.gateway.property("LastError")[:2], ["denied", "prove"])
        self.gateway.kill()
        self.gateway.start()
        self.gateway.wait_provisioned()
        self.assertEqual(self.gateway.property("RefusedSince"), since)
        self.cloud.set_certificate(self.first, "ACTIVE")
        self.gateway.wait_property("RefusedSince", 0, 90)
        self.assertEqual(self.gateway.property("CertificateId"), self.first)
        self.assertEqual(self.gateway.property("Generation"), 1)
        self.assertFalse((self.gateway.state / "refused").exists())
        self.assertEqual(len(self.cloud.device_certificates()), 1)

    def test_enrolled_anew(self):
        """OnRefused=enroll: when the grace is over, with the claim; the hook allows it, as the old certificate is dead."""
        self.begin(OnRefused="enroll", RefusedGrace="1s", RetireTopic=RETIRE_TOPIC)
        thing = self.gateway.property("ThingName")
        self.cloud.set_certificate(self.first, "REVOKED")
        self.assertEqual(self.ask("Check")[0], "failed")
        self.assertEqual(self.gateway.property("State"), "provisioned")
        self.gateway.wait_property("Generation", 2, 120)
        self.gateway.wait_property("State", "provisioned")
        self.assertEqual(self.gateway.property("ThingName"), thing)
        self.assertNotEqual(self.gateway.property("CertificateId"), self.first)
        self.assertEqual(self.gateway.property("RefusedSince"), 0)
        self.gateway.wait_property("RetirePending", [])

    def test_no_storm(self):
        """An application that calls Check() in a loop costs two connections in half a minute at most."""
        self.begin()
        connections = len(self.cloud.events(event="connect"))
        self.assertEqual(self.ask("Check")[0], "done")
        numbers = {int(self.gateway.call("Check")) for _ in range(50)}
        self.assertEqual(len(numbers), 1, numbers)
        self.assertEqual(len(self.cloud.events(event="connect")), connections + 1)
        self.gateway.call("Cancel", f"uint32:{numbers.pop()}")


class Retirement(Case):
    def statuses(self):
        return self.cloud.device_certificates()

    def test_retired(self):
        self.begin(RetireTopic=RETIRE_TOPIC, RetireAcknowledged="yes")
        self.assertEqual(self.ask("Renew"), ("done", ""))
        self.gateway.wait_property("RetirePending", [], 60)
        new = self.gateway.property("CertificateId")
        self.assertEqual(self.statuses(), {self.first: "INACTIVE", new: "ACTIVE"})
        self.assertFalse((self.gateway.state / "retire").exists())

    def test_not_yet_retired(self):
        """Visible until the cloud has acknowledged it, over a power cut, and it holds up nothing."""
        self.begin(RetireTopic="things/%t/nobody", RetireAcknowledged="yes")
        self.assertEqual(self.ask("Renew"), ("done", ""))
        self.assertEqual(self.gateway.property("RetirePending"), [self.first])
        self.gateway.kill()
        self.gateway.configure("Renewal", RetireTopic=RETIRE_TOPIC)
        self.gateway.start()
        self.gateway.wait_provisioned()
        self.gateway.wait_property("RetirePending", [], 60)
        self.assertEqual(self.statuses()[self.first], "INACTIVE")


class Authorities(Case):
    def test_root_ca(self):
        """root-ca.pem follows RootCA= without another certificate, and applications are told."""
        self.begin()
        path = self.directory / "authorities.pem"
        path.write_text(self.gateway.read("root-ca.pem") * 2)
        self.gateway.configure("Cloud", RootCA=path)
        since = self.gateway.monitor.mark()
        self.gateway.call("Reload")
        self.assertEqual(self.gateway.wait_signal("IdentityChanged", since), [1])
        self.assertEqual(self.gateway.read("root-ca.pem").strip(), path.read_text().strip())
        self.assertEqual(self.gateway.property("CertificateId"), self.first)
        self.assertEqual(self.ask("Check"), ("done", ""))


if __name__ == "__main__":
    harness.main()
