#!/usr/bin/env python3
"""The control plane of the stand-in: with the aws client as operators have it, and with plain HTTP for what no client
could be made to say."""

import json
import socket
import urllib.error
import urllib.request

import harness
from authority import Authority
from maker import certificate_id
from mqtt_client import Client, Closed
from parts import AwsError, Cloud

AUTHORIZATION = "AWS4-HMAC-SHA256 Credential=x/20260101/eu-central-1/iot/aws4_request, SignedHeaders=host, Signature=0"
UNKNOWN = 64 * "0"
ROLE = "arn:aws:iam::123456789012:role/enrolld-provisioning"
RSA_1024 = ("RSA", "-pkeyopt", "rsa_keygen_bits:1024")
RSA_2048 = ("RSA", "-pkeyopt", "rsa_keygen_bits:2048")


class Refused(Exception):
    def __init__(self, status, code, reply):
        super().__init__(f"{status} {code}: {reply}")
        self.status, self.code, self.reply = status, code, reply


class ControlPlane(harness.TestCase):
    def start(self, *options):
        self.cloud = Cloud(self, "--connect-rate=off", "--claim-key=ecdsa", "--control-port=0", *options)

    def call(self, method, path, body=None, headers=(), authorization=AUTHORIZATION):
        """body: an object, or bytes to be sent as they are."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        request = urllib.request.Request(self.cloud.control_url() + path, data=data, method=method)
        for name, value in dict(headers).items():
            request.add_header(name, value)
        if authorization:
            request.add_header("Authorization", authorization)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=harness.DEADLINE) as reply:
                return json.loads(reply.read())
        except urllib.error.HTTPError as error:
            with error:
                code = error.headers.get("x-amzn-ErrorType")
                raise Refused(error.code, code, json.loads(error.read()) if code else None) from None

    def assertRefused(self, status, code, *arguments, **options):
        with self.assertRaises(Refused) as seen:
            self.call(*arguments, **options)
        self.assertEqual((seen.exception.status, seen.exception.code), (status, code), seen.exception)
        self.assertTrue(seen.exception.reply["message"])
        return seen.exception.reply

    def code(self):
        return self.call("GET", "/registrationcode")["registrationCode"]

    def register(self, authority, query="?setAsActive=true", **members):
        """Registers it as it should be done; returns its id."""
        body = {"caCertificate": authority.pem, "verificationCertificate": authority.verification(self.code())}
        return self.call("POST", f"/cacertificate{query}", body | members)["certificateId"]

    def authority(self, name="Authority", **options):
        return Authority(self.directory, name, **options)


class StockClient(ControlPlane):
    def test_an_authority_and_a_device(self):
        self.start()
        aws = self.cloud.aws
        authority = self.authority()
        code = aws("get-registration-code")["registrationCode"]
        verification = self.directory / "verification.pem"
        verification.write_text(authority.verification(code))
        registered = aws("register-ca-certificate", "--ca-certificate", f"file://{authority.path}",
                         "--verification-certificate", f"file://{verification}", "--set-as-active",
                         "--allow-auto-registration", "--tags", "Key=maker,Value=a",
                         "--registration-config", json.dumps({"templateBody": "{}", "roleArn": ROLE}))  # fmt: skip
        self.assertEqual(registered["certificateId"], authority.id)
        self.assertTrue(registered["certificateArn"].endswith(f":cacert/{authority.id}"))
        described = aws("describe-ca-certificate", "--certificate-id", authority.id)
        self.assertEqual(described["registrationConfig"], {"templateBody": "{}", "roleArn": ROLE})
        description = described["certificateDescription"]
        self.assertEqual(description["autoRegistrationStatus"], "ENABLE")
        self.assertEqual(description["certificatePem"], authority.pem)
        with self.assertRaises(AwsError) as seen:
            aws("delete-ca-certificate", "--certificate-id", authority.id)
        self.assertEqual(seen.exception.code, "CertificateStateException")
        leaf = self.directory / "leaf.pem"
        leaf.write_text(authority.device("device", subject="/CN=GW-0001"))
        files = ["--certificate-pem", f"file://{leaf}", "--ca-certificate-pem", f"file://{authority.path}"]
        arn = aws("register-certificate", *files, "--status", "ACTIVE")["certificateArn"]
        identifier = certificate_id(leaf.read_text())
        listed = aws("list-certificates-by-ca", "--ca-certificate-id", authority.id, "--page-size", "1")["certificates"]
        self.assertEqual([(item["certificateId"], item["status"]) for item in listed], [(identifier, "ACTIVE")])
        aws("create-thing", "--thing-name", "gateway-1", "--attribute-payload", "attributes={SerialNumber=GW-0001}")
        aws("attach-thing-principal", "--thing-name", "gateway-1", "--principal", arn)
        aws("attach-policy", "--policy-name", "enrolld-device", "--target", arn)
        self.assertEqual(aws("list-attached-policies", "--target", arn)["policies"][0]["policyName"], "enrolld-device")
        self.assertEqual(self.cloud.certificates_of("gateway-1"), {identifier: "ACTIVE"})
        aws("update-certificate", "--certificate-id", identifier, "--new-status", "REVOKED")
        self.assertEqual(self.cloud.certificates_of("gateway-1"), {identifier: "REVOKED"})
        self.assertEqual(aws("describe-endpoint", "--endpoint-type", "iot:Data-ATS")["endpointAddress"], "localhost")


class Authorities(ControlPlane):
    def test_registration_code_lives_until_it_is_deleted(self):
        self.start()
        self.assertRefused(404, "ResourceNotFoundException", "DELETE", "/registrationcode")
        code = self.code()
        self.assertRegex(code, "^[0-9a-f]{64}$")
        self.assertEqual(self.code(), code)
        self.cloud.stop()
        self.cloud.start()
        self.assertEqual(self.code(), code)
        self.call("DELETE", "/registrationcode")
        self.assertNotEqual(self.code(), code)

    def refused(self, authority, verification, status=400, code="CertificateValidationException", **members):
        body = {"caCertificate": authority.pem, "verificationCertificate": verification} | members
        body = {name: value for name, value in body.items() if value is not None}
        reply = self.assertRefused(status, code, "POST", "/cacertificate", body)
        self.assertEqual(self.cloud.registry().get("authorities", {}), {})
        return reply

    def test_proof_of_the_key(self):
        self.start()
        mine, other = self.authority("mine"), self.authority("other")
        wrong_code = "RegistrationCodeValidationException"
        self.refused(mine, mine.verification(64 * "a"), code=wrong_code)  # nobody has asked for a code yet
        code = self.code()
        self.refused(mine, mine.verification(64 * "a"), code=wrong_code)
        self.refused(mine, mine.verification(code.upper()), code=wrong_code)
        self.refused(mine, mine.sign(mine.request(mine.key, f"/CN={code}/CN={code}")), code=wrong_code)
        self.refused(mine, mine.sign(mine.request(mine.key, f"/O={code}")), code=wrong_code)
        self.refused(mine, other.verification(code))
        self.refused(mine, mine.sign(mine.request(mine.key, f"/CN={code}"), days=-1))
        self.refused(mine, "no certificate")
        self.refused(mine, None, code="InvalidRequestException")
        self.refused(mine, mine.verification(code), code="InvalidRequestException", certificateMode="SNI_ONLY")
        self.refused(mine, None, code="InvalidRequestException", certificateMode="OTHER")
        namesake = self.authority("namesake", subject="/O=Maker/CN=mine")
        self.refused(mine, namesake.verification(code))
        self.register(mine, "")

    def test_what_may_be_an_authority(self):
        self.start()
        code = self.code()
        wrong = (
            {"extensions": ["basicConstraints=critical,CA:FALSE"]},
            {"extensions": ["subjectKeyIdentifier=hash"]},
            {"extensions": ["basicConstraints=critical,CA:TRUE", "keyUsage=digitalSignature"]},
            {"days": -1},
            {"key": RSA_1024},
            {"key": ("EC", "-pkeyopt", "ec_paramgen_curve:secp256k1")},
            {"key": ("ED25519",)},
        )
        for number, options in enumerate(wrong):
            with self.subTest(options):
                authority = self.authority(f"wrong-{number}", **options)
                self.refused(authority, authority.verification(code))
        chain = self.authority("first")
        chain.pem += self.authority("second").pem
        self.refused(chain, chain.verification(code))
        self.register(self.authority("rsa", key=RSA_2048))
        self.register(self.authority("p384", key=("EC", "-pkeyopt", "ec_paramgen_curve:P-384")))
        intermediate = self.authority("intermediate", issuer=self.authority("root"))
        self.assertEqual(self.register(intermediate), intermediate.id)

    def test_ten_with_the_same_subject(self):
        self.start()
        makers = [self.authority(f"same-{number}", subject="/O=Same") for number in range(11)]
        for maker in makers[:10]:
            self.register(maker)
        body = {"caCertificate": makers[10].pem, "verificationCertificate": makers[10].verification(self.code())}
        self.assertRefused(410, "LimitExceededException", "POST", "/cacertificate", body)
        body = {"caCertificate": makers[0].pem, "verificationCertificate": makers[0].verification(self.code())}
        reply = self.assertRefused(409, "ResourceAlreadyExistsException", "POST", "/cacertificate", body)
        self.assertEqual(reply["resourceId"], makers[0].id)
        self.register(self.authority("another"))

    def test_flags_and_changes(self):
        self.start()
        authority = self.authority()
        self.register(authority, "")
        path = f"/cacertificate/{authority.id}"

        def state():
            described = self.call("GET", path)
            description = described["certificateDescription"]
            words = [description[name] for name in ("status", "autoRegistrationStatus", "customerVersion")]
            return *words, described.get("registrationConfig")

        self.assertEqual(state(), ("INACTIVE", "DISABLE", 1, None))
        configuration = {"templateBody": "{}", "roleArn": ROLE}
        self.call("PUT", f"{path}?newStatus=ACTIVE&newAutoRegistrationStatus=ENABLE",
                  {"registrationConfig": configuration})  # fmt: skip
        self.assertEqual(state()[:2] + state()[3:], ("ACTIVE", "ENABLE", configuration))
        self.call("PUT", path, {"removeAutoRegistration": True})
        self.assertEqual(state()[:2] + state()[3:], ("ACTIVE", "DISABLE", None))
        for query in ("newStatus=REVOKED", "newStatus=", "newAutoRegistrationStatus=on"):
            self.assertRefused(400, "InvalidRequestException", "PUT", f"{path}?{query}")
        self.assertRefused(400, "InvalidRequestException", "PUT", f"{path}?newAutoRegistrationStatus=ENABLE",
                           {"removeAutoRegistration": True})  # fmt: skip
        self.assertRefused(406, "CertificateStateException", "DELETE", path)
        self.call("PUT", f"{path}?newStatus=INACTIVE")
        self.call("DELETE", path)
        for method in ("GET", "PUT", "DELETE"):
            self.assertRefused(404, "ResourceNotFoundException", method, path)
        self.assertRefused(400, "InvalidRequestException", "GET", "/cacertificate/abc")

    def test_templates_for_devices(self):
        self.start()
        authority = self.authority()
        template = {"templateName": "line", "templateBody": "{}", "provisioningRoleArn": ROLE}
        self.call("POST", "/provisioning-templates", template | {"type": "JITP", "enabled": True})
        self.assertEqual(self.call("GET", "/provisioning-templates/line")["type"], "JITP")
        self.assertRefused(409, "ResourceAlreadyExistsException", "POST", "/provisioning-templates", template)
        self.assertRefused(404, "ResourceNotFoundException", "GET", "/provisioning-templates/other")
        wrong = (
            ({"templateBody": "{}"}, 400, "InvalidRequestException"),  # nobody to do it
            ({"templateBody": "{", "roleArn": ROLE}, 400, "InvalidRequestException"),
            ({"templateBody": "{}", "templateName": "line", "roleArn": ROLE}, 400, "InvalidRequestException"),
            ({}, 400, "InvalidRequestException"),
            ({"templateName": "enrolld"}, 400, "InvalidRequestException"),  # for fleet provisioning
            ({"templateName": "none"}, 404, "ResourceNotFoundException"),
            ({"templateBody": 1, "roleArn": ROLE}, 400, "SerializationException"),
            ([], 400, "SerializationException"),
        )
        for configuration, status, code in wrong:
            with self.subTest(configuration):
                self.refused(authority, authority.verification(self.code()), status, code,
                             registrationConfig=configuration)  # fmt: skip
        self.register(authority, registrationConfig={"templateName": "line"})
        listed = self.call("GET", "/cacertificates?templateName=line")["certificates"]
        self.assertEqual([entry["certificateId"] for entry in listed], [authority.id])
        self.assertEqual(self.call("GET", "/cacertificates?templateName=other")["certificates"], [])

    def test_sni_only(self):
        """Nobody proves anything, and the leaves take over the mode."""
        self.start()
        authority = self.authority()
        body = {"caCertificate": authority.pem, "certificateMode": "SNI_ONLY"}
        self.call("POST", "/cacertificate?setAsActive=true", body)
        leaf = self.call("POST", "/certificate/register", {"certificatePem": authority.device("device")})
        described = self.call("GET", f"/certificates/{leaf['certificateId']}")["certificateDescription"]
        self.assertEqual(described["certificateMode"], "SNI_ONLY")


class Certificates(ControlPlane):
    def begin(self, *options):
        self.start(*options)
        self.maker = self.authority()
        self.register(self.maker)

    def refused(self, body, status=400, code="CertificateValidationException", path="/certificate/register"):
        before = self.cloud.registry()["certificates"]
        reply = self.assertRefused(status, code, "POST", path, body)
        self.assertEqual(self.cloud.registry()["certificates"], before)
        return reply

    def add(self, pem, path="/certificate/register", **members):
        return self.call("POST", path, {"certificatePem": pem} | members)["certificateId"]

    def status(self, identifier):
        return self.call("GET", f"/certificates/{identifier}")["certificateDescription"]["status"]

    def test_what_is_registered(self):
        self.begin()
        pem = self.maker.device("device")
        identifier = self.add(pem)
        self.assertEqual(identifier, certificate_id(pem))
        description = self.call("GET", f"/certificates/{identifier}")["certificateDescription"]
        self.assertEqual(description["caCertificateId"], self.maker.id)
        self.assertEqual((description["status"], description["certificateMode"]), ("INACTIVE", "DEFAULT"))
        self.assertEqual(description["certificatePem"], pem)
        self.assertLess(description["validity"]["notBefore"], description["validity"]["notAfter"])
        reply = self.refused({"certificatePem": pem}, 409, "ResourceAlreadyExistsException")
        self.assertEqual(reply["resourceId"], identifier)
        self.assertEqual(self.status(self.add(self.maker.device("second"), status="ACTIVE")), "ACTIVE")
        self.assertEqual(self.status(self.add(self.maker.device("third"), status="REVOKED")), "REVOKED")
        self.assertEqual(
            self.status(self.add(self.maker.device("fourth"), "/certificate/register?setAsActive=true")), "ACTIVE"
        )
        self.assertEqual(len(self.call("GET", f"/certificates-by-ca/{self.maker.id}")["certificates"]), 4)
        self.assertEqual(self.call("GET", f"/certificates-by-ca/{UNKNOWN}")["certificates"], [])

    def test_what_is_not(self):
        self.begin()
        stranger = self.authority("stranger")
        good = self.maker.device("good")
        self.refused({"certificatePem": stranger.device("device")})
        self.refused({"certificatePem": good, "caCertificatePem": stranger.pem})
        self.refused({"certificatePem": good + self.maker.pem})
        self.refused({"certificatePem": "-----BEGIN CERTIFICATE-----\n"})
        self.refused({"certificatePem": self.maker.device("old", days=-1)})
        self.refused({"certificatePem": self.maker.device("sha1", digest="sha1")})
        self.refused({"certificatePem": self.maker.device("small", key=RSA_1024)})
        self.refused({}, code="InvalidRequestException")
        self.refused({"certificatePem": None}, code="InvalidRequestException")
        self.refused({"certificatePem": 65537 * "a"}, code="InvalidRequestException")
        self.refused({"certificatePem": good, "status": "SLEEPING"}, code="InvalidRequestException")
        for status in ("PENDING_ACTIVATION", "PENDING_TRANSFER"):
            self.refused({"certificatePem": good, "status": status}, 406, "CertificateStateException")
        self.call("PUT", f"/cacertificate/{self.maker.id}?newStatus=INACTIVE")
        self.refused({"certificatePem": good}, 406, "CertificateStateException")
        # That one needs no authority.
        self.add(good, "/certificate/register-no-ca", status="ACTIVE")

    def test_authorities_of_one_name(self):
        self.begin()
        namesake = self.authority("namesake", subject="/O=Maker/CN=Authority")
        self.register(namesake)
        pem = namesake.device("device")
        self.refused({"certificatePem": pem}, 409, "CertificateConflictException")
        self.refused({"certificatePem": pem, "caCertificatePem": self.maker.pem})
        identifier = self.add(pem, caCertificatePem=namesake.pem)
        self.assertEqual(self.cloud.registry()["certificates"][identifier]["caCertificateId"], namesake.id)

    def test_without_an_authority(self):
        self.begin()
        stranger = self.authority("stranger")
        pem = stranger.device("device")
        identifier = self.add(pem, "/certificate/register-no-ca")
        description = self.call("GET", f"/certificates/{identifier}")["certificateDescription"]
        self.assertEqual((description["status"], description["certificateMode"]), ("INACTIVE", "SNI_ONLY"))
        self.assertNotIn("caCertificateId", description)
        path = "/certificate/register-no-ca"
        self.refused({"certificatePem": pem}, 409, "ResourceAlreadyExistsException", path)
        self.refused({"certificatePem": stranger.device("old", days=-1)}, path=path)

    def test_status_and_connections(self):
        """What is not ACTIVE neither connects nor stays connected."""
        self.begin("--device=gateway")
        files = self.cloud.directory / "gateway.pem", self.cloud.directory / "gateway.key"
        identifier = certificate_id(files[0].read_text())
        path = f"/certificates/{identifier}"
        for status in ("INACTIVE", "REVOKED"):
            client = Client(self, self.cloud, "gateway", *files)
            self.assertEqual(client.connected(), 0)
            self.call("PUT", f"{path}?newStatus={status}")
            with self.assertRaises(Closed):
                client.take(lambda *_: False)
            self.assertEqual(Client(self, self.cloud, "gateway", *files).connected(), 0x87)
            self.call("PUT", f"{path}?newStatus=ACTIVE")
        self.assertEqual(Client(self, self.cloud, "gateway", *files).connected(), 0)
        self.assertRefused(406, "CertificateStateException", "PUT", f"{path}?newStatus=PENDING_ACTIVATION")
        for query in ("", "?newStatus=", "?newStatus=active"):
            self.assertRefused(400, "InvalidRequestException", "PUT", path + query)
        self.assertRefused(404, "ResourceNotFoundException", "PUT", f"/certificates/{UNKNOWN}?newStatus=ACTIVE")

    def test_deletion(self):
        self.begin()
        identifier = self.add(self.maker.device("device"), status="ACTIVE")
        path = f"/certificates/{identifier}"
        arn = self.call("GET", path)["certificateDescription"]["certificateArn"]
        self.call("POST", "/things/gateway", {})
        self.call("PUT", "/things/gateway/principals", headers={"x-amzn-principal": arn})
        self.call("PUT", "/target-policies/enrolld-device", {"target": arn})
        self.assertRefused(406, "CertificateStateException", "DELETE", f"{path}?forceDelete=true")
        self.call("PUT", f"{path}?newStatus=INACTIVE")
        self.assertRefused(409, "DeleteConflictException", "DELETE", f"{path}?forceDelete=true")
        self.assertRefused(400, "InvalidRequestException", "DELETE", "/things/gateway")
        self.call("DELETE", "/things/gateway/principals", headers={"x-amzn-principal": arn})
        self.assertRefused(409, "DeleteConflictException", "DELETE", path)
        self.call("DELETE", f"{path}?forceDelete=true")
        self.assertRefused(404, "ResourceNotFoundException", "GET", path)
        self.call("DELETE", "/things/gateway")
        self.call("DELETE", "/things/gateway")

    def test_pages(self):
        self.begin()
        identifiers = [self.add(self.maker.device(f"device-{number}")) for number in range(7)]
        path = f"/certificates-by-ca/{self.maker.id}?pageSize=3"

        def pages(path, **changes):
            marker, found = "", []
            while marker is not None:
                page = self.call("GET", path + (marker and f"&marker={marker}"))
                found.append([entry["certificateId"] for entry in page["certificates"]])
                marker = page.get("nextMarker")
                if len(found) == changes.get("after"):
                    self.call("DELETE", f"/certificates/{changes['delete'](found)}")
            return found

        descending = pages(path)
        self.assertEqual([len(page) for page in descending], [3, 3, 1])
        self.assertEqual(sorted(sum(descending, [])), sorted(identifiers))
        ascending = pages(f"{path}&isAscendingOrder=true")
        self.assertEqual(sum(ascending, []), sum(descending, [])[::-1])
        # The last of a page goes away, and nothing is left out.
        rest = pages(path, after=1, delete=lambda found: found[0][-1])
        self.assertEqual(sum(rest, []), sum(descending, []))
        for query in ("pageSize=0", "pageSize=251", "pageSize=x", "marker=", "marker=zz", "marker=00", "marker=6120",
                      "isAscendingOrder=1"):  # fmt: skip
            self.assertRefused(400, "InvalidRequestException", "GET", f"/certificates?{query}")


class Things(ControlPlane):
    def principal(self, name):
        maker = self.authority(f"maker-{name}")
        body = {"certificatePem": maker.device(name)}
        return {"x-amzn-principal": self.call("POST", "/certificate/register-no-ca", body)["certificateArn"]}

    def test_things(self):
        self.start()
        body = {"attributePayload": {"attributes": {"SerialNumber": "1"}}}
        self.assertEqual(self.call("POST", "/things/gateway", body)["thingName"], "gateway")
        self.call("POST", "/things/gateway", body)
        self.assertRefused(409, "ResourceAlreadyExistsException", "POST", "/things/gateway", {})
        self.assertEqual(self.call("GET", "/things/gateway")["attributes"], {"SerialNumber": "1"})
        for path, body in (("a%20b", {}), (129 * "a", {}), ("b", {"thingTypeName": "a b"}),
                           ("b", {"attributePayload": {"attributes": {"a": "b c"}}}),
                           ("b", {"attributePayload": {"attributes": {"a": 1}}})):  # fmt: skip
            self.assertRefused(400, "InvalidRequestException", "POST", f"/things/{path}", body)
        self.call("POST", "/things/another", {})
        first = self.call("GET", "/things?maxResults=1")
        self.assertEqual(first["things"][0]["thingName"], "another")
        second = self.call("GET", f"/things?maxResults=1&nextToken={first['nextToken']}")
        self.assertEqual([thing["thingName"] for thing in second["things"]], ["gateway"])
        self.assertNotIn("nextToken", second)
        self.assertRefused(404, "ResourceNotFoundException", "GET", "/things/none")

    def test_principals(self):
        self.start()
        one, other = self.principal("one"), self.principal("other")
        for name in ("a", "b"):
            self.call("POST", f"/things/{name}", {})
        self.call("PUT", "/things/a/principals?thingPrincipalType=EXCLUSIVE_THING", headers=one)
        self.assertRefused(400, "InvalidRequestException", "PUT", "/things/b/principals", headers=one)
        self.call("PUT", "/things/a/principals", headers=other)
        self.call("PUT", "/things/b/principals", headers=other)
        path = "/things/b/principals?thingPrincipalType=EXCLUSIVE_THING"
        self.assertRefused(400, "InvalidRequestException", "PUT", path, headers=other)
        listed = self.call("GET", "/things/a/principals")["principals"]
        self.assertEqual(sorted(listed), sorted([one["x-amzn-principal"], other["x-amzn-principal"]]))
        self.assertEqual(self.call("GET", "/principals/things", headers=other)["things"], ["a", "b"])
        self.call("DELETE", "/things/a/principals", headers=other)
        self.assertEqual(self.call("GET", "/principals/things", headers=other)["things"], ["b"])
        for principal in ("", "x", one["x-amzn-principal"].replace("123456789012", "210987654321")):
            headers = {"x-amzn-principal": principal}
            self.assertRefused(400, "InvalidRequestException", "PUT", "/things/a/principals", headers=headers)
        headers = {"x-amzn-principal": one["x-amzn-principal"][:-64] + UNKNOWN}
        self.assertRefused(404, "ResourceNotFoundException", "PUT", "/things/a/principals", headers=headers)
        self.assertRefused(404, "ResourceNotFoundException", "PUT", "/things/c/principals", headers=one)

    def test_policies(self):
        self.start()
        arn = self.principal("one")["x-amzn-principal"]
        target = urllib.request.quote(arn, safe="")
        document = json.dumps(self.cloud.registry()["policies"]["enrolld-device"])
        self.call("POST", "/policies/second", {"policyDocument": document})
        self.assertEqual(json.loads(self.call("GET", "/policies/second")["policyDocument"]), json.loads(document))
        self.assertRefused(409, "ResourceAlreadyExistsException", "POST", "/policies/second",
                           {"policyDocument": document})  # fmt: skip
        for text in ("{", "[]", "{}", json.dumps({"Version": "1"})):
            self.assertRefused(400, "MalformedPolicyException", "POST", "/policies/third", {"policyDocument": text})
        for name in ("enrolld-device", "second", "second"):
            self.call("PUT", f"/target-policies/{name}", {"target": arn})
        listed = self.call("POST", f"/attached-policies/{target}", {})["policies"]
        self.assertEqual([policy["policyName"] for policy in listed], ["enrolld-device", "second"])
        self.call("POST", "/target-policies/second", {"target": arn})
        self.call("POST", "/target-policies/second", {"target": arn})
        listed = self.call("POST", f"/attached-policies/{target}", {})["policies"]
        self.assertEqual([policy["policyName"] for policy in listed], ["enrolld-device"])
        self.assertRefused(404, "ResourceNotFoundException", "PUT", "/target-policies/none", {"target": arn})
        self.assertRefused(400, "InvalidRequestException", "PUT", "/target-policies/second", {"target": "x"})
        self.assertRefused(400, "InvalidRequestException", "PUT", "/target-policies/second", {})


class Requests(ControlPlane):
    def raw(self, data, end=False):
        """Sends bytes; returns what comes until the other side closes."""
        port = int(self.cloud.control_url().rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=harness.DEADLINE) as connection:
            connection.sendall(data)
            if end:
                connection.shutdown(socket.SHUT_WR)
            received = b""
            while data := connection.recv(65536):
                received += data
            return received

    def test_who_asks_must_say_so(self):
        self.start()
        for authorization in ("", "Bearer abc", "AWS4-HMAC-SHA256"):
            self.assertRefused(403, "MissingAuthenticationTokenException", "GET", "/certificates",
                               authorization=authorization)  # fmt: skip

    def test_no_such_operation(self):
        self.start()
        for method, path in (("GET", "/"), ("GET", "/nothing"), ("POST", "/certificates"), ("GET", "/certificates/"),
                             ("GET", "//certificates"), ("GET", "/certificates/a/b/c/d"),
                             ("GET", "/things/%ff"), ("GET", "/things/%c0%80"),
                             ("GET", "/certificates?a=1&a=2"), ("GET", "/certificates?%"), ("PATCH", "/certificates"),
                             ("GET", "/certificates?" + "&".join(f"p{i}=1" for i in range(17))),
                             ("GET", "/things/" + 9000 * "a")):  # fmt: skip
            with self.subTest(f"{method} {path[:60]}"):
                self.assertRefused(404, "UnknownOperationException", method, path)

    def test_escapes_that_are_none(self):
        """libmicrohttpd 1.0 refuses them itself, and in its own words."""
        self.start()
        for method, path in (("PUT", "/certificates/%zz"), ("GET", "/things/%00")):
            with self.subTest(f"{method} {path}"):
                with self.assertRaises(Refused) as seen:
                    self.call(method, path)
                answer = (seen.exception.status, seen.exception.code)
                self.assertIn(answer, ((404, "UnknownOperationException"), (400, None)))

    def test_bodies_that_are_no_objects(self):
        self.start()
        for body in (b"{", b"[]", b"null", b"1", b"\xff", b'{"a":"\xff"}', b"{} {}", b"[" * 1000, b'{"a":1,}', b"\0"):
            with self.subTest(body[:20]):
                self.assertRefused(400, "SerializationException", "POST", "/certificate/register", body)
        self.assertRefused(400, "SerializationException", "POST", "/certificate/register", {"certificatePem": ["x"]})
        self.assertRefused(400, "InvalidRequestException", "POST", "/certificate/register", {"certificatePem": "a\0b"})
        self.assertRefused(400, "InvalidRequestException", "POST", "/certificate/register?setAsActive=1", {})

    def test_bounds(self):
        self.start()
        body = b'{"certificatePem":"' + 131072 * b"a" + b'"}'
        with self.assertRaises(Refused) as seen:
            self.call("POST", "/certificate/register", body)
        self.assertEqual(seen.exception.status, 413)
        received = self.raw(b"GET /certificates HTTP/1.1\r\nHost: x\r\nX: " + 40000 * b"a" + b"\r\n\r\n")
        self.assertRegex(received.split(b"\r\n")[0], b"HTTP/1.1 4(13|31)")
        self.assertEqual(len(self.call("GET", "/certificates")["certificates"]), 1)

    def test_half_a_request(self):
        """Nobody waits for the rest of another's."""
        self.start()
        port = int(self.cloud.control_url().rpartition(":")[2])
        body = b"POST /certificate/register HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
        halves = [b"", b"G", b"GET /certificates HTTP/1.1\r\nAuth", body]
        for half in halves:
            connection = socket.create_connection(("127.0.0.1", port), timeout=harness.DEADLINE)
            self.addCleanup(connection.close)
            connection.sendall(half)
        self.call("GET", "/certificates")
        for half in halves:
            self.raw(half, end=True)
        self.assertEqual([event["operation"] for event in self.cloud.events(event="control")], ["ListCertificates"])

    def test_the_cloud_ends_while_somebody_asks(self):
        self.start()
        url = self.cloud.control_url()
        port = int(url.rpartition(":")[2])
        self.cloud.freeze()
        connection = socket.create_connection(("127.0.0.1", port), timeout=harness.DEADLINE)
        self.addCleanup(connection.close)
        connection.sendall(b"GET /certificates HTTP/1.1\r\nHost: x\r\n\r\n")
        self.cloud.stop()
        self.cloud.start()
        self.call("GET", "/certificates")

    def test_unset_there_is_none(self):
        self.cloud = Cloud(self, "--claim-key=ecdsa")
        self.assertFalse((self.cloud.state / "control-port").exists())


if __name__ == "__main__":
    harness.main()
