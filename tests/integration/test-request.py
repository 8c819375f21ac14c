#!/usr/bin/env python3
"""The jobs `request` and `import` by hand: a key that waits for its certificate, what is taken, and what is refused with
which words. The same with the daemon is in test-import.py and test-jit.py."""

import json
import os
import pathlib
import re
import stat
import subprocess

import harness
from maker import Maker, certificate_id, make_key, openssl
from parts import Tpm

SERIAL = "GW-0001"
# For dates that `openssl x509` does not make.
CA_CONFIGURATION = """[ca]
default_ca = default
[default]
database = {directory}/index
serial = {directory}/serial
new_certs_dir = {directory}
default_md = sha256
policy = any
[any]
commonName = supplied
"""
EC = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")


class Staging(harness.TestCase):
    backend = "tpm2"

    def setUp(self):
        super().setUp()
        self.tpm = Tpm(self) if self.backend == "tpm2" else None
        self.maker = Maker(self)
        self.staged = self.directory / "staged"
        self.configuration = self.directory / "enrolld.conf"
        self.sections = {
            "Agent": {"Methods": "jitp", "SerialNumber": f"literal:{SERIAL}"},
            "Cloud": {"Endpoint": "localhost", "RootCA": "/dev/null"},
            "Key": {"Backend": self.backend, "TCTI": self.tpm.tcti if self.tpm else None},
            "Request": {},
        }

    def configure(self, section, **changes):
        self.sections[section].update(changes)

    def run_worker(self, *arguments, keeps=True):
        """Returns its exit status, standard output and standard error. keeps: the job is one that stages something."""
        lines = []
        for name, keys in self.sections.items():
            lines += [f"[{name}]", *(f"{key}={value}" for key, value in keys.items() if value is not None)]
        self.configuration.write_text("\n".join(lines) + "\n")
        kept = {key: value for key, value in os.environ.items() if key == "PATH" or key.endswith("SAN_OPTIONS")}
        plugins = {"ENROLLD_PLUGIN_DIR": str(harness.built("jit.so").parent)}
        options = [f"--config={self.configuration}", *([f"--staged={self.staged}"] if keeps else [])]
        done = subprocess.run(
            [harness.built("enrolld-worker"), *arguments, *options],
            env=kept | plugins | {"TSS2_LOG": "all+NONE"},
            capture_output=True,
            text=True,
            timeout=harness.DEADLINE,
        )
        return done.returncode, done.stdout, done.stderr

    def request(self, *arguments):
        """The request in PEM; its progress stays in self.said."""
        status, output, self.said = self.run_worker("request", *arguments)
        self.assertEqual(status, 0, self.said)
        self.assertTrue(output.startswith("-----BEGIN CERTIFICATE REQUEST-----\n"), output)
        self.assertTrue(output.endswith("-----END CERTIFICATE REQUEST-----\n"), output)
        return output

    def write(self, name, text):
        path = self.directory / name
        path.write_text(text)
        return path

    def import_arguments(self, chain, key=None):
        arguments = ["import", f"--certificate={self.write('chain.pem', chain)}"]
        return arguments if key is None else [*arguments, f"--private-key={key}"]

    def import_chain(self, chain, key=None):
        """Returns the id; its progress stays in self.said."""
        status, self.said, errors = self.run_worker(*self.import_arguments(chain, key))
        self.assertEqual((status, errors), (0, ""), self.said)
        return re.search(r"^CERTIFICATE_ID +([0-9a-f]{64})$", self.said, re.MULTILINE)[1]

    def content(self):
        return json.loads(self.staged.read_text())

    def assertRefused(self, words, *arguments, failure="invalid"):
        """With these words, and nothing has changed."""
        before = self.staged.read_bytes() if self.staged.exists() else None
        status, output, errors = self.run_worker(*arguments)
        self.assertEqual(status, 1, output + errors)
        self.assertRegex(errors, rf"(?m)^failed \({failure}\) at step .*{re.escape(words)}")
        self.assertEqual(self.staged.read_bytes() if self.staged.exists() else None, before)
        self.assertNothingLeft()

    def assertImportRefused(self, words, chain, key=None, **options):
        self.assertRefused(words, *self.import_arguments(chain, key), **options)

    def assertNothingLeft(self):
        """No object in the TPM, and nothing half written."""
        if self.tpm is not None:
            self.assertEqual(self.tpm.handles("transient"), [])
            self.assertEqual(self.tpm.handles("loaded-session"), [])
        self.assertFalse(pathlib.Path(f"{self.staged}.new").exists())


