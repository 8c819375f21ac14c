#!/usr/bin/env python3
"""What a TPM does to its users: slow, busy, gone, full, locked, cleared, another one. None of it blocks D-Bus, costs an
identity or another certificate. And serial numbers, that of the TPM among them.

`--long`: with the times that slow chips really need (a minute for a key) instead of some seconds.
"""

import hashlib
import os
import socket
import subprocess
import sys
import tempfile

import harness
from bus_latency import BusLatency
from gateway import FILES, Gateway
from parts import Cloud, Tpm
from tpm_proxy import NV_RATE, OBJECT_MEMORY, RETRY, TESTING, YIELDED, TpmProxy

LONG = "--long" in sys.argv
CREATE_SECONDS, SIGN_SECONDS = (60, 2) if LONG else (2, 0.6)

SRK_HANDLE = "0x81000001"
SRK_ATTRIBUTES = "restricted|decrypt|fixedtpm|fixedparent|sensitivedataorigin|userwithauth"


class Device(harness.TestCase):
    """A gateway, its cloud, and a proxy before its TPM."""

    def setUp(self):
        # In memory, if there is room: that a disk is slow is not the TPM's fault.
        tempfile.tempdir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        super().setUp()
        self.cloud = Cloud(self)
        self.tpm = Tpm(self)
        self.proxy = TpmProxy(self, self.tpm)
        self.gateway = Gateway(self, self.cloud, self.tpm)
        self.gateway.configure("Key", TCTI=self.proxy.tcti)

    def provision(self):
        """From the start of the daemon; then it is stopped. Returns the id of the certificate."""
        self.gateway.start()
        self.gateway.wait_provisioned()
        certificate = self.gateway.property("CertificateId")
        self.assertEqual(self.gateway.stop(), 0)
        return certificate

    def cycle_power(self):
        self.tpm.stop()
        self.tpm.start()

    def make_storage_root_key(self, attributes):
        self.tpm.tool("tpm2_createprimary", "-C", "o", "-G", "ecc256", "-a", attributes, "-c", "srk.ctx")
        self.tpm.flush()
        self.tpm.tool("tpm2_evictcontrol", "-C", "o", "-c", "srk.ctx", SRK_HANDLE)
        self.tpm.flush()

    def assertOneAttempt(self):
        """The gateway is provisioned by its first attempt, with the only certificate there is."""
        self.assertEqual(set(self.gateway.signalled("Attempt")) - {0}, {1})
        self.assertEqual([error for error in self.gateway.signalled("LastError") if error[0]], [])
        self.assertEqual(self.cloud.device_certificates(), {self.gateway.property("CertificateId"): "ACTIVE"})

    def assertKept(self, certificate, seconds=harness.DEADLINE):
        """The identity is in use, and never was anything else tried."""
        self.gateway.wait_provisioned(seconds)
        self.assertEqual(self.gateway.property("CertificateId"), certificate)
        self.assertEqual(self.gateway.property("Generation"), 1)
        self.assertNotIn("enrolling", self.gateway.signalled("State"))
        self.assertEqual(list(self.cloud.device_certificates()), [certificate])

    def wait_tpm_error(self, state, *words):
        error = self.gateway.wait_signalled("LastError", lambda error: error[0] == "tpm")
        self.gateway.wait_signalled("State", state)
        for word in words:
            self.assertIn(word, error[2])
        return error


class Slow(Device):
    def test_slow_commands(self):
        self.proxy.fault("Create", seconds=CREATE_SECONDS)
        self.proxy.fault("Sign", seconds=SIGN_SECONDS, times=float("inf"))
        self.gateway.start()
        with BusLatency(self.gateway) as latency:
            self.gateway.wait_provisioned(harness.DEADLINE + CREATE_SECONDS + 10 * SIGN_SECONDS)
        harness.comment(f"D-Bus: {latency.check()}")
        self.assertOneAttempt()
        self.assertEqual(self.proxy.counted["Create"], 1)

    def test_slow_check(self):
        certificate = self.provision()
        self.proxy.fault("Load", seconds=CREATE_SECONDS / 2)
        self.proxy.fault("Sign", seconds=SIGN_SECONDS)
        self.gateway.start()
        with BusLatency(self.gateway) as latency:
            self.assertKept(certificate, harness.DEADLINE + CREATE_SECONDS)
        harness.comment(f"D-Bus: {latency.check()}")

    def test_stop_while_the_tpm_is_stuck(self):
        """A key in the making holds up neither the end of the daemon nor, later, the next attempt."""
        self.proxy.fault("Create", seconds=harness.DEADLINE)
        self.gateway.start()
        self.proxy.wait_command("Create")
        self.assertEqual(self.gateway.stop(), 0)
        self.proxy.ended.set()  # the delay is over
        self.cycle_power()
        self.gateway.start()
        self.gateway.wait_provisioned()
        self.assertEqual(len(self.cloud.device_certificates()), 1)


