#!/usr/bin/env python3
"""Just-in-time registration and provisioning in the stand-in for AWS IoT Core, through its TLS front, driven by a plain
client: what a first CONNECT sets going, and each way in which it may be refused."""

import json
import os
import pathlib
import socket
import ssl
import struct
import time
import types

import harness
from authority import CA_EXTENSIONS, Authority, certificate_id
from mqtt_client import (
    CONNACK,
    CONNECT,
    CREATE_FROM_CSR,
    DISCONNECT,
    PUBACK,
    PUBLISH,
    Client,
    Closed,
    connect_packet,
    length,
    make_request,
    open_tls,
    register_thing,
    text,
)
from parts import Cloud, free_port

NOT_AUTHORIZED = 0x87
REGISTERED = "$aws/events/certificates/registered/"
SERIAL = "GW-0001"
ALERTS = {
    "SSLV3_ALERT_HANDSHAKE_FAILURE": 40,
    "SSLV3_ALERT_BAD_CERTIFICATE": 42,
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": 43,
    "SSLV3_ALERT_CERTIFICATE_REVOKED": 44,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": 45,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": 46,
    "TLSV1_ALERT_UNKNOWN_CA": 48,
}


class Device:
    """What a maker puts into a device: NAME.key, its certificate alone and the chain with its authority's."""

    def __init__(self, authority, name=SERIAL, subject=None, **options):
        """options: of Authority.device()."""
        self.name = name
        pem = authority.device(name, subject, **options)
        self.key = authority.directory / f"{name}.key"
        self.chain = authority.directory / f"{name}.pem"
        self.leaf = authority.directory / f"{name}-alone.pem"
        self.leaf.write_text(pem)
        self.certificate_id = certificate_id(pem)


class JustInTime(harness.TestCase):
    """A cloud with a front, in which a CA may be registered."""

    def start(self, *options, template=None, **settings):
        self.cloud = Cloud(self, "--claim-key=ecdsa", "--connect-rate=off", *options, front=True)
        self.authority = Authority(self.directory, "maker")
        if template is not None:
            settings["template"] = template
        self.authority_id = self.cloud.register_authority(self.authority.path, **settings)

    def start_jitp(self, *options, **settings):
        self.start("--jitp-delay=0", *options, template=Cloud.jitp_template(), **settings)

    def connect(self, device, client_id=None, certificate=None, **options):
        return Client(self, self.cloud, client_id or device.name, certificate or device.chain, device.key, **options)

    def outcome(self, device, **options):
        """What the device sees of its CONNECT: a return code, or that it was closed."""
        client = self.connect(device, **options)
        try:
            return client.connected()
        except Closed:
            return "closed"
        finally:
            client.close()

    def status(self, device):
        return self.cloud.registry()["certificates"].get(device.certificate_id, {}).get("status")

    def assertNothingRegistered(self, device, reason):
        self.assertIsNone(self.status(device))
        self.assertEqual(self.cloud.events(event="registered"), [])
        (event,) = self.cloud.events(event="refused", certificateId=device.certificate_id)
        self.assertIn(reason, event["unregistered"])

    def front_log(self):
        return (self.cloud.directory / "front.log").read_text()

    def provisioned(self, device, **wanted):
        return self.cloud.wait_event(event="jitp", certificateId=device.certificate_id, **wanted)