class Successor(Staging):
    """A device that is provisioned: what is staged there is for the successor of its identity."""

    backend = "file"

    def setUp(self):
        super().setUp()
        self.sections["Renewal"] = {"RenewMethod": "jitp"}
        self.identity = self.directory / "identity"
        self.identity.mkdir()
        make_key(self.identity / "private.pem")
        self.document = {
            "schema": 1,
            "generation": 1,
            "method": "fleet-claim",
            "endpoint": "localhost",
            "clientId": "gateway-enrolld",
            "thingName": "gateway",
            "serialNumber": "GW-0000",
            "certificateId": "c" * 64,
            "keyBackend": "file",
            "keyAlgorithm": "P-256",
            "keyOrigin": "file",
            "parentName": "",
            "notBefore": 1000000000,
            "notAfter": 4000000000,
            "issuedAt": 1000000000,
        }
        self.describe()

    def describe(self, **changes):
        self.document |= changes
        (self.identity / "identity.json").write_text(json.dumps(self.document))

    def run_worker(self, *arguments, **options):
        return super().run_worker(*arguments, f"--identity={self.identity}", **options)

    def subject(self, request):
        return openssl("req", "-noout", "-subject", "-nameopt", "sep_comma_plus", input=request).strip()

    def public_key(self, text, *words):
        return openssl(*words, "-pubout" if words[0] == "pkey" else "-pubkey", input=text)

    def test_successor(self):
        """For the same device, whatever SerialNumber= says by now, with a key of its own."""
        request = self.request()
        self.assertEqual(self.subject(request), "subject=CN=GW-0000")
        in_use = self.public_key((self.identity / "private.pem").read_text(), "pkey")
        self.assertNotEqual(self.public_key(request, "req", "-noout"), in_use)
        chain = self.maker.chain(request)
        self.assertEqual(self.import_chain(chain), certificate_id(chain))
        self.assertEqual(self.content()["certificate"], chain)

    def test_reused_key(self):
        self.configure("Renewal", ReuseKey="yes")
        request = self.request()
        in_use = self.public_key((self.identity / "private.pem").read_text(), "pkey")
        self.assertEqual(self.public_key(request, "req", "-noout"), in_use)
        self.assertEqual(self.request(), request)
        chain = self.maker.chain(request)
        self.assertEqual(self.import_chain(chain), certificate_id(chain))

    def test_method_that_has_issued(self):
        """It renews where RenewMethod= names none."""
        self.configure("Renewal", RenewMethod=None)
        self.describe(method="jitr")
        self.request()

    def test_method_that_takes_none(self):
        chain = self.maker.chain(self.request())
        for method, words in (
            (None, "its renewal by fleet-claim takes no certificate that is imported"),
            ("fleet-claim", "its renewal by fleet-claim takes no certificate that is imported"),
            ("none", "RenewMethod=none takes no certificate that is imported"),
            ("absent", "there is no plugin for the method absent"),
        ):
            with self.subTest(method=method):
                self.configure("Renewal", RenewMethod=method)
                self.assertRefused(words, "request")
                self.assertImportRefused(words, chain)
        self.configure("Renewal", RenewMethod="none")
        self.assertImportRefused("set RenewMethod= in [Renewal] to a method that does", chain)

    def test_certificate_in_use(self):
        """A receipt that was lost is had again, and nothing is staged, whatever renews."""
        chain = self.maker.chain(self.request())
        before = self.staged.read_bytes()
        self.describe(certificateId=certificate_id(chain))
        for method in ("jitp", "none"):
            self.configure("Renewal", RenewMethod=method)
            self.assertEqual(self.import_chain(chain), certificate_id(chain))
        self.assertEqual(self.staged.read_bytes(), before)

    def test_older_certificate(self):
        """Nothing would ever use it."""
        chain = self.maker.chain(self.request())
        self.describe(notBefore=3900000000)
        self.assertImportRefused("the certificate in use (cccccccccccccccc..., valid from 2093-08-01T", chain)

    def test_damaged_identity(self):
        (self.identity / "identity.json").write_text("{}")
        self.assertRefused("identity.json: schema is missing", "request")
        self.assertImportRefused("identity.json: schema is missing", self.maker.pem())


