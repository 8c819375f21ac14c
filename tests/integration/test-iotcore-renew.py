#!/usr/bin/env python3
"""Renewal and retirement as the cloud sees them: rule, function and policies of etc/aws, run by the stand-in for AWS IoT
Core, driven by a plain client and the stock ones."""

import base64
import json
import subprocess
import time

import harness
from authority import Authority
from mqtt_client import Client, Closed, register_thing
from parts import AwsError
from renewing import FIRST, NOT_AUTHORIZED, OTHER, CloudOfTwo, Gateway

UNKNOWN = 64 * "0"


class Renewal(CloudOfTwo):
    def test_by_the_policy_of_devices(self):
        """It has all that a renewal, the proof and the retirement need."""
        gateway, _ = self.start("--hooks", "--retire")
        old = gateway.id
        reply = gateway.renew()
        self.assertEqual(reply.get("deviceConfiguration", {}), {})
        self.assertNotEqual(gateway.id, old)
        client = gateway.connect()
        self.assertNotEqual(client.publish(f"things/{FIRST}/proof", b"{}"), NOT_AUTHORIZED)
        self.assertEqual(gateway.retire(old, client), (True, {"old": old}))
        self.assertEqual(self.status(old), ("INACTIVE", []))
        self.assertEqual(self.status(gateway.id), ("ACTIVE", [FIRST]))
        self.assertEqual(self.cloud.registry()["certificates"][gateway.id]["policies"], ["enrolld-device"])
        self.assertEqual(self.cloud.events(event="denied"), [])

    def test_no_other_thing(self):
        gateway, other = self.start("--hooks")
        client = gateway.connect()
        for parameters in ({"ThingName": OTHER}, {"ThingName": "new"}, {}, {"ThingName": FIRST.lower()}):
            accepted, reply = gateway.ask(client, **parameters)
            self.assertFalse(accepted, parameters)
            self.assertEqual(reply["statusCode"], 403, reply)
        self.assertEqual(self.cloud.certificates_of(OTHER), {other.id: "ACTIVE"})
        self.assertEqual(self.cloud.certificates_of(FIRST), {gateway.id: "ACTIVE"})
        self.assertEqual(sorted(self.cloud.things()), [FIRST, OTHER])

    def test_attributes_stay(self):
        gateway, _ = self.start("--hooks")
        self.cloud.aws("update-thing", "--thing-name", FIRST, "--attribute-payload", "attributes={Room=7}")
        gateway.renew()
        self.assertEqual(self.cloud.registry()["things"][FIRST]["attributes"], {"Room": "7"})

    def test_nothing_but_the_template_for_renewals(self):
        """A device may not register under the claim's template, where it could name any serial number."""
        gateway, _ = self.start("--hooks")
        client = gateway.connect()
        topic = register_thing("enrolld")
        self.assertEqual(client.subscribe(f"{topic}/accepted"), [NOT_AUTHORIZED])
        self.assertEqual(client.publish(topic, b"{}"), NOT_AUTHORIZED)


