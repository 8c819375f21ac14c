#!/usr/bin/env python3
"""enrollctl as an operator has it: configuration, cancel and reload, what a terminal shows, completion."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
import unittest

import harness
from authority import Authority
from gateway import NAME, Gateway
from parts import BUS_OPEN_POLICY, Bus, Cloud

COLOUR = re.compile(r"\033\[(\d+)m")
RED, GREEN, YELLOW = "31", "32", "33"


class Control(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.cloud = Cloud(self)
        self.gateway = Gateway(self, self.cloud, backend="file")
        self.enrollctl = self.gateway.enrollctl

    def start_hanging(self):
        """An enrolment that waits for an answer of the cloud."""
        self.cloud.freeze()
        self.gateway.start()
        self.gateway.wait_signalled("Step", "claim")

    def start_denied(self, **options):
        self.cloud.hook({"serialPrefix": "GW", "result": "deny"})
        self.gateway.configure("Retry", Denied="365d 365d")
        self.gateway.start(**options)
        self.gateway.wait_property("State", "failed")

    def assertRefused(self, done, *words, status=1):
        self.assertEqual((done.returncode, done.stdout), (status, ""), done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)


class Configuration(Control):
    def rows(self, text):
        """{(section, key): (value, origin)} of what `enrollctl config` prints."""
        rows, section = {}, None
        for line in filter(None, text.splitlines()):
            if line.startswith("["):
                section = line.strip("[]")
            else:
                key, value, origin = re.fullmatch(r"([\w.]+)=(.*?) +; (.*)", line).groups()
                rows[section, key] = (value, origin)
        return rows

    def config(self):
        done = self.enrollctl("config")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertNotIn("\033", done.stdout)
        return done.stdout

    def test_origins(self):
        drop_in = self.directory / "gateway/enrolld.conf.d/10-more.conf"
        drop_in.parent.mkdir()
        drop_in.write_text("[Cloud]\nMinimumTLS=1.3\n\n[fleet-claim]\nParameter.Room=b, 4\n")
        self.gateway.start()
        rows = self.rows(self.config())
        lines = self.gateway.configuration.read_text().splitlines()
        self.assertEqual(rows["Cloud", "MinimumTLS"], ("1.3", f"{drop_in}:2"))
        self.assertEqual(rows["fleet-claim", "Parameter.Room"], ("b, 4", f"{drop_in}:5"))
        line = lines.index(f"Port={self.cloud.port}") + 1
        self.assertEqual(rows["Cloud", "Port"], (str(self.cloud.port), f"{self.gateway.configuration}:{line}"))
        self.assertEqual(rows["Key", "Algorithm"], ("P-256", "default"))
        self.assertEqual(rows["Agent", "ThingName"], ("", "default"))

    def test_is_a_configuration(self):
        """What it prints means the same again."""
        self.gateway.start()
        printed = self.config()
        again = self.directory / "again.conf"
        again.write_text(printed)
        done = subprocess.run(
            [harness.built("enrolld"), "--check-config", f"--config={again}"], capture_output=True, text=True,
            env=self.gateway.environment(), timeout=harness.DEADLINE,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        found = re.findall(r"^\[(.*?)\] ([\w.]+)=(.*)  \(", done.stdout, re.MULTILINE)
        told = {(section, key): value for section, key, value in found}
        self.assertEqual(told | {pair: value for pair, (value, _) in self.rows(printed).items()}, told)

    def test_reload(self):
        """What the file says counts from then on, if it is right."""
        self.start_denied()
        self.gateway.configure("Agent", OnDenied="next")
        self.assertEqual(self.rows(self.config())["Agent", "OnDenied"], ("wait", "default"))
        since = self.gateway.monitor.mark()
        done = self.enrollctl("reload")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        self.assertEqual(self.rows(self.config())["Agent", "OnDenied"][0], "next")
        self.gateway.wait_signal("JobRemoved", since)  # of the attempt that comes at once
        self.gateway.configure("Cloud", Port="many")
        done = self.enrollctl("reload")
        self.assertRefused(done, f"{self.gateway.configuration}:", "Port= must be", "stays as it was")
        self.assertEqual(self.rows(self.config())["Cloud", "Port"][0], str(self.cloud.port))

    def test_none_in_force(self):
        self.gateway.configure("Cloud", Port="many")
        self.gateway.start()
        self.gateway.wait_property("State", "failed")
        self.assertRefused(self.enrollctl("config"), f"{self.gateway.configuration}:", "Port= must be")

    def test_hostile_text(self):
        """A value cannot control the terminal."""
        self.gateway.configure("fleet-claim", Parameter_Room="a\033[31mb\u009bc")
        self.gateway.start()
        self.assertEqual(self.rows(self.config())["fleet-claim", "Parameter.Room"][0], "a [31mb  c")


class Cancel(Control):
    def assertCanceled(self, *words):
        done = self.enrollctl("cancel", *words)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        removed = self.gateway.wait_signal("JobRemoved")
        self.assertEqual(removed[1:3], ["enroll", "canceled"])
        self.assertEqual(self.gateway.property("State"), "backoff")

    def test_what_runs(self):
        self.gateway.configure("Retry", Internal="365d 365d")
        self.start_hanging()
        self.assertCanceled()
        self.assertRefused(self.enrollctl("cancel"), "No such job")

    def test_by_number(self):
        self.gateway.configure("Retry", Internal="365d 365d")
        self.start_hanging()
        job = self.gateway.call("Enroll")
        self.assertRefused(self.enrollctl("cancel", str(int(job) + 1)), "No such job")
        self.assertCanceled(job)

    def test_usage(self):
        self.gateway.start()
        for word in ("0", "x", "-1", "4294967296", ""):
            with self.subTest(word=word):
                self.assertRefused(self.enrollctl("cancel", "--", word), "no number of a job", status=2)

    def test_no_daemon(self):
        for verb in ("cancel", "config", "reload"):
            self.assertRefused(self.enrollctl(verb), "enrolld is not running: systemctl start enrolld;", status=5)


class Activation(harness.TestCase):
    """On a bus that can start enrolld: what only looks, or is about something that runs, does not."""

    def setUp(self):
        super().setUp()
        self.started = self.directory / "started"
        services = self.directory / "services"
        services.mkdir()
        service = f"[D-BUS Service]\nName={NAME}\nExec=/bin/sh -c 'touch \"$0\"; exit 1' {self.started}\n"
        (services / f"{NAME}.service").write_text(service)
        bus = Bus(self, f"<servicedir>{services}</servicedir>{BUS_OPEN_POLICY}")
        self.gateway = Gateway(self, Cloud(self), backend="file", bus=bus)

    def test_looking(self):
        for line, status in (
            ("status", 5), ("config", 5), ("plugins", 5), ("export", 5), ("export --json", 5), ("cancel", 5),
            ("reload", 5), ("forget --yes", 5), ("renew", 5), ("check", 5), ("doctor", 1), ("wait --timeout=0", 4),
        ):  # fmt: skip
            with self.subTest(line=line):
                done = self.gateway.enrollctl(*line.split())
                self.assertEqual(done.returncode, status, done.stderr)
                self.assertIn("enrolld is not running", done.stdout + done.stderr)
                self.assertFalse(self.started.exists())

    def test_doing(self):
        for verb in ("enroll", "request"):
            self.gateway.enrollctl(verb)
            self.assertTrue(self.started.exists(), verb)
            self.started.unlink()


class Export(Control):
    def export(self, *words):
        done = self.enrollctl("export", *words)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def test_certificate(self):
        self.gateway.start()
        self.gateway.wait_provisioned()
        pem = self.gateway.read("certificate.pem")
        self.assertEqual(self.export(), pem)
        text = self.export("--json")
        self.assertEqual(text.count("\n"), 1, "one line")
        line = json.loads(text)
        blocks = re.findall(r"-----BEGIN.*?-----END CERTIFICATE-----\n", pem, re.DOTALL)
        wanted = {
            "ThingName": "gateway-GW-0001", "SerialNumber": "GW-0001",
            "CertificateId": self.gateway.identity()["certificateId"], "CertificatePem": blocks[0],
        }  # fmt: skip
        if len(blocks) > 1:
            wanted["CACertificatePem"] = blocks[1]
        self.assertEqual(line, wanted)

    def test_request(self):
        """What a batch's file has for a device whose certificate is still to be made."""
        self.gateway.configure("Agent", Methods="jitp")
        self.gateway.start()
        done = self.enrollctl("export", "--json")
        self.assertRefused(done, "no request was made", "enrollctl request", status=3)
        request = self.enrollctl("request").stdout
        self.assertEqual(json.loads(self.export("--json")),
                         {"ThingName": "GW-0001", "SerialNumber": "GW-0001", "CSR": request})  # fmt: skip
        self.assertRefused(self.enrollctl("export"), "no identity", status=3)

    def test_chain(self):
        """The issuer that came along is told apart from the certificate."""
        self.gateway.start()
        self.gateway.wait_provisioned()
        pem, issuer = self.gateway.read("certificate.pem"), Authority(self.directory, "maker").pem
        (self.gateway.state / "current/certificate.pem").write_text(pem + issuer)
        self.assertEqual(self.export(), pem + issuer)
        line = json.loads(self.export("--json"))
        self.assertEqual((line["CertificatePem"], line["CACertificatePem"]), (pem, issuer))


