#!/usr/bin/env python3
"""enrollctl request, import and plugins: what is taken from files, pipes, serial lines and ssh, what is handed over on
D-Bus, what people read, and what is left behind."""

import json
import os
import pathlib
import pty
import pwd
import re
import select
import shutil
import signal
import subprocess
import termios
import time
import unittest

import harness
from agent import IDENTIFIER, Agent
from gateway import Gateway
from maker import Maker, certificate_id
from parts import Bus, free_port

FACTORY = 64110  # a user
SILENCE = 2  # seconds, as enrollctl --help says


def openssl(*words, **options):
    """Runs the openssl command; returns what it printed."""
    done = subprocess.run(["openssl", *(str(word) for word in words)], capture_output=True, **options)
    if done.returncode != 0:
        raise AssertionError(f"openssl {words}: {done.stderr}")
    return done.stdout


class EnrollctlTest(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.bus = Bus(self, wrapper=self.machine())
        self.agent = Agent(self, self.bus)
        self.make_certificates()

    def machine(self):
        """A command that becomes another by exec, on a machine as the tests need it."""
        return []

    def make_certificates(self):
        """A key, its certificate, and the issuer's; `bundle` is all that belongs to the device."""
        path = self.directory
        for name in ("issuer", "device"):
            openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path / f"{name}.key")
            openssl("req", "-x509", "-key", path / f"{name}.key", "-subj", f"/CN={name}", "-out", path / f"{name}.pem")
        self.key = (path / "device.key").read_text()
        self.chain = (path / "device.pem").read_text() + (path / "issuer.pem").read_text()
        self.bundle = self.key + self.chain

    def environment(self):
        kept = {key: value for key, value in os.environ.items() if key == "PATH" or key.endswith("SAN_OPTIONS")}
        return kept | {"LC_ALL": "C.UTF-8", "DBUS_SYSTEM_BUS_ADDRESS": self.bus.address}

    def enrollctl(self, *words, input=None):
        done = subprocess.run(
            [harness.built("enrollctl"), *words],
            input=input and input.encode(),
            env=self.environment(),
            capture_output=True,
            timeout=2 * harness.DEADLINE,
            cwd=self.directory,
        )
        return subprocess.CompletedProcess(words, done.returncode, done.stdout.decode(), done.stderr.decode())

    def write(self, name, content):
        path = self.directory / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def check_imported(self, done, key=True):
        self.assertEqual((done.returncode, done.stdout), (0, IDENTIFIER + "\n"), done.stderr)
        self.check_received(key)

    def check_received(self, key=True):
        self.assertEqual(self.agent.calls(), ["Import" if key else "ImportCertificate"])
        self.assertEqual(self.agent.got("chain"), self.chain)
        self.assertEqual(self.agent.got("key"), self.key if key else None)

    def check_refused(self, done, *words):
        """It says all these words, prints no receipt, and has sent nothing."""
        self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)
        self.assertEqual(self.agent.calls(), [])


