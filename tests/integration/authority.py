"""Authorities and certificates of every kind, among them those that AWS IoT must not take."""

from maker import certificate_id, openssl

P256 = ("EC", "-pkeyopt", "ec_paramgen_curve:P-256")
CA_EXTENSIONS = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")
CLIENT_EXTENSIONS = ("basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature")


def make_key(path, kind=P256):
    openssl("genpkey", "-algorithm", *kind, "-out", path)
    return path


class Authority:
    """A CA certificate, self-signed or signed by another Authority. Its key is NAME.key in the directory."""

    def __init__(self, directory, name, subject=None, issuer=None, days=30, extensions=CA_EXTENSIONS, key=P256):
        self.directory = directory
        self.name = name
        self.key = make_key(directory / f"{name}.key", key)
        self.count = 0
        request = self.request(self.key, subject or f"/O=Maker/CN={name}")
        signer = issuer or self
        self.pem = signer.sign(request, days, extensions, self_signed=issuer is None)
        self.path = directory / f"{name}.pem"
        self.path.write_text(self.pem)
        self.id = certificate_id(self.pem)

    @staticmethod
    def request(key, subject):
        return openssl("req", "-new", "-key", key, "-subj", subject)

    def sign(self, request, days=10, extensions=CLIENT_EXTENSIONS, digest="sha256", self_signed=False):
        """The certificate, PEM; days below 0: it has expired."""
        self.count += 1
        file = self.directory / f"{self.name}-{self.count}.ext"
        file.write_text("\n".join(extensions) + "\n")
        key = ["-signkey", self.key] if self_signed else ["-CA", self.path, "-CAkey", self.key]
        words = ["-days", days, f"-{digest}", "-set_serial", f"0x{self.count:08x}", "-extfile", file]
        return openssl("x509", "-req", *key, *words, input=request)

    def verification(self, code):
        """The certificate that proves to AWS IoT who has the key."""
        return self.sign(self.request(make_key(self.directory / f"{self.name}-verification.key"), f"/CN={code}"))

    def device(self, name, subject=None, key=P256, **options):
        """Makes NAME.key and NAME.pem, the certificate and behind it this one, as a device sends them; returns the
        certificate alone."""
        request = self.request(make_key(self.directory / f"{name}.key", key), subject or f"/CN={name}")
        pem = self.sign(request, **options)
        (self.directory / f"{name}.pem").write_text(pem + self.pem)
        return pem
