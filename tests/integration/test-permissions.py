#!/usr/bin/env python3
"""What each kind of user may do: somebody, a member of enrolld-admin, a member of enrolld-identity. Each is a real process
of another user, on a machine (a mount namespace) that has these groups."""

import json
import os
import pathlib
import pwd
import stat
import subprocess
import unittest
from xml.etree import ElementTree

import harness
from gateway import FILES, INTERFACE, NAME, PATH, Gateway
from parts import BUS_OPEN_POLICY, Bus, Cloud, Tpm

ADMIN, IDENTITY, TSS = 64101, 64102, 64103
PROPERTIES = "org.freedesktop.DBus.Properties"
# What the system bus says before any policy of a service: to look at everything, to call nothing.
BUS_POLICY = """<policy context="default">
    <allow user="*"/><deny own="*"/><deny send_type="method_call"/><allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/><allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/><allow receive_type="method_return"/>
    <allow receive_type="error"/><allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/>
  </policy>
  <policy user="root"><allow send_destination="org.freedesktop.DBus"/></policy>
  <include>{policy}</include>"""


@unittest.skipUnless(os.geteuid() == 0, "needs root, to be somebody else")
class Permissions(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.cloud = Cloud(self)
        group = self.directory / "group"
        own = f"enrolld-admin:x:{ADMIN}:nobody\nenrolld-identity:x:{IDENTITY}:\n"
        group.write_text(pathlib.Path("/etc/group").read_text() + own)
        self.wrapper = ["unshare", "--mount", "sh", "-c", f'mount --bind "{group}" /etc/group && exec "$@"', "sh"]
        self.directory.chmod(0o711)

    def start(self, policy=BUS_OPEN_POLICY, tpm=None):
        bus = Bus(self, policy, wrapper=self.wrapper)
        self.gateway = Gateway(self, self.cloud, tpm, "tpm2" if tpm else "file", bus=bus)
        self.gateway.wrapper = self.wrapper
        self.gateway.configure("Retry", Denied="365d 365d")
        for path in (self.directory / "bus", self.gateway.directory):
            path.chmod(0o711)
        self.gateway.start()

    @staticmethod
    def run_as(groups, *words, **options):
        """As nobody, a member of these groups."""
        nobody = pwd.getpwnam("nobody")
        return subprocess.run(
            [str(word) for word in words],
            capture_output=True,
            text=True,
            timeout=harness.DEADLINE,
            user=nobody.pw_uid,
            group=nobody.pw_gid,
            extra_groups=groups,
            **options,
        )

    def call(self, groups, *words):
        send = ["dbus-send", f"--bus={self.gateway.bus.address}", "--print-reply", f"--dest={NAME}", PATH]
        return self.run_as(groups, *send, *words)

    def enrollctl(self, groups, *words, **options):
        return self.run_as(groups, harness.built("enrollctl"), *words, env=self.gateway.environment(), **options)

    def imports(self):
        """What enrollctl hands over by each method that takes descriptors, which dbus-send cannot send."""
        certificate, key = self.cloud.claim_certificate.read_text(), self.cloud.claim_key.read_text()
        return {"Import": key + certificate, "ImportCertificate": certificate}

    def methods(self):
        """All other methods of the agent, with arguments for dbus-send that fit."""
        words = [harness.built("enrolld"), "--introspect"]
        document = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        samples = {"u": "uint32:1", "s": "string:x"}
        found = {}
        for method in ElementTree.fromstring(document).findall(f".//interface[@name='{INTERFACE}']/method"):
            arguments = [one.get("type") for one in method.findall("arg") if one.get("direction") != "out"]
            if "h" in arguments:
                self.assertIn(method.get("name"), self.imports())
            else:
                found[method.get("name")] = [samples[kind] for kind in arguments]
        self.assertIn("Enroll", found)
        return found

    def assertLooks(self, groups):
        """Each property, one by one and all at once."""
        done = self.call(groups, f"{PROPERTIES}.GetAll", f"string:{INTERFACE}")
        self.assertEqual(done.returncode, 0, done.stderr)
        names = [line.split('"')[1] for line in done.stdout.splitlines() if line.startswith('         string "')]
        self.assertIn("State", names, done.stdout)
        for name in names:
            done = self.call(groups, f"{PROPERTIES}.Get", f"string:{INTERFACE}", f"string:{name}")
            self.assertEqual(done.returncode, 0, f"{name}: {done.stderr}")

    def assertRefusedForPeople(self, groups):
        """By enrollctl in words of its own, whoever has refused."""
        words = "root and members of the group enrolld-admin"
        refused = f"(this is for {words}|Only {words} may do this)"
        for line in ("enroll", "renew", "config", "export", "forget --yes", "plugins", "reload", "cancel", "request"):
            done = self.enrollctl(groups, *line.split())
            self.assertEqual((done.returncode, done.stdout), (1, ""), line)
            self.assertRegex(done.stderr, rf"\Aenrollctl: [a-z ]+: {refused}\.\n\Z")
        done = self.enrollctl(groups, "doctor", "--json")
        row = [row for row in json.loads(done.stdout)["Rows"] if row["What"] == "access"][0]
        self.assertEqual(row["Verdict"], "wrong")
        self.assertRegex(row["Text"], rf"\A{refused}\Z")
        self.assertEqual(row["Advice"], "call it as one of them")

    def assertControlsNothing(self, groups, words):
        """words: of who refuses, the bus or the daemon."""
        self.assertRefusedForPeople(groups)
        for method, arguments in self.methods().items():
            if method == "Check" and IDENTITY in groups:
                self.assertChecks(groups)
                continue
            done = self.call(groups, f"{INTERFACE}.{method}", *arguments)
            self.assertIn(f"org.freedesktop.DBus.Error.AccessDenied: {words}", done.stderr, method)
        for method, text in self.imports().items():
            done = self.enrollctl(groups, "import", "-", input=text)
            self.assertEqual((done.returncode, done.stdout), (1, ""), method)
            self.assertRegex(done.stderr, "(Only|is for) root and members of the group enrolld-admin", method)
            self.assertEqual(done.stderr.count("enrolld-admin"), 1, done.stderr)
        self.assertIn("org.freedesktop.DBus.Error.AccessDenied", self.set_log_level(groups, "debug").stderr)
        words = (f"string:{INTERFACE}", "string:State", "variant:string:provisioned")
        done = self.call(groups, f"{PROPERTIES}.Set", *words)
        self.assertRegex(done.stderr, r"org\.freedesktop\.DBus\.Error\.(AccessDenied|PropertyReadOnly)")

    def assertChecks(self, groups):
        """An application that was refused may ask."""
        done = self.enrollctl(groups, "check")
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        self.assertIn("done: thing gateway-GW-0001", done.stdout)

    def set_log_level(self, groups, level):
        send = ["dbus-send", f"--bus={self.gateway.bus.address}", "--print-reply", f"--dest={NAME}"]
        words = ["string:org.freedesktop.LogControl1", "string:LogLevel", f"variant:string:{level}"]
        return self.run_as(groups, *send, "/org/freedesktop/LogControl1", f"{PROPERTIES}.Set", *words)

    def assertControls(self, groups):
        done = self.call(groups, f"{INTERFACE}.Cancel", "uint32:77")
        self.assertIn("org.enrolld1.Error.NoSuchJob", done.stderr)
        done = self.call(groups, f"{INTERFACE}.Reload")
        self.assertEqual(done.returncode, 0, done.stderr)
        done = self.set_log_level(groups, "notice")
        self.assertEqual(done.returncode, 0, done.stderr)
        done = self.call(groups, f"{INTERFACE}.Enroll")
        self.assertIn("org.enrolld1.Error.AlreadyProvisioned", done.stderr)
        for method, text in self.imports().items():
            done = self.enrollctl(groups, "import", "-", input=text)
            self.assertIn("device is provisioned already", done.stderr, method)
        words = (f"string:{INTERFACE}", "string:State", "variant:string:failed")
        done = self.call(groups, f"{PROPERTIES}.Set", *words)
        self.assertRegex(done.stderr, r"org\.freedesktop\.DBus\.Error\.(AccessDenied|PropertyReadOnly)")

    # Files.

    def everything(self):
        """All that is below the state directory."""
        return [self.gateway.state, *self.gateway.state.rglob("*")]

    def reads(self, groups, path):
        return self.run_as(groups, "cat" if path.is_file() else "ls", path).returncode == 0

    def assertWritesNothing(self, groups):
        for path in self.everything():
            if path.is_symlink():
                continue
            script = 'echo x >"$0/new"' if path.is_dir() else 'echo x >>"$0" || rm -f "$0" || mv "$0" "$0.moved"'
            done = self.run_as(groups, "sh", "-c", f"{script} 2>/dev/null", path)
            self.assertNotEqual(done.returncode, 0, f"{groups} can change {path}")
            self.assertTrue(path.exists(), path)

    def test_on_the_system_bus(self):
        """By the policy that is installed."""
        self.start(BUS_POLICY.format(policy=harness.SOURCE_DIR / "systemd/org.enrolld1.conf"))
        self.gateway.wait_provisioned()
        for groups in ([], [IDENTITY], [ADMIN]):
            self.assertLooks(groups)
        for groups in ([], [IDENTITY]):
            self.assertControlsNothing(groups, "Rejected send message")
        self.assertControls([ADMIN])
        self.assertEqual(self.gateway.property("State"), "provisioned")

    def test_on_an_open_bus(self):
        """By the daemon itself."""
        self.start()
        self.gateway.wait_provisioned()
        for groups in ([], [IDENTITY]):
            self.assertLooks(groups)
            self.assertControlsNothing(groups, "Only root")
        self.assertControls([ADMIN])

    def test_files_of_an_identity(self):
        self.start()
        self.gateway.wait_provisioned()
        for groups, allowed in (([], set()), ([ADMIN], set()), ([IDENTITY], set(FILES))):
            current = self.gateway.state / "current"
            readable = {name for name in FILES if self.reads(groups, current / name)}
            self.assertEqual(readable, allowed, groups)
            self.assertWritesNothing(groups)

    def test_work_in_progress(self):
        """What is not in use yet is nobody's."""
        self.cloud.hook({"serialPrefix": "GW", "result": "deny"})
        self.start()
        self.gateway.wait_property("State", "failed")
        self.assertTrue((self.gateway.state / "checkpoint-fleet-claim").exists())
        for groups in ([], [IDENTITY], [ADMIN]):
            readable = [path.name for path in self.gateway.files() if self.reads(groups, path)]
            self.assertEqual(readable, [], groups)
            self.assertWritesNothing(groups)
        self.assertEqual({stat.S_IMODE(path.stat().st_mode) for path in self.gateway.files()}, {0o600})

    def test_application_signs(self):
        """With stock tools and the key in the TPM; a user who may read the files but not use the TPM cannot."""
        tpm = Tpm(self)
        self.start(tpm=tpm)
        self.gateway.wait_provisioned()
        tpm.directory.chmod(0o710)
        os.chown(tpm.directory, -1, TSS)
        for path in (tpm.socket, tpm.control):
            os.chown(path, -1, TSS)
            path.chmod(0o660)
        current = self.gateway.state / "current"
        message = self.directory / "message"
        message.write_text("an application's")
        message.chmod(0o644)
        options = {"env": {"PATH": os.environ["PATH"], "TPM2OPENSSL_TCTI": tpm.tcti, "TSS2_LOG": "all+NONE"}}
        sign = "openssl dgst -provider tpm2 -provider default -propquery ?provider=tpm2 -sha256 -hex -sign".split()
        for groups in ([], [IDENTITY], [TSS], [ADMIN, TSS]):
            done = self.run_as(groups, *sign, current / "private.pem", message, **options)
            self.assertNotEqual(done.returncode, 0, groups)
        done = self.run_as([IDENTITY, TSS], *sign, current / "private.pem", message, **options)
        self.assertEqual(done.returncode, 0, done.stderr)
        signature = self.directory / "signature"
        signature.write_bytes(bytes.fromhex(done.stdout.split("= ")[1]))
        words = ["openssl", "x509", "-in", current / "certificate.pem", "-noout", "-pubkey"]
        public = self.directory / "public.pem"
        public.write_bytes(subprocess.run(words, capture_output=True, check=True).stdout)
        words = ["openssl", "dgst", "-sha256", "-verify", public, "-signature", signature, message]
        done = subprocess.run(words, capture_output=True, text=True)
        self.assertEqual(done.stdout, "Verified OK\n", done.stderr)
        self.assertControlsNothing([IDENTITY, TSS], "Only root")


if __name__ == "__main__":
    harness.main()