class FileTest(EnrollctlTest):
    def test_forms_of_input(self):
        """The key beside the certificate or apart, in files or on standard input, with the text that openssl writes."""
        self.write("bundle.pem", self.bundle)
        self.write("chain.pem", self.chain)
        paths = [self.directory / name for name in ("device.pem", "issuer.pem")]
        described = b"".join(openssl("x509", "-text", "-in", path) for path in paths)
        parameters = openssl("ecparam", "-name", "prime256v1").decode()
        dos = self.bundle.replace("\n", "\r\n")
        for words, sent in (
            (["bundle.pem"], None),
            (["--key=device.key", "chain.pem"], None),
            (["--key=-", "chain.pem"], self.key),
            (["--key=device.key", "-"], self.chain),
            (["--key=-", "-"], self.bundle),
            (["-"], self.bundle),
            (["-"], self.chain + parameters + self.key),
            (["-"], described.decode() + self.key),
            (["-"], dos),
            (["-"], dos.replace("\r\n", "\r")),
            (["/dev/stdin"], self.bundle),
        ):
            with self.subTest(words=words):
                self.agent.forget()
                self.check_imported(self.enrollctl("import", *words, input=sent))

    def test_certificate_alone(self):
        """For the key of `enrollctl request`."""
        self.write("chain.pem", self.chain)
        self.check_imported(self.enrollctl("import", "chain.pem"), key=False)

    def test_unusable_files(self):
        """What people hand in by mistake: each is named, with the command that helps; nothing is sent."""
        device, key = self.directory / "device.pem", self.directory / "device.key"
        encrypted = openssl("pkey", "-in", key, "-aes128", "-passout", "pass:x")
        legacy = openssl("ec", "-in", key, "-aes128", "-passout", "pass:x")
        pkcs12 = openssl("pkcs12", "-export", "-in", device, "-inkey", key, "-passout", "pass:")
        pkcs7 = openssl("crl2pkcs7", "-nocrl", "-certfile", device)
        request = openssl("req", "-new", "-key", key, "-subj", "/CN=x")
        for name, content, words in (
            ("key.pem", self.key, ["there is a private key: the certificate is missing"]),
            ("empty.pem", "", ["no certificate in it"]),
            ("keys.pem", self.bundle + self.key, ["line 26", "a second private key"]),
            ("encrypted.pem", encrypted + self.chain.encode(), ["encrypted", "openssl pkey -in encrypted.pem"]),
            ("legacy.pem", legacy + self.chain.encode(), ["encrypted", "openssl pkey -in legacy.pem"]),
            ("x.der", openssl("x509", "-in", device, "-outform", "DER"), ["openssl x509 -inform DER -in x.der"]),
            ("k.der", openssl("pkey", "-in", key, "-outform", "DER"), ["openssl pkey -inform DER -in k.der"]),
            ("k1.der", openssl("ec", "-in", key, "-outform", "DER"), ["openssl pkey -inform DER -in k1.der"]),
            ("x.p12", pkcs12, ["PKCS #12", "openssl pkcs12", "x.p12"]),
            ("x.p7b", pkcs7, ["PKCS7", "openssl pkcs7 -in x.p7b -print_certs"]),
            ("p7.der", openssl("pkcs7", "-outform", "DER", input=pkcs7), ["PKCS #7", "openssl pkcs7 -inform DER"]),
            ("x.csr", request, ["CERTIFICATE REQUEST", "import the certificate that was made from it"]),
            ("utf16.pem", self.bundle.encode("utf-16"), ["UTF-16", "iconv"]),
            ("cut.pem", self.bundle[:-100], ["BEGIN CERTIFICATE has no end"]),
            ("tail.pem", self.bundle[40:], ["END EC PRIVATE KEY without its begin"]),
            ("garbled.pem", self.bundle.replace("M", "\0"), ["no PEM"]),
            ("many.pem", self.chain * 9, ["more than 16 blocks"]),
            ("huge.pem", "-" * (2 << 20), ["more than 1024 KiB"]),
        ):
            with self.subTest(name=name):
                self.write(name, content)
                self.check_refused(self.enrollctl("import", name), name, *words)
        self.check_refused(self.enrollctl("import", "missing.pem"), "missing.pem", "No such file")
        self.check_refused(self.enrollctl("import", "."), "Is a directory")
        self.write("bundle.pem", self.bundle)
        self.check_refused(self.enrollctl("import", "--key=device.key", "bundle.pem"), "leave out --key=")
        self.check_refused(self.enrollctl("import", "--key=device.pem", "device.pem"), "no private key in it")

    def test_refusals_of_the_daemon(self):
        """They are printed whole."""
        self.write("bundle.pem", self.bundle)
        self.agent.answer(result="failed", detail="invalid: certificate: it belongs to another key. Import its own.")
        done = self.enrollctl("import", "bundle.pem")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("invalid: certificate: it belongs to another key. Import its own.", done.stderr)
        self.agent.answer(error="org.enrolld1.Error.AlreadyProvisioned", message="This device is provisioned already")
        done = self.enrollctl("import", "bundle.pem")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("This device is provisioned already", done.stderr)
        self.assertIn("`enrollctl forget` starts over.", done.stderr)

    def test_who_may_not(self):
        """The rules of a bus are not for people; whatever else refuses is."""
        self.write("bundle.pem", self.bundle)
        by_policy = "this is for root and members of the group enrolld-admin"
        by_others = "An SELinux policy prevents this sender from sending this message to this recipient"
        for message, told in (
            ("Only root and members of the group enrolld-admin may do this", None),
            ('Rejected send message, 1 matched rules; type="method_call", sender=":1.27"', by_policy),
            ("Sender is not authorized to send message", by_policy),
            (by_others, None),
        ):
            self.agent.answer(error="org.freedesktop.DBus.Error.AccessDenied", message=message)
            done = self.enrollctl("import", "bundle.pem")
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertEqual(done.stderr, f"enrollctl: cannot import: {told or message}.\n")

    def test_daemon_ends_meanwhile(self):
        self.write("bundle.pem", self.bundle)
        self.agent.answer(result="none")
        done = self.enrollctl("import", "--wipe", "bundle.pem")
        self.assertEqual((done.returncode, done.stdout), (5, ""))
        self.assertIn("ended meanwhile", done.stderr)
        self.assertTrue((self.directory / "bundle.pem").exists())

    def test_usage(self):
        for line in ("import", "import a b", "import --subject=x a", "request a", "wait --wipe", "import --key"):
            words = line.split()
            with self.subTest(words=words):
                done = self.enrollctl(*words)
                self.assertEqual((done.returncode, done.stdout), (2, ""))
                self.assertIn("enrollctl --help", done.stderr)


