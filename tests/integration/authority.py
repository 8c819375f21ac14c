"""Authorities and certificates of every kind, among them those that AWS IoT must not take."""

import time

from maker import certificate_id, openssl

P256 = ("EC", "-pkeyopt", "ec_paramgen_curve:P-256")
CA_EXTENSIONS = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")
# The least that `openssl ca` can do with.
DATABASE = """[ca]
default_ca = maker
[maker]
database = {path}.index
serial = {path}.serial
new_certs_dir = {path}.certificates
policy = names
[names]
commonName = optional
organizationName = optional
"""
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
        if days < 0:
            return self.sign_expired(request, days, file, digest, self_signed)
        key = ["-signkey", self.key] if self_signed else ["-CA", self.path, "-CAkey", self.key]
        words = ["-days", days, f"-{digest}", "-set_serial", f"0x{self.count:08x}", "-extfile", file]
        return openssl("x509", "-req", *key, *words, input=request)

    def sign_expired(self, request, days, extensions, digest, self_signed):
        """A newer `openssl x509` makes nothing that has ended already, and that of 3.0 takes no dates."""
        path = self.directory / f"{self.name}-{self.count}"
        path.with_name(f"{path.name}.certificates").mkdir()
        path.with_name(f"{path.name}.index").touch()
        path.with_name(f"{path.name}.serial").write_text(f"{self.count:08X}\n")
        path.with_name(f"{path.name}.csr").write_text(request)
        configuration = path.with_name(f"{path.name}.cnf")
        configuration.write_text(DATABASE.format(path=path))
        key = ["-selfsign"] if self_signed else ["-cert", self.path]
        dates = [time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + day * 86400)) for day in (days - 10, days)]
        words = ["-batch", "-notext", "-preserveDN", "-config", configuration, "-md", digest, "-extfile", extensions]
        words += ["-startdate", dates[0], "-enddate", dates[1], "-keyfile", self.key, *key]
        return openssl("ca", *words, "-in", f"{path}.csr")

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
