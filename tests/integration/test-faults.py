#!/usr/bin/env python3
"""What goes wrong on the way is named on D-Bus: class, step, and words that tell what to do; and once it is right again
the gateway gets its identity without a restart."""

import json
import signal
import subprocess

import harness
from gateway import Gateway
from parts import Cloud, Tpm


class Fault(harness.TestCase):
    """A fault before the start: seen, lifted, forgotten."""

    def gateway_with(self, *options, backend="file", tpm=None):
        self.cloud = Cloud(self, *options)
        return Gateway(self, self.cloud, tpm, backend)

    def assertFault(self, gateway, state, error_class, step, *words):
        """The daemon is in that state because of that error."""
        seen = gateway.wait_property("LastError", lambda error: error[0] == error_class)
        gateway.wait_property("State", state)
        self.assertEqual(seen[:2], [error_class, step], seen)
        for word in words:
            self.assertIn(word, seen[2])
        self.assertGreater(seen[3], 0)
        gateway.wait_signalled("NextAttempt", lambda time: time > 0)
        self.assertFalse((gateway.state / "current").is_symlink())

    def assertHealed(self, gateway):
        gateway.wait_provisioned()
        self.assertEqual(gateway.property("LastError"), ["", "", "", 0])
        self.assertEqual(gateway.property("NextAttempt"), 0)


class Cloudy(Fault):
    def test_hook_denies(self):
        gateway = self.gateway_with()
        self.cloud.hook({"serialPrefix": "GW", "result": "deny"})
        gateway.start()
        self.assertFault(gateway, "failed", "denied", "register", "403", "hook")
        self.assertEqual(gateway.property("Endpoints"), ["localhost"])
        self.assertEqual(self.cloud.things(), {})
        self.cloud.hook()
        gateway.call("Reload")
        self.assertHealed(gateway)

    def test_denied_heals_by_the_timer(self):
        gateway = self.gateway_with()
        self.cloud.hook({"serialPrefix": "GW", "result": "deny"})
        gateway.start()
        self.assertFault(gateway, "failed", "denied", "register")
        self.cloud.hook()
        self.assertHealed(gateway)

    def test_claim_is_inactive(self):
        gateway = self.gateway_with()
        self.cloud.set_certificate(self.cloud.claim_id, "INACTIVE")
        gateway.start()
        self.assertFault(gateway, "failed", "denied", "claim", "localhost")
        self.cloud.set_certificate(self.cloud.claim_id, "ACTIVE")
        gateway.call("Reload")
        self.assertHealed(gateway)

    def test_claim_has_expired(self):
        """It says so, and what to do; a new one in its place is enough."""
        gateway = self.gateway_with("--claim=expired:-1")
        certificate, key = self.directory / "claim.pem", self.directory / "claim.key"

        def put(name):
            certificate.write_bytes((self.cloud.directory / f"{name}.pem").read_bytes())
            key.write_bytes((self.cloud.directory / f"{name}.key").read_bytes())

        put("expired")
        gateway.configure("fleet-claim", Certificate=certificate, PrivateKey=key)
        gateway.start()
        self.assertFault(gateway, "failed", "denied", "claim", "expired on ", "put a new one in its place")
        put("claim")
        gateway.call("Reload")
        self.assertHealed(gateway)

    def test_template_of_another_name(self):
        gateway = self.gateway_with()
        gateway.configure("fleet-claim", Template="nonesuch")
        gateway.start()
        # The claim's policy names the template, so the cloud refuses the subscription.
        self.assertFault(gateway, "failed", "denied", "claim", "nonesuch")
        gateway.configure("fleet-claim", Template=self.cloud.template)
        gateway.call("Reload")
        self.assertHealed(gateway)

    def test_server_of_another_authority(self):
        gateway = self.gateway_with()
        other = self.directory / "other.pem"
        make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=Other -keyout"
        subprocess.run([*make.split(), self.directory / "other.key", "-out", other], check=True, capture_output=True)
        gateway.configure("Cloud", RootCA=other)
        gateway.start()
        self.assertFault(gateway, "backoff", "network", "claim", "RootCA=")
        self.assertEqual(self.cloud.events(event="connect"), [])
        gateway.configure("Cloud", RootCA=self.cloud.root_ca)
        gateway.call("Reload")
        self.assertHealed(gateway)

    def test_server_of_another_name(self):
        """All is right with the server's certificate but the name in it."""
        gateway = self.gateway_with()
        right = self.serve_as("elsewhere.example")
        gateway.start()
        self.assertFault(gateway, "backoff", "network", "claim", "localhost", "for another host name")
        self.assertEqual(self.cloud.events(event="connect"), [])
        self.serve(right)
        self.assertHealed(gateway)

    def serve(self, certificate):
        """Lets the cloud show that certificate (PEM); returns what it showed before."""
        path = self.cloud.directory / "server.pem"
        before = path.read_text()
        self.cloud.stop()
        path.write_text(certificate)
        self.cloud.start()
        return before

    def serve_as(self, name):
        """The same with a certificate from the same authority, for the same key, for another name."""
        extensions = self.directory / "extensions"
        extensions.write_text(f"extendedKeyUsage=serverAuth\nsubjectAltName=DNS:{name}\n")
        make = "openssl x509 -req -in server.csr -CA root-ca.pem -CAkey root-ca.key -sha256 -days 2 -set_serial 2"
        words = [*make.split(), "-extfile", extensions]
        done = subprocess.run(words, cwd=self.cloud.directory, check=True, capture_output=True, text=True)
        return self.serve(done.stdout)

    def test_nobody_listens(self):
        gateway = self.gateway_with()
        self.cloud.stop()
        gateway.start()
        self.assertFault(gateway, "backoff", "network", "claim", "localhost")
        gateway.wait_property("Attempt", lambda attempt: attempt >= 2)
        self.cloud.start()
        self.assertHealed(gateway)

    def test_name_does_not_resolve(self):
        gateway = self.gateway_with()
        gateway.configure("Cloud", Endpoint="nowhere.invalid")  # RFC 6761 section 6.4
        gateway.start()
        self.assertFault(gateway, "backoff", "network", "claim", "nowhere.invalid")
        gateway.configure("Cloud", Endpoint="localhost")
        gateway.call("Reload")
        self.assertHealed(gateway)


