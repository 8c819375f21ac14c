#!/usr/bin/env python3
"""A cloud that says nothing costs one attempt, for as long as the deadlines of the exchange."""

import harness
from gateway import Gateway
from parts import Cloud

# The longest wait of the exchange is half a minute.
ATTEMPT = 60


class Silence(harness.TestCase):
    def gateway(self):
        self.cloud = Cloud(self)
        return Gateway(self, self.cloud, backend="file")

    def wait_error(self, gateway, step):
        gateway.start()
        error = gateway.wait_signalled("LastError", lambda error: error[0] != "", ATTEMPT)
        self.assertEqual(error[:2], ["network", step], error)
        self.assertIn("localhost", error[2])

    def test_reply_is_lost(self):
        gateway = self.gateway()
        self.cloud.edit(fault={"operation": "create-from-csr", "action": "drop"})
        self.wait_error(gateway, "certificate")
        gateway.wait_provisioned()
        self.assertEqual(sorted(self.cloud.device_certificates().values()), ["ACTIVE", "PENDING_ACTIVATION"])

    def test_connection_without_answer(self):
        gateway = self.gateway()
        self.cloud.freeze()
        self.wait_error(gateway, "claim")
        self.cloud.thaw()
        # An attempt that is under way may have met the silence too.
        gateway.wait_provisioned(ATTEMPT + harness.DEADLINE)


if __name__ == "__main__":
    harness.main()
