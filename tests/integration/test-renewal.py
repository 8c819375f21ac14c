#!/usr/bin/env python3
"""The whole life of an identity: a successor in time, proven and committed, and the old certificate retired, by the
files of etc/aws and against the stand-in for AWS IoT Core."""

import json

import harness
from gateway import BusError, Gateway
from parts import Cloud, Tpm
from reader import Publisher, Reader

RETIRE_TOPIC = "$aws/rules/enrolld_retire/things/%t/enrolld/retire"


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
        self.assertEqual(self.gateway.wait_signal("IdentityChanged", since), [2])
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

    def test_ten_in_a_row(self):
        """Under a reader that opens current/ all the time, and one connection of a stock client that goes through all of
        them: it is not thrown out, and no message is lost."""
        self.scene(ReuseKey="no")
        self.provision()
        thing = self.gateway.property("ThingName")
        reader = Reader(self, self.gateway)
        publisher = Publisher(self, self.gateway, self.cloud, thing, f"things/{thing}/data")
        publisher.say("0")
        for number in range(1, 11):
            self.assertEqual(self.renew(), ("done", ""))
            publisher.say(str(number))
        self.assertEqual(publisher.end(), 0, publisher.log.read_text())
        reader.assert_whole(self)
        self.assertGreaterEqual(reader.count, 20)
        self.assertEqual(len(self.cloud.events(event="connect", clientId=thing)), 1)
        heard = [event["payload"] for event in self.cloud.events(event="message", topic=f"things/{thing}/data")]
        self.assertEqual(heard, [str(number) for number in range(11)])
        self.assertEqual(self.gateway.property("Generation"), 11)
        self.assertEqual(len(list((self.gateway.state / "generations").iterdir())), 2)


if __name__ == "__main__":
    harness.main()
