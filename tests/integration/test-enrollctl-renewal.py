#!/usr/bin/env python3
"""enrollctl renew, check and discard-claim, and what status and doctor say of renewal, retirement and refusal."""

import json
import os
import re
import select
import shutil
import stat
import subprocess
import time
import unittest

import harness
from agent import IDENTIFIER, Agent
from gateway import Gateway
from parts import Bus, Cloud

DAY = 86400
# When a certificate of AWS's own CA ends.
NO_END = 2524607999
OLD = "fedcba9876543210" * 4


def usec(seconds):
    return str(int(seconds * 1000000))


class Fake(harness.TestCase):
    """A daemon that tells what it is told to tell."""

    def setUp(self):
        super().setUp()
        self.bus = Bus(self)
        self.agent = Agent(self, self.bus)
        self.now = time.time()
        self.agent.answer(
            State="provisioned", ThingName="gateway-1", CertificateId=IDENTIFIER, NotAfter=usec(self.now + 200 * DAY),
            RenewAfter=usec(self.now + 100 * DAY), RenewRule="lifetime", RenewMethod="fleet-claim",
        )  # fmt: skip

    def environment(self):
        kept = {key: value for key, value in os.environ.items() if key == "PATH" or key.endswith("SAN_OPTIONS")}
        return kept | {"LC_ALL": "C.UTF-8", "DBUS_SYSTEM_BUS_ADDRESS": self.bus.address}

    def enrollctl(self, *words, status=0):
        done = subprocess.run(
            [harness.built("enrollctl"), *words], capture_output=True, text=True, timeout=harness.DEADLINE,
            env=self.environment(),
        )  # fmt: skip
        self.assertEqual(done.returncode, status, f"{words}: {done.stdout}{done.stderr}")
        return done

    # The jobs.

    def test_renew(self):
        """Each step as it begins, then the identity."""
        self.agent.answer(steps="key request certificate register prove verify commit")
        done = self.enrollctl("renew")
        steps = re.findall(r"^step (\w+): ", done.stdout, re.MULTILINE)
        self.assertEqual(" ".join(steps), "key request certificate register prove verify commit")
        self.assertIn(f"\ndone: thing gateway-1, certificate {IDENTIFIER}, generation ", done.stdout)
        self.assertEqual((done.stderr, self.agent.calls()), ("", ["Renew"]))

    def test_renew_fails(self):
        self.agent.answer(result="failed", detail="denied: register: the template does not let it")
        done = self.enrollctl("renew", status=1)
        self.assertIn("enrollctl: renew failed: denied: register: the template does not let it\n", done.stderr)
        self.assertIn("The identity of before stays in use", done.stderr)
        self.assertNotIn("done", done.stdout)

    def test_renew_is_refused(self):
        for name, status in (("NotRenewable", 1), ("NoIdentity", 3), ("ClockNotSet", 1)):
            with self.subTest(name=name):
                self.agent.answer(error=f"org.enrolld1.Error.{name}", message="RenewTemplate= is not set")
                done = self.enrollctl("renew", status=status)
                self.assertEqual(done.stdout, "")
                self.assertIn("enrollctl: cannot renew the identity: RenewTemplate= is not set.", done.stderr)
                self.assertNotIn("stays in use", done.stderr)

    def test_renew_waits_for_its_turn(self):
        """While the daemon does something else."""
        self.agent.answer(error="org.enrolld1.Error.Busy")
        program = [harness.built("enrollctl"), "renew"]
        process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env=self.environment())
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.kill)
        harness.wait_for("it asks", lambda: self.agent.calls())
        (self.agent.directory / "error").unlink()
        self.assertIn("done: thing gateway-1", process.stdout.read())
        self.assertEqual(process.wait(harness.DEADLINE), 0)
        self.assertLessEqual(len(self.agent.calls()), 3)

    def test_check(self):
        self.agent.answer(steps="key prove")
        done = self.enrollctl("check")
        self.assertIn("step prove: connecting with the identity\ndone: thing gateway-1, certificate ", done.stdout)
        self.assertEqual(self.agent.calls(), ["Check"])
        self.agent.answer(result="failed", detail="denied: prove: the cloud refuses it (0x87)")
        done = self.enrollctl("check", status=1)
        self.assertEqual(done.stderr, "enrollctl: check failed: denied: prove: the cloud refuses it (0x87)\n")
        self.agent.answer(error="org.enrolld1.Error.NoIdentity", message="There is none on this device")
        self.enrollctl("check", status=3)

    def test_check_waits(self):
        """It stands still for a while after another one: that is said, and once."""
        self.agent.answer(result="later")
        program = [harness.built("enrollctl"), "check"]
        process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=self.environment())
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.kill)
        self.assertTrue(select.select([process.stderr], [], [], harness.DEADLINE)[0], "it says nothing")
        self.assertEqual(process.stderr.readline(), "enrollctl: waiting: looks are 30 seconds apart, and come after what runs.\n")

    # What status says.

    def lines(self, status=0):
        """{label: [text]} of the status."""
        found, label = {}, ""
        for line in self.enrollctl("status", status=status).stdout.splitlines():
            label = line[:14].strip() or label
            found.setdefault(label, []).append(line[15:])
        return found

    def test_when(self):
        lines = self.lines()
        self.assertRegex(lines["Renewal:"][0], r"^in 99 days, \d{4}-.*, by its lifetime, method fleet-claim$")
        self.assertNotIn("Not retired:", lines)
        self.assertNotIn("Refused since:", lines)
        self.agent.answer(RenewRule="max-age", RenewAfter=usec(self.now - 5))
        line = self.lines()["Renewal:"][0]
        self.assertIn("by MaxAge=", line)
        self.assertTrue(line.startswith("due, "), line)

    def test_never(self):
        self.agent.answer(RenewRule="never", RenewAfter="0", RenewHindrance="RenewTemplate= is not set")
        self.assertEqual(self.lines()["Renewal:"], ["never: RenewTemplate= is not set"])
        self.agent.answer(RenewHindrance="", NotAfter=usec(NO_END))
        self.assertEqual(self.lines()["Renewal:"], ["never: it has no end, and MaxAge= is not set"])

    def test_of_the_cloud(self):
        self.agent.answer(RetirePending=f"{OLD} {IDENTIFIER}", RefusedSince=usec(self.now - 7200))
        lines = self.lines()
        wanted = [f"{name[:16]}..., old certificate still active in the cloud" for name in (OLD, IDENTIFIER)]
        self.assertEqual(lines["Not retired:"], wanted)
        self.assertRegex(lines["Refused since:"][0], r"^2 h ago, ")

    def test_while_it_renews(self):
        """It has an identity all the time; a failure's next attempt is told."""
        self.agent.answer(State="renewing", NextAttempt=usec(self.now + 600))
        lines = self.lines()
        self.assertEqual(lines["State:"], ["renewing"])
        self.assertIn("Next attempt:", lines)
        self.enrollctl("wait", "--timeout=0")

    def test_json(self):
        self.agent.answer(RetirePending=OLD, RefusedSince="7", RenewHindrance="it is so")
        told = json.loads(self.enrollctl("status", "--json").stdout)
        self.assertEqual((told["RenewRule"], told["RenewMethod"]), ("lifetime", "fleet-claim"))
        self.assertEqual((told["RetirePending"], told["RefusedSince"]), ([OLD], 7))
        self.assertEqual(told["RenewHindrance"], "it is so")

    # What the doctor says.

    def rows(self, status=0, **settings):
        lines = [f"Renewal {key} {value}" for key, value in settings.items()]
        self.agent.answer(settings="\n".join(lines))
        told = json.loads(self.enrollctl("doctor", "--json", status=status).stdout)
        return {row["What"]: row for row in told["Rows"]}

    def assertRow(self, row, verdict, text, advice=""):
        self.assertEqual(row["Verdict"], verdict, row)
        self.assertIn(text, row["Text"], row)
        self.assertIn(advice, row["Advice"], row)

    def test_doctor_renewal(self):
        rows = self.rows(RetireTopic="x", RetireAcknowledged="yes")
        self.assertRow(rows["renewal"], "ok", "rule lifetime, method fleet-claim")
        self.assertFalse({"retirement", "refusal"} & set(rows), rows)
        self.assertRow(self.rows()["retirement"], "warning", "leaves another certificate active", "set RetireTopic=")
        self.agent.answer(RenewRule="never", RenewAfter="0", RenewHindrance="RenewTemplate= is not set")
        self.assertRow(self.rows()["renewal"], "warning", "RenewTemplate= is not set", "docs/renewal.md")
        self.agent.answer(NotAfter=usec(self.now + 20 * DAY))
        self.assertRow(self.rows(status=1)["renewal"], "wrong", "RenewTemplate= is not set")

    def test_doctor_of_a_failure(self):
        """A renewal that has just failed is not well, whenever it is due."""
        failure = "denied register 1 the hook did not allow it"
        self.agent.answer(LastError=failure, NextAttempt=usec(self.now + 600), Attempt="1")
        row = self.rows(RetireTopic="x", RetireAcknowledged="yes")["renewal"]
        self.assertRow(row, "warning", "rule lifetime, method fleet-claim; but the last attempt has failed: denied at "
                       "step register: the hook did not allow it", "`enrollctl renew`")
        self.assertIn("tried again at 20", row["Advice"])
        self.agent.answer(RenewRule="never", RenewAfter="0", NotAfter=usec(NO_END))
        self.assertRow(self.rows()["renewal"], "warning", "denied at step register")
        # A look that found no network comes again, and is none.
        self.agent.answer(LastError="network prove 1 no answer", Attempt="0")
        self.assertRow(self.rows()["renewal"], "ok", "never")
        # What the cloud said of the identity has a row of its own, and no renewal has failed.
        self.agent.answer(RefusedSince=usec(self.now - 60), LastError="denied prove 1 refused")
        self.assertRow(self.rows(status=1)["renewal"], "ok", "never")

    def test_doctor_no_end(self):
        """What is in the way of a renewal that nothing asks for is no fault."""
        self.agent.answer(RenewRule="never", RenewAfter="0", RenewHindrance="no template", NotAfter=usec(NO_END))
        self.assertRow(self.rows()["renewal"], "ok", "never: the certificate has no end, and MaxAge= is not set")
        self.assertRow(self.rows(MaxAge="365d")["renewal"], "warning", "no template")

    def test_doctor_retirement(self):
        self.agent.answer(RetirePending=OLD)
        self.assertRow(self.rows()["retirement"], "warning", OLD, "set RetireTopic=")
        row = self.rows(RetireTopic="$aws/rules/retire/x", RetireAcknowledged="yes")["retirement"]
        self.assertRow(row, "warning", OLD, f"--certificate-id {OLD} --new-status INACTIVE")
        self.agent.answer(RetirePending="")
        self.assertRow(self.rows(RetireTopic="x", RetireAcknowledged="no")["retirement"], "warning", "nobody answers")
        self.assertNotIn("retirement", self.rows(RetireTopic="x", RetireAcknowledged="yes"))
        self.agent.answer(RenewRule="never", RenewAfter="0")
        self.assertNotIn("retirement", self.rows(RetireTopic="", RetireAcknowledged="no"))

    def test_doctor_refusal(self):
        self.agent.answer(RefusedSince=usec(self.now - 60))
        self.assertRow(self.rows(status=1)["refusal"], "wrong", "since 20", f"{IDENTIFIER} --new-status ACTIVE")

    def test_doctor_without_identity(self):
        self.agent.answer(State="enrolling", RenewHindrance="x", RefusedSince="1")
        self.assertFalse({"renewal", "retirement", "refusal"} & set(self.rows()))