class Provisioning(JustInTime):
    def test_first_connect_registers_and_a_later_one_is_let_in(self):
        self.start_jitp()
        device = Device(self.authority)
        for version in (5, 4):
            with self.subTest(version=version):
                device = Device(self.authority, f"GW-{version}")
                self.assertEqual(self.outcome(device, version=version), NOT_AUTHORIZED if version == 5 else "closed")
                event = self.provisioned(device, result="provisioned")
                self.assertEqual(event["thingName"], device.name)
                self.assertEqual(self.outcome(device, version=version), 0)
                certificate = self.cloud.registry()["certificates"][device.certificate_id]
                self.assertEqual(certificate["caCertificateId"], self.authority_id)
                self.assertEqual(certificate["things"], {device.name: "EXCLUSIVE_THING"})
                self.assertEqual(certificate["policies"], ["enrolld-device"])
        # The authority is needed no longer.
        self.cloud.set_authority(self.authority_id, status="INACTIVE")
        self.assertEqual(self.outcome(device, certificate=device.leaf, server_name=None), 0)
        self.assertEqual(len(self.cloud.events(event="registered")), 2)

    def test_registered_event(self):
        """As AWS IoT tells it; as often as a certificate that waits sends a CONNECT; only to who may receive it."""
        self.start("--lambda")
        subscriber = Client(self, self.cloud, "jitr-lambda", self.cloud.directory / "jitr-lambda.pem",
                            self.cloud.directory / "jitr-lambda.key")  # fmt: skip
        self.assertEqual(subscriber.connected(), 0)
        self.assertEqual(subscriber.subscribe(REGISTERED + "+"), [0])
        self.assertEqual(subscriber.publish(REGISTERED + self.authority_id, b"{}"), NOT_AUTHORIZED)
        device = Device(self.authority)
        for repeated in (None, True):
            self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
            topic, payload = subscriber.message(REGISTERED)
            self.assertEqual(topic, REGISTERED + self.authority_id)
            payload = json.loads(payload)
            self.assertAlmostEqual(payload.pop("timestamp") / 1000, time.time(), delta=harness.DEADLINE)
            self.assertEqual(
                payload,
                {
                    "certificateId": device.certificate_id,
                    "caCertificateId": self.authority_id,
                    "certificateStatus": "PENDING_ACTIVATION",
                    "awsAccountId": "123456789012",
                    "certificateRegistrationTimestamp": None,
                },
            )
            told = self.cloud.events(event="registered")[-1]
            self.assertEqual((told["certificateId"], told.get("repeated")), (device.certificate_id, repeated))
        # Without a template nobody provisions; what is no longer PENDING_ACTIVATION is not told again.
        self.assertEqual(self.cloud.events(event="jitp"), [])
        self.cloud.set_certificate(device.certificate_id, "INACTIVE")
        self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
        self.assertEqual(len(self.cloud.events(event="registered")), 2)

    def test_delay(self):
        self.start("--jitp-delay=1.5", template=Cloud.jitp_template())
        device = Device(self.authority)
        begin = time.monotonic()
        self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
        # A CONNECT meanwhile begins nothing anew.
        self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
        self.assertEqual(self.status(device), "PENDING_ACTIVATION")
        self.provisioned(device, result="provisioned")
        self.assertGreaterEqual(time.monotonic() - begin, 1.4)
        self.assertEqual(self.outcome(device), 0)
        self.assertEqual(len(self.cloud.events(event="jitp")), 1)

    def test_provisioning_that_fails_for_a_while(self):
        self.start_jitp("--jitp-fail=2")
        device = Device(self.authority)
        for count in (1, 2):
            self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
            harness.wait_for("a failure", lambda: len(self.cloud.events(event="jitp", result="failed")) == count)
            self.assertEqual(self.status(device), "PENDING_ACTIVATION")
        self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
        self.provisioned(device, result="provisioned")
        self.assertEqual(self.outcome(device), 0)

    def test_provisioning_that_is_not_begun_again(self):
        self.start_jitp("--jitp-fail=1", "--jitp-rerun=off")
        device = Device(self.authority)
        self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
        self.provisioned(device, result="failed")
        self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
        self.cloud.wait_event(event="registered", repeated=True)
        other = Device(self.authority, "GW-0002")
        self.assertEqual(self.outcome(other), NOT_AUTHORIZED)
        self.provisioned(other, result="provisioned")
        self.assertEqual(self.status(device), "PENDING_ACTIVATION")
        self.assertEqual(len(self.cloud.events(event="jitp")), 2)

    def test_template_and_certificate_do_not_fit(self):
        """What provisioning says then; the certificate keeps waiting."""
        self.start_jitp()
        template = Cloud.jitp_template()
        cases = {
            "no value for AWS::IoT::Certificate::SerialNumber": ({"AWS::IoT::Certificate::SerialNumber": {}}, "GW-1"),
            "no value for Room": ({"Room": {"Type": "String", "Default": "7"}}, "GW-2"),
            "at 'thingName'": ({}, "gw.example.com"),
        }
        for number, (reason, (parameters, name)) in enumerate(cases.items()):
            with self.subTest(reason=reason):
                body = {**template, "Parameters": {**template["Parameters"], **parameters}}
                config = {"templateBody": json.dumps(body)}
                self.cloud.set_authority(self.authority_id, registrationConfig=config)
                device = Device(self.authority, f"device-{number}", f"/CN={name}")
                self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
                self.assertIn(reason, self.provisioned(device, result="failed")["reason"])
                self.assertEqual(self.status(device), "PENDING_ACTIVATION")
        self.assertEqual(self.cloud.registry()["things"], {})

    def test_every_parameter(self):
        self.start_jitp()
        subject = {"Country": "DE", "Organization": "Example", "OrganizationalUnit": "Gateways",
                   "DistinguishedNameQualifier": "q", "StateName": "Bayern", "CommonName": "GW-7",
                   "SerialNumber": "4711"}  # fmt: skip
        template = Cloud.jitp_template()
        prefix = "AWS::IoT::Certificate::"
        template["Parameters"] = {prefix + name: {"Type": "String"} for name in (*subject, "Id")}
        thing = template["Resources"]["thing"]["Properties"]
        thing["ThingTypeName"] = "gateway"  # more than three attributes need a type
        thing["AttributePayload"] = {name: {"Ref": prefix + name} for name in subject}
        self.cloud.set_authority(self.authority_id, registrationConfig={"templateBody": json.dumps(template)})
        device = Device(
            self.authority, SERIAL, "/C=DE/ST=Bayern/O=Example/OU=Gateways/dnQualifier=q/CN=GW-7/serialNumber=4711"
        )
        self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
        self.provisioned(device, result="provisioned", thingName="GW-7")
        self.assertEqual(self.cloud.registry()["things"]["GW-7"]["attributes"], subject)

    def test_template_by_its_name(self):
        self.start("--jitp-delay=0", registrationConfig={"templateName": "enrolld-jitp"})
        device = Device(self.authority)
        self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
        self.provisioned(device, result="provisioned")
        for name in ("enrolld", "nothing"):  # a fleet provisioning template, and none
            self.cloud.set_authority(self.authority_id, registrationConfig={"templateName": name})
            device = Device(self.authority, f"other-{name}")
            self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
            self.assertIn("no template", self.provisioned(device, result="failed")["reason"])

    def test_register_thing_takes_no_jitp_template(self):
        self.start()
        policy = json.dumps(self.cloud.registry()["policies"]["enrolld-claim"])
        self.cloud.set_policy("enrolld-claim", json.loads(policy.replace("enrolld/", "*/")))
        claim = Client(self, self.cloud, "claim-enroll", self.cloud.claim_certificate, self.cloud.claim_key)
        self.assertEqual(claim.connected(), 0)
        accepted, reply = claim.request(register_thing("enrolld-jitp"), certificateOwnershipToken="x")
        self.assertFalse(accepted)
        self.assertEqual(reply["errorCode"], "ResourceNotFound")

    def test_certificates_that_wait_are_kept(self):
        """The hour of an ownership token does not count for them; nor does a restart of the cloud."""
        self.start()
        device = Device(self.authority, days=3650)
        self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
        self.cloud.edit(clockOffset=7200)
        self.cloud.stop()
        self.cloud.start()
        self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
        self.cloud.wait_event(event="registered", repeated=True)
        self.assertEqual(self.status(device), "PENDING_ACTIVATION")

    def test_connects_that_come_too_soon_are_told(self):
        self.start("--connect-rate=on")
        device = Device(self.authority)
        for _ in range(2):
            self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
        self.assertEqual([event.get("tooSoon") for event in self.cloud.events(event="refused")], [None, True])