class WipeTest(EnrollctlTest):
    def test_wipes_what_held_the_key(self):
        """Only that, and the data itself, as another descriptor of the file shows."""
        for words, removed, kept in (
            (["bundle.pem"], "bundle.pem", "device.key"),
            (["--key=copy.key", "chain.pem"], "copy.key", "chain.pem"),
        ):
            with self.subTest(words=words):
                self.write("bundle.pem", self.bundle)
                self.write("copy.key", self.key)
                self.write("chain.pem", self.chain)
                with open(self.directory / removed, "rb") as file:
                    done = self.enrollctl("import", "--wipe", *words)
                    self.assertEqual((done.returncode, done.stdout), (0, IDENTIFIER + "\n"), done.stderr)
                    self.assertIn("on flash this is no more than that", done.stderr.lower())
                    content = file.read()
                self.assertEqual(content, bytes(len(content)))
                self.assertFalse((self.directory / removed).exists())
                self.assertTrue((self.directory / kept).exists())

    def test_wipes_nothing_after_a_refusal(self):
        self.write("bundle.pem", self.bundle)
        self.agent.answer(result="failed", detail="invalid: certificate: no")
        self.assertEqual(self.enrollctl("import", "--wipe", "bundle.pem").returncode, 1)
        self.assertEqual((self.directory / "bundle.pem").read_text(), self.bundle)

    def test_refuses_what_it_could_not_wipe(self):
        bundle = self.write("bundle.pem", self.bundle)
        (self.directory / "link.pem").symlink_to(bundle)
        self.check_refused(self.enrollctl("import", "--wipe", "link.pem"), "symbolic link", "Nothing was imported")
        self.check_refused(self.enrollctl("import", "--wipe", "-", input=self.bundle), "standard input")
        self.check_refused(self.enrollctl("import", "--wipe", "device.pem"), "no private key")
        os.mkfifo(self.directory / "fifo")
        log = self.directory / "log"
        writer = harness.Process("writer", ["sh", "-c", "cat bundle.pem >fifo"], log, cwd=self.directory)
        self.check_refused(self.enrollctl("import", "--wipe", "fifo"), "not a regular file")
        writer.wait()
        (self.directory / "second.pem").hardlink_to(bundle)
        self.check_refused(self.enrollctl("import", "--wipe", "bundle.pem"), "hard link")
        self.assertEqual(bundle.read_text(), self.bundle)