class Busy(Device):
    def test_later(self):
        """More often than ESYS asks again."""
        self.proxy.fault("Create", answer=RETRY, times=7)
        self.proxy.fault("CreatePrimary", answer=NV_RATE, times=2)
        self.proxy.fault("Load", answer=TESTING, times=2)
        self.proxy.fault("Sign", answer=YIELDED, times=2)
        self.gateway.start()
        with BusLatency(self.gateway) as latency:
            self.gateway.wait_provisioned()
        harness.comment(f"D-Bus: {latency.check()}")
        self.assertOneAttempt()
        responses = [command.response for command in self.proxy.take()]
        wanted = {RETRY: 7, NV_RATE: 2, TESTING: 2, YIELDED: 2}
        self.assertEqual({code: responses.count(code) for code in wanted}, wanted)

    def test_no_room(self):
        """Objects that other programs have left in it."""
        certificate = self.provision()
        made = 0
        while made < 20 and self.fill(made):
            made += 1
        self.assertGreater(made, 0)
        self.gateway.start()
        self.wait_tpm_error("backoff", "0x902", "tpm2_flushcontext")
        self.tpm.flush()
        self.assertKept(certificate)

    def fill(self, number):
        """Whether one more object had room."""
        try:
            self.tpm.tool("tpm2_createprimary", "-C", "o", "-G", "ecc256", "-c", f"filler-{number}")
        except AssertionError as error:
            self.assertIn("0x902", str(error).lower())
            return False
        return True

    def test_no_room_for_a_new_key(self):
        self.proxy.fault("Create", answer=OBJECT_MEMORY, times=float("inf"))
        self.gateway.start()
        self.wait_tpm_error("backoff", "0x902")
        self.assertEqual(self.cloud.events(event="connect"), [])
        self.proxy.heal()
        self.gateway.wait_provisioned()
        self.assertEqual(len(self.cloud.device_certificates()), 1)


class Gone(Device):
    def lose(self, command, after=0):
        """The TPM goes away at that command, is seen to be gone, and comes back."""
        self.proxy.fault(command, gone=True, after=after)
        self.gateway.start()
        with BusLatency(self.gateway) as latency:
            self.wait_tpm_error("backoff")
            self.cycle_power()
            self.proxy.heal()
            self.gateway.wait_provisioned()
        harness.comment(f"D-Bus: {latency.check()}")

    def test_gone_while_the_key_is_made(self):
        self.lose("Create")
        self.assertEqual(len(self.cloud.device_certificates()), 1)

    def test_gone_while_the_request_is_signed(self):
        self.lose("Sign")
        self.assertEqual(len(self.cloud.device_certificates()), 1)

    def test_gone_in_the_proof(self):
        """The certificate is registered, and proven when the TPM is back."""
        self.lose("Sign", after=1)
        self.assertEqual(self.cloud.device_certificates(), {self.gateway.property("CertificateId"): "ACTIVE"})
        self.assertEqual(self.proxy.counted["Create"], 1)

    def test_gone_in_the_check(self):
        certificate = self.provision()
        self.lose("Load")
        self.assertKept(certificate)

    def test_gone_in_the_signature_of_the_check(self):
        certificate = self.provision()
        self.lose("Sign")
        self.assertKept(certificate)