class Replies(Fault):
    """What a cloud that is busy or broken answers."""

    def test_refused_at_the_proof(self):
        """It is told while the worker still asks, and heals with the same certificate."""
        gateway = self.gateway_with()
        self.cloud.edit(fault={"operation": "register-thing", "times": 1, "action": "delay", "milliseconds": 1000})
        gateway.start()
        self.cloud.wait_event(event="register-thing", result="accepted")
        ((certificate, status),) = self.cloud.device_certificates().items()
        self.assertEqual(status, "ACTIVE")
        self.cloud.set_certificate(certificate, "INACTIVE")
        seen = gateway.wait_property("LastError", lambda error: error[0] == "not-yet")
        self.assertEqual(seen[1], "prove", seen)
        self.assertIn("iot:Connect", seen[2])
        self.assertEqual(gateway.property("State"), "enrolling")
        self.cloud.set_certificate(certificate, "ACTIVE")
        self.assertHealed(gateway)
        self.assertEqual(self.cloud.device_certificates(), {certificate: "ACTIVE"})

    def assertReply(self, operation, fault, *expected):
        gateway = self.gateway_with()
        self.cloud.edit(fault={"operation": operation, "times": 1, **fault})
        gateway.start()
        seen = gateway.wait_signalled("LastError", lambda error: error[0] != "")
        self.assertEqual(tuple(seen[:2]), expected, seen)
        self.assertHealed(gateway)
        self.assertEqual(len(self.cloud.things()), 1)
        return seen[2]

    def test_throttled(self):
        fault = {"action": "reject", "statusCode": 429, "errorCode": "Throttled"}
        self.assertIn("429", self.assertReply("create-from-csr", fault, "cloud-busy", "certificate"))

    def test_internal_error(self):
        fault = {"action": "reject", "statusCode": 500, "errorCode": "InternalError"}
        self.assertIn("500", self.assertReply("register-thing", fault, "cloud-busy", "register"))

    def test_token_is_refused(self):
        fault = {"action": "reject", "statusCode": 400, "errorCode": "InvalidCertificateOwnershipToken"}
        gateway = self.gateway_with()
        self.cloud.edit(fault={"operation": "register-thing", **fault})
        gateway.start()
        error = gateway.wait_signalled("LastError", lambda error: error[0] == "denied")
        self.assertEqual(error[1], "prove", error)
        self.assertIn("given up", error[2])
        self.assertHealed(gateway)

    def test_connection_ends_without_a_reply(self):
        # The broker says DISCONNECT with reason 0x98, administrative action.
        text = self.assertReply("create-from-csr", {"action": "close"}, "denied", "certificate")
        self.assertIn("0x98", text)

    def test_reply_is_no_json(self):
        for payload in ("", "{", "[]", "{}", '{"certificateId": 1}', "\0\x01"):
            with self.subTest(payload=payload):
                self.doCleanups()
                self.setUp()
                fault = {"action": "replace", "payload": payload}
                self.assertReply("create-from-csr", fault, "cloud-busy", "certificate")

    def test_certificate_is_of_another_key(self):
        other = self.directory / "other.pem"
        make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=Other -keyout"
        subprocess.run([*make.split(), self.directory / "other.key", "-out", other], check=True, capture_output=True)
        reply = {
            "certificateId": "0" * 64,
            "certificatePem": other.read_text(),
            "certificateOwnershipToken": "token",
        }
        fault = {"action": "replace", "payload": json.dumps(reply)}
        self.assertIn("another key", self.assertReply("create-from-csr", fault, "invalid", "certificate"))

    def test_certificate_is_called_by_another_id(self):
        """The id is what an operator would revoke: it must be that of the certificate."""
        gateway = self.gateway_with()
        other = {"certificateId": self.cloud.claim_id}
        self.cloud.edit(
            fault={"operation": "create-from-csr", "action": "amend", "payload": json.dumps(other), "times": 1}
        )
        gateway.start()
        self.assertFault(gateway, "failed", "invalid", "certificate", f"the cloud calls it {self.cloud.claim_id}")
        self.assertEqual(self.cloud.events(event="register-thing"), [])
        self.assertEqual(list(gateway.state.glob("generations/*")), [])
        self.assertHealed(gateway)

    def test_attempts_on_request_keep_the_rate(self):
        """The cloud takes one CONNECT per second and client id, however impatient an operator is."""
        gateway = self.gateway_with()
        self.cloud.hook({"serialPrefix": "GW", "result": "deny"})
        gateway.start()
        self.assertFault(gateway, "failed", "denied", "register")
        for method in ("Enroll", "Reload", "Enroll"):
            since = gateway.monitor.mark()
            gateway.call(method)
            gateway.wait_signal("JobRemoved", since)
        self.assertEqual(self.cloud.events(event="refused"), [])
        self.assertGreaterEqual(len(self.cloud.events(event="register-thing")), 3)

    def test_late_reply(self):
        gateway = self.gateway_with()
        self.cloud.edit(fault={"operation": "register-thing", "action": "delay", "milliseconds": 2000})
        gateway.start()
        self.assertHealed(gateway)
        self.assertEqual(len(self.cloud.device_certificates()), 1)

    def test_second_reply_is_harmless(self):
        gateway = self.gateway_with()
        for operation in ("create-from-csr", "register-thing"):
            self.cloud.edit(fault={"operation": operation, "action": "duplicate"})
        gateway.start()
        self.assertHealed(gateway)
        self.assertEqual(gateway.property("Attempt"), 0)
        self.assertEqual(len(self.cloud.device_certificates()), 1)