class Line:
    """A serial line: a terminal of which enrollctl has the one end and the test the other."""

    def __init__(self, test, *words, wrapper=()):
        self.end, terminal = pty.openpty()
        self.before = termios.tcgetattr(terminal)
        self.terminal = terminal
        self.log = test.directory / "enrollctl.log"
        test.show_on_failure("enrollctl", self.log)
        self.process = harness.Process(
            "enrollctl",
            [*wrapper, harness.built("enrollctl"), "import", *words],
            self.log,
            test.environment(),
            cwd=test.directory,
            stdin=terminal,
        )
        test.addCleanup(self.close)

    def close(self):
        self.process.stop()
        os.close(self.end)
        os.close(self.terminal)

    def wait_reading(self):
        harness.wait_for(lambda: f"it reads: {self.log.read_text()}", lambda: "reading PEM" in self.log.read_text())

    def send(self, text, pauses=()):
        """Byte by byte; pauses: seconds before the byte at that place."""
        pauses = dict(pauses)
        for index, byte in enumerate(text.encode()):
            time.sleep(pauses.get(index, 0))
            os.write(self.end, bytes([byte]))

    def pour(self, text):
        """Sends as much of it as the line takes now."""
        try:
            os.write(self.end, text.encode())
        except BlockingIOError:
            pass

    def stopped(self):
        return pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"

    def echoed(self):
        """What came back over the line."""
        data = b""
        while select.select([self.end], [], [], 0)[0]:
            data += os.read(self.end, 4096)
        return data

    def left(self):
        """What was sent and not taken."""
        attributes = termios.tcgetattr(self.terminal)
        attributes[3] &= ~termios.ICANON
        termios.tcsetattr(self.terminal, termios.TCSANOW, attributes)
        os.set_blocking(self.terminal, False)
        try:
            return os.read(self.terminal, 4096)
        except BlockingIOError:
            return b""

    def taken(self):
        """How many bytes the program has read since it was started, from the line or else; see proc(5)."""
        return int(re.search(r"rchar: (\d+)", pathlib.Path(f"/proc/{self.process.pid}/io").read_text())[1])

    def restored(self):
        return termios.tcgetattr(self.terminal) == self.before


class PipeTest(EnrollctlTest):
    def start(self, *words, **options):
        """enrollctl with a pipe that stays open; returns the process and the descriptor to write to."""
        reader, writer = os.pipe()
        self.log = self.directory / "enrollctl.log"
        self.show_on_failure("enrollctl", self.log)
        words = [harness.built("enrollctl"), "import", *words]
        process = harness.Process("enrollctl", words, self.log, self.environment(), stdin=reader, **options)
        os.close(reader)
        self.addCleanup(process.stop)
        self.addCleanup(os.close, writer)
        return process, writer

    def test_endless_input(self):
        """What is no PEM is not read for ever."""
        with open("/dev/zero", "rb") as zeros:
            words = [harness.built("enrollctl"), "import", "-"]
            done = subprocess.run(
                words, stdin=zeros, env=self.environment(), capture_output=True, text=True, timeout=harness.DEADLINE
            )
        self.check_refused(done, "no text")

    def test_open_pipe(self):
        """Who sends and then waits for the receipt, with the pipe open, gets it."""
        process, writer = self.start("-")
        os.write(writer, self.bundle.encode())
        self.assertEqual(process.wait(), 0)
        self.assertIn(IDENTIFIER, self.log.read_text())
        self.check_received()

    @unittest.skipUnless(os.geteuid() == 0, "needs root, to be somebody else")
    def test_closed_to_its_user(self):
        """While it holds a key no other process of that user can look into it, and no core file can come of it."""
        for path in (self.directory, self.directory / "bus"):
            path.chmod(0o711)
        nobody = pwd.getpwnam("nobody")
        process, writer = self.start("-", user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[])
        os.write(writer, self.key.encode())
        limits = pathlib.Path(f"/proc/{process.pid}/limits")
        harness.wait_for(limits.read_text, lambda: re.search(r"Max core file size +0 +0 ", limits.read_text()))
        if b"__asan_init" in harness.built("enrollctl").read_bytes():
            self.skipTest("the leak detector of a sanitized build looks into the process")
        # proc(5): the files of a process that is not dumpable are root's.
        harness.wait_for("it is not dumpable", lambda: os.stat(f"/proc/{process.pid}/environ").st_uid == 0)


    def holds_key(self, process):
        """Whether a line of the key, of those that are secret, is in the memory of the process."""
        secret = self.key.splitlines()[1].encode()
        maps = pathlib.Path(f"/proc/{process.pid}/maps").read_text().splitlines()
        with open(f"/proc/{process.pid}/mem", "rb", buffering=0) as memory:
            for start, end, mode in (re.match(r"(\w+)-(\w+) (\S+)", line).groups() for line in maps):
                size = int(end, 16) - int(start, 16)
                if not mode.startswith("rw") or size > 1 << 28:  # larger mappings are the shadow memory of a sanitizer
                    continue
                memory.seek(int(start, 16))
                if secret in memory.read(size):
                    return True
        return False

    @unittest.skipUnless(harness.can_trace(), "may not look into a process")
    def test_memory(self):
        """The key is in it until the daemon has its own copy."""
        self.agent.answer(result="later")
        process, writer = self.start("--key=-", "-")
        os.write(writer, self.chain.encode())
        os.write(writer, self.key[:-10].encode())
        harness.wait_for("the key has come", lambda: self.holds_key(process))
        os.write(writer, self.key[-10:].encode() + b"\x04")
        harness.wait_for("the key is wiped", lambda: self.agent.calls() and not self.holds_key(process))
        self.assertTrue(process.running())