class Retirement(CloudOfTwo):
    def renewed(self, *options):
        """A gateway that has renewed its certificate, another one, and the id of the old certificate."""
        gateway, other = self.start("--retire", *options)
        old = gateway.id
        gateway.renew()
        return gateway, other, old

    def assertRefused(self, gateway, old, reason, client=None, **members):
        accepted, reply = gateway.retire(old, client, **members)
        self.assertFalse(accepted, reply)
        self.assertEqual(reply["old"], old)
        self.assertIn(reason, reply["message"])

    def test_basic_ingest(self):
        gateway, _, old = self.renewed()
        topic = f"$aws/rules/enrolld_retire/things/{FIRST}/retire"
        self.assertEqual(gateway.retire(old, to=topic), (True, {"old": old}))
        self.assertEqual(self.status(old), ("INACTIVE", []))
        # Not for another thing's topic, nor with another ending.
        client = gateway.connect()
        for name in (topic.replace(FIRST, OTHER), topic + "/more", "$aws/rules/enrolld_retire"):
            self.assertEqual(client.publish(name, b"{}"), NOT_AUTHORIZED)

    def test_stock_clients(self):
        gateway, _, old = self.renewed()
        topic = f"things/{FIRST}/retire"
        words = ["-V", "5", "-q", "1", "-h", "localhost", "-p", self.cloud.port, "--cafile", self.cloud.root_ca,
                 "--cert", gateway.certificate, "--key", gateway.key]  # fmt: skip
        log = self.directory / "mosquitto_sub.log"
        application = ["mosquitto_sub", "-i", FIRST, "-t", f"{topic}/accepted", "-F", "%t %p", "-C", "1", *words]
        subscriber = harness.Process("mosquitto_sub", application, log)
        self.addCleanup(subscriber.stop)
        self.cloud.wait_event(event="subscribe", clientId=FIRST)
        message = json.dumps({"old": old, "new": gateway.id})
        agent = ["mosquitto_pub", "-i", f"{FIRST}-enrolld", "-t", topic, "-m", message, *words]
        subprocess.run(list(map(str, agent)), check=True, timeout=harness.DEADLINE)
        harness.wait_for("an answer", lambda: not subscriber.running())
        self.assertEqual(log.read_text().strip(), f'{topic}/accepted {{"old": "{old}"}}')
        described = self.cloud.aws("describe-certificate", "--certificate-id", old)
        self.assertEqual(described["certificateDescription"]["status"], "INACTIVE")

    def test_as_often_as_it_is_asked(self):
        """A gateway asks until it has heard the answer; what is gone is answered, too."""
        gateway, _, old = self.renewed()
        client = gateway.connect()
        for count, expected in enumerate(("retired", "kept", "kept"), 1):
            self.assertEqual(gateway.retire(old, client), (True, {"old": old}))
            self.assertEqual(self.wait_function("enrolld-retire", count)[0]["result"], expected)
        self.cloud.aws("delete-certificate", "--certificate-id", old, "--force-delete")
        for count, name in enumerate((old, UNKNOWN), 4):
            self.assertEqual(gateway.retire(name, client), (True, {"old": name}))
            self.assertEqual(self.wait_function("enrolld-retire", count)[0]["result"], "gone")

    def test_what_an_interrupted_call_has_left(self):
        """INACTIVE, and attached: the rest is done."""
        gateway, _, old = self.renewed()
        self.cloud.set_certificate(old, "INACTIVE")
        self.assertTrue(gateway.retire(old)[0])
        self.assertEqual(self.status(old), ("INACTIVE", []))

    def test_several_at_once(self):
        gateway, _, first = self.renewed()
        second = gateway.id
        gateway.renew()
        client = gateway.connect()
        for old in (first, second):
            self.assertEqual(gateway.retire(old, client), (True, {"old": old}))
        self.assertEqual(self.cloud.certificates_of(FIRST), {gateway.id: "ACTIVE"})

    def test_certificate_of_somebody_else(self):
        gateway, other, old = self.renewed()
        stranger = "is no certificate of this thing"
        client = gateway.connect()
        self.assertRefused(gateway, other.id, stranger, client)
        # Nor one that has two things.
        arn = self.cloud.aws("describe-certificate", "--certificate-id", old)["certificateDescription"]["certificateArn"]
        self.cloud.aws("detach-thing-principal", "--thing-name", FIRST, "--principal", arn)
        for thing in (FIRST, OTHER):
            self.cloud.aws("attach-thing-principal", "--thing-name", thing, "--principal", arn)
        self.assertRefused(gateway, old, stranger, client)
        # Nor one that has none, but is ACTIVE: the claim.
        self.assertRefused(gateway, self.cloud.claim_id, stranger, client)
        # Nor what another gateway has retired: it stays attached where it is.
        self.cloud.set_certificate(other.id, "INACTIVE")
        self.assertRefused(gateway, other.id, stranger, client)
        self.assertEqual(self.status(other.id), ("INACTIVE", [OTHER]))
        self.assertEqual(self.status(old), ("ACTIVE", [FIRST, OTHER]))
        self.assertEqual(self.status(self.cloud.claim_id)[0], "ACTIVE")

    def test_payload_that_lies(self):
        """Whoever the payload names, who is connected counts."""
        gateway, other, _ = self.renewed()
        lies = {"principal": other.id, "topic": f"things/{OTHER}/retire", "new": other.id, "clientId": OTHER}
        self.assertRefused(gateway, other.id, "is no certificate of this thing", **lies)
        lies["principal"] = gateway.id
        self.assertRefused(other, gateway.id, "is no certificate of this thing", **lies)
        self.assertEqual(self.status(gateway.id), ("ACTIVE", [FIRST]))
        self.assertEqual(self.status(other.id), ("ACTIVE", [OTHER]))

    def test_certificate_in_use(self):
        gateway, _, old = self.renewed()
        client = gateway.connect()
        self.assertRefused(gateway, gateway.id, "is the certificate in use", client)
        self.assertRefused(gateway, gateway.id, "is the certificate in use", client, new=old)
        self.assertEqual(self.status(gateway.id)[0], "ACTIVE")

    def test_successor(self):
        """An old certificate, which may have leaked, does not take away the new one."""
        gateway, _ = self.start("--retire")
        self.cloud.edit(clockOffset=60)
        thief = Gateway(self, FIRST)
        gateway.renew()
        self.assertRefused(thief, gateway.id, "is newer")
        self.assertEqual(self.status(gateway.id)[0], "ACTIVE")

    def test_ids_that_are_none(self):
        gateway, _, old = self.renewed()
        client = gateway.connect()
        for wrong in ("", old[:-1], old + "0", old.upper(), "../" + old, 7, None, [old], {"a": old}, True):
            self.assertRefused(gateway, wrong, "is no id of a certificate", client)
        self.assertEqual(self.status(old)[0], "ACTIVE")

    def test_payloads_that_are_no_objects(self):
        gateway, _, _ = self.renewed()
        client = gateway.connect()
        topic = f"things/{FIRST}/retire"
        for number, payload in enumerate((b"", b"[]", b"retire", b"\xff", b'"x"'), 1):
            self.assertNotEqual(client.publish(topic, payload), NOT_AUTHORIZED)
            harness.wait_for("the rule", lambda: len(self.cloud.events(event="rule", result="failed")) == number)
        self.assertEqual(self.cloud.events(event="function"), [])
        self.assertNotEqual(client.publish(topic, b"{}"), NOT_AUTHORIZED)
        result, _ = self.wait_function("enrolld-retire")
        self.assertEqual((result["result"], result["old"]), ("rejected", None))

    def assertUnanswered(self, error, count=1):
        """The function has failed, and nobody was told anything."""
        result, said = self.wait_function("enrolld-retire", count)
        self.assertIsNone(result)
        self.assertIn(error, said)
        self.assertEqual(self.cloud.events(event="control", operation="Publish"), [])

    def test_another_topic_than_its_own(self):
        """Should a policy allow it: nobody hears an answer to what he has not asked."""
        gateway, other, old = self.renewed()
        policy = json.dumps(self.cloud.registry()["policies"]["enrolld-device"])
        policy = policy.replace("/things/${iot:Connection.Thing.ThingName}/retire", "/*")
        self.cloud.set_policy("enrolld-device", json.loads(policy))
        client = gateway.connect()
        topics = (f"things/{OTHER}/retire", "a/b", "", f"things/{FIRST}/retire/x")
        for count, topic in enumerate(topics, 1):
            client.publish(f"$aws/rules/enrolld_retire/{topic}", json.dumps({"old": old}).encode())
            self.assertUnanswered("has no thing of topic", count)
        self.assertEqual(self.status(old)[0], "ACTIVE")
        self.assertEqual(self.status(other.id)[0], "ACTIVE")

    def test_message_of_an_operator(self):
        """principal() is no certificate then."""
        _, _, old = self.renewed()
        message = {"old": old, "principal": old}
        self.cloud.aws_data("publish", "--topic", f"things/{FIRST}/retire", "--qos", 1, "--payload",
                            base64.b64encode(json.dumps(message).encode()).decode())  # fmt: skip
        result, error = self.wait_function("enrolld-retire")
        self.assertIsNone(result)
        self.assertIn("is no ACTIVE certificate", error)
        self.assertEqual(self.status(old)[0], "ACTIVE")

    def test_certificate_that_is_no_longer_active(self):
        """Its last message comes late."""
        gateway, _, old = self.renewed()
        client = gateway.connect()
        self.cloud.options(**{"disconnect-delay": 60})
        self.cloud.set_certificate(gateway.id, "REVOKED")
        client.publish(f"things/{FIRST}/retire", json.dumps({"old": old}).encode())
        self.assertUnanswered("is no ACTIVE certificate")
        self.assertEqual(self.status(old)[0], "ACTIVE")

    def test_role(self):
        """The role's policy is what the function may do, and no more."""
        gateway, _, old = self.renewed()
        text = (harness.SOURCE_DIR / "etc/aws/retire-lambda-policy.json").read_text()
        file = harness.SOURCE_DIR / "etc/aws/retire-lambda.py"
        smaller = self.directory / "policy.json"
        client = gateway.connect()
        actions = ("DescribeCertificate", "ListPrincipalThings", "UpdateCertificate", "DetachThingPrincipal",
                   "DescribeEndpoint", "Publish")  # fmt: skip
        for count, action in enumerate(actions, 1):
            smaller.write_text(text.replace(f"iot:{action}", "iot:Nothing"))
            self.cloud.set_function("enrolld-retire", file, policy=str(smaller))
            client.publish(f"things/{FIRST}/retire", json.dumps({"old": old}).encode())
            _, error = self.wait_function("enrolld-retire", count)
            self.assertIn(f"may not do iot:{action}", error)
        self.cloud.set_function("enrolld-retire", file, policy=str(file.with_name("retire-lambda-policy.json")))
        self.assertTrue(gateway.retire(old, client)[0])