class Request(Staging):
    def test_request(self):
        request = self.request()
        self.assertEqual(self.subject(request), f"CN={SERIAL}")
        self.assertEqual(stat.S_IMODE(self.staged.stat().st_mode), 0o600)
        content = self.content()
        self.assertEqual(content["request"], request)
        self.assertEqual((content["subject"], content["keyOrigin"]), (f"CN={SERIAL}", "tpm"))
        self.assertTrue(content["privateKey"].startswith("-----BEGIN TSS2 PRIVATE KEY-----"))
        self.assertNotIn("certificate", content)
        self.assertNothingLeft()

    def subject(self, request):
        """As openssl(1) reads it, after it has verified the signature."""
        openssl("req", "-noout", "-verify", input=request)
        text = openssl("req", "-noout", "-subject", "-nameopt", "utf8,sep_comma_plus,-esc_msb", input=request)
        return text.removeprefix("subject=").rstrip("\n")

    def public_key(self, request):
        return openssl("req", "-noout", "-pubkey", input=request)

    def test_again(self):
        """What somebody is signing just now stays right; another subject is another request for the same key."""
        first = self.request()
        before = self.staged.read_bytes()
        self.assertEqual(self.request(), first)
        self.assertEqual(self.staged.read_bytes(), before)
        second = self.request("--subject=CN=%s,O=Example")
        self.assertNotEqual(second, first)
        self.assertEqual(self.public_key(second), self.public_key(first))
        self.assertEqual(self.request("--subject=CN=%s, O=Example"), second)

    def test_subject(self):
        """Every attribute, in its order."""
        self.configure("Agent", SerialNumber="literal:GW:1")
        self.configure(
            "Request",
            Subject=r"CN=g-%s,O=Bärlauch\, Söhne,OU=\#1,C=DE,ST=Bayern,dnQualifier=a/b,serialNumber=%s",
        )
        self.assertEqual(
            self.subject(self.request()),
            "CN=g-GW:1,O=Bärlauch, Söhne,OU=#1,C=DE,ST=Bayern,dnQualifier=a/b,serialNumber=GW:1",
        )

    def test_each_kind_of_key(self):
        for algorithm in ("P-256", "P-384", "RSA-2048", "RSA-3072"):
            with self.subTest(algorithm=algorithm):
                self.staged.unlink(missing_ok=True)
                self.configure("Key", Algorithm=algorithm)
                request = self.request("--subject=CN=ü,dnQualifier=x")
                self.assertEqual(self.subject(request), "CN=ü,dnQualifier=x")
                chain = self.maker.chain(request)
                self.assertEqual(self.import_chain(chain), certificate_id(chain))

    def test_wrong_subjects(self):
        for subject, words in (
            ("O=Example, Inc.", 'but found "Inc." (within a value a comma is written "\\,")'),
            ("CN=x,emailAddress=a@b", 'there is no attribute "emailAddress", known are CN, O, OU, ST, C,'),
            ("CN=%t", "%t is no specifier, or has no value here"),
            ("C=Germany", "C must be the two capital letters of a country, like DE"),
            ("CN=" + 65 * "x", "CN has 65 characters, at most 64 are allowed"),
        ):
            with self.subTest(subject=subject):
                self.assertRefused(words, "request", f"--subject={subject}")

    def test_wrong_subject_in_the_configuration(self):
        """It is found before anything is asked for."""
        self.configure("Request", Subject="CN=%s,L=Berlin")
        status, output, errors = self.run_worker("check-config", keeps=False)
        self.assertEqual((status, output), (1, ""))
        self.assertIn('failed (invalid) at step request: Subject=: there is no attribute "L"', errors)
        self.configure("Request", Subject="CN=%s,serialNumber=%s")
        self.assertEqual(self.run_worker("check-config", keeps=False)[::2], (0, ""))

    def test_key_of_another_tpm(self):
        first = self.request()
        self.tpm.stop()
        self.tpm = Tpm(self, "other")
        self.configure("Key", TCTI=self.tpm.tcti)
        second = self.request()
        self.assertIn("key: the key of the last request is lost, another is made: ", self.said)
        self.assertNotEqual(self.public_key(second), self.public_key(first))

    def test_tpm_that_is_gone(self):
        """It may come back: the key stays."""
        first = self.request()
        self.tpm.stop()
        before = self.staged.read_bytes()
        status, output, errors = self.run_worker("request")
        self.assertEqual((status, output), (1, ""), errors)
        self.assertIn("failed (tpm) at step key", errors)
        self.assertNotIn("lost", errors)
        self.assertEqual(self.staged.read_bytes(), before)
        self.tpm.start()
        self.assertEqual(self.request(), first)

    def test_other_kind_of_key(self):
        first = self.request()
        self.configure("Key", Algorithm="RSA-2048")
        second = self.request()
        self.assertIn("another key is made: the last one is P-256 in tpm2, which is not what Algorithm= in", self.said)
        self.assertNotEqual(self.public_key(second), self.public_key(first))
        self.configure("Key", Backend="file")
        third = self.request()
        self.assertIn("another key is made: the last one is in the TPM, but Backend=file in [Key]", self.said)
        self.import_chain(self.maker.chain(third))
        self.configure("Key", Algorithm="P-256")
        self.assertRefused(
            "the key of the last request (RSA-2048 in file) has its certificate already, but [Key] Algorithm= asks for",
            "request",
        )

    def test_certificate_stays(self):
        chain = self.maker.chain(self.request())
        self.import_chain(chain)
        self.request("--subject=CN=renamed")
        self.assertEqual(self.content()["certificate"], chain)

    def test_damaged_staged(self):
        self.staged.write_text('{"schema": 1}')
        self.request()
        self.assertIn("what was staged before is not used: its keyOrigin is malformed", self.said)

    def test_no_method_imports(self):
        """Before somebody signs what could not be imported."""
        self.configure("Agent", Methods="fleet-claim")
        self.assertRefused("no method of Methods= takes a certificate that was imported", "request")
        self.configure("Agent", Methods="fleet-claim jitr")
        self.request()

    def test_names_without_a_common_name(self):
        """%c of a certificate that will have none."""
        for name in ("ThingName", "ClientId"):
            with self.subTest(name=name):
                self.configure("Agent", **{"ThingName": None, "ClientId": None, name: "gw-%c"})
                words = f"{name}=gw-%c in [Agent] is by the common name, but the subject has no CN"
                self.assertRefused(words, "request", "--subject=O=Example")
                self.configure("Request", Subject="O=Example")
                status, output, errors = self.run_worker("check-config", keeps=False)
                self.assertEqual((status, output), (1, ""))
                self.assertIn(words, errors)
                self.request("--subject=CN=%s")
                self.configure("Request", Subject=None)
        self.configure("Agent", ClientId="%%c")
        self.request("--subject=O=Example")


