#!/usr/bin/env python3
"""Just-in-time registration and provisioning in the stand-in for AWS IoT Core, through its TLS front, driven by a plain
client: what a first CONNECT sets going, and each way in which it may be refused."""

import hashlib
import json
import pathlib
import socket
import ssl
import struct
import subprocess

import harness
from mqtt_client import Client, Closed
from parts import Cloud

NOT_AUTHORIZED = 0x87
REGISTERED = "$aws/events/certificates/registered/"
SERIAL = "GW-0001"
CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]


class Authority:
    """A CA of the customer's, which signs what devices present."""

    def __init__(self, directory, name="maker", subject=None):
        self.directory = directory
        self.name = name
        self.certificate = directory / f"{name}-ca.pem"
        self.key = directory / f"{name}-ca.key"
        openssl("req", "-x509", "-new", *CURVE, "-nodes", "-subj", subject or f"/O=Example/CN={name}", "-days", "30",
                "-keyout", self.key, "-out", self.certificate)  # fmt: skip

    def issue(self, name=SERIAL, subject=None, newkey=CURVE, days=30, digest="-sha256"):
        """A device's key and certificate, as NAME.key and NAME.pem; and both certificates in NAME-chain.pem."""
        device = Device(self.directory, name)
        openssl("req", "-new", *newkey, "-nodes", "-subj", subject or f"/CN={name}", "-keyout", device.key,
                "-out", self.directory / f"{name}.csr")  # fmt: skip
        openssl("x509", "-req", "-in", self.directory / f"{name}.csr", "-CA", self.certificate, "-CAkey", self.key,
                "-CAcreateserial", "-days", str(days), digest, "-out", device.leaf)  # fmt: skip
        device.chain.write_text(device.leaf.read_text() + self.certificate.read_text())
        return device


class Device:
    def __init__(self, directory, name):
        self.name = name
        self.key = directory / f"{name}.key"
        self.leaf = directory / f"{name}.pem"
        self.chain = directory / f"{name}-chain.pem"

    @property
    def certificate_id(self):
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.leaf.read_text())).hexdigest()


def openssl(*words):
    done = subprocess.run(["openssl", *words], capture_output=True, text=True, timeout=harness.DEADLINE)
    if done.returncode != 0:
        raise AssertionError(f"openssl {words}: {done.stderr}")


class JustInTime(harness.TestCase):
    """A cloud with a front, in which a CA may be registered."""

    def start(self, *options, template=None, **settings):
        self.cloud = Cloud(self, "--claim-key=ecdsa", "--connect-rate=off", *options, front=True)
        self.authority = Authority(self.directory)
        if template is not None:
            settings["template"] = template
        self.authority_id = self.cloud.register_authority(self.authority.certificate, **settings)

    def start_jitp(self, *options, **settings):
        self.start("--jitp-delay=0", *options, template=Cloud.jitp_template(), **settings)

    def connect(self, device, client_id=None, certificate=None, **options):
        return Client(self, self.cloud, client_id or device.name, certificate or device.chain, device.key, **options)

    def outcome(self, device, **options):
        """What the device sees of its CONNECT: a return code, or why there was none."""
        try:
            client = self.connect(device, **options)
        except (ssl.SSLError, ConnectionError) as error:
            return error_name(error)
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
        self.assertIn(reason, self.cloud.wait_event(event="refused")["unregistered"])

    def provisioned(self, device, **wanted):
        return self.cloud.wait_event(event="jitp", certificateId=device.certificate_id, **wanted)


def error_name(error):
    """SSLV3_ALERT_CERTIFICATE_UNKNOWN, or EOF, or the name of the exception."""
    if isinstance(error, ssl.SSLEOFError):
        return "EOF"
    return getattr(error, "reason", None) or type(error).__name__


class Provisioning(JustInTime):
    def test_first_connect_registers_and_a_later_one_is_let_in(self):
        self.start_jitp()
        device = self.authority.issue()
        self.assertEqual(self.outcome(device), NOT_AUTHORIZED)
        event = self.provisioned(device)
        self.assertEqual((event["result"], event.get("thingName")), ("provisioned", SERIAL))
        self.assertEqual(self.outcome(device), 0)
        certificate = self.cloud.registry()["certificates"][device.certificate_id]
        self.assertEqual(certificate["caCertificateId"], self.authority_id)
        self.assertEqual(certificate["things"], {SERIAL: "EXCLUSIVE_THING"})
        self.assertEqual(certificate["policies"], ["enrolld-device"])


if __name__ == "__main__":
    harness.main()
