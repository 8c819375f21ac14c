#!/usr/bin/env python3
"""`enrollctl doctor`: everything in order, then each thing broken once: the row says what is wrong and what to do, and
hides no other."""

import datetime
import json
import os
import random
import signal
import socket
import subprocess
import unittest

import harness
from authority import Authority, make_key
from gateway import Gateway
from parts import Cloud, Tpm

FAR = datetime.datetime(2100, 1, 1, tzinfo=datetime.timezone.utc).timestamp()
DEVICE = ["identity", "store", "clock", "tpm", "serial-number", "root-ca", "dns", "tcp", "tls"]


class Doctor(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.cloud = Cloud(self)
        self.gateway = Gateway(self, self.cloud, backend="file")

    def start(self, **options):
        """An attempt that hangs or fails is no matter: nothing here waits for it."""
        self.gateway.configure("Retry", Invalid="365d 365d", Network="365d 365d", TPM="365d 365d", Denied="365d 365d")
        self.gateway.start(**options)

    def doctor(self, seconds=2 * harness.DEADLINE):
        """Rows by what was looked at, as --json has them; the last one of the same name wins."""
        done = self.gateway.enrollctl("doctor", "--json")
        self.assertEqual(done.stderr, "")
        told = json.loads(done.stdout)
        self.assertEqual(set(told), {"Rows", "Wrong", "Warnings"})
        for row in told["Rows"]:
            self.assertEqual(set(row), {"What", "Verdict", "Text", "Advice"})
            self.assertIn(row["Verdict"], ("ok", "warning", "wrong", "skipped"), row)
            self.assertTrue(row["Text"] and (row["Verdict"] != "wrong" or row["Advice"]), row)
        verdicts = [row["Verdict"] for row in told["Rows"]]
        self.assertEqual((told["Wrong"], told["Warnings"]), (verdicts.count("wrong"), verdicts.count("warning")))
        self.assertEqual(done.returncode, 1 if told["Wrong"] else 0, told)
        return {row["What"]: row for row in told["Rows"]}

    def assertRow(self, rows, what, verdict, text, advice=""):
        row = rows[what]
        self.assertEqual(row["Verdict"], verdict, row)
        self.assertIn(text, row["Text"], row)
        self.assertIn(advice, row["Advice"], row)

    def assertOnlyWrong(self, rows, *wanted):
        """identity says why there is none, and what is behind something wrong is skipped; all else is looked at."""
        wrong = {what for what, row in rows.items() if row["Verdict"] == "wrong"}
        self.assertEqual(wrong - {"identity"}, set(wanted), rows)
        self.assertLessEqual(set(DEVICE), set(rows))

    # In order.

    def test_all_is_well(self):
        tpm = Tpm(self)
        self.gateway.configure("Key", Backend="tpm2", TCTI=tpm.tcti)
        self.start()
        self.gateway.wait_provisioned()
        before = self.cloud.registry()
        rows = self.doctor()
        self.assertOnlyWrong(rows)
        self.assertRow(rows, "identity", "ok", "generation 1, thing gateway-GW-0001")
        self.assertStore(rows)
        self.assertRow(rows, "clock", "ok", "synchronised")
        self.assertRow(rows, "tpm", "ok", "not locked")
        self.assertRow(rows, "serial-number", "ok", "GW-0001 (SerialNumber=literal:GW-0001)")
        self.assertRow(rows, "root-ca", "ok", "1 certificate in ")
        self.assertRow(rows, "dns", "ok", "localhost is ")
        self.assertRow(rows, "tcp", "ok", f"localhost:{self.cloud.port}")
        self.assertRow(rows, "tls", "ok", "the certificate of localhost is verified")
        self.assertRow(rows, "method fleet-claim", "ok", "the claim is there, valid to ")
        self.assertRow(rows, "units", "skipped", "systemd is not on this bus")
        self.assertEqual(self.cloud.registry(), before, "nothing in the cloud has changed")
        self.assertEqual(self.gateway.property("State"), "provisioned")
        self.assertEqual(tpm.handles("transient"), [])

    def assertStore(self, rows):
        """Where the tests run, that may be a disk or not; the status knows."""
        wanted = {
            "no": ("ok", "is on a disk, "),
            "yes": ("warning", "is in memory"),  # VolatileState=yes
            "unknown": ("warning", "cannot be seen"),
        }
        self.assertRow(rows, "store", *wanted[self.gateway.property("VolatileState")])

    def test_clock_that_nobody_has_set(self):
        self.start()
        self.gateway.wait_provisioned()
        self.gateway.synchronise(False)
        self.assertRow(self.doctor(), "clock", "warning", "nobody is known to have set it", "NTP")

    def test_clock_that_is_wrong(self):
        """By the rule of enrolments, which wait for it."""
        self.gateway.synchronise(False)
        epoch = self.gateway.clock / "clock-epoch"
        epoch.touch()
        os.utime(epoch, (FAR, FAR))
        self.start()
        self.gateway.wait_property("State", "waiting-clock")
        rows = self.doctor()
        self.assertOnlyWrong(rows, "clock")
        self.assertRow(rows, "clock", "wrong", "2100", "set it")
        self.assertRow(rows, "identity", "warning", "none yet: waiting-clock", "the row clock")

    def test_for_people(self):
        self.start()
        self.gateway.wait_provisioned()
        done = self.gateway.enrollctl("doctor")
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        self.assertIn("\nok       dns                 localhost is ", done.stdout)
        self.assertRegex(done.stdout, r"\n\n0 wrong, \d warnings?\n$")
        self.assertNotIn("\033", done.stdout)

    def test_beside_an_attempt(self):
        """Which hangs meanwhile, and goes on as if nothing had been."""
        self.cloud.freeze()
        self.start()
        self.gateway.wait_signalled("Step", "claim")
        workers = self.gateway.workers()
        rows = self.doctor()
        self.assertRow(rows, "identity", "warning", "none yet: enrolling")
        self.assertRow(rows, "method fleet-claim", "ok", "the claim is there")
        self.assertRow(rows, "tcp", "ok", "localhost")  # the kernel has accepted it
        self.assertRow(rows, "tls", "wrong", "no answer in the TLS handshake")
        self.assertEqual(self.gateway.workers(), workers)
        self.assertEqual(self.gateway.property("Step"), "claim")
        self.cloud.thaw()
        self.gateway.wait_provisioned()
        self.assertEqual(self.gateway.signalled("Attempt"), [1, 0])

    # Broken once.

    def test_no_tpm(self):
        self.gateway.configure("Key", Backend="tpm2", TCTI="device:/nonexistent/tpmrm0")
        self.start()
        rows = self.doctor()
        self.assertOnlyWrong(rows, "tpm")
        self.assertRow(rows, "tpm", "wrong", "no TPM at device:/nonexistent/tpmrm0 (No such file", "tpm_tis")

    def test_tpm_that_hangs(self):
        tpm = Tpm(self)
        self.gateway.configure("Key", Backend="tpm2", TCTI=tpm.tcti)
        self.gateway.configure("Agent", Methods="jitp")  # which has no reason to ask the TPM
        tpm.process.send_signal(signal.SIGSTOP)
        self.addCleanup(tpm.process.send_signal, signal.SIGCONT)
        self.start()
        rows = self.doctor()
        self.assertRow(rows, "tpm", "wrong", "no answer within 20 s", "off and on")
        self.assertRow(rows, "tls", "ok", "verified")

    def test_serial_number(self):
        for value, text in (("file:/nonexistent/serial", "cannot be read"), ("literal:To be filled by O.E.M.", "placeholder")):
            with self.subTest(value=value):
                self.gateway.configure("Agent", SerialNumber=value)
                self.start()
                rows = self.doctor()
                self.assertOnlyWrong(rows, "serial-number")
                self.assertRow(rows, "serial-number", "wrong", text, "enrolld.conf(5)")
                self.gateway.stop()

    def test_endpoint_that_is_none(self):
        self.gateway.configure("Cloud", Endpoint="nowhere.invalid")
        self.start()
        rows = self.doctor()
        self.assertOnlyWrong(rows, "dns")
        self.assertRow(rows, "dns", "wrong", "nowhere.invalid: ")
        for what in ("tcp", "tls"):
            self.assertRow(rows, what, "skipped", "not tried, as dns is wrong")

    @unittest.skipUnless(os.geteuid() == 0, "needs root, for the port of name servers")
    def test_name_server_that_is_silent(self):
        """With the resolver's own patience, 10 s: the doctor has more."""
        address = f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"
        server = self.enterContext(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        server.bind((address, 53))
        texts = {"resolv.conf": f"nameserver {address}\n", "nsswitch.conf": "hosts: files dns\n"}
        mounts = []
        for name, text in texts.items():
            (self.directory / name).write_text(text)
            mounts.append(f"mount --bind {self.directory / name} /etc/{name}")
        shell = ["unshare", "--mount", "--propagation=private", "sh", "-c"]
        if subprocess.run([*shell, " && ".join(mounts)], capture_output=True).returncode != 0:
            self.skipTest("files of /etc cannot be covered here")
        self.gateway.wrapper = [*shell, " && ".join([*mounts, 'exec "$@"']), "sh"]
        self.gateway.configure("Cloud", Endpoint="somewhere.example")
        self.start()
        rows = self.doctor()
        self.assertOnlyWrong(rows, "dns")
        self.assertRow(rows, "dns", "wrong", "somewhere.example: ", "no name server answers")
        self.assertRow(rows, "tls", "skipped", "not tried, as dns is wrong")

    def test_port_that_is_closed(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.gateway.configure("Cloud", Port=port)
        self.start()
        rows = self.doctor()
        self.assertOnlyWrong(rows, "tcp")
        self.assertRow(rows, "tcp", "wrong", "", "firewall")
        self.assertEqual(rows["tcp"]["Text"], f"cannot connect to localhost:{port}: Connection refused")
        self.assertRow(rows, "tls", "skipped", "not tried, as tcp is wrong")

    def test_other_root(self):
        path = Authority(self.directory, "other").path
        self.gateway.configure("Cloud", RootCA=path)
        self.start()
        rows = self.doctor()
        self.assertOnlyWrong(rows, "tls")
        self.assertRow(rows, "root-ca", "ok", str(path))
        self.assertRow(rows, "tls", "wrong", "not signed by a CA in RootCA=", "ATS")

    def test_name_of_the_server(self):
        """An address that the certificate does not have."""
        self.gateway.configure("Cloud", Endpoint="127.0.0.1")
        self.start()
        rows = self.doctor()
        self.assertRow(rows, "tls", "wrong", "another", "Endpoint=")

    def test_no_root(self):
        path = self.directory / "empty.pem"
        for content in (None, "nothing\n"):
            with self.subTest(content=content):
                if content is not None:
                    path.write_text(content)
                self.gateway.configure("Cloud", RootCA=path)
                self.start()
                rows = self.doctor()
                self.assertRow(rows, "root-ca", "wrong", str(path), "amazontrust.com")
                self.assertRow(rows, "tcp", "ok", "localhost")
                self.gateway.stop()

    def break_claim(self, text, advice="", verdict="wrong", **changes):
        self.gateway.configure("fleet-claim", **changes)
        self.start()
        rows = self.doctor()
        if verdict == "wrong":
            self.assertOnlyWrong(rows, "method fleet-claim")
        self.assertRow(rows, "method fleet-claim", verdict, text, advice)
        return rows

    def test_claim_is_missing(self):
        missing = "/nonexistent/claim.pem"
        self.break_claim(f"Certificate={missing}", "group enrolld-worker", Certificate=missing)

    def test_claim_is_misspelt(self):
        self.break_claim("knows no key Certificat=", "enrollctl plugins", Certificat="/nonexistent/claim.pem")

    def test_claim_and_key_of_others(self):
        key = make_key(self.directory / "other.key")
        self.break_claim("does not belong to Certificate=", "another pair", PrivateKey=key)

    def test_claim_that_is_none(self):
        self.break_claim("Certificate=: ", "PEM", Certificate=self.cloud.claim_key)

    def test_claim_that_has_expired(self):
        Authority(self.directory, "maker").device("old", days=-1)
        certificate, key = self.directory / "old.pem", self.directory / "old.key"
        rows = self.break_claim("the claim expired on 20", "new claim", Certificate=certificate, PrivateKey=key)
        self.assertRow(rows, "tls", "ok", "")

    def test_key_that_all_may_read(self):
        key = self.directory / "open.key"
        key.write_text(self.cloud.claim_key.read_text())
        key.chmod(0o644)
        self.break_claim("everybody on this device may read", "chmod", verdict="warning", PrivateKey=key)

    def test_method_that_is_not_installed(self):
        self.gateway.configure("Agent", Methods="nowhere fleet-claim")
        self.start()
        rows = self.doctor()
        self.assertRow(rows, "method nowhere", "wrong", "nowhere", "enrollctl plugins")
        self.assertRow(rows, "method fleet-claim", "ok", "the claim is there")

    def test_method_that_may_be_left_out(self):
        """Another one may do: whether one does, the row of the identity says."""
        self.gateway.configure("Agent", Methods="jitp fleet-claim")
        self.start()
        self.gateway.wait_provisioned()
        self.assertOnlyWrong(self.doctor())
        self.cloud.freeze()
        self.gateway.call("Forget")
        rows = self.doctor()
        self.assertRow(rows, "method jitp", "warning", "no certificate was imported", "enrollctl request")

    def test_certificate_that_ends_soon(self):
        cloud = Cloud(self, "--issuer=private:10", name="private")
        gateway = self.gateway = Gateway(self, cloud, backend="file", name="other", bus=self.gateway.bus)
        self.start()
        gateway.wait_provisioned()
        self.assertRow(self.doctor(), "certificate", "warning", "it expires in ")

    def test_nothing_imported(self):
        self.gateway.configure("Agent", Methods="jitp")
        self.start()
        rows = self.doctor()
        self.assertRow(rows, "method jitp", "wrong", "no certificate was imported", "enrollctl request")
        self.gateway.enrollctl("request")
        self.assertRow(self.doctor(), "method jitp", "wrong", "a request waits for its certificate")

    def test_claim_of_a_provisioned_device(self):
        """It may be gone: nothing is wrong."""
        self.start()
        self.gateway.wait_provisioned()
        self.gateway.configure("fleet-claim", Certificate="/nonexistent/claim.pem")
        self.gateway.call("Reload")
        rows = self.doctor()
        self.assertOnlyWrong(rows)
        self.assertRow(rows, "method fleet-claim", "warning", "/nonexistent/claim.pem")
        self.gateway.sections["Renewal"] = {"KeepClaim": "no"}
        self.gateway.configure()
        self.gateway.call("Reload")
        self.assertRow(self.doctor(), "method fleet-claim", "skipped", "as KeepClaim=no says")

    def test_credentials(self):
        """Those are looked at by the worker that has them."""
        self.gateway.configure("fleet-claim", PrivateKey="credential:claim-key")
        self.start()
        self.assertRow(self.doctor(), "method fleet-claim", "wrong", "claim-key", "docs/credentials.md")

    def test_no_sockets(self):
        """As where the socket units are not active."""
        self.gateway.wrapper = ["env", "-u", "ENROLLD_WORKER"]
        self.start()
        rows = self.doctor()
        self.assertRow(rows, "worker", "wrong", "enrolld-worker.socket")
        self.assertIn("store", rows)

    # Units.

    UNITS = ("enrolld.service", "enrolld-check.socket", "enrolld-worker.socket", "enrolld-claim.socket",
             "enrolld-network.socket", "enrolld-provisioned.path", "enrolld-lost.path")  # fmt: skip

    def start_systemd(self):
        self.units = self.directory / "units"
        self.units.mkdir()
        for name in self.UNITS:
            (self.units / name).write_text("loaded active enabled\n")
        log = self.directory / "systemd.log"
        process = harness.Process("systemd", [harness.built("tests/integration/fake-systemd"), self.units], log, self.gateway.environment())
        self.addCleanup(process.stop)
        harness.wait_for("systemd is on the bus", lambda: "ready" in log.read_text())

    def test_units(self):
        self.start_systemd()
        self.start()
        self.gateway.wait_provisioned()
        rows = self.doctor()
        for name in self.UNITS:
            self.assertRow(rows, name, "ok", "active")
        self.assertLessEqual(set(self.UNITS), {path.name for path in (harness.SOURCE_DIR / "systemd").iterdir()}
                             | {"enrolld.service"})  # fmt: skip
        (self.units / "enrolld-worker.socket").unlink()
        (self.units / "enrolld-claim.socket").write_text("loaded inactive static\n")
        (self.units / "enrolld-lost.path").write_text("loaded failed static\n")
        (self.units / "enrolld.service").write_text("loaded active disabled\n")
        rows = self.doctor()
        self.assertRow(rows, "enrolld-worker.socket", "wrong", "not-found", "daemon-reload")
        self.assertRow(rows, "enrolld-claim.socket", "wrong", "inactive: methods with credentials cannot enroll",
                       "systemctl start enrolld-claim.socket")  # fmt: skip
        self.assertRow(rows, "enrolld-lost.path", "warning", "failed: ", "systemctl status enrolld-lost.path")
        self.assertRow(rows, "enrolld.service", "warning", "not at the next boot", "systemctl enable")
        self.assertRow(rows, "enrolld-check.socket", "ok", "active")
        self.assertRow(rows, "dns", "ok", "localhost")

    def test_service_has_failed(self):
        """Without a daemon the units are what there is to say."""
        self.start_systemd()
        (self.units / "enrolld.service").write_text("loaded failed enabled\n")
        rows = self.doctor()
        self.assertRow(rows, "enrolld.service", "wrong", "failed: ", "systemctl status enrolld.service")
        self.assertRow(rows, "daemon", "wrong", "not running", "journalctl -u enrolld")

    def test_configuration(self):
        self.gateway.configure("Cloud", Port="many")
        self.start()
        self.assertRow(self.doctor(), "configuration", "wrong", f"{self.gateway.configuration}:", "--check-config")

    def test_no_daemon(self):
        rows = self.doctor()
        self.assertRow(rows, "daemon", "wrong", "not running", "systemctl start enrolld")

    def test_second_call_and_cancel(self):
        """One at a time; and the rows of the last one that has ended."""
        self.cloud.freeze()
        self.start()
        self.gateway.wait_signalled("Step", "claim")
        with self.assertRaisesRegex(Exception, "NoDiagnosis"):
            self.gateway.call("GetDiagnosis")
        job = self.gateway.call("Diagnose")
        with self.assertRaisesRegex(Exception, "Busy"):
            self.gateway.call("Diagnose")
        self.gateway.call("Cancel", f"uint32:{job}")
        removed = self.gateway.wait_signal("JobRemoved", wanted=lambda told: told[1] == "diagnose")
        self.assertEqual(removed[:3], [int(job), "diagnose", "canceled"])
        self.assertEqual(self.gateway.property("Step"), "claim")

    def test_after_another(self):
        """As after Ctrl-C: what a doctor before has begun is waited for, and then it looks for itself."""
        self.cloud.freeze()
        self.start()
        self.gateway.wait_signalled("Step", "claim")
        job = int(self.gateway.call("Diagnose"))
        words = [harness.built("enrollctl"), "doctor", "--json"]
        doctor = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=self.gateway.environment())
        self.addCleanup(doctor.kill)
        self.gateway.wait_signal("JobRemoved", wanted=lambda told: told[0] == job)
        self.cloud.thaw()
        rows = json.loads(doctor.communicate(timeout=2 * harness.DEADLINE)[0])["Rows"]
        self.assertRow({row["What"]: row for row in rows}, "tls", "ok", "verified")

    @unittest.skipUnless(os.geteuid() == 0, "needs root, to mount")
    def test_store_in_memory(self):
        self.gateway.wrapper = ["unshare", "--mount", "sh", "-c",
                                f'mkdir -p "{self.gateway.state}" && mount -t tmpfs -o size=64m none '
                                f'"{self.gateway.state}" && exec "$@"', "sh"]  # fmt: skip
        self.start()
        self.assertRow(self.doctor(), "store", "warning", "in memory", "on a disk")
        self.gateway.stop()
        self.gateway.wrapper[4] = self.gateway.wrapper[4].replace("64m", "512k")
        self.start()
        self.assertRow(self.doctor(), "store", "wrong", "KiB are free", "make room")


if __name__ == "__main__":
    harness.main()