class Late(Device):
    """A TPM behind SPI is probed after the daemon has started: nothing waits for its device, but the next attempt is near."""

    def start_without(self):
        """With the waits that are the default."""
        self.gateway.configure("Retry", TPM=None)
        self.tpm.stop()
        self.gateway.configure("Key", TCTI=self.tpm.tcti)
        self.gateway.start()
        error = self.gateway.wait_property("LastError", lambda error: error[0] != "")
        self.assertEqual(error[0], "tpm", error)
        self.gateway.wait_property("State", "backoff")
        wait = (self.gateway.property("NextAttempt") - error[3]) / 1e6
        self.assertTrue(0.9 < wait <= 5, wait)
        self.tpm.start()

    def test_first_enrolment(self):
        self.start_without()
        self.gateway.wait_provisioned()
        self.assertEqual(len(self.cloud.device_certificates()), 1)

    def test_reboot(self):
        certificate = self.provision()
        self.start_without()
        self.assertKept(certificate)

    def test_no_device(self):
        device = self.directory / "tpmrm0"
        self.gateway.configure("Key", TCTI=f"device:{device}")
        self.gateway.start()
        self.wait_tpm_error("backoff", str(device))


class Locked(Device):
    def lock_out(self):
        """One wrong password, and the TPM does not believe anybody any more, where that is protected."""
        times = ("--max-tries=1", "--recovery-time=86400", "--lockout-recovery-time=86400")
        self.tpm.tool("tpm2_dictionarylockout", "--setup-parameters", *times)
        self.tpm.tool("tpm2_createprimary", "-C", "o", "-G", "ecc256", "-p", "right", "-c", "victim.ctx")
        for _ in range(2):
            with self.assertRaises(AssertionError) as refused:
                self.tpm.tool("tpm2_create", "-C", "victim.ctx", "-P", "wrong", "-G", "ecc256")
        self.assertIn("0x921", str(refused.exception).lower())
        self.tpm.flush()

    def test_lockout(self):
        self.lock_out()
        self.gateway.start()
        self.gateway.wait_provisioned()
        self.assertOneAttempt()

    def test_lockout_keeps_the_identity(self):
        certificate = self.provision()
        self.lock_out()
        self.gateway.start()
        self.assertKept(certificate)

    def test_parent_that_a_lockout_would_stop(self):
        """A storage root key without noDA is not used, and so the identity lives through a lockout."""
        self.make_storage_root_key(SRK_ATTRIBUTES)
        certificate = self.provision()
        self.assertIn("CreatePrimary", map(str, self.proxy.take()))
        self.lock_out()
        self.gateway.start()
        self.assertKept(certificate)


class Other(Device):
    def test_cleared(self):
        """The same TPM, but all its keys are void: a new identity, on whatever OnWrongTPM= says."""
        certificate = self.provision()
        before = self.gateway.identity()
        self.tpm.tool("tpm2_clear", "-c", "p")
        self.gateway.start()
        self.gateway.wait_provisioned()
        after = self.gateway.identity()
        self.assertNotEqual(after["certificateId"], certificate)
        self.assertEqual(after["generation"], 2)
        self.assertEqual(after["ekName"], before["ekName"])
        self.assertNotEqual(after["parentName"], before["parentName"])
        self.assertRegex(self.gateway.log.read_text(), "identity 1 is lost: .*it was cleared")

    def move(self):
        """The disk is put into a device with another TPM."""
        self.other = Tpm(self, "other-tpm")
        self.gateway.configure("Key", TCTI=self.other.tcti)

    def test_moved(self):
        certificate = self.provision()
        files = {name: self.gateway.read(name) for name in FILES}
        self.move()
        self.gateway.start()
        error = self.wait_tpm_error("failed", "moved or cloned", "OnWrongTPM=enroll")
        self.assertEqual(error[1], "verify")
        self.assertFalse((self.gateway.runtime / "provisioned").exists())
        since = self.gateway.monitor.mark()
        self.gateway.call("Enroll")  # is no way around the setting
        job = self.gateway.wait_signal("JobRemoved", since, lambda arguments: arguments[1] == "enroll")
        self.assertEqual(job[2], "failed", job)
        self.assertIn("moved or cloned", job[3])
        self.gateway.wait_property("State", "failed")
        self.assertNotIn("enrolling", self.gateway.signalled("State"))
        self.assertEqual({name: self.gateway.read(name) for name in FILES}, files)
        self.gateway.configure("Key", TCTI=self.proxy.tcti)
        self.gateway.call("Reload")
        self.assertKept(certificate)

    def test_moved_to_enroll(self):
        certificate = self.provision()
        before = self.gateway.identity()
        self.move()
        self.gateway.configure("Key", OnWrongTPM="enroll")
        self.gateway.start()
        self.gateway.wait_provisioned()
        after = self.gateway.identity()
        self.assertNotEqual(after["certificateId"], certificate)
        self.assertNotEqual(after["ekName"], before["ekName"])
        self.assertEqual(after["generation"], 2)

    def test_other_that_cannot_tell_yet(self):
        """Its storage root key is missing, which loses an identity, but whose TPM it is cannot be seen now."""
        self.make_storage_root_key(SRK_ATTRIBUTES + "|noda")
        certificate = self.provision()
        self.proxy.tpm = other = Tpm(self, "other-tpm")
        self.proxy.fault("CreatePrimary", answer=OBJECT_MEMORY, times=float("inf"))
        self.gateway.start()
        self.wait_tpm_error("backoff", "0x902")
        self.proxy.tpm = self.tpm
        self.assertKept(certificate)
        self.assertEqual(self.gateway.stop(), 0)
        self.proxy.heal()
        self.proxy.tpm = other
        self.gateway.start()
        self.wait_tpm_error("failed", "moved or cloned")

    def test_endorsement_hierarchy_has_an_owner(self):
        """Then nobody knows which TPM it is, and an identity whose key does not load is replaced."""
        self.tpm.tool("tpm2_changeauth", "-c", "e", "secret")
        self.provision()
        self.assertEqual(self.gateway.identity()["ekName"], "")
        self.move()
        self.gateway.start()
        self.gateway.wait_provisioned()
        self.assertEqual(self.gateway.identity()["generation"], 2)
        self.assertNotEqual(self.gateway.identity()["ekName"], "")