class Rules(CloudOfTwo):
    def rule(self, **members):
        text = (harness.SOURCE_DIR / "etc/aws/retire-rule.json").read_text()
        text = text.replace("REGION", "eu-central-1").replace("ACCOUNT", "123456789012")
        return json.dumps(json.loads(text) | members)

    def create(self, name="enrolld_retire", **members):
        self.cloud.aws("create-topic-rule", "--rule-name", name, "--topic-rule-payload", self.rule(**members))

    def assertCode(self, code, *arguments, **options):
        with self.assertRaises(AwsError) as seen:
            self.cloud.aws(*arguments, **options)
        self.assertEqual(seen.exception.code, code, seen.exception)

    def test_life_of_a_rule(self):
        gateway, _ = self.start()
        old = gateway.id
        gateway.renew()
        client = gateway.connect()
        topic = f"things/{FIRST}/retire"
        message = json.dumps({"old": old}).encode()
        for name in (topic, f"$aws/rules/enrolld_retire/{topic}"):  # nobody is there
            self.assertNotEqual(client.publish(name, message), NOT_AUTHORIZED)
        self.create(ruleDisabled=True)
        self.assertNotEqual(client.publish(topic, message), NOT_AUTHORIZED)
        (listed,) = self.cloud.aws("list-topic-rules")["rules"]
        self.assertEqual((listed["topicPattern"], listed["ruleDisabled"]), ("things/+/retire", True))
        self.assertEqual(self.status(old)[0], "ACTIVE")
        self.cloud.aws("enable-topic-rule", "--rule-name", "enrolld_retire")
        got = self.cloud.aws("get-topic-rule", "--rule-name", "enrolld_retire")
        self.assertEqual(got["ruleArn"], "arn:aws:iot:eu-central-1:123456789012:rule/enrolld_retire")
        self.assertEqual(got["rule"]["actions"], json.loads(self.rule())["actions"])
        self.assertFalse(got["rule"]["ruleDisabled"])
        self.assertTrue(gateway.retire(old, client)[0])
        self.cloud.aws("disable-topic-rule", "--rule-name", "enrolld_retire")
        self.assertNotEqual(client.publish(topic, message), NOT_AUTHORIZED)
        replaced = self.rule(sql="SELECT * FROM 'elsewhere'")
        self.cloud.aws("replace-topic-rule", "--rule-name", "enrolld_retire", "--topic-rule-payload", replaced)
        self.assertNotEqual(client.publish(topic, message), NOT_AUTHORIZED)
        for _ in range(2):
            self.cloud.aws("delete-topic-rule", "--rule-name", "enrolld_retire")
        self.assertEqual(self.cloud.aws("list-topic-rules")["rules"], [])
        self.assertEqual(len(self.cloud.events(event="function")), 1)

    def test_rules_that_are_refused(self):
        self.start()
        payload = ["--rule-name", "r", "--topic-rule-payload"]
        for sql in ("", "SELECT", "SELECT * FROM things", "SELECT * FROM 'a' WHERE b = 1", "DROP"):
            self.assertCode("SqlParseException", "create-topic-rule", *payload, self.rule(sql=sql))
        republish = [{"republish": {"topic": "a", "roleArn": "arn:aws:iam::123456789012:role/x"}}]
        for members in ({"actions": republish}, {"awsIotSqlVersion": "1"}, {"actions": 11 * republish}):
            self.assertCode("InvalidRequestException", "create-topic-rule", *payload, self.rule(**members))
        self.assertCode(
            "InvalidRequestException", "create-topic-rule", "--rule-name", "a-b", "--topic-rule-payload", self.rule()
        )
        self.create("r")
        self.assertCode("ResourceAlreadyExistsException", "create-topic-rule", *payload, self.rule())
        for operation in ("get", "enable", "disable"):
            self.assertCode("UnauthorizedException", f"{operation}-topic-rule", "--rule-name", "none")

    def test_function_that_is_not_there(self):
        gateway, _ = self.start()
        self.create(actions=[{"lambda": {"functionArn": "arn:aws:lambda:eu-central-1:123456789012:function:none"}}])
        gateway.connect().publish(f"things/{FIRST}/retire", b"{}")
        self.assertEqual(self.wait_function("none"), (None, "there is no such function"))

    def test_registrations_meet_rules(self):
        """JITR's messages too: the function of etc/aws lets the gateway in."""
        self.start(front=True)
        rule = (harness.SOURCE_DIR / "etc/aws/jitr-rule.json").read_text()
        rule = rule.replace("REGION", "eu-central-1").replace("ACCOUNT", "123456789012")
        self.cloud.aws("create-topic-rule", "--rule-name", "enrolld_jitr", "--topic-rule-payload", rule)
        authority = Authority(self.directory, "maker")
        self.cloud.register_authority(authority.path)
        authority.device("GW-0007")
        files = self.directory / "GW-0007.pem", self.directory / "GW-0007.key"
        client = Client(self, self.cloud, "GW-0007", *files)
        self.assertEqual(client.connected(), NOT_AUTHORIZED)
        result, error = self.wait_function("enrolld-jitr")
        self.assertEqual((result or {}).get("result"), "activated", error)
        self.assertEqual(Client(self, self.cloud, "GW-0007", *files).connected(), 0)


