#!/usr/bin/env python3
"""The jobs about an identity in use, by hand: `prove` asks the cloud whether it is accepted, `retire` tells which
certificates it has replaced, `check` tells whether it could be renewed."""

import json
import os
import re
import shutil
import subprocess
import threading

import harness
from attacker import FATAL, Attack, Attacker, End, alert_record
from gateway import Gateway
from mqtt_client import Client
from parts import Cloud, Tpm

THING = "gateway-GW-0001"
OWN_ID = f"{THING}-enrolld"
BEYOND_DOUBT = "the cloud itself has refused this identity, beyond doubt"
OLD, OLDER = "a" * 64, "b" * 64


class IdentityJob(harness.TestCase):
    """A device with an identity that was got by hand, in self.identity."""

    def begin(self, *options, tpm=None, front=False):
        self.cloud = Cloud(self, "--control-port=0", *options, front=front)
        self.gateway = Gateway(self, self.cloud, tpm, "file" if tpm is None else "tpm2")
        self.gateway.sections["Renewal"] = {}
        self.enroll()

    def enroll(self):
        self.directory_of_identity = self.gateway.directory / "identity"
        status, said = self.run_worker("enroll")
        self.assertEqual(status, 0, said)
        self.identity = json.loads((self.directory_of_identity / "identity.json").read_text())
        self.certificate_id = self.identity["certificateId"]
        self.assertEqual(self.identity["clientId"], OWN_ID)
        self.mark()

    def change_identity(self, **members):
        path = self.directory_of_identity / "identity.json"
        path.write_text(json.dumps(self.identity | members))

    def mark(self):
        self.seen = len(self.cloud.events())

    def news(self, **wanted):
        return [event for event in self.cloud.events()[self.seen :] if wanted.items() <= event.items()]

    def run_worker(self, verb, *arguments, **environment):
        done = subprocess.run(
            [harness.built("enrolld-worker"), verb, f"--config={self.gateway.configuration}"]
            + [f"--directory={self.directory_of_identity}", *arguments],
            env=self.gateway.environment() | environment,
            capture_output=True,
            text=True,
            timeout=3 * harness.DEADLINE,
        )
        return done.returncode, done.stdout + done.stderr

    def assertDone(self, verb, *arguments):
        status, said = self.run_worker(verb, *arguments)
        self.assertEqual(status, 0, said)
        return said

    def assertFailed(self, pattern, verb, *arguments):
        status, said = self.run_worker(verb, *arguments)
        self.assertEqual(status, 1, said)
        self.assertRegex(said, re.compile(f"^failed {pattern}", re.MULTILINE))
        return said

    def connections(self):
        """The client ids of all accepted CONNECTs since mark()."""
        return [event["clientId"] for event in self.news(event="connect")]

    def application(self):
        """A client as the application: with the identity, under the thing's own name."""
        files = [self.directory_of_identity / name for name in ("certificate.pem", "private.pem")]
        client = Client(self, self.cloud, THING, *files)
        self.assertEqual(client.connected(), 0)
        return client