class Lambda(JustInTime):
    """JITR: the function of etc/aws, called with each registration, through the control plane."""

    def start_lambda(self, *options, policy="enrolld-device"):
        self.start("--lambda", "--control-port=0")
        harness.wait_for("the control plane listens", (self.cloud.state / "control-port").is_file)
        self.log = self.directory / "lambda.log"
        words = [harness.SOURCE_DIR / "tests/iotcore/iotcore-lambda", self.cloud.directory, *options]
        environment = {**os.environ, "POLICY_NAME": policy}
        function = harness.Process("iotcore-lambda", ["python3", "-B", *words], self.log, environment)
        self.show_on_failure("iotcore-lambda", self.log)
        self.addCleanup(function.stop)
        self.cloud.wait_event(event="subscribe", clientId="jitr-lambda")

    def results(self, device):
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["certificateId"] == device.certificate_id]

    def wait_result(self, device, count=1):
        return harness.wait_for(f"result {count} of the function", lambda: self.results(device)[count - 1 : count])[0]

    def test_gateway_is_let_in(self):
        self.start_lambda()
        device = Device(self.authority)
        self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
        result = self.wait_result(device)
        self.assertEqual((result["result"], result.get("thingName")), ("activated", SERIAL), result)
        self.assertEqual(self.outcome(device), 0)
        certificate = self.cloud.registry()["certificates"][device.certificate_id]
        self.assertEqual(certificate["things"], {SERIAL: "EXCLUSIVE_THING"})
        self.assertEqual(certificate["policies"], ["enrolld-device"])

    def test_thing_is_there_with_attributes(self):
        """An operator made it before: they stay."""
        self.start_lambda()
        self.cloud.aws("create-thing", "--thing-name", SERIAL,
                       "--attribute-payload", '{"attributes": {"Room": "7"}}')  # fmt: skip
        device = Device(self.authority)
        self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
        result = self.wait_result(device)
        self.assertEqual((result["result"], result.get("thingName")), ("activated", SERIAL), result)
        self.assertEqual(self.cloud.registry()["things"][SERIAL]["attributes"], {"Room": "7"})

    def test_delay(self):
        self.start_lambda("--jitr-delay=1.5")
        device = Device(self.authority)
        begin = time.monotonic()
        self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
        self.wait_result(device)
        self.assertGreaterEqual(time.monotonic() - begin, 1.5)
        self.assertEqual(self.outcome(device), 0)

    def test_messages_may_be_repeated(self):
        """The second CONNECT overtakes the function; what an operator has decided meanwhile stays."""
        self.start_lambda("--jitr-delay=0.5")
        device = Device(self.authority)
        for _ in range(2):
            self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
        self.assertEqual(self.wait_result(device)["result"], "activated")
        self.cloud.set_certificate(device.certificate_id, "REVOKED")
        self.assertEqual(self.wait_result(device, 2)["result"], "kept")
        self.assertEqual(self.status(device), "REVOKED")

    def test_what_it_does_not_let_in(self):
        self.start_lambda()
        for name, subject in (("dots", "/CN=gw.example.com"), ("nobody", "/O=Example")):
            device = Device(self.authority, name, subject)
            self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
            self.assertEqual(self.wait_result(device)["result"], "failed")
            self.assertEqual(self.status(device), "PENDING_ACTIVATION")

    def test_failure_leaves_the_certificate_pending(self):
        """Until the policy is there; each CONNECT is another chance."""
        self.start_lambda(policy="later")
        device = Device(self.authority)
        self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
        self.assertEqual(self.wait_result(device)["result"], "failed")
        self.assertEqual(self.status(device), "PENDING_ACTIVATION")
        self.cloud.set_policy("later", self.cloud.registry()["policies"]["enrolld-device"])
        self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
        self.assertEqual(self.wait_result(device, 2)["result"], "activated")
        self.assertEqual(self.outcome(device), 0)