class Validity(CloudOfTwo):
    """Certificates of chosen days, before and behind their validity."""

    def outcome(self, gateway):
        client = Client(self, self.cloud, f"{gateway.thing}-enrolld", gateway.certificate, gateway.key)
        return client.connected()

    def issue(self, form):
        """A gateway whose certificate was issued so."""
        gateway = Gateway(self, FIRST)
        self.cloud.options(issuer=form)
        gateway.renew()
        return gateway

    def test_when_it_connects(self):
        self.start(front=True)
        forms = {"private:1": 0, "private:0.01": 0, "private:-1": NOT_AUTHORIZED, "private:0": NOT_AUTHORIZED,
                 "private:1:60": NOT_AUTHORIZED, "private:1:-3600": 0, "aws": 0}  # fmt: skip
        for form, expected in forms.items():
            gateway = self.issue(form)
            self.assertEqual(self.outcome(gateway), expected, form)
        reasons = {event["reason"] for event in self.cloud.events(event="refused")}
        self.assertEqual(reasons, {"certificate not within its validity"})

    def test_when_its_time_comes_and_goes(self):
        self.start(front=True)
        gateway = self.issue("private:1:3600")
        for offset, expected in ((0, NOT_AUTHORIZED), (3700, 0), (3600 + 86500, NOT_AUTHORIZED), (7200, 0)):
            self.cloud.edit(clockOffset=offset)
            self.assertEqual(self.outcome(gateway), expected, offset)

    def test_while_it_is_connected(self):
        self.start(front=True)
        gateway = self.issue("private:1")
        other = Gateway(self, OTHER).connect()
        client = gateway.connect()
        self.cloud.edit(clockOffset=86500)
        with self.assertRaises(Closed):
            client.message("anything")
        self.assertNotEqual(other.publish(f"things/{OTHER}/x", b""), NOT_AUTHORIZED)

    def test_validity_counts_from_the_clock_of_the_cloud(self):
        self.start(front=True)
        self.cloud.edit(clockOffset=1000 * 86400)
        gateway = self.issue("private:10")
        self.assertEqual(self.outcome(gateway), 0)
        end = self.cloud.not_after(gateway.id)
        self.assertAlmostEqual(end, time.time() + 1010 * 86400, delta=60)


if __name__ == "__main__":
    harness.main()