class Prove(IdentityJob):
    def assertRefused(self, pattern):
        self.assertIn(BEYOND_DOUBT, self.assertFailed(pattern, "prove"))

    def assertDoubtful(self, pattern):
        self.assertNotIn(BEYOND_DOUBT, self.assertFailed(pattern, "prove"))

    def test_life_of_a_certificate(self):
        """Whatever the operator does, by the stock client: refused while it lasts, accepted when it is taken back."""
        self.begin("--connect-rate=off")
        denied = rf"\(denied\) at step prove: .*Not authorized \(0x87\).*client id {OWN_ID}: is the certificate ACTIVE"
        self.assertDone("prove")
        self.cloud.aws("update-certificate", "--certificate-id", self.certificate_id, "--new-status", "INACTIVE")
        self.assertRefused(denied)
        self.cloud.aws("update-certificate", "--certificate-id", self.certificate_id, "--new-status", "ACTIVE")
        self.assertDone("prove")
        arn = self.cloud.aws("describe-certificate", "--certificate-id", self.certificate_id)["certificateDescription"]
        arn = arn["certificateArn"]
        self.cloud.aws("detach-policy", "--policy-name", "enrolld-device", "--target", arn)
        self.assertRefused(denied)
        self.cloud.aws("attach-policy", "--policy-name", "enrolld-device", "--target", arn)
        self.assertDone("prove")
        self.cloud.aws("update-certificate", "--certificate-id", self.certificate_id, "--new-status", "REVOKED")
        self.assertRefused(denied)
        self.cloud.aws("detach-policy", "--policy-name", "enrolld-device", "--target", arn)
        self.cloud.aws("detach-thing-principal", "--thing-name", THING, "--principal", arn)
        self.cloud.aws("delete-certificate", "--certificate-id", self.certificate_id, "--force-delete")
        self.assertRefused(denied)

    def test_beside_the_application(self):
        self.begin()
        application = self.application()
        self.mark()
        self.assertDone("prove")
        self.assertEqual(self.connections(), [OWN_ID])
        application.subscribe(f"things/{THING}/still")
        self.assertEqual(application.publish(f"things/{THING}/still", b"here"), 0)
        self.assertEqual(application.message(f"things/{THING}/still")[1], b"here")

    def test_own_id_was_never_accepted(self):
        """An identity that was proven as the application: the agent's own id may never have been allowed."""
        self.begin("--connect-rate=off")
        for bare in (THING, "GW-0001"):
            self.change_identity(clientId=bare)
            self.mark()
            self.assertDone("prove")
            self.assertEqual(self.connections(), [OWN_ID])
        self.cloud.set_certificate(self.certificate_id, "INACTIVE")
        self.assertDoubtful(r"\(denied\) at step prove: .*was not accepted before, so this need not be a refusal")

    def test_publish(self):
        self.begin()
        application = self.application()
        topic = f"things/{THING}/alive"
        application.subscribe(topic)
        self.gateway.configure("Cloud", ProveTopic="things/%t/alive")
        self.assertDone("prove")
        proof = json.loads(application.message(topic)[1])
        self.assertEqual(proof, {"certificateId": self.certificate_id, "thingName": THING})
        self.gateway.configure("Cloud", ProveTopic="elsewhere/%i")
        self.assertDoubtful(rf"\(denied\) at step prove: .*may not publish to elsewhere/{self.certificate_id}")

    def test_busy(self):
        """Two CONNECTs of one id within a second end without a word: that is no refusal."""
        self.begin()
        self.assertDone("prove")
        self.change_identity(issuedAt=1)  # or it would wait
        self.assertDoubtful(r"\(network\) at step prove: .*without a CONNACK; .*too busy")

    def test_wordless(self):
        self.begin()
        self.cloud.options(refusal="close")
        self.cloud.set_certificate(self.certificate_id, "INACTIVE")
        self.assertDoubtful(r"\(network\) at step prove: .*without a CONNACK; .*is the certificate ACTIVE")

    def test_silence_of_the_server(self):
        self.begin()
        self.cloud.stop()
        self.assertDoubtful(r"\(network\) at step prove: cannot connect")

    def test_on_the_path(self):
        """Anybody can end a connection, or say in the clear that a certificate is bad."""
        self.begin("--connect-rate=off")
        attacker = Attacker(self, self.cloud.port)
        self.gateway.configure("Cloud", Port=attacker.port)
        self.assertDone("prove")
        for after in (0, 4, 8):
            attacks = [Attack(f"{end.value} after {after}", after, b"", end) for end in (End.FIN, End.RST)]
            attacks += [Attack(f"alert {alert} after {after}", after, alert_record(FATAL, alert)) for alert in (42, 49)]
            for attack in attacks:
                with self.subTest(attack=attack.name):
                    attacker.attack = attack
                    self.assertDoubtful(r"\(network\) at step prove: ")

    def test_alert_in_the_session(self):
        self.begin("--tls-version=1.3", front=True)
        self.cloud.options(refusal="handshake-alert=44")
        self.cloud.set_certificate(self.certificate_id, "REVOKED")
        self.assertRefused(r"\(denied\) at step prove: .*refused the client certificate: TLS alert certificate_revoked")

    def test_alert_in_the_clear(self):
        self.begin("--tls-version=1.2", front=True)
        self.cloud.options(refusal="handshake-alert=44")
        self.cloud.set_certificate(self.certificate_id, "REVOKED")
        self.assertDoubtful(r"\(network\) at step prove: ")

    def test_local_look(self):
        """What is broken here says nothing of the cloud, which is not even asked."""
        self.begin()
        self.mark()
        (self.directory_of_identity / "certificate.pem").write_text("no certificate")
        self.assertDoubtful(r"\(invalid\) at step verify: ")
        self.assertEqual(self.news(event="connect"), [])

    def test_endpoint_of_the_identity(self):
        """It is judged where it was accepted."""
        self.begin()
        self.gateway.configure("Cloud", Endpoint="elsewhere.invalid")
        self.assertDone("prove")

    def test_tpm(self):
        tpm = Tpm(self)
        self.begin(tpm=tpm)
        self.assertDone("prove")
        self.assertEqual(tpm.handles("transient"), [])
        tpm.stop()
        self.assertDoubtful(r"\(tpm\) at step ")


