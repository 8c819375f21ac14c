#!/usr/bin/env python3
"""Keys, tokens and secret parameters are where they have to be and nowhere else. Each of them is a canary: its bytes are
looked for wherever somebody else could find them, while a provisioning is stopped at its steps, and afterwards."""

import base64
import json
import os
import pathlib
import re
import secrets
import signal
import stat
import subprocess
import unittest

import harness
from authority import Authority
from gateway import Gateway
from parts import Cloud, Tpm

CHUNK = 16  # bytes of a number that are looked for at once
TOKEN_CHUNK = 24  # characters of a token
REGION_MAX = 1 << 28  # larger mappings are the shadow memory of a sanitizer


def chunks(data, size):
    return [data[start : start + size] for start in range(0, len(data) - size + 1, size)]


def private_numbers(pem):
    """The secret numbers of a private key: d of an EC key; d, p, q and what is derived from them of an RSA key."""
    words = ["openssl", "pkey", "-noout", "-text"]
    text = subprocess.run(words, input=pem, capture_output=True, text=True, check=True).stdout
    parts = re.findall(r"^(\w+):(?: .*)?\n((?: +[0-9a-f:]+\n)+)", text, re.MULTILINE)
    public = ("pub", "modulus", "publicExponent")
    return [bytes.fromhex(re.sub(r"[\s:]", "", digits)).lstrip(b"\0") for name, digits in parts if name not in public]


def key_needles(pem):
    """A private key as PEM, as DER, as hexadecimal digits, and as libraries for big numbers keep it: backwards."""
    needles = [line.encode() for line in pem.splitlines() if len(line) == 64]
    for number in private_numbers(pem):
        for piece in chunks(number, CHUNK):
            needles += [piece, piece[::-1], piece.hex().encode()]
    return needles


def text_needles(text):
    data = text.encode()
    return [*chunks(data, min(TOKEN_CHUNK, len(data))), base64.b64encode(data)]


class Canaries:
    def __init__(self):
        self.needles = {}

    def add_key(self, name, pem):
        self.needles[name] = key_needles(pem)

    def add_text(self, name, text):
        self.needles.setdefault(name, []).extend(text_needles(text))

    def seen_in(self, data):
        """The names of the secrets of which a piece is in these bytes."""
        return {name for name, needles in self.needles.items() if any(needle in data for needle in needles)}