class Registration(JustInTime):
    """Whether a CONNECT registers the certificate."""

    def test_authority_does_not_allow_it(self):
        self.start_jitp(status="INACTIVE")
        device = Device(self.authority)
        self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
        self.assertNothingRegistered(device, "not ACTIVE")
        self.cloud.set_authority(self.authority_id, status="ACTIVE", autoRegistrationStatus="DISABLE")
        self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
        self.assertIsNone(self.status(device))
        self.cloud.wait_event(event="refused", unregistered="automatic registration is disabled")
        self.cloud.set_authority(self.authority_id, autoRegistrationStatus="ENABLE")
        self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
        self.provisioned(device, result="provisioned")

    def test_authority_is_deleted(self):
        self.start_jitp()
        with self.assertRaises(AssertionError):
            self.cloud.edit(deleteAuthority=self.authority_id)  # ACTIVE
        self.cloud.set_authority(self.authority_id, status="INACTIVE")
        self.cloud.edit(deleteAuthority=self.authority_id)
        device = Device(self.authority)
        self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
        self.assertNothingRegistered(device, "no registered authority")

    def test_authority_is_unknown(self):
        """The handshake completes, as AWS IoT's does."""
        self.start_jitp()
        stranger = Authority(self.directory, "stranger")
        forger = Authority(self.directory, "forger", subject="/O=Maker/CN=maker")
        for device in (Device(stranger, "one"), Device(forger, "two")):
            self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
            self.assertNothingRegistered(device, "no registered authority has signed it")
        client = Client(self, self.cloud, "self-signed", stranger.path, stranger.key)
        self.assertEqual(client.connected(), NOT_AUTHORIZED)
        self.assertEqual(self.cloud.events(event="registered"), [])

    def test_certificate_is_not_acceptable(self):
        self.start_jitp()
        rsa = ("RSA", "-pkeyopt", "rsa_keygen_bits:1024")
        cases = {
            "The key": Device(self.authority, "small", key=rsa),
            "The key ": Device(self.authority, "ed25519", key=("ED25519",)),
            "signature algorithm": Device(self.authority, "sha1", digest="sha1"),
        }
        for reason, device in cases.items():
            with self.subTest(device=device.name):
                self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
                (event,) = self.cloud.events(event="refused", certificateId=device.certificate_id)
                self.assertIn(reason.strip(), event["unregistered"])
                self.assertIsNone(self.status(device))
        old = Device(self.authority, "old", days=1)
        self.cloud.edit(clockOffset=2 * 86400)
        self.assertEqual(self.outcome(old), NOT_AUTHORIZED)
        self.assertNothingRegistered(old, "validity")

    def test_validity_is_that_of_the_clock(self):
        """A certificate that ends while it is registered is refused, and nothing else happens to it."""
        self.start_jitp()
        device = Device(self.authority, days=1)
        self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
        self.provisioned(device, result="provisioned")
        self.cloud.edit(clockOffset=2 * 86400)
        self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
        self.cloud.wait_event(event="refused", reason="certificate not within its validity")
        self.assertEqual(self.status(device), "ACTIVE")

    def test_handshake_alone_does_nothing(self):
        self.start_jitp()
        device = Device(self.authority)
        for data in (b"", bytes([CONNECT << 4]), b"GET / HTTP/1.1\r\n\r\n", connect_packet("x", flags=3)):
            with open_tls(self.cloud, device.chain, device.key) as connection:
                connection.sendall(data)
        harness.wait_for(
            "the front has seen them", lambda: self.front_log().count("no CONNECT, or a malformed one") == 4
        )
        self.assertIsNone(self.status(device))
        self.assertEqual(self.cloud.events(event="refused"), [])

    def test_chain_and_server_name(self):
        """Either says whose certificate it is; in older times only the chain did."""
        self.start_jitp()
        cases = [
            # chain, server name, --require-issuer, registered
            (True, "localhost", False, True),
            (True, None, False, True),
            (False, "localhost", False, True),
            (False, None, False, False),
            (True, "localhost", True, True),
            (True, None, True, True),
            (False, "localhost", True, False),
            (False, None, True, False),
        ]
        for number, (chain, name, required, registered) in enumerate(cases):
            with self.subTest(chain=chain, name=name, required=required):
                self.cloud.options(**{"require-issuer": required})
                device = Device(self.authority, f"GW-{number}")
                certificate = device.chain if chain else device.leaf
                self.assertEqual(self.outcome(device, certificate=certificate, server_name=name), NOT_AUTHORIZED)
                if registered:
                    self.provisioned(device, result="provisioned")
                    # Once registered, the certificate alone will do.
                    self.assertEqual(self.outcome(device, certificate=device.leaf, server_name=None), 0)
                else:
                    self.assertIsNone(self.status(device))
                    (event,) = self.cloud.events(event="refused", certificateId=device.certificate_id)
                    self.assertIn("the authority's certificate", event["unregistered"])

    def test_another_certificate_in_the_chain(self):
        self.start_jitp("--require-issuer=on")
        device = Device(self.authority)
        stranger = Authority(self.directory, "stranger")
        device.chain.write_text(device.leaf.read_text() + stranger.pem)
        self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
        self.assertNothingRegistered(device, "the authority's certificate was not sent")

    def test_intermediate_and_root(self):
        """The authority that has signed the leaf counts, not another one of the hierarchy."""
        self.start_jitp(status="INACTIVE")
        intermediate = Authority(self.directory, "intermediate", issuer=self.authority)
        self.cloud.set_authority(self.authority_id, status="ACTIVE")
        device = Device(intermediate)
        device.chain.write_text(device.chain.read_text() + self.authority.pem)
        self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
        self.assertNothingRegistered(device, "no registered authority")
        identifier = self.cloud.register_authority(intermediate.path, template=Cloud.jitp_template())
        self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
        self.provisioned(device, result="provisioned")
        self.assertEqual(self.cloud.registry()["certificates"][device.certificate_id]["caCertificateId"], identifier)

    def test_two_authorities_of_one_name(self):
        """By the signature; and of two certificates for one key the one that allows it."""
        self.start_jitp()
        other = Authority(self.directory, "other", subject="/O=Maker/CN=maker")
        other_id = self.cloud.register_authority(other.path, status="INACTIVE")
        renewed = self.directory / "renewed.pem"
        request = other.request(other.key, "/O=Maker/CN=maker")
        renewed.write_text(other.sign(request, extensions=CA_EXTENSIONS, self_signed=True))
        renewed_id = self.cloud.register_authority(renewed, template=Cloud.jitp_template())
        self.assertNotEqual(other_id, renewed_id)
        for device, authority_id in (
            (Device(self.authority, "GW-1"), self.authority_id),
            (Device(other, "GW-2"), renewed_id),
        ):
            self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
            self.provisioned(device, result="provisioned")
            self.cloud.wait_event(
                event="registered", certificateId=device.certificate_id, caCertificateId=authority_id
            )

    def test_sni_only(self):
        """Certificates of an authority in that mode need the server name each time."""
        self.start_jitp(certificateMode="SNI_ONLY")
        device = Device(self.authority)
        self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
        self.provisioned(device, result="provisioned")
        self.assertEqual(self.outcome(device), 0)
        self.assertEqual(self.outcome(device, server_name=None), NOT_AUTHORIZED)
        self.cloud.wait_event(event="refused", reason="the server name was not sent")

    def test_statuses(self):
        self.start_jitp()
        device = Device(self.authority)
        self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
        self.provisioned(device, result="provisioned")
        connected = self.connect(device)
        self.assertEqual(connected.connected(), 0)
        for status in ("INACTIVE", "REVOKED"):
            self.cloud.set_certificate(device.certificate_id, status)
            self.assertEqual(self.outcome(device, client_id=f"{SERIAL}-enrolld"), NOT_AUTHORIZED)
            self.cloud.wait_event(event="refused", reason=status)
            self.assertEqual(self.status(device), status)
        with self.assertRaises(Closed):
            connected.receive(CONNACK)
        self.cloud.set_certificate(device.certificate_id, "ACTIVE")
        self.assertEqual(self.outcome(device), 0)