class Operator:
    """In the place of the rule behind RetireTopic=: answers as it is told, in a thread of its own."""

    def __init__(self, test, client, topic, answers):
        """answers: called with what came, returns (end of the topic, payload) each."""
        self.client, self.topic, self.answers = client, topic, answers
        self.messages = []
        client.subscribe(topic)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()
        test.addCleanup(self.stop)

    def serve(self):
        try:
            while (message := self.client.message(self.topic, seconds=3 * harness.DEADLINE)) is not None:
                if message[0] != self.topic:
                    continue
                self.messages.append(json.loads(message[1]))
                for end, payload in self.answers(self.messages[-1]):
                    self.client.send_publish(f"{self.topic}/{end}", payload)
        except (OSError, ValueError):
            pass  # closed

    def stop(self):
        self.client.close()
        self.thread.join(harness.DEADLINE)


class Retire(IdentityJob):
    topic = f"things/{THING}/retire"

    def begin(self, **renewal):
        super().begin("--connect-rate=off")
        self.gateway.configure("Renewal", RetireTopic="things/%t/retire", **renewal)

    def operator(self, answers=lambda _: []):
        return Operator(self, self.application(), self.topic, answers)

    def expected(self, *old):
        return [{"old": one, "new": self.certificate_id} for one in old]

    def wait_messages(self, operator, *old):
        wait = lambda: len(operator.messages) >= len(old)  # noqa: E731
        harness.wait_for(lambda: f"what was told: {operator.messages}", wait)
        self.assertEqual(operator.messages, self.expected(*old))

    def test_told(self):
        self.begin()
        operator = self.operator()
        self.mark()
        self.assertDone("retire", f"--old={OLD} {self.certificate_id} {OLDER}")
        self.wait_messages(operator, OLD, OLDER)  # and never the one in use
        self.assertEqual(self.connections(), [OWN_ID])

    def test_nobody_listens(self):
        """The PUBACK alone counts where no acknowledgement is asked for."""
        self.begin()
        self.assertDone("retire", f"--old={OLD}")

    def test_acknowledged(self):
        self.begin(RetireAcknowledged="yes")
        operator = self.operator(lambda message: [("accepted", json.dumps({"old": message["old"]}).encode())])
        self.assertDone("retire", f"--old={OLD} {OLDER}")
        self.wait_messages(operator, OLD, OLDER)

    def test_answers_of_others(self):
        """Answers about others, and such that nobody understands, are none."""
        def answers(message):
            yield "accepted", json.dumps({"old": "c" * 64}).encode()
            yield "rejected", json.dumps({"old": "c" * 64, "message": "not yours"}).encode()
            yield from (("rejected", payload) for payload in (b"", b"[]", b"{", b"\xff\xfe", b'{"old":1}', b"x" * 100000))
            yield "accepted", json.dumps({"old": message["old"]}).encode()

        self.begin(RetireAcknowledged="yes")
        self.operator(answers)
        self.assertDone("retire", f"--old={OLD}")

    def test_rejected(self):
        """In the cloud's own words; the others are told nevertheless."""
        def answers(message):
            if message["old"] == OLD:
                yield "rejected", json.dumps({"old": OLD, "message": "not of your thing\n\x1b[31m!"}).encode()
            else:
                yield "accepted", json.dumps({"old": message["old"]}).encode()

        self.begin(RetireAcknowledged="yes")
        operator = self.operator(answers)
        said = self.assertFailed(r"\(denied\) at step retire: .*not of your thing", "retire", f"--old={OLD} {OLDER}")
        self.assertNotIn("\x1b", said)
        self.wait_messages(operator, OLD, OLDER)

    def test_unanswered(self):
        """What the rule starts has failed for one certificate: the one behind it is told all the same."""
        def answers(message):
            if message["old"] != OLD:
                yield "accepted", json.dumps({"old": message["old"]}).encode()

        self.begin(RetireAcknowledged="yes")
        operator = self.operator(answers)
        said = self.assertFailed(r"\(cloud-busy\) at step retire: .*is there a rule", "retire", f"--old={OLD} {OLDER}")
        self.wait_messages(operator, OLD, OLDER)
        self.assertIn(f"retire: certificate {OLDER}\n", said)
        self.assertNotIn(f"retire: certificate {OLD}\n", said)

    def test_publish_denied(self):
        self.begin()
        self.gateway.configure("Renewal", RetireTopic="elsewhere/%o")
        self.assertFailed(
            rf"\(denied\) at step retire: .*does the policy allow iot:Publish on topic/elsewhere/{OLD}",
            *("retire", f"--old={OLD}"),
        )

    def test_subscribe_denied(self):
        self.begin(RetireAcknowledged="yes")
        self.gateway.configure("Renewal", RetireTopic="elsewhere/%t")
        self.mark()
        said = self.assertFailed(r"\(denied\) at step retire: .*refused the subscription", "retire", f"--old={OLD}")
        self.assertIn(f"iot:Subscribe to topicfilter/elsewhere/{THING}/", said)
        self.assertEqual(self.news(event="publish"), [])

    def test_refused(self):
        self.begin()
        self.cloud.set_certificate(self.certificate_id, "INACTIVE")
        self.assertFailed(r"\(denied\) at step retire: .*0x87", "retire", f"--old={OLD}")

    def test_nothing_is_asked(self):
        """What is wrong with the job or the settings shows before any connection."""
        self.begin()
        self.mark()
        for old in ("", " ", OLD[1:], f"{OLD}a", f"{OLD} {OLDER} x", OLD.upper(), self.certificate_id):
            with self.subTest(old=old):
                self.assertFailed(r"\(internal\) at step worker: ", "retire", f"--old={old}")
        self.gateway.configure("Renewal", RetireTopic=None)
        self.assertFailed(r"\(invalid\) at step configuration: RetireTopic=", "retire", f"--old={OLD}")
        self.gateway.configure("Renewal", RetireTopic="$aws/rules/retire", RetireAcknowledged="yes")
        self.assertFailed(r"\(invalid\) at step configuration: .*nobody can be answered", "retire", f"--old={OLD}")
        self.assertEqual(self.news(event="connect"), [])