class Hardware(Fault):
    def test_tpm_is_absent(self):
        tpm = Tpm(self)
        tpm.stop()
        gateway = self.gateway_with(backend="tpm2", tpm=tpm)
        gateway.start()
        self.assertFault(gateway, "backoff", "tpm", "key", str(tpm.socket))
        tpm.start()
        self.assertHealed(gateway)

    def test_another_tpm(self):
        """The disk was moved or cloned: an operator's affair, unless he has said what to do."""
        gateway = self.gateway_with(backend="tpm2", tpm=Tpm(self))
        gateway.start()
        gateway.wait_provisioned()
        first = gateway.property("CertificateId")
        self.assertEqual(gateway.stop(), 0)
        other = Tpm(self, "other-tpm")
        gateway.configure("Key", TCTI=other.tcti)
        gateway.start()
        gateway.wait_property("State", "failed")
        error = gateway.property("LastError")
        self.assertEqual(error[:2], ["tpm", "verify"])
        self.assertIn("OnWrongTPM=", error[2])
        self.assertEqual(gateway.property("Generation"), 0)
        self.assertEqual(list(self.cloud.device_certificates()), [first])
        gateway.configure("Key", OnWrongTPM="enroll")
        gateway.call("Reload")
        gateway.wait_provisioned()
        self.assertIn("enrolling", gateway.signalled("State"))
        self.assertNotEqual(gateway.property("CertificateId"), first)
        self.assertEqual(gateway.property("Generation"), 2)

    def test_tpm_absent_for_a_while_keeps_the_identity(self):
        tpm = Tpm(self)
        gateway = self.gateway_with(backend="tpm2", tpm=tpm)
        gateway.start()
        gateway.wait_provisioned()
        first = gateway.property("CertificateId")
        self.assertEqual(gateway.stop(), 0)
        tpm.stop()
        gateway.start()
        gateway.wait_property("State", "backoff")
        self.assertEqual(gateway.property("LastError")[0], "tpm")
        tpm.start()
        gateway.wait_provisioned()
        self.assertEqual(gateway.property("CertificateId"), first)
        self.assertNotIn("enrolling", gateway.signalled("State"))


