#!/usr/bin/env python3
"""The whole life of an identity: a successor in time, proven and committed, and the old certificate retired, by the
files of etc/aws and against the stand-in for AWS IoT Core."""

import json

import harness
from gateway import BusError, Gateway
from parts import Cloud, Tpm

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


if __name__ == "__main__":
    harness.main()