class Real(harness.TestCase):
    """The same with enrolld itself, and the files of etc/aws in the cloud."""

    def setUp(self):
        super().setUp()
        self.cloud = Cloud(self, "--claim-key=ecdsa", "--control-port=0", "--hooks", "--retire")
        self.gateway = Gateway(self, self.cloud, backend="file")
        self.gateway.sections["Renewal"] = {"MaxAge": "365d"}
        self.gateway.configure("Cloud", ProveTopic="things/%t/enrolld")
        self.gateway.configure("fleet-claim", RenewTemplate="enrolld-renew", RenewParameter_ThingName="%t")

    def start(self):
        self.gateway.start()
        self.gateway.wait_provisioned()
        return self.gateway.identity()["certificateId"]

    def enrollctl(self, *words, status=0):
        done = self.gateway.enrollctl(*words)
        self.assertEqual(done.returncode, status, f"{words}: {done.stdout}{done.stderr}")
        return done

    def status_line(self, label):
        lines = self.enrollctl("status").stdout.splitlines()
        return next((line[15:] for line in lines if line[:14].strip() == label), None)

    def test_renew(self):
        first = self.start()
        self.assertRegex(self.status_line("Renewal:"), "^in [0-9]+ days, .*, by MaxAge=, method fleet-claim$")
        done = self.enrollctl("renew")
        steps = re.findall(r"^step (\w+): ", done.stdout, re.MULTILINE)
        for step in ("key", "request", "certificate", "register", "prove", "verify", "commit"):
            self.assertIn(step, steps)
        second = self.gateway.identity()["certificateId"]
        self.assertNotEqual(second, first)
        self.assertIn(f"done: thing gateway-GW-0001, certificate {second}, generation 2\n", done.stdout)

    def test_renew_fails(self):
        """What is in use stays, and status says why and when again."""
        first = self.start()
        self.gateway.configure("fleet-claim", RenewTemplate="nowhere")
        self.enrollctl("reload")
        done = self.enrollctl("renew", status=1)
        self.assertRegex(done.stderr, r"enrollctl: renew failed: (denied|invalid): ")
        self.assertIn("The identity of before stays in use", done.stderr)
        self.assertEqual(self.gateway.identity()["certificateId"], first)
        self.assertEqual(self.status_line("State:"), "provisioned")
        self.assertIsNotNone(self.status_line("Last error:"))
        rows = {row["What"]: row for row in json.loads(self.enrollctl("doctor", "--json").stdout)["Rows"]}
        self.assertEqual(rows["renewal"]["Verdict"], "warning", rows["renewal"])
        self.assertIn("but the last attempt has failed: ", rows["renewal"]["Text"])

    def test_not_renewable(self):
        self.gateway.configure("fleet-claim", RenewTemplate=None, RenewParameter_ThingName=None)
        self.start()
        done = self.enrollctl("renew", status=1)
        self.assertIn("RenewTemplate", done.stderr)
        self.assertIn("RenewTemplate", self.status_line("Renewal:"))
        rows = {row["What"]: row for row in json.loads(self.enrollctl("doctor", "--json").stdout)["Rows"]}
        self.assertEqual(rows["renewal"]["Verdict"], "warning", rows["renewal"])
        self.assertIn("RenewTemplate", rows["renewal"]["Text"])

    def set_status(self, identifier, status):
        self.cloud.aws("update-certificate", "--certificate-id", identifier, "--new-status", status)

    def test_check(self):
        """Accepted; refused, and what is said of that everywhere; accepted again, with the same certificate."""
        first = self.start()
        self.assertIn(f"done: thing gateway-GW-0001, certificate {first}", self.enrollctl("check").stdout)
        self.assertIsNone(self.status_line("Refused since:"))
        self.set_status(first, "INACTIVE")
        done = self.enrollctl("check", status=1)
        self.assertRegex(done.stderr, "enrollctl: check failed: denied: prove: ")
        self.assertRegex(self.status_line("Refused since:"), r"^[0-9]+ s ago, ")
        self.assertEqual(self.status_line("State:"), "provisioned")
        rows = {row["What"]: row for row in json.loads(self.enrollctl("doctor", "--json", status=1).stdout)["Rows"]}
        self.assertEqual(rows["refusal"]["Verdict"], "wrong", rows)
        self.set_status(first, "ACTIVE")
        self.gateway.wait_property("RefusedSince", 0)
        self.assertIsNone(self.status_line("Refused since:"))
        self.assertEqual(self.gateway.identity()["certificateId"], first)

    def test_retirement(self):
        """Where nobody listens the old certificate stays, and is told; then the rule takes it away."""
        topic = "$aws/rules/nowhere/things/%t/retire"
        self.gateway.configure("Renewal", RetireTopic=topic, RetireAcknowledged="yes")
        first = self.start()
        self.enrollctl("renew")
        self.assertEqual(self.status_line("Not retired:"), f"{first[:16]}..., old certificate still active in the cloud")
        self.assertEqual(self.cloud.registry()["certificates"][first]["status"], "ACTIVE")
        self.gateway.configure("Renewal", RetireTopic=topic.replace("nowhere", "enrolld_retire"))
        self.enrollctl("reload")
        self.gateway.wait_property("RetirePending", [])
        self.assertIsNone(self.status_line("Not retired:"))
        self.assertEqual(self.cloud.registry()["certificates"][first]["status"], "INACTIVE")

    def test_without_identity(self):
        self.cloud.freeze()
        self.gateway.start()
        self.enrollctl("renew", status=3)
        self.enrollctl("check", status=3)