class Import(Staging):
    def test_for_the_staged_key(self):
        chain = self.maker.chain(self.request())
        receipt = self.import_chain(chain)
        self.assertEqual(receipt, certificate_id(chain))
        self.assertNotIn("without its issuer's", self.said)
        content = self.content()
        self.assertEqual((content["certificate"], content["keyOrigin"]), (chain, "tpm"))
        self.assertNothingLeft()
        before = self.staged.read_bytes()
        self.assertEqual(self.import_chain(chain), receipt)
        self.assertEqual(self.staged.read_bytes(), before)

    def test_leaf_alone(self):
        leaf = self.maker.sign(self.request())
        self.assertEqual(self.import_chain(leaf), certificate_id(leaf))
        self.assertIn("certificate: the certificate came without its issuer's", self.said)

    def test_longer_chain(self):
        middle = Maker(self, "middle", parent=self.maker)
        chain = middle.chain(self.request()) + self.maker.pem()
        self.assertEqual(self.import_chain(chain), certificate_id(chain))
        self.assertEqual(self.content()["certificate"], chain)

    def test_another_certificate(self):
        """A second one for the same key takes the place of the first."""
        request = self.request()
        first = self.import_chain(self.maker.chain(request))
        second = self.import_chain(self.maker.chain(request, days=30))
        self.assertNotEqual(first, second)
        self.assertIn(f"certificate {first[:16]}..., imported before, is replaced", self.said)

    def test_key_comes_along(self):
        """It becomes a key of the TPM, and is nowhere in the clear."""
        for form in ("pkcs8", "sec1", "pkcs1"):
            with self.subTest(form=form):
                self.staged.unlink(missing_ok=True)
                key, chain = self.make_device(form)
                self.assertEqual(self.import_chain(chain, key), certificate_id(chain))
                content = self.content()
                self.assertEqual(content["keyOrigin"], "imported")
                self.assertTrue(content["privateKey"].startswith("-----BEGIN TSS2 PRIVATE KEY-----"))
                self.assertNotIn("request", content)
                self.assertNothingLeft()
                before = self.staged.read_bytes()
                self.assertEqual(self.import_chain(chain, key), certificate_id(chain))
                self.assertEqual(self.staged.read_bytes(), before)
                self.assertEqual(self.import_chain(chain), certificate_id(chain))

    def make_key(self, form):
        key = self.directory / f"{form}.key"
        if form == "pkcs1":
            openssl("genrsa", "-traditional", "-out", key, "2048")
        elif form == "sec1":
            openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
        else:
            make_key(key)
        header = {"pkcs8": "BEGIN PRIVATE KEY", "sec1": "BEGIN EC PRIVATE KEY", "pkcs1": "BEGIN RSA PRIVATE KEY"}
        self.assertIn(header[form], key.read_text())
        return key

    def make_device(self, form="pkcs8"):
        """Returns the path of a key that was made elsewhere, and the chain for it."""
        key = self.make_key(form)
        return key, self.maker.chain(openssl("req", "-new", "-key", key, "-subj", f"/CN={SERIAL}"))

    def test_key_in_place_of_the_staged_one(self):
        self.request()
        key, chain = self.make_device()
        self.assertEqual(self.import_chain(chain, key), certificate_id(chain))
        self.assertIn("key: the key of the last request or import is given up for the one that came along", self.said)
        self.assertNotIn("request", self.content())

    def test_nothing_staged(self):
        _, chain = self.make_device()
        self.assertImportRefused("this device has made no request, so there is no key for this certificate", chain)

    def test_wrong_key(self):
        self.request()
        key, chain = self.make_device()
        self.assertImportRefused("the certificate is not for this device's request: SHA-256 of its public", chain)
        other = make_key(self.directory / "other.key")
        self.assertImportRefused("the certificate is not for the private key that came along: SHA-256 of", chain, other)
        self.assertImportRefused("CA) is a CA's own: the device's certificate is missing", self.maker.pem())

    def test_wrong_order(self):
        chain = self.maker.pem() + self.maker.sign(self.request())
        self.assertImportRefused(f"wrong order: certificate 2 (CN={SERIAL}) is the device's own, which must", chain)

    def test_wrong_issuer(self):
        other = Maker(self, "other")
        chain = self.maker.sign(self.request()) + other.pem()
        self.assertImportRefused("was not issued by certificate 2 (CN=other CA)", chain)

    def sign(self, request, *options, extensions="basicConstraints=CA:FALSE\n"):
        """By the maker, in another way than the maker's own."""
        path = self.write("extensions", extensions)
        signer = ["-CA", self.maker.certificate, "-CAkey", self.maker.key, "-CAcreateserial"]
        return openssl("x509", "-req", *signer, "-extfile", path, *(options or ["-days", "9"]), input=request)

    def test_dates(self):
        (self.directory / "index").touch()
        self.write("serial", "01\n")
        configuration = self.write("ca.conf", CA_CONFIGURATION.format(directory=self.directory))
        words = ["-batch", "-notext", "-config", configuration, "-in", self.write("device.csr", self.request())]
        signer = ["-cert", self.maker.certificate, "-keyfile", self.maker.key]
        leaf = openssl("ca", *words, *signer, "-startdate", "20200101000000Z", "-enddate", "20210101000000Z")
        # Which of the two is the kernel's word about this machine's clock.
        words = "the device's certificate has expired: it is valid from 2020-01-01T00:00:00Z to 2021-01-01T00:00:00Z"
        self.assertImportRefused(words, leaf, failure="clock|invalid")

    def test_usage(self):
        request = self.request()
        for extensions, words in (
            ("basicConstraints=critical,CA:TRUE\n", "the device's certificate is one of a CA (basicConstraints CA:TRUE)"),
            ("keyUsage=keyEncipherment\n", "its key usage lacks digitalSignature"),
            ("extendedKeyUsage=serverAuth\n", "its extended key usage lacks clientAuth"),
        ):
            with self.subTest(extensions=extensions):
                self.assertImportRefused(words, self.sign(request, extensions=extensions))

    def test_weak(self):
        leaf = self.sign(self.request(), "-sha1")
        self.assertImportRefused("it is not signed by RSA or ECDSA with SHA-256, SHA-384 or SHA-512", leaf)

    def test_common_name(self):
        """Only where the thing or the client is called by it."""
        chain = self.maker.chain(self.request("--subject=CN=not a thing"))
        self.configure("Agent", ThingName="gateway-%c")
        self.assertImportRefused('the certificate\'s common name is "not a thing", but ThingName=gateway-%c in', chain)
        self.configure("Agent", ThingName=None, ClientId="%c")
        self.assertImportRefused('the certificate\'s common name is "not a thing", but ClientId=%c in [Agent]', chain)
        self.configure("Agent", ClientId="%%c")
        self.import_chain(chain)
        self.assertIn('common name "not a thing" is no thing name (1 to 128 of a-z A-Z 0-9 : _ -)', self.said)

    def test_malformed(self):
        self.request()
        key, chain = self.make_device()
        for text, words in (
            ("", "there is no certificate in it"),
            (chain[:300], "certificate 1 is damaged"),
            (chain + key.read_text(), "there is a private key among the certificates"),
            (chain + 16384 * " ", "the certificates are larger than 16383 bytes"),
            (chain * 5, "there are more than 8 certificates"),
        ):
            with self.subTest(words=words):
                self.assertImportRefused(words, text)

    def test_keys_that_are_refused(self):
        _, chain = self.make_device()
        rsa = ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"]
        encrypted = ["genpkey", *EC, "-aes256", "-pass", "pass:secret"]
        for text, words in (
            (openssl(*encrypted), "the private key is encrypted: convert it with `openssl pkey -in KEY -out NEWKEY`"),
            (openssl(*rsa), "this private key cannot be used"),
            (openssl("genpkey", "-algorithm", "ED25519"), "this private key cannot be used"),
            ("", "there is no private key in it"),
            (chain, "there is no private key in it"),
            ("-----BEGIN PRIVATE KEY-----\nAA!A\n-----END PRIVATE KEY-----\n", "the private key is damaged"),
        ):
            with self.subTest(words=words):
                self.assertImportRefused(words, chain, self.write("bad.key", text))
        self.request()
        staged_key = self.write("tpm.key", self.content()["privateKey"])
        self.assertImportRefused("the private key is one of a TPM already", chain, staged_key)

    def test_no_method_imports(self):
        chain = self.maker.chain(self.request())
        self.configure("Agent", Methods="fleet-claim")
        self.assertImportRefused("no method of Methods= takes a certificate that was imported", chain)
        self.configure("Agent", Methods="fleet-claim jitr")
        self.import_chain(chain)

    def test_lost_key(self):
        chain = self.maker.chain(self.request())
        self.tpm.stop()
        self.tpm = Tpm(self, "other")
        self.configure("Key", TCTI=self.tpm.tcti)
        self.assertImportRefused("have a new request signed (`enrollctl request`)", chain)
        # With its key it needs nothing of what is lost.
        key, chain = self.make_device()
        self.assertEqual(self.import_chain(chain, key), certificate_id(chain))

    def test_tpm_that_is_gone(self):
        chain = self.maker.chain(self.request())
        self.tpm.stop()
        before = self.staged.read_bytes()
        status, output, errors = self.run_worker(*self.import_arguments(chain))
        self.assertEqual(status, 1, output)
        self.assertIn("failed (tpm) at step key", errors)
        self.assertEqual(self.staged.read_bytes(), before)
        self.tpm.start()
        self.import_chain(chain)