class Refusals(JustInTime):
    """What a device sees of a refusal, by the form, the version of TLS and that of MQTT."""

    FORMS = {
        # form: with TLS 1.2 and MQTT 5, TLS 1.2 and 3.1.1, TLS 1.3 and 5, 1.3 and 3.1.1
        "connack": (NOT_AUTHORIZED, "closed", NOT_AUTHORIZED, "closed"),
        "connack5-for-3.1.1": (NOT_AUTHORIZED, 5, NOT_AUTHORIZED, 5),
        "close": ("closed",) * 4,
        "handshake-alert": ("alert 46",) * 4,
        "handshake-alert=40": ("alert 40",) * 4,
        "handshake-alert=42": ("alert 42",) * 4,
        "handshake-alert=43": ("alert 43",) * 4,
        "handshake-alert=44": ("alert 44",) * 4,
        "handshake-alert=45": ("alert 45",) * 4,
        "handshake-alert=48": ("alert 48",) * 4,
        # In TLS 1.3 the client's handshake is over before the server has seen its certificate.
        "handshake-close": ("handshake closed", "handshake closed", "closed", "closed"),
        "after-handshake-close": ("closed",) * 4,
    }

    def what_comes(self, device, tls, version):
        """A return code, alert NUMBER, closed (without either) or, in the midst of the handshake, handshake closed."""
        stage = "handshake closed"
        try:
            with open_tls(self.cloud, device.chain, device.key, tls=tls) as connection:
                stage = "closed"
                connection.sendall(connect_packet(device.name, version))
                data = connection.recv(64)
                return data[3] if data else stage
        except (ssl.SSLEOFError, ConnectionError):
            return stage
        except ssl.SSLError as error:
            return f"alert {ALERTS.get(error.reason, error.reason)}"

    def test_forms(self):
        self.start_jitp()
        for form, expected in self.FORMS.items():
            combinations = [(tls, version) for tls in ("1.2", "1.3") for version in (5, 4)]
            for (tls, version), wanted in zip(combinations, expected):
                with self.subTest(form=form, tls=tls, version=version):
                    self.cloud.options(refusal=form)
                    device = Device(self.authority, f"GW-{tls[2]}-{version}-{form}".replace("=", "_").replace(".", "_"))
                    self.assertEqual(self.what_comes(device, tls, version), wanted)
                    # Whatever it saw, the certificate is registered.
                    self.provisioned(device, result="provisioned")
                    self.assertEqual(self.what_comes(device, tls, version), 0)
                    self.cloud.set_certificate(device.certificate_id, "INACTIVE")
                    self.assertEqual(self.what_comes(device, tls, version), wanted)

    def test_forms_in_the_handshake_obey_the_authority(self):
        self.start_jitp("--refusal=handshake-alert", status="INACTIVE")
        device = Device(self.authority)
        self.assertEqual(self.what_comes(device, "1.3", 5), "alert 46")
        self.assertNothingRegistered(device, "not ACTIVE")

    def test_a_close_says_nothing(self):
        """Not even close_notify, and no reset: as AWS IoT hangs up."""
        self.start_jitp("--refusal=close")
        device = Device(self.authority)
        connection = open_tls(self.cloud, device.chain, device.key)
        connection.sendall(connect_packet(device.name))
        with self.assertRaises(ssl.SSLEOFError), connection:
            connection.recv(1)

    def test_other_reasons_are_told_as_by_connack(self):
        """The forms in the handshake are for certificates that are not ACTIVE."""
        self.start_jitp("--refusal=handshake-alert")
        device = Device(self.authority)
        self.what_comes(device, "1.3", 5)
        self.provisioned(device, result="provisioned")
        self.assertEqual(self.outcome(device, client_id="somebody-else"), NOT_AUTHORIZED)
        self.assertEqual(self.outcome(device, client_id="somebody-else", version=4), "closed")