class Terminal(Control):
    """A terminal of a given width, and what is on it."""

    def show(self, *words, width=60, **environment):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        process = subprocess.Popen(
            [harness.built("enrollctl"), *words], stdin=subprocess.DEVNULL, stdout=theirs,
            env=self.gateway.environment() | {"TERM": "xterm"} | environment,
        )  # fmt: skip
        os.close(theirs)
        text = b""
        try:
            while data := os.read(ours, 4096):
                text += data
        except OSError:  # EIO: nobody has the other end any more
            pass
        os.close(ours)
        self.assertIsNotNone(process.wait(harness.DEADLINE))
        return text.decode().replace("\r\n", "\n")

    def state(self, text):
        """The colour of the state, and the state."""
        return re.search(r"State: (?:\033\[(\d+)m)?([a-z]+)", text).groups()

    def test_colours(self):
        self.start_denied()
        text = self.show("status")
        self.assertEqual(self.state(text), (RED, "failed"))
        self.assertIn("\033[31mdenied\033[0m at step register", text)
        self.assertEqual(len(COLOUR.findall(text)) % 2, 0, "each colour is ended")
        self.assertEqual(COLOUR.findall(self.show("status", NO_COLOR="1")), [])
        self.assertEqual(COLOUR.findall(self.show("status", TERM="dumb")), [])
        self.assertEqual(self.state(self.show("status", NO_COLOR="")), (RED, "failed"))
        self.cloud.hook()
        self.cloud.freeze()
        self.gateway.call("Enroll")
        self.gateway.wait_property("Step", "claim")
        text = self.show("status")
        self.assertEqual(self.state(text), (YELLOW, "enrolling"))
        self.assertIn("Step: claim, connecting with the claim\n", text)
        self.cloud.thaw()
        self.gateway.wait_provisioned()
        self.assertEqual(self.state(self.show("status")), (GREEN, "provisioned"))

    def test_width(self):
        """Long messages go on below their beginning, whole."""
        self.gateway.configure("Agent", Methods="jitp fleet-claim")
        self.start_denied()
        message = self.gateway.property("LastError")[2]
        for width in (50, 80, 1000):
            with self.subTest(width=width):
                text = COLOUR.sub("", self.show("status", width=width))
                lines = text[text.index("Last error:") :].splitlines()[1:]
                self.assertEqual(" ".join(line.strip() for line in lines), message)
                self.assertTrue(all(line.startswith(15 * " ") for line in lines), lines)
                longest = max(len(line) for line in text.splitlines() if "20" not in line)  # a date is not broken
                self.assertLessEqual(longest, width, text)
        self.assertIn(message, self.enrollctl("status").stdout, "in a pipe it stays on one line")
        # What the method has said is told once.
        self.assertEqual(self.enrollctl("status").stdout.count(message), 1)

    def test_steps(self):
        self.gateway.configure("Agent", Methods="jitp fleet-claim")
        self.start_denied()
        self.cloud.hook()
        text = COLOUR.sub("", self.show("enroll"))
        self.assertIn("method fleet-claim\nstep configuration: looking at", text)
        self.assertIn("step prove: connecting with the identity\n", text)
        self.assertRegex(text, r"\ndone: thing \S+, certificate \w{64}, generation 1\n$")