class InFile(Staging):
    """Backend=file: the key is what it was."""

    backend = "file"

    def test_request_and_import(self):
        chain = self.maker.chain(self.request())
        self.assertEqual(self.import_chain(chain), certificate_id(chain))
        self.assertEqual(self.content()["keyOrigin"], "file")

    def test_key_comes_along(self):
        key = make_key(self.directory / "device.key")
        chain = self.maker.chain(openssl("req", "-new", "-key", key, "-subj", "/CN=x"))
        self.assertEqual(self.import_chain(chain, key), certificate_id(chain))
        content = self.content()
        self.assertEqual((content["privateKey"], content["keyOrigin"]), (key.read_text(), "file"))

    def test_usage(self):
        for arguments in (
            ("request", "--certificate=x"),
            ("request", "--private-key=x"),
            ("import",),
            ("import", "--private-key=x"),
            ("import", "--certificate=x", "--subject=CN=x"),
            ("import", "--certificate=x", "--directory=x"),
            ("check-config",),
        ):
            with self.subTest(arguments=arguments):
                status, output, errors = self.run_worker(*arguments)
                self.assertEqual((status, output), (2, ""))
                self.assertTrue(errors.startswith("Usage: "), errors)

    def test_staged_that_cannot_be_written(self):
        """A directory is where its successor should be, which stops root, too."""
        self.staged.with_name(f"{self.staged.name}.new").mkdir()
        status, output, errors = self.run_worker("request")
        self.assertEqual((status, output), (1, ""))
        self.assertRegex(errors, r"(?m)^failed \(internal\) at step .*could not be stored")
        self.assertFalse(self.staged.exists())


if __name__ == "__main__":
    harness.main()