def read(path):
    try:
        return pathlib.Path(path).read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def memory(pid):
    """What a process has in its memory, mapping by mapping."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
        for line in read(f"/proc/{pid}/maps").decode().splitlines():
            span, mode = line.split()[:2]
            start, end = (int(number, 16) for number in span.split("-"))
            if "r" not in mode or end - start > REGION_MAX or line.endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                continue
            file.seek(start)
            try:
                yield file.read(end - start)
            except OSError as error:  # a page of a file that is shorter than its mapping
                harness.comment(f"{line}: {error}")


def seen_in_memory(canaries, pid):
    """Of a process that is just ending: in what was still there."""
    found = set()
    try:
        for data in memory(pid):
            found |= canaries.seen_in(data)
    except (FileNotFoundError, ProcessLookupError) as error:
        harness.comment(f"process {pid} has ended: {error}")
    return found


class SecretsTest(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.cloud = Cloud(self, f"--aws-files={self.template_with_secrets()}", "--token-size=200")
        self.canaries = Canaries()
        self.canaries.add_key("claim key", self.cloud.claim_key.read_text())

    def template_with_secrets(self):
        """The files of etc/aws, with two more parameters that a hook would look at."""
        folder = self.directory / "aws"
        folder.mkdir()
        for path in (harness.SOURCE_DIR / "etc/aws").glob("*.json"):
            (folder / path.name).write_text(path.read_text())
        path = folder / "provisioning-template.json"
        template = json.loads(path.read_text())
        template["Parameters"] |= {"Batch": {"Type": "String"}, "Code": {"Type": "String"}}
        path.write_text(json.dumps(template))
        return folder

    def gateway_with_secrets(self, backend, tpm=None):
        gateway = Gateway(self, self.cloud, tpm, backend)
        credentials = gateway.directory / "credentials"
        credentials.mkdir()
        values = {name: f"canary-{secrets.token_hex(20)}" for name in ("batch", "code")}
        (gateway.directory / "batch").write_text(values["batch"] + "\n")
        (credentials / "code").write_text(values["code"] + "\n")
        for name, value in values.items():
            self.canaries.add_text(f"parameter {name}", value)
        gateway.extra_environment["CREDENTIALS_DIRECTORY"] = str(credentials)
        gateway.configure("fleet-claim", Parameter_Batch=f"file:{gateway.directory / 'batch'}")
        gateway.configure("fleet-claim", Parameter_Code="credential:code")
        return gateway

    def add_tokens(self):
        """The ownership tokens that are valid now."""
        for token in self.cloud.registry()["tokens"]:
            self.canaries.add_text("token", token)

    # Where somebody else could look.

    def assertNothing(self, what, data, but=()):
        self.assertEqual(self.canaries.seen_in(data) - set(but), set(), f"in {what}")

    def look_at_process(self, pid):
        for name in ("cmdline", "environ", "status", "comm"):
            self.assertNothing(f"/proc/{pid}/{name} ({harness.command_line(pid)})", read(f"/proc/{pid}/{name}"))
        text = read(f"/proc/{pid}/limits")
        if not text:  # a worker that has ended since it was listed
            harness.comment(f"process {pid} has ended")
            return
        limits = re.search(rb"^Max core file size +(\S+) +(\S+)", text, re.MULTILINE)
        self.assertEqual(limits.groups(), (b"0", b"0"), f"core dumps of {harness.command_line(pid)}")

    def look_at_files(self, gateway):
        for path in (*gateway.files(), *(path for path in gateway.runtime.rglob("*") if path.is_file())):
            mode = stat.S_IMODE(path.stat().st_mode)
            seen = self.canaries.seen_in(read(path))
            allowed = set()
            if path == gateway.state / "checkpoint-fleet-claim" and mode == 0o600:
                allowed = {"token", "device key"}
            elif path.name == "private.pem" and mode == 0o640:
                allowed = {"device key"}
            self.assertEqual(seen - allowed, set(), f"in {path}, mode {mode:o}")

    def look_at_words(self, gateway):
        """What is said to others: on the bus, to systemd, to the journal, to an operator."""
        with gateway.monitor.arrived:
            self.assertNothing("messages on the bus", json.dumps(gateway.monitor.messages).encode())
        self.assertNothing("notifications", "\n".join(gateway.notifications.messages).encode())
        self.assertNothing("the log", read(gateway.log))
        for words in (("status",), ("status", "--json")):
            done = gateway.enrollctl(*words)
            self.assertNothing(f"enrollctl {words}", (done.stdout + done.stderr).encode())

    def look(self, gateway):
        for pid in (gateway.pid(), *gateway.workers()):
            self.look_at_process(pid)
        self.look_at_files(gateway)
        self.look_at_words(gateway)


class Provisioning(SecretsTest):
    def pause(self, gateway, operation):
        """Stops the cloud between what it did and its reply."""
        self.cloud.wait_event(event=operation, result="accepted")
        self.cloud.freeze()
        step = {"create-from-csr": "certificate", "register-thing": "register"}[operation]
        self.assertEqual(gateway.property("Step"), step)

    def provision_with_pauses(self, gateway):
        delays = ("create-from-csr", "register-thing")
        for operation in delays:
            self.cloud.edit(fault={"operation": operation, "action": "delay", "milliseconds": 1500})
        self.cloud.options(propagation=600)  # so that the first proof is refused
        self.cloud.freeze()
        gateway.start()
        gateway.wait_signalled("Step", "claim")
        self.look(gateway)
        self.cloud.thaw()
        self.pause(gateway, "create-from-csr")
        harness.wait_for("a token", lambda: self.cloud.registry()["tokens"])
        self.add_tokens()
        self.add_device_key(gateway)
        self.look(gateway)
        self.cloud.thaw()
        self.pause(gateway, "register-thing")
        self.look(gateway)
        held = self.held(gateway)
        self.cloud.thaw()  # what a sanitizer makes of a worker takes longer to look through than a worker waits for a reply
        self.look_for_canaries_where_they_are(held)
        gateway.wait_property("LastError", lambda error: error[1] == "prove")
        self.look(gateway)
        self.cloud.options(propagation=0)
        gateway.wait_provisioned()

    def add_device_key(self, gateway):
        """A key that no TPM protects, as soon as there is one."""
        pem = next(
            value
            for value in json.loads(read(gateway.state / "checkpoint-fleet-claim")).values()
            if isinstance(value, str) and "PRIVATE KEY" in value
        )
        if "TSS2" not in pem:
            self.canaries.add_key("device key", pem)

    def held(self, gateway):
        """What the checkpoint and the worker hold now; of the worker nothing, if its memory is closed to this user."""
        (worker,) = gateway.workers()
        try:
            return read(gateway.state / "checkpoint-fleet-claim"), b"".join(memory(worker))
        except PermissionError:
            return read(gateway.state / "checkpoint-fleet-claim"), None

    def look_for_canaries_where_they_are(self, held):
        """The worker and the checkpoint have them now, so a search that finds nothing elsewhere is worth something."""
        checkpoint, worker = held
        own = self.canaries.needles.keys() & {"device key"}
        self.assertEqual(self.canaries.seen_in(checkpoint), own | {"token"})
        if worker is None:
            harness.comment("the memory of the worker is closed to this user")
            return
        self.assertEqual(
            self.canaries.seen_in(worker), own | {"token", "parameter batch", "parameter code", "claim key"}
        )

    def look_afterwards(self, gateway):
        self.look(gateway)
        self.assertFalse((gateway.state / "checkpoint-fleet-claim").exists())
        self.assertEqual(gateway.workers(), [])
        links = [os.readlink(entry) for entry in pathlib.Path(f"/proc/{gateway.pid()}/fd").iterdir()]
        self.assertFalse([link for link in links if "memfd:" in link], links)
        if os.geteuid() == 0:
            self.assertEqual(seen_in_memory(self.canaries, gateway.pid()), set(), "in the daemon's memory")

    def test_file_key(self):
        gateway = self.gateway_with_secrets("file")
        self.provision_with_pauses(gateway)
        self.assertEqual(self.canaries.seen_in(read(gateway.state / "current/private.pem")), {"device key"})
        self.look_afterwards(gateway)

    def test_tpm_key(self):
        gateway = self.gateway_with_secrets("tpm2", Tpm(self))
        self.provision_with_pauses(gateway)
        self.look_afterwards(gateway)
        self.assertIn("TSS2 PRIVATE KEY", gateway.read("private.pem"))


class Import(SecretsTest):
    """A soft key that enrollctl reads and the worker puts where it belongs."""

    def import_key(self, gateway, backend):
        """Looks at enrollctl and the worker, while the TPM or the pipe makes them wait, and afterwards."""
        maker = Authority(self.directory, "maker")
        maker.device("GW-0001")
        pem = (self.directory / "GW-0001.key").read_text()
        self.canaries.add_key("device key", pem)
        self.may_have = {gateway.state / "staged"} if backend == "file" else set()
        gateway.start()
        gateway.wait_property("LastError", lambda error: error[0] == "invalid")
        log = self.directory / "enrollctl"
        words = [harness.built("enrollctl"), "import", "-"]
        client = harness.Process("enrollctl", words, log, gateway.environment(), stdin=subprocess.PIPE)
        self.addCleanup(client.stop)
        self.addCleanup(client.popen.stdin.close)
        client.popen.stdin.write(pem.encode())
        client.popen.stdin.flush()
        harness.wait_for("enrollctl has read the key", lambda: self.holds_key(client.pid))
        self.look_at_process(client.pid)
        if backend == "tpm2":
            self.tpm.process.send_signal(signal.SIGSTOP)
        try:
            client.popen.stdin.write((self.directory / "GW-0001.pem").read_bytes())
            client.popen.stdin.flush()
            if backend == "tpm2":
                harness.wait_for("a worker has the key", lambda: any(map(self.holds_key, gateway.workers())))
                self.look_at_process(client.pid)
                self.look(gateway)
        finally:
            if backend == "tpm2":
                self.tpm.process.send_signal(signal.SIGCONT)
        client.popen.stdin.close()
        self.assertEqual(client.wait(), 0, log.read_text())
        self.assertNothing("what enrollctl says", read(log))

    def holds_key(self, pid):
        return seen_in_memory(self.canaries, pid)

    def look_at_files(self, gateway):
        """But where a key without a TPM has to be."""
        for path in (*gateway.files(), *(path for path in gateway.runtime.rglob("*") if path.is_file())):
            seen = self.canaries.seen_in(read(path))
            if path in self.may_have:
                self.assertEqual((stat.S_IMODE(path.stat().st_mode), seen), (0o600, {"device key"}), path)
            else:
                self.assertEqual(seen, set(), f"in {path}")

    def check_import(self, backend):
        if os.geteuid() != 0:
            self.skipTest("the memory of enrollctl and the worker is closed to this user")
        self.tpm = Tpm(self) if backend == "tpm2" else None
        gateway = Gateway(self, self.cloud, self.tpm, backend)
        gateway.sections["jitp"] = {}
        gateway.configure("Agent", Methods="jitp", ThingName="%c")
        gateway.configure("Cloud", Endpoint="nowhere.invalid")
        self.import_key(gateway, backend)
        gateway.wait_property("LastError", lambda error: error[0] == "network")
        self.look(gateway)
        harness.wait_for("all workers have ended", lambda: not gateway.workers())
        self.assertEqual(self.holds_key(gateway.pid()), set(), "in the daemon's memory")

    def test_to_a_tpm(self):
        self.check_import("tpm2")

    def test_to_a_file(self):
        self.check_import("file")


class Refused(SecretsTest):
    def test_cloud_repeats_what_it_was_sent(self):
        """Token and secret parameters in the words of a rejection: hidden, and the rest of the words is shown."""
        gateway = self.gateway_with_secrets("file")
        self.cloud.fault("create-from-csr", "delay", milliseconds=2000)
        gateway.start()
        self.cloud.wait_event(event="create-from-csr")
        self.add_tokens()
        (token,) = self.cloud.registry()["tokens"]
        batch = (gateway.directory / "batch").read_text().strip()
        words = f"no {token[20:120]} of {batch} here"
        payload = json.dumps({"statusCode": 403, "errorCode": "AccessDenied", "errorMessage": words})
        self.cloud.hook({"serialPrefix": "GW", "result": "deny"})
        self.cloud.fault("register-thing", "replace", payload=payload)
        error = gateway.wait_property("LastError", lambda error: error[0] == "denied")
        self.assertRegex(error[2], r"no \*+ of \*+ here")
        self.look_at_words(gateway)

    def test_garbage_is_not_repeated(self):
        gateway = self.gateway_with_secrets("file")
        self.cloud.fault("create-from-csr", "delay", milliseconds=2000)
        gateway.start()
        self.cloud.wait_event(event="create-from-csr")
        self.add_tokens()
        (token,) = self.cloud.registry()["tokens"]
        self.cloud.fault("register-thing", "replace", payload=token)
        gateway.wait_property("LastError", lambda error: error[1] == "register")
        self.look_at_words(gateway)

    def test_claim_key_that_is_not_one(self):
        gateway = self.gateway_with_secrets("file")
        broken = gateway.directory / "broken.key"
        broken.write_text(self.cloud.claim_key.read_text().replace("A", "B"))
        gateway.configure("fleet-claim", PrivateKey=broken)
        gateway.start()
        gateway.wait_property("LastError", lambda error: error[0] == "invalid")
        self.canaries.add_text("broken key", broken.read_text().splitlines()[3])
        self.look_at_words(gateway)


if __name__ == "__main__":
    harness.main()