class Serial(Device):
    def test_endorsement_key(self):
        """What stock tools make of the same key."""
        self.tpm.tool("tpm2_createek", "-c", "ek.ctx", "-G", "ecc", "-f", "pem", "-u", "ek.pem")
        words = ["openssl", "pkey", "-pubin", "-in", self.tpm.directory / "ek.pem", "-outform", "DER"]
        der = subprocess.run(words, capture_output=True, check=True).stdout
        serial = hashlib.sha256(der).hexdigest()[:32]
        self.tpm.tool("tpm2_readpublic", "-c", "ek.ctx", "-n", "ek.name")
        name = (self.tpm.directory / "ek.name").read_bytes().hex()
        self.tpm.flush()
        self.gateway.configure("Agent", SerialNumber="tpm-ek")
        self.gateway.start()
        self.gateway.wait_provisioned()
        identity = self.gateway.identity()
        self.assertEqual(identity["serialNumber"], serial)
        self.assertEqual(identity["ekName"], name)
        self.assertEqual(list(self.cloud.things()), [self.cloud.thing_name(serial)])
        # The endorsement key once, the parent for the new key and for the check.
        self.assertEqual([str(command) for command in self.proxy.take()].count("CreatePrimary"), 3)

    def test_endorsement_key_of_a_tpm_that_is_gone(self):
        self.proxy.gone = True
        self.gateway.configure("Agent", SerialNumber="tpm-ek")
        self.gateway.start()
        self.wait_tpm_error("backoff", "SerialNumber=")
        self.proxy.heal()
        self.gateway.wait_provisioned()

    def test_refused_before_any_connection(self):
        serial = self.directory / "serial"
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.gateway.configure("Agent", SerialNumber=f"file:{serial}")
            self.gateway.configure("Cloud", Port=listener.getsockname()[1])
            self.gateway.configure("Retry", Invalid="1h 1h")
            for text in ("", "To be filled by O.E.M.", "Default string", "000000", "AB/12 3"):
                with self.subTest(serial=text):
                    self.refuse(serial, text)
            listener.setblocking(False)
            with self.assertRaises(BlockingIOError):
                listener.accept()
        self.gateway.configure("Cloud", Port=self.cloud.port)
        self.gateway.configure("Agent", SerialNumberReplacement="-")
        self.gateway.call("Reload")
        self.gateway.wait_provisioned()
        self.assertEqual(self.gateway.property("ThingName"), self.cloud.thing_name("AB-12-3"))

    def refuse(self, path, text):
        path.write_text(text + "\n")
        if self.gateway.process is None:
            self.gateway.start()
        else:
            self.gateway.call("Reload")
        error = self.gateway.wait_property("LastError", lambda error: f'"{text}"' in error[2])
        self.gateway.wait_property("State", "failed")
        self.assertEqual(error[:2], ["invalid", "configuration"], error)
        self.assertEqual(self.proxy.counted["Create"], 0)


if __name__ == "__main__":
    if LONG:
        sys.argv.remove("--long")
    harness.main()