class Configuration(Fault):
    def line_of(self, gateway, text):
        """FILE:LINE of a line of the configuration."""
        lines = gateway.configuration.read_text().splitlines()
        return f"{gateway.configuration}:{next(n for n, line in enumerate(lines, 1) if line.startswith(text))}"

    def test_unknown_key_of_the_plugin(self):
        gateway = self.gateway_with()
        gateway.configure("fleet-claim", Templat="typo")
        gateway.start()
        line = self.line_of(gateway, "Templat=typo")
        self.assertFault(gateway, "failed", "invalid", "configuration", line, "Templat")
        gateway.configure("fleet-claim", Templat=None)
        gateway.call("Reload")
        self.assertHealed(gateway)

    def test_root_ca_is_missing(self):
        gateway = self.gateway_with()
        gateway.configure("Cloud", RootCA="/nonexistent/root.pem")
        gateway.start()
        self.assertFault(gateway, "failed", "invalid", "configuration", "/nonexistent/root.pem")
        gateway.configure("Cloud", RootCA=self.cloud.root_ca)
        self.assertHealed_by_hangup(gateway)

    def assertHealed_by_hangup(self, gateway):
        gateway.send_signal(signal.SIGHUP)
        self.assertHealed(gateway)

    def test_value_that_cannot_be(self):
        gateway = self.gateway_with()
        gateway.configure("Cloud", Port="many")
        gateway.start()
        self.assertEqual(gateway.wait_property("State", "failed"), "failed")
        error = gateway.property("LastError")
        self.assertEqual(error[:2], ["invalid", "configuration"])
        self.assertIn(self.line_of(gateway, "Port=many"), error[2])
        gateway.configure("Cloud", Port=self.cloud.port)
        self.assertHealed_by_hangup(gateway)

    def test_no_endpoint(self):
        gateway = self.gateway_with()
        gateway.configure("Cloud", Endpoint=None)
        gateway.start()
        gateway.wait_property("State", "failed")
        self.assertIn("Endpoint", gateway.property("LastError")[2])
        gateway.configure("Cloud", Endpoint="localhost")
        gateway.call("Reload")
        self.assertHealed(gateway)

    def test_claim_key_is_not_a_key(self):
        gateway = self.gateway_with()
        gateway.configure("fleet-claim", PrivateKey=self.cloud.claim_certificate)
        gateway.start()
        self.assertFault(gateway, "failed", "invalid", "claim")
        gateway.configure("fleet-claim", PrivateKey=self.cloud.claim_key)
        gateway.call("Reload")
        self.assertHealed(gateway)

    def test_check_config(self):
        gateway = self.gateway_with()
        run = lambda: subprocess.run(
            [harness.built("enrolld"), "--check-config", f"--config={gateway.configuration}"],
            env=gateway.environment(),
            capture_output=True,
            text=True,
            timeout=harness.DEADLINE,
        )
        done = run()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("literal:GW-0001", done.stdout)
        gateway.configure("fleet-claim", Templat="typo")
        done = run()
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn(self.line_of(gateway, "Templat=typo"), done.stdout + done.stderr)


if __name__ == "__main__":
    harness.main()