@unittest.skipUnless(os.geteuid() == 0, "is for root")
class DiscardClaim(harness.TestCase):
    """With the real daemon, in a mount namespace whose /etc is the test's."""

    def setUp(self):
        super().setUp()
        self.cloud = Cloud(self)
        self.gateway = Gateway(self, self.cloud, backend="file")
        self.etc = self.directory / "etc"
        for name in ("credstore", "credstore.encrypted"):
            (self.etc / name).mkdir(parents=True)
        for path in ("ld.so.cache", "localtime"):
            if os.path.exists(f"/etc/{path}"):
                shutil.copy(f"/etc/{path}", self.etc)
        credentials = self.directory / "credentials"
        credentials.mkdir()
        self.gateway.extra_environment["CREDENTIALS_DIRECTORY"] = str(credentials)
        self.claim = self.directory / "claim.pem"
        self.key = self.etc / "credstore/claim-key"
        self.sealed = self.etc / "credstore.encrypted/claim-key"
        shutil.copy(self.cloud.claim_certificate, self.claim)
        for path in (self.key, self.sealed, credentials / "claim-key"):
            shutil.copy(self.cloud.claim_key, path)
        self.gateway.sections["Renewal"] = {"KeepClaim": "no"}
        self.gateway.configure("fleet-claim", Certificate=self.claim, PrivateKey="credential:claim-key")
        self.precious = self.directory / "precious"
        self.precious.write_text("root:x:0:0\n")

    def discard(self, *words, status=0, configuration=None, before="true"):
        script = f'mount --bind "{self.etc}" /etc && {before} && exec "$@"'
        words = words or [f"--config={configuration or self.gateway.configuration}"]
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, "sh", harness.built("enrollctl"), "discard-claim", *words],
            capture_output=True, text=True, timeout=2 * harness.DEADLINE, env=self.gateway.environment(),
        )  # fmt: skip
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done

    def test_is_destroyed(self):
        held = open(self.key, "rb")  # what stays readable is overwritten, too
        self.addCleanup(held.close)
        size = os.fstat(held.fileno()).st_size
        self.gateway.start()
        self.gateway.wait_provisioned()
        done = self.discard()
        for path in (self.claim, self.key, self.sealed):
            self.assertFalse(path.exists(), path)
        self.assertIn(f"{self.claim} is overwritten and removed\n", done.stdout)
        self.assertIn("/etc/credstore/claim-key is overwritten and removed\n", done.stdout)
        self.assertEqual(held.read(), size * b"\0")
        self.assertTrue(os.path.exists(self.cloud.root_ca))
        # Again: it says what it does not find.
        done = self.discard()
        self.assertIn(f"{self.claim} is not there\n", done.stdout)
        self.assertIn("credential:claim-key is neither in /etc/credstore.encrypted nor in /etc/credstore", done.stdout)
        self.assertEqual(self.gateway.property("State"), "provisioned")

    def test_what_is_in_the_way(self):
        """The rest is destroyed all the same."""
        os.link(self.key, self.etc / "other")
        self.gateway.start()
        self.gateway.wait_provisioned()
        done = self.discard(status=1)
        self.assertIn("/etc/credstore/claim-key is still there: it has more than one name", done.stderr)
        self.assertEqual(self.key.read_bytes(), self.cloud.claim_key.read_bytes())
        self.assertFalse(self.sealed.exists())
        self.assertFalse(self.claim.exists())

    def test_root_ca_stays(self):
        """Whatever names it."""
        self.gateway.start()
        self.gateway.wait_provisioned()
        self.gateway.configure("fleet-claim", Certificate=self.cloud.root_ca)
        self.gateway.call("Reload")
        self.assertIn("it is RootCA=, too", self.discard(status=1).stderr)
        self.assertTrue(os.path.getsize(self.cloud.root_ca) > 0)

    def own_configuration(self):
        """What root has written, while the daemon goes on to have more in force."""
        path = self.directory / "root.conf"
        shutil.copy(self.gateway.configuration, path)
        return path

    def test_the_daemon_names_no_file(self):
        """It may be in somebody else's hands; what it has in force beyond root's configuration is told, and stays."""
        self.gateway.start()
        self.gateway.wait_provisioned()
        configuration = self.own_configuration()
        self.gateway.configure("fleet-claim", Certificate=self.precious)
        self.gateway.call("Reload")
        done = self.discard(status=1, configuration=configuration)
        self.assertEqual(self.precious.read_text(), "root:x:0:0\n")
        self.assertIn(f"enrolld has Certificate={self.precious} in force, root's configuration has not: that file stays",
                      done.stderr)
        self.assertFalse(self.claim.exists())
        self.assertFalse(self.key.exists())

    def test_the_daemon_names_no_method(self):
        self.gateway.start()
        self.gateway.wait_provisioned()
        configuration = self.own_configuration()
        configuration.write_text(configuration.read_text().replace("Methods=fleet-claim", "Methods=jitp"))
        self.assertIn("root's configuration has not", self.discard(status=1, configuration=configuration).stderr)
        self.assertTrue(self.claim.exists())

    def test_the_daemon_writes_no_configuration(self):
        """/run/enrolld is its own directory."""
        self.gateway.start()
        self.gateway.wait_provisioned()
        text = self.gateway.configuration.read_text().replace(f"Certificate={self.claim}", f"Certificate={self.precious}")
        (self.directory / "drop-in").write_text(text)
        place = "/run/enrolld/enrolld.conf.d"
        before = f"mount -t tmpfs none /run && mkdir -p {place} && cp '{self.directory}/drop-in' {place}/50.conf"
        done = self.discard("--yes", status=1, before=before)
        self.assertEqual(self.precious.read_text(), "root:x:0:0\n", done.stdout)

    def test_is_missed(self):
        """Whoever stands before a device that has lost its identity reads why, and what to do."""
        self.gateway.start()
        self.gateway.wait_provisioned()
        self.discard()
        self.gateway.call("Forget")
        error = self.gateway.wait_property("LastError", lambda error: error[0] != "")
        self.assertEqual(error[:2], ["invalid", "configuration"])
        words = "cannot be read: No such file or directory; KeepClaim=no may have destroyed it: put it there"
        self.assertIn(f"Certificate={self.claim} {words}", error[2])
        rows = json.loads(self.gateway.enrollctl("doctor", "--json").stdout)
        self.assertIn(f"Certificate={self.claim} {words}", str(rows))
        shutil.copy(self.cloud.claim_key, self.directory / "credentials/claim-key")
        shutil.copy(self.cloud.claim_certificate, self.claim)
        self.gateway.wait_provisioned()

    def test_root_keeps_the_claim(self):
        """Whoever has made the flag: without KeepClaim=no it takes a word more."""
        self.gateway.sections["Renewal"] = {}
        self.gateway.configure()
        self.gateway.start()
        self.gateway.wait_provisioned()
        self.assertIn(f"KeepClaim=no is not set in {self.gateway.configuration} or its drop-ins, so this takes --yes",
                      self.discard(status=1).stderr)
        self.assertTrue(self.claim.exists() and self.key.exists())
        self.discard(f"--config={self.gateway.configuration}", "--yes")
        self.assertFalse(self.claim.exists() or self.key.exists())

    def test_configuration_is_wrong(self):
        self.gateway.start()
        self.gateway.wait_provisioned()
        wrong = self.directory / "wrong.conf"
        wrong.write_text("[fleet-claim\n")
        self.assertIn(f"cannot discard the claim: {wrong}:1: ", self.discard(status=1, configuration=wrong).stderr)
        self.assertTrue(self.claim.exists())

    def test_without_identity(self):
        self.cloud.hook({"serialPrefix": "GW", "result": "deny"})
        self.gateway.configure("Retry", Denied="365d 365d")
        self.gateway.start()
        self.gateway.wait_property("State", "failed")
        done = self.discard(status=3)
        self.assertIn("this device has no identity, and may need the claim", done.stderr)
        for path in (self.claim, self.key, self.sealed):
            self.assertEqual(stat.S_IFMT(path.lstat().st_mode), stat.S_IFREG)
            self.assertGreater(path.stat().st_size, 0)

    def test_is_for_root(self):
        self.gateway.start()
        for path in (self.directory, self.directory / "bus"):
            path.chmod(0o711)
        done = subprocess.run(
            [harness.built("enrollctl"), "discard-claim"], user=65534, group=65534, extra_groups=[],
            capture_output=True, text=True, env=self.gateway.environment(), timeout=harness.DEADLINE,
        )  # fmt: skip
        self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
        self.assertIn("this is for root", done.stderr)
        self.assertTrue(self.key.exists())


if __name__ == "__main__":
    harness.main()