class Renewal(IdentityJob):
    """What a check tells of the renewal: never a reason for it to fail."""

    def plugins(self):
        """A directory of plugins that may be changed."""
        directory = self.directory / "plugins"
        if not directory.exists():
            directory.mkdir(mode=0o755)
            shutil.copy(harness.built("fleet-claim.so").resolve(), directory / "fleet-claim.so")
        return directory

    def check(self):
        status, said = self.run_worker("check", ENROLLD_PLUGIN_DIR=str(self.plugins()))
        self.assertEqual(status, 0, said)
        found = dict(re.findall(r"^([A-Z_]+) +(.*)$", said, re.MULTILINE))
        return found["RENEW_METHOD"], found["HINDRANCE"]

    def assertHindered(self, words):
        method, hindrance = self.check()
        self.assertIn(words, hindrance)
        return method

    def test_module(self):
        self.begin()
        module = self.plugins() / "fleet-claim.so"
        good = module.read_bytes()
        damaged = {
            "absent": None,
            "empty": b"",
            "text": b"no module",
            "short": good[:4096],
            "holes": good[:512] + bytes(len(good) - 512),
        }
        for name, content in damaged.items():
            with self.subTest(module=name):
                module.unlink(missing_ok=True)
                if content is not None:
                    module.write_bytes(content)
                self.assertHindered("plugin" if content is None else "fleet-claim")

    def test_none(self):
        self.begin()
        self.gateway.configure("Renewal", RenewMethod="none")
        self.assertEqual(self.check(), ("", "RenewMethod=none in [Renewal]"))

    def test_without_claim(self):
        """The claim is not needed to judge it: it may be gone by then."""
        self.begin()
        self.gateway.configure("fleet-claim", Certificate="/nonexistent", PrivateKey="credential:none")
        self.assertNotIn("nonexistent", self.check()[1])


if __name__ == "__main__":
    os.umask(0o022)
    harness.main()
