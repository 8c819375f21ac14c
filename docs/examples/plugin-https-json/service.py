#!/usr/bin/env python3
"""The other end of the plugin https-json: a service that enrols devices, and registers their certificates with the
cloud by itself. For trying it out: it keeps what it knows in memory.

    service.py --directory=DIR --iotcore=STANDIN

makes DIR with a server certificate (DIR/server-ca.pem is whom to trust) and a token (DIR/token), and prints its URL
once it listens. STANDIN is the directory of a stand-in for AWS IoT Core that has been set up with --control-port=0.
There the certificates are issued by the stand-in's own authority, as CreateCertificateFromCsr does; with the real cloud
this program would call that and the other operations below, with credentials that devices never see.
"""

import argparse
import hashlib
import hmac
import http.server
import json
import os
import pathlib
import re
import secrets
import ssl
import subprocess
import tempfile
import threading
import urllib.parse
import urllib.request

BODY_MAX = 65536
SERIAL_NUMBER = re.compile(r"[a-zA-Z0-9:_-]{1,63}")
# The stand-in verifies no signature, but there must be one.
AUTHORIZATION = "AWS4-HMAC-SHA256 Credential=x/20260101/eu-central-1/iot/aws4_request, SignedHeaders=host, Signature=0"


class Refusal(Exception):
    def __init__(self, status, message, **headers):
        super().__init__(message)
        self.status, self.message = status, message
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def openssl(*words, text=None):
    done = subprocess.run(["openssl", *map(str, words)], input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Refusal(400, f"openssl {words[0]}: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout


class Cloud:
    """AWS IoT Core, as this service needs it."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)

    def issue(self, request):
        """The certificate for a request, with its issuer's behind it."""
        issuer = self.directory / "state/issuer"
        with tempfile.NamedTemporaryFile("w") as extensions:
            extensions.write("basicConstraints=critical,CA:FALSE\nextendedKeyUsage=clientAuth\n")
            extensions.flush()
            words = ["-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key", "-set_serial", f"0x{secrets.token_hex(16)}"]
            words += ["-sha256", "-days", "3650", "-extfile", extensions.name]
            return openssl("x509", "-req", *words, text=request) + issuer.with_suffix(".pem").read_text()

    def call(self, method, path, body=None, headers=()):
        port = (self.directory / "state/control-port").read_text().strip()
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, dict(headers), method=method)
        request.add_header("Authorization", AUTHORIZATION)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as reply:
            return json.loads(reply.read() or b"{}")

    def register(self, leaf, thing):
        """RegisterCertificateWithoutCA, CreateThing, AttachThingPrincipal, AttachPolicy."""
        body = {"certificatePem": leaf, "status": "ACTIVE"}
        arn = self.call("POST", "/certificate/register-no-ca", body)["certificateArn"]
        name = urllib.parse.quote(thing)
        self.call("POST", f"/things/{name}", {})
        path = f"/things/{name}/principals?thingPrincipalType=EXCLUSIVE_THING"
        self.call("PUT", path, headers={"x-amzn-principal": arn})
        self.call("PUT", "/target-policies/enrolld-device", {"target": arn})


class Service:
    def __init__(self, cloud, token):
        self.cloud, self.token = cloud, token
        self.devices = {}  # of each serial number: key, certificate, thing
        self.lock = threading.Lock()

    def authorize(self, header):
        if not hmac.compare_digest((header or "").encode(), f"Bearer {self.token}".encode()):
            raise Refusal(401, "this token is not known")

    def issue(self, serial_number, request):
        """The same request, after an answer that was lost, gets the same answer."""
        key = openssl("req", "-verify", "-noout", "-pubkey", text=request)
        device = self.devices.get(serial_number)
        if device is not None and device["key"] != key:
            raise Refusal(409, f"{serial_number} was enrolled with another key: delete it first")
        if device is None:
            chain = self.cloud.issue(request)
            leaf = chain[: chain.index("-----END CERTIFICATE-----")] + "-----END CERTIFICATE-----\n"
            thing = f"gateway-{serial_number}"
            self.cloud.register(leaf, thing)
            identifier = hashlib.sha256(ssl.PEM_cert_to_DER_cert(leaf)).hexdigest()
            device = self.devices[serial_number] = {"key": key, "chain": chain, "thing": thing, "id": identifier}
        return {"certificatePem": device["chain"], "thingName": device["thing"]}

    def answer(self, question):
        serial_number = question.get("serialNumber")
        if not isinstance(serial_number, str) or not SERIAL_NUMBER.fullmatch(serial_number):
            raise Refusal(400, "serialNumber is none")
        with self.lock:
            if "certificateSigningRequest" in question:
                return self.issue(serial_number, str(question["certificateSigningRequest"]))
            device = self.devices.get(serial_number)
            if device is None or device["id"] != question.get("certificateId"):
                raise Refusal(404, "this certificate is not known")
            return {"thingName": device["thing"]}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def read(self):
        size = self.headers.get("Content-Length", "")
        if not size.isdigit() or int(size) > BODY_MAX:
            raise Refusal(413, "the body is too large, or of unknown size")
        try:
            question = json.loads(self.rfile.read(int(size)))
        except ValueError:
            question = None
        if not isinstance(question, dict):
            raise Refusal(400, "the body is no JSON object")
        return question

    def reply(self, status, body, headers=()):
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, str(value))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self):
        try:
            if self.path != "/enroll":
                raise Refusal(404, "there is nothing but /enroll")
            self.server.service.authorize(self.headers.get("Authorization"))
            self.reply(200, self.server.service.answer(self.read()))
        except Refusal as refusal:
            self.close_connection = True
            self.reply(refusal.status, {"message": refusal.message}, refusal.headers)

    def log_message(self, *arguments):
        """Nothing: a log is no place for what devices send."""


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, directory, service, port=0):
        super().__init__(("127.0.0.1", port), Handler, bind_and_activate=True)
        self.service = service
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.load_cert_chain(directory / "server.pem", directory / "server.key")
        self.url = f"https://localhost:{self.server_address[1]}/enroll"

    def finish_request(self, request, client_address):
        """In the request's own thread, so that a client that says nothing holds up nobody."""
        request.settimeout(Handler.timeout)
        try:
            with self.context.wrap_socket(request, server_side=True) as stream:
                super().finish_request(stream, client_address)
                stream.unwrap()
        except OSError:
            pass  # the client has gone, or does not trust us

    def shutdown_request(self, request):
        self.close_request(request)