class LineTest(EnrollctlTest):
    def check_line(self, line, status=0):
        self.assertEqual(line.process.wait(), status, line.log.read_text())
        self.assertTrue(line.restored(), "the terminal is as it was")
        self.assertNotIn(b"-", line.echoed())

    def test_silence(self):
        """No end of file ever comes. Pauses that are shorter than the silence end nothing, wherever they are."""
        text = self.bundle.replace("\n", "\r\n")
        between = text.index("-----BEGIN CERTIFICATE-----", text.index("-----END CERTIFICATE-----"))
        line = Line(self, "-")
        line.wait_reading()
        line.send(text, {100: SILENCE * 0.4, between: SILENCE * 0.4, between + 100: SILENCE * 1.5})
        self.check_line(line)
        self.assertIn(f"silent for {SILENCE} seconds", line.log.read_text())
        self.assertIn(IDENTIFIER, line.log.read_text())
        self.check_received()

    def test_end_of_transmission(self):
        """Ctrl-D ends it at once, and what is behind it is for the next reader of the line."""
        line = Line(self, "-")
        line.wait_reading()
        line.send(self.bundle)
        os.write(line.end, b"\x04enrollctl status\n")
        self.check_line(line)
        self.assertNotIn("silent", line.log.read_text())
        self.check_received()
        self.assertEqual(line.left(), b"enrollctl status\n")

    def test_no_line_end_at_the_end(self):
        line = Line(self, "-")
        line.wait_reading()
        line.send(self.bundle.rstrip("\n"))
        self.check_line(line)
        self.check_received()

    def test_key_is_waited_for(self):
        """--key=- says that one will come."""
        self.write("chain.pem", self.chain)
        for word, text in (("-", self.chain + self.key), ("chain.pem", self.key)):
            with self.subTest(word=word):
                self.agent.forget()
                line = Line(self, "--key=-", word)
                line.wait_reading()
                line.send(text, {len(text) - len(self.key): SILENCE * 1.5})
                self.check_line(line)
                self.check_received()
                line.log.unlink()

    def test_garbled(self):
        """The rest of a key is not left for the shell to read."""
        line = Line(self, "-")
        line.wait_reading()
        line.send(self.chain + self.key.replace("\n", "\n?"))
        self.check_line(line, 1)
        self.assertIn("no PEM", line.log.read_text())
        self.assertEqual(self.agent.calls(), [])
        self.assertEqual(line.left(), b"")

    def test_interrupted_flood(self):
        """A signal counts, and what was sent is thrown away, however much there is to read."""
        line = Line(self, "-")
        line.wait_reading()
        os.set_blocking(line.end, False)
        line.process.send_signal(signal.SIGSTOP)
        harness.wait_for("it is stopped", line.stopped)
        line.pour(self.bundle)
        line.process.send_signal(signal.SIGTERM)
        line.process.send_signal(signal.SIGCONT)
        end = time.monotonic() + harness.DEADLINE
        while line.process.running() and time.monotonic() < end:
            if select.select([], [line.end], [], harness.POLL)[1]:
                line.pour("text\n" * 500)
        self.assertEqual(line.process.wait(), -signal.SIGTERM, line.log.read_text())
        self.assertTrue(line.restored())
        self.assertNotIn(b"-", line.left() + line.echoed())

    def test_signals(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(number=number):
                line = Line(self, "-")
                line.wait_reading()
                before = line.taken()
                line.send(self.key[:100])
                # What is still on its way through the kernel would come after the program.
                harness.wait_for("it has read that", lambda: line.taken() >= before + 100)
                line.process.send_signal(number)
                self.check_line(line, -number)
                self.assertEqual(line.left(), b"")
                line.log.unlink()


    def test_interrupt_character(self):
        """Ctrl-C still is a signal, for the process that the terminal is in the foreground of."""
        line = Line(self, "-", wrapper=["setsid", "--ctty"])
        line.wait_reading()
        line.send(self.key[:100] + "\x03")
        self.check_line(line, -signal.SIGINT)

    def test_stop_character(self):
        """Ctrl-Z is none: it would leave the shell without echo."""
        with_job_control = ["sh", "-mc", '"$@"; exit $?', "sh"]
        line = Line(self, "-", wrapper=["setsid", "--ctty", *with_job_control])
        line.wait_reading()
        line.send("\x1a\n" + self.bundle + "\x04")
        self.check_line(line)
        self.check_received()


class SshTest(EnrollctlTest):
    """A host that may do one thing on the device: `command="enrollctl import -"`."""

    def setUp(self):
        self.sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ["PATH"])
        if self.sshd is None:
            self.skipTest("there is no sshd")
        super().setUp()
        for path in (self.directory, self.directory / "bus"):
            path.chmod(0o711)
        self.folder = self.directory / "ssh"
        self.folder.mkdir()
        for name in ("host", "client"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / name]
            subprocess.run(words, check=True, timeout=harness.DEADLINE)
        public = (self.folder / "client.pub").read_text()
        command = f"{harness.built('enrollctl')} import -"
        (self.folder / "authorized").write_text(f'restrict,command="{command}" {public}')
        self.become_somebody()
        harness.wait_for("sshd listens", self.start_server)

    def machine(self):
        """For root there is an ordinary user, in a mount namespace that has it. It is not nobody, whose account counts
        as locked where systemd knows it."""
        if os.geteuid() != 0:
            return []
        users = self.directory / "passwd"
        users.write_text(pathlib.Path("/etc/passwd").read_text() + f"factory:*:{FACTORY}:{FACTORY}::/:/bin/sh\n")
        return ["unshare", "--mount", "sh", "-c", f'mount --bind "{users}" /etc/passwd && exec "$@"', "sh"]

    def become_somebody(self):
        """sshd runs as an ordinary user, and lets that one in."""
        self.user, self.wrapper = pwd.getpwuid(os.geteuid()).pw_name, []
        if os.geteuid() == 0:
            self.user = "factory"
            become = ["setpriv", f"--reuid={FACTORY}", f"--regid={FACTORY}", "--clear-groups"]
            self.wrapper = [*self.machine(), *become]
            for path in (self.folder, self.folder / "host"):
                os.chown(path, FACTORY, FACTORY)

    def start_server(self):
        """False if somebody else has just taken the port."""
        self.port = free_port()
        configuration = self.folder / "sshd_config"
        variables = " ".join(f'"{name}={value}"' for name, value in self.environment().items())
        configuration.write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {self.folder}/host\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {self.folder}/authorized\nStrictModes no\nSetEnv {variables}\n"
        )
        (self.folder / "known").write_text(
            f"[127.0.0.1]:{self.port} " + (self.folder / "host.pub").read_text()
        )
        log = self.directory / f"sshd-{self.port}.log"
        self.show_on_failure("sshd", log)
        server = harness.Process("sshd", [*self.wrapper, self.sshd, "-D", "-e", "-f", configuration], log)
        self.addCleanup(server.stop)
        harness.wait_for("sshd listens or ends", lambda: "listening" in log.read_text() or not server.running())
        if not server.running() and "in use" not in log.read_text():
            raise AssertionError(f"sshd has ended: {log.read_text()}")
        return server.running()

    def ssh(self):
        options = [f"UserKnownHostsFile={self.folder}/known", "StrictHostKeyChecking=yes", "BatchMode=yes"]
        words = ["ssh", "-T", "-F", "none", "-i", str(self.folder / "client"), "-p", str(self.port)]
        return words + [f"-o{option}" for option in options] + [f"{self.user}@127.0.0.1"]

    def test_forced_command(self):
        done = subprocess.run(
            self.ssh(), input=self.bundle, capture_output=True, text=True, timeout=2 * harness.DEADLINE
        )
        self.check_imported(done)

    def test_refusal(self):
        """The status comes back over the line."""
        done = subprocess.run(self.ssh(), input=self.key, capture_output=True, text=True, timeout=2 * harness.DEADLINE)
        self.check_refused(done, "the certificate is missing")

    def test_open_line(self):
        """The client waits for the receipt before it closes its side."""
        log = self.directory / "ssh.log"
        self.show_on_failure("ssh", log)
        client = harness.Process("ssh", self.ssh(), log, stdin=subprocess.PIPE)
        self.addCleanup(client.stop)
        self.addCleanup(client.popen.stdin.close)
        client.popen.stdin.write(self.bundle.encode())
        client.popen.stdin.flush()
        self.assertEqual(client.wait(), 0)
        self.assertIn(IDENTIFIER, log.read_text())
        self.check_received()