class Completion(unittest.TestCase):
    SCRIPT = harness.SOURCE_DIR / "agent/ctl/bash-completion/enrollctl"

    def complete(self, *words):
        """What bash would offer for the last word, as readline splits them: at = too."""
        program = 'source "$1"; shift; COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _enrollctl'
        program += '; printf "%s\\n" "${COMPREPLY[@]}"'
        done = subprocess.run(
            ["bash", "-u", "-c", program, "bash", self.SCRIPT, "enrollctl", *words],
            capture_output=True, text=True, timeout=harness.DEADLINE, cwd=harness.SOURCE_DIR,
        )  # fmt: skip
        self.assertEqual(done.stderr, "")
        return sorted(filter(None, done.stdout.split("\n")))

    def test_verbs_and_options(self):
        """Those of --help, and no others."""
        text = subprocess.run([harness.built("enrollctl"), "--help"], capture_output=True, text=True).stdout
        verbs, listed = {}, text[text.index("Verbs:") : text.index("Options:")]
        for verb, words in re.findall(r"^  ([a-z-]+)((?: \S+)*)", listed, re.MULTILINE):
            verbs[verb] = sorted(re.findall(r"--[a-z-]+=?", words))
        self.assertEqual(self.complete(""), sorted([*verbs, "--help", "--version"]))
        for verb, options in verbs.items():
            self.assertEqual(self.complete(verb, "--"), options, verb)

    def test_beginnings(self):
        self.assertEqual(self.complete("c"), ["cancel", "check", "config"])
        self.assertEqual(self.complete("status", "--j"), ["--json"])
        self.assertEqual(self.complete("--json", "st"), ["status"])

    def test_values(self):
        self.assertEqual(self.complete("import", "READ"), ["README.md"])
        self.assertEqual(self.complete("import", "--key", "=", "LIC"), ["LICENSE"])
        self.assertIn("LICENSE", self.complete("import", "--key", "="))
        self.assertEqual(self.complete("wait", "--timeout", "=", "5"), [])
        self.assertEqual(self.complete("wait", "--timeout", "="), [])


if __name__ == "__main__":
    harness.main()