def make_directory(directory, token=None):
    """A server certificate for localhost, its authority and a token."""
    directory.mkdir(mode=0o700)
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650"]
    authority = ["-CA", directory / "server-ca.pem", "-CAkey", directory / "server-ca.key"]
    openssl("req", "-x509", *curve, "-subj", "/CN=Example Authority", "-keyout", directory / "server-ca.key",
            "-out", directory / "server-ca.pem", "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
    request = openssl("req", "-new", *curve[:-2], "-subj", "/CN=localhost", "-keyout", directory / "server.key")
    extensions = directory / "extensions"
    extensions.write_text("subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n")
    pem = openssl("x509", "-req", *authority, "-set_serial", "2", "-days", "3650", "-extfile", extensions, text=request)
    (directory / "server.pem").write_text(pem)
    for name in ("server.key", "server-ca.key"):
        os.chmod(directory / name, 0o600)
    (directory / "token").write_text((token or secrets.token_urlsafe(32)) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=pathlib.Path, required=True, help="is made if it is not there")
    parser.add_argument("--iotcore", required=True, help="the directory of the stand-in for AWS IoT Core")
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    arguments = parser.parse_args()
    if not arguments.directory.exists():
        make_directory(arguments.directory)
    token = (arguments.directory / "token").read_text().strip()
    server = Server(arguments.directory, Service(Cloud(arguments.iotcore), token), arguments.port)
    print(server.url, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