class OtherVerbsTest(EnrollctlTest):
    REQUEST = "-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n"

    def test_request(self):
        """The request alone on stdout, for `> device.csr`."""
        self.agent.answer(request=self.REQUEST, detail="")
        for words, subject in (([], ""), (["--subject=CN=%s,O=Example"], "CN=%s,O=Example")):
            done = self.enrollctl("request", *words)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, self.REQUEST, ""))
            self.assertEqual(self.agent.got("subject"), subject)
        self.assertEqual(self.agent.calls(), ["CreateRequest", "GetRequest"] * 2)

    def test_failed_request(self):
        self.agent.answer(request=self.REQUEST, result="failed", detail="tpm: key: it is locked. Wait for a day.")
        done = self.enrollctl("request")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("tpm: key: it is locked. Wait for a day.", done.stderr)
        self.assertEqual(self.agent.calls(), ["CreateRequest"])

    def test_plugins(self):
        done = self.enrollctl("plugins")
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
        self.assertEqual(lines, [["fleet-claim", "by a shared claim"], ["jitp", "by the maker's CA"]])
        done = self.enrollctl("plugins", "fleet-claim")
        self.assertEqual((done.returncode, done.stdout), (0, "fleet-claim: by a shared claim\n\nTemplate=NAME\n"))
        done = self.enrollctl("plugins", "est")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("no plugin has a method est", done.stderr)

    def test_status_of_methods(self):
        """Only where there is a choice, or a failure."""
        self.assertNotIn("Methods:", self.enrollctl("status").stdout)
        self.agent.answer(outcome="denied")
        lines = self.enrollctl("status").stdout.splitlines()
        index = next(index for index, line in enumerate(lines) if "Methods:" in line)
        shown = [line.removeprefix("Methods:").strip() for line in map(str.strip, lines[index : index + 2])]
        self.assertEqual(shown, ['jitp, denied: said "no"', "fleet-claim, not tried"])
        methods = json.loads(self.enrollctl("status", "--json").stdout)["Methods"]
        self.assertEqual(methods[0], {"Name": "jitp", "Outcome": "denied", "Message": 'said "no"'})
        self.assertEqual(methods[1], {"Name": "fleet-claim", "Outcome": "", "Message": ""})


