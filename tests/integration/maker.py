"""The maker of the devices: a certificate authority of its own, on openssl(1), as a factory has it."""

import hashlib
import ssl
import subprocess

from harness import DEADLINE

EXTENSIONS = {
    "authority": "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n",
    "device": "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n",
}


def openssl(*words, **options):
    """Runs openssl(1); returns what it printed."""
    done = subprocess.run(
        ["openssl", *map(str, words)], capture_output=True, text=True, timeout=DEADLINE, **options
    )
    if done.returncode != 0:
        raise AssertionError(f"openssl {' '.join(map(str, words))}: {done.stderr}")
    return done.stdout


def make_key(path):
    """A P-256 key in PKCS#8."""
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path)
    return path


def certificate_id(pem):
    """As AWS IoT counts it: of the first certificate in the text."""
    end = "-----END CERTIFICATE-----"
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem[pem.index("-----BEGIN") : pem.index(end)] + end)).hexdigest()


class Maker:
    """One authority: self-signed, or below `parent`."""

    def __init__(self, test, name="maker", parent=None):
        self.directory = test.directory / name
        self.directory.mkdir()
        self.name = name
        self.key = make_key(self.directory / "ca.key")
        self.certificate = self.directory / "ca.pem"
        for kind, text in EXTENSIONS.items():
            (self.directory / f"{kind}.ext").write_text(text)
        request = openssl("req", "-new", "-key", self.key, "-subj", f"/O=Example/CN={name} CA")
        signer = ["-signkey", self.key] if parent is None else ["-CA", parent.certificate, "-CAkey", parent.key]
        extensions = ["-extfile", self.directory / "authority.ext"]
        self.certificate.write_text(openssl("x509", "-req", "-days", "3650", *signer, *extensions, input=request))

    def pem(self):
        return self.certificate.read_text()

    def id(self):
        return certificate_id(self.pem())

    def sign(self, request, days=365):
        """The certificate for a request, in PEM, without its issuer's."""
        signer = ["-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial"]
        extensions = ["-extfile", self.directory / "device.ext"]
        return openssl("x509", "-req", "-sha256", "-days", days, *signer, *extensions, input=request)

    def chain(self, request, days=365):
        """The certificate and its issuer's."""
        return self.sign(request, days) + self.pem()

    def make_device(self, subject):
        """A device whose key is made in the factory: the paths of its key and of its chain."""
        name = subject.replace("/", "_")
        key = make_key(self.directory / f"{name}.key")
        chain = self.directory / f"{name}.pem"
        chain.write_text(self.chain(openssl("req", "-new", "-key", key, "-subj", subject)))
        return key, chain