class Front(JustInTime):
    """The TLS front as such."""

    def active_device(self, *options):
        self.start_jitp(*options)
        device = Device(self.authority)
        self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
        self.provisioned(device, result="provisioned")
        return device

    def test_server_name_is_required(self):
        device = self.active_device()
        self.assertEqual(self.outcome(device, server_name=None), 0)
        self.cloud.options(**{"require-sni": True})
        self.assertEqual(self.outcome(device), 0)
        for tls in ("1.2", "1.3"):
            with self.assertRaises(ssl.SSLError) as caught:
                open_tls(self.cloud, device.chain, device.key, server_name=None, tls=tls)
            self.assertIn("UNRECOGNIZED_NAME", caught.exception.reason)

    def test_wrong_server_name_is_none(self):
        self.start_jitp()
        device = Device(self.authority)
        context = ssl.create_default_context(cafile=self.cloud.root_ca)
        context.check_hostname = False
        context.load_cert_chain(device.leaf, device.key)
        plain = socket.create_connection(("127.0.0.1", self.cloud.port), timeout=harness.DEADLINE)
        with context.wrap_socket(plain, server_hostname="other.example.com") as connection:
            connection.sendall(connect_packet(device.name))
            connection.recv(64)
        self.assertNothingRegistered(device, "server name")
        self.assertEqual(self.cloud.events(event="refused")[-1]["serverName"], "other.example.com")

    def test_protocols_are_told(self):
        device = self.active_device()
        self.outcome(device, alpn=["http/1.1", "x-amzn-mqtt-ca"], tls="1.2")
        event = self.cloud.wait_event(event="connect", alpn="x-amzn-mqtt-ca")
        self.assertEqual((event["tls"], event["serverName"], event["address"]), ("TLSv1.2", "localhost", "127.0.0.1"))
        with self.assertRaises(ssl.SSLError):
            open_tls(self.cloud, device.chain, device.key, alpn=["http/1.1"])

    def test_only_one_version_of_tls(self):
        device = self.active_device()
        for version, other in (("1.2", "1.3"), ("1.3", "1.2")):
            self.cloud.options(**{"tls-version": version})
            self.assertEqual(self.outcome(device), 0)
            self.assertEqual(self.cloud.events(event="connect")[-1]["tls"], f"TLSv{version}")
            with self.assertRaises((ssl.SSLError, ConnectionError)):
                open_tls(self.cloud, device.chain, device.key, tls=other)

    def test_client_certificate_is_required(self):
        self.start_jitp()
        for tls in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = ssl.create_default_context(cafile=self.cloud.root_ca)
            context.maximum_version = tls
            plain = socket.create_connection(("127.0.0.1", self.cloud.port), timeout=harness.DEADLINE)
            with self.assertRaises((ssl.SSLError, ConnectionError)), plain:
                with context.wrap_socket(plain, server_hostname="localhost") as connection:
                    connection.sendall(connect_packet("nobody"))
                    self.assertEqual(connection.recv(1), b"something")

    def test_no_session_tickets(self):
        device = self.active_device()
        for tls in ("1.2", "1.3"):
            client = self.connect(device, tls=tls)
            self.assertEqual(client.connected(), 0)
            session = client.socket.session
            self.assertFalse(session.has_ticket)
            client.disconnect()

    def test_connect_in_pieces(self):
        """Byte by byte, each in a record of its own; and with what follows in the same record."""
        device = self.active_device()
        for version in (5, 4):
            client = self.connect(device, version=version, connect=b"")
            for byte in connect_packet(device.name, version):
                client.socket.sendall(bytes([byte]))
            self.assertEqual(client.connected(), 0)
            client.disconnect()
            topic = f"things/{SERIAL}/x"
            publish = text(topic) + b"\0\1" + (b"\0" if version == 5 else b"") + b"hello"
            client = self.connect(device, version=version, connect=connect_packet(device.name, version)
                                  + bytes([PUBLISH << 4 | 2]) + length(len(publish)) + publish)  # fmt: skip
            self.assertEqual(client.connected(), 0)
            client.receive(PUBACK)
            self.cloud.wait_event(event="message", topic=topic, payload="hello")
            client.disconnect()

    def test_user_name_and_password_change_nothing(self):
        """AWS IoT ignores them; and they can't stand for another identity."""
        device = self.active_device()
        for version in (5, 4):
            for name in ("1", "../options", "?SDK=Python"):
                credentials = text(name) + text("secret")
                client = self.connect(
                    device, version=version, connect=connect_packet(device.name, version, 0xC2, credentials)
                )
                self.assertEqual(client.connected(), 0)
                client.disconnect()

    def test_large_messages_both_ways(self):
        device = self.active_device()
        client = self.connect(device)
        self.assertEqual(client.connected(), 0)
        topic = f"things/{SERIAL}/large"
        self.assertEqual(client.subscribe(topic), [0])
        payload = bytes(range(256)) * 500
        self.assertEqual(client.publish(topic, payload), 0)
        self.assertEqual(client.message(topic), (topic, payload))

    def test_connect_of_full_size_and_beyond(self):
        device = self.active_device()
        for size, wanted in ((65535, 0), (131072, "closed")):
            rest = b"\0" + text(f"things/{SERIAL}/x") + struct.pack(">H", min(size, 65535)) + bytes(size)
            try:
                client = self.connect(device, connect=connect_packet(device.name, 5, 6, rest))
                outcome = client.connected()
            except (Closed, OSError):
                outcome = "closed"
            self.assertEqual(outcome, wanted)

    def test_broker_is_away(self):
        """The front closes, and goes on when the broker is back."""
        device = self.active_device()
        self.cloud.process.stop()
        self.assertEqual(self.outcome(device), "closed")
        self.cloud.start_broker()
        self.assertEqual(self.outcome(device), 0)
        self.assertEqual([path.name for path in (self.cloud.state / "front").glob("[0-9]*")], [])

    def test_nothing_but_the_front_is_believed(self):
        """The broker's socket is out of reach, and a user name without a note is nobody."""
        device = self.active_device()
        folder = self.cloud.state / "front"
        self.assertEqual(folder.stat().st_mode & 0o777, 0o700)
        with socket.socket(socket.AF_UNIX) as broker:
            broker.settimeout(harness.DEADLINE)
            broker.connect(str(folder / "broker"))
            broker.sendall(connect_packet(device.name, 5, 0x82, text("../registry")))
            self.assertEqual(broker.recv(64)[3], NOT_AUTHORIZED)
        self.assertTrue((self.cloud.state / "registry.json").is_file())

    def start_alone(self):
        """Another front, before a broker that the test itself is."""
        self.start_jitp()
        directory = self.directory / "alone"
        directory.mkdir()
        self.notes = directory
        self.alone = types.SimpleNamespace(root_ca=self.cloud.root_ca, port=free_port())
        settings = json.loads((self.cloud.directory / "front.json").read_text())
        settings.update(port=self.alone.port, broker=str(directory / "broker"), notes=str(directory))
        (directory / "front.json").write_text(json.dumps(settings))
        self.broker = socket.socket(socket.AF_UNIX)
        self.addCleanup(self.broker.close)
        self.broker.settimeout(harness.DEADLINE)
        self.broker.bind(str(directory / "broker"))
        self.broker.listen()
        log = directory / "log"
        front = harness.Process("iotcore-front", [harness.built("tests/iotcore/iotcore-front"), directory], log)
        self.show_on_failure("the front alone", log)
        self.addCleanup(front.stop)
        wanted = f"0100007F:{self.alone.port:04X} 00000000:0000 0A"
        harness.wait_for("the front listens", lambda: wanted in pathlib.Path("/proc/net/tcp").read_text())

    def meet(self, device, answer):
        """What the device reads after its CONNECT if the broker sends that answer and closes."""
        with open_tls(self.alone, device.chain, device.key) as connection:
            connection.sendall(connect_packet(device.name, 5, 0xC2, text("user") + text("secret")))
            plain, _ = self.broker.accept()
            with plain:
                self.connect_seen = plain.recv(1024)
                self.note = json.loads((self.notes / f"{self.number()}.json").read_text())
                plain.sendall(answer)
            data = b""
            try:
                while part := connection.recv(1024):
                    data += part
            except ssl.SSLEOFError:
                return data, "EOF"
            return data, "close_notify"

    def number(self):
        """The user name at the end of the CONNECT."""
        return self.connect_seen[-1:].decode()

    def test_what_the_broker_sees(self):
        self.start_alone()
        device = Device(self.authority)
        connack = bytes([CONNACK << 4, 3, 0, 0x87, 0])
        self.assertEqual(self.meet(device, connack), (connack, "close_notify"))
        self.assertEqual(self.connect_seen, connect_packet(device.name, 5, 0x82, text("1")))
        chain = "".join(self.note.pop("chain"))
        self.assertEqual(chain, device.chain.read_text())
        self.assertEqual(self.note, {"address": "127.0.0.1", "serverName": "localhost", "tls": "TLSv1.3"})

    def test_no_connack_means_nothing_at_all(self):
        """A broker's DISCONNECT before CONNACK is kept back."""
        self.start_alone()
        device = Device(self.authority)
        for answer in (b"", bytes([DISCONNECT << 4, 1, 0x80]), b"HTTP/1.1 400"):
            self.assertEqual(self.meet(device, answer), (b"", "EOF"))
        harness.wait_for("no note is left", lambda: not list(self.notes.glob("[0-9]*.json")))

    def test_many_devices_at_once(self):
        self.start_jitp()
        devices = [Device(self.authority, f"GW-{number}") for number in range(10)]
        clients = [self.connect(device) for device in devices]
        self.assertEqual([client.connected() for client in clients], [NOT_AUTHORIZED] * len(devices))
        for device in devices:
            self.provisioned(device, result="provisioned")
        clients = [self.connect(device) for device in devices]
        self.assertEqual([client.connected() for client in clients], [0] * len(devices))

    def test_claims_are_served_too(self):
        """Fleet provisioning through the front."""
        self.start_jitp()
        claim = Client(self, self.cloud, "claim-enroll", self.cloud.claim_certificate, self.cloud.claim_key)
        self.assertEqual(claim.connected(), 0)
        request = make_request(self.directory, subject=f"/CN={SERIAL}")
        accepted, reply = claim.request(CREATE_FROM_CSR, certificateSigningRequest=request)
        self.assertTrue(accepted, reply)
        certificate = self.directory / "device.pem"
        certificate.write_text(reply["certificatePem"])
        client = Client(self, self.cloud, SERIAL, certificate, self.directory / "device.key")
        self.assertEqual(client.connected(), NOT_AUTHORIZED)
        self.cloud.wait_event(event="refused", unregistered="it waits for RegisterThing")


if __name__ == "__main__":
    harness.main()