class Nowhere:
    """The cloud of a device in the factory: an endpoint where nobody answers."""

    def __init__(self, authority):
        self.port = free_port()
        self.root_ca = authority
        self.template = self.claim_certificate = self.claim_key = None


class DaemonTest(harness.TestCase):
    """With enrolld itself, before the device has ever been online."""

    def setUp(self):
        super().setUp()
        self.maker = Maker(self)
        self.gateway = Gateway(self, Nowhere(self.maker.certificate), backend="file")
        del self.gateway.sections["fleet-claim"]
        self.gateway.configure("Agent", Methods="jitp")
        self.gateway.start()

    def enrollctl(self, *words, status=0, **options):
        """What it prints to stdout, or to stderr if it has to fail."""
        done = self.gateway.enrollctl(*words, **options)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertEqual(done.stdout if status else "", "")
        return done.stderr if status else done.stdout

    def test_signed_request(self):
        request = self.enrollctl("request")
        self.assertEqual(self.enrollctl("request"), request)
        _, other = self.maker.make_device("/CN=other")
        said = self.enrollctl("import", str(other), status=1)
        self.assertRegex(said, r"^enrollctl: import failed: invalid: \w+: \S+")
        chain = self.maker.chain(request)
        self.assertEqual(self.enrollctl("import", "-", input=chain), certificate_id(chain) + "\n")

    def test_subject(self):
        request = self.enrollctl("request", "--subject=CN=box-%s,O=Example")
        subject = openssl("req", "-noout", "-subject", "-nameopt", "RFC2253", input=request.encode()).decode()
        self.assertEqual(set(subject.strip().removeprefix("subject=").split(",")), {"CN=box-GW-0001", "O=Example"})
        self.assertIn("CN", self.enrollctl("request", "--subject=CN", status=1))
        for subject, words in (
            ("CN=" + 1022 * "x", "longer than 1024 bytes"),
            ("CN=x,\nO=Example", "has a line break"),
        ):
            self.assertIn(words, self.enrollctl("request", f"--subject={subject}", status=1))

    def test_key_from_the_factory(self):
        """It is destroyed once enrolld has it, and not before."""
        key, chain = self.maker.make_device("/CN=GW-0001")
        _, other = self.maker.make_device("/CN=other")
        self.enrollctl("import", "--wipe", f"--key={key}", str(other), status=1)
        self.assertTrue(key.exists())
        receipt = self.enrollctl("import", "--wipe", f"--key={key}", str(chain))
        self.assertEqual(receipt, certificate_id(chain.read_text()) + "\n")
        self.assertFalse(key.exists())

    def test_plugins(self):
        listed = [line.split()[0] for line in self.enrollctl("plugins").splitlines()]
        self.assertLessEqual({"fleet-claim", "jitp", "jitr"}, set(listed))
        self.assertIn("Template", self.enrollctl("plugins", "fleet-claim"))
        self.enrollctl("plugins", "est", status=1)

    def test_methods(self):
        self.gateway.wait_property("State", "failed")  # an attempt that runs goes on with the list it has begun with
        self.gateway.configure("Agent", Methods="jitp jitr")
        self.gateway.call("Reload")
        self.gateway.wait_property("Methods", lambda methods: [method[1] for method in methods] == ["unusable"] * 2)
        lines = [line.split() for line in self.gateway.enrollctl("status").stdout.splitlines()]
        self.assertIn("Methods:", [line[0] for line in lines])
        methods = json.loads(self.gateway.enrollctl("status", "--json").stdout)["Methods"]
        self.assertEqual([method["Name"] for method in methods], ["jitp", "jitr"])

    def test_no_daemon(self):
        self.gateway.stop()
        for words in (["request"], ["import", str(self.maker.certificate)], ["plugins"]):
            self.assertIn("enrolld is not running", self.enrollctl(*words, status=5))


if __name__ == "__main__":
    harness.main()
