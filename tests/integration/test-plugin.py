#!/usr/bin/env python3
"""A provisioning method of a third party: the example of docs/plugin.md, built out of tree against what `make install`
has installed, and all that a plugin can be refused for."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import harness
from authority import Authority, certificate_id
from gateway import Gateway
from harness import BUILD_DIR, DEADLINE, SOURCE_DIR, built, wait_for
from https_service import EXAMPLE, SERIAL, TOKEN, Scene, compile_plugin, service
from installation import Installation, run
from mqtt_client import Client
from parts import Cloud, Tpm

FIRST_HEADER = SOURCE_DIR / "tests/plugins/first"


class EndToEnd(Scene):
    def test_to_a_published_message(self):
        self.scene()
        self.gateway.start()
        self.gateway.wait_provisioned()
        identity = self.gateway.identity()
        self.assertEqual(identity["method"], "https-json")
        self.assertEqual(identity["thingName"], f"gateway-{SERIAL}")
        self.assertEqual(self.gateway.property("Method"), "https-json")
        self.assertEqual(self.gateway.signalled("Step")[:4], ["configuration", "key", "request", "certificate"])
        self.assertOneCertificate()
        self.assertEqual(len(self.service.asked), 1)
        current = self.gateway.state / "current"
        client = Client(self, self.cloud, identity["thingName"], current / "certificate.pem", current / "private.pem")
        client.connected()
        client.publish(f"things/{identity['thingName']}/hello", b"{}")
        self.assertNotIn(TOKEN, self.gateway.log.read_text())
        listed = self.gateway.enrollctl("plugins").stdout
        self.assertRegex(listed, "(?m)^https-json +asks an HTTPS service, which registers the certificate by itself$")
        self.assertIn("  Token=  the bearer token: /PATH or credential:ID (file) (required)\n",
                      self.gateway.enrollctl("plugins", "https-json").stdout)  # fmt: skip

    def test_built_with_the_first_header(self):
        """tests/plugins/first has the header of the first release, which never changes: what was built with it runs."""
        self.scene()
        compile_plugin(EXAMPLE / "https-json.c", self.plugins / "https-json.so", header=FIRST_HEADER)
        self.gateway.start()
        self.gateway.wait_provisioned()
        self.assertOneCertificate()

    def test_killed_while_the_service_thinks(self):
        """The certificate is made, and the answer is lost: the same key asks again, and gets the same one."""
        self.scene("tpm2")
        blocked, go_on = threading.Event(), threading.Event()
        self.addCleanup(go_on.set)

        def hold(answer):
            blocked.set()
            go_on.wait(DEADLINE)
            return answer

        self.service.answers = [hold]
        self.gateway.start()
        self.assertTrue(blocked.wait(DEADLINE))
        workers = self.gateway.workers()
        self.gateway.kill()
        self.assertEqual(len(workers), 1)
        wait_for("the worker ends with its daemon", lambda: not pathlib.Path(f"/proc/{workers[0]}/exe").exists())
        go_on.set()
        self.tpm.flush()
        self.gateway.start()
        self.gateway.wait_provisioned()
        self.assertOneCertificate()
        self.assertEqual(self.gateway.property("KeyBackend"), "tpm2")
        self.assertEqual([sorted(question) for question in self.service.asked],
                         [["certificateSigningRequest", "serialNumber"]] * 2)  # fmt: skip

    def test_certificate_survives_until_it_is_registered(self):
        """The first answer names no thing: not yet. What was issued is kept over kill -9, and asked about."""
        self.scene()
        self.gateway.configure("Retry", NotYet="2s 2s")
        self.service.answers = [lambda answer: {"certificatePem": answer["certificatePem"]}]
        self.gateway.start()
        error = self.gateway.wait_property("LastError", lambda error: error[0] != "")
        self.assertEqual(error[:2], ["not-yet", "register"])
        self.assertIn("has not registered the certificate yet", error[2])
        self.gateway.kill()
        self.gateway.start()
        self.gateway.wait_provisioned()
        identifier = self.gateway.identity()["certificateId"]
        self.assertEqual(self.service.asked[1:], [{"serialNumber": SERIAL, "certificateId": identifier}])
        self.assertOneCertificate()

    def test_what_was_borrowed_is_handed_back(self):
        """take_certificate() with the texts of the certificate that it replaces."""
        self.scene()
        source = (EXAMPLE / "https-json.c").read_text()
        taken = "    int r = is_held ? 0 : take_certificate(host, answer);\n"
        self.assertIn(taken, source)
        again = "host->take_certificate(host, host->certificate_pem(host), host->certificate_id(host), NULL)"
        changed = self.directory / "changed.c"
        changed.write_text(source.replace(taken, f"{taken}    if (r == 0)\n        r = {again};\n"))
        compile_plugin(changed, self.plugins / "https-json.so")
        self.gateway.start()
        self.gateway.wait_provisioned()
        self.assertOneCertificate()

    def test_retry_after(self):
        self.scene()
        self.service.answers = [service.Refusal(429, "slowly", Retry_After=9)]
        before = time.time()
        self.gateway.start()
        self.gateway.wait_signalled("State", "backoff")
        error = self.gateway.wait_property("LastError", lambda error: error[0] != "")
        self.assertEqual(error[0], "cloud-busy")
        self.assertIn("the service is asked too often (HTTP 429): slowly", error[2])
        wait_s = self.gateway.property("NextAttempt") / 1e6 - before
        self.assertTrue(8.5 < wait_s < 20, wait_s)
        self.gateway.kill()

    def test_retry_after_in_a_renewal(self):
        """Obeyed over a restart, too, after which the wait of the class alone would be shorter."""
        self.scene()
        source = (EXAMPLE / "https-json.c").read_text().replace("    .enroll = enroll,\n", "    .enroll = enroll,\n    .renew = enroll,\n")
        renewing = self.directory / "renewing.c"
        renewing.write_text(source.replace('{.name = "', '{.use = ENROLLD_USE_BOTH, .name = "'))
        compile_plugin(renewing, self.plugins / "https-json.so")
        self.gateway.start()
        self.gateway.wait_provisioned()
        self.service.devices.clear()  # another key is as good
        self.service.answers = [service.Refusal(429, "slowly", Retry_After=12)]
        begun = time.time()
        self.gateway.call("Renew")
        error = self.gateway.wait_property("LastError", lambda error: error[0] != "")
        self.assertEqual(error[0], "cloud-busy")
        self.gateway.wait_property("State", "provisioned")
        next_attempt = self.gateway.property("NextAttempt")
        self.assertGreater(next_attempt / 1e6, begun + 12)
        self.gateway.kill()
        self.gateway.start()
        self.gateway.wait_provisioned()
        self.assertEqual(self.gateway.property("NextAttempt"), next_attempt)
        self.assertEqual(self.gateway.property("Attempt"), 1)
        self.gateway.wait_property("Generation", 2)
        self.assertGreater(time.time(), begun + 12)
        self.assertEqual(len(self.service.asked), 3)


class Statuses(Scene):
    def assertSays(self, change, class_name, *words):
        self.service.answers = [change]
        self.service.devices.clear()  # by hand each attempt makes another key
        said = self.enroll_by_hand()
        self.assertTrue(said.startswith(f"failed ({class_name}) at step "), said)
        for word in words:
            self.assertIn(word, said)
        self.assertNotIn(TOKEN, said)

    def test_each_status(self):
        self.scene()
        cases = [
            (202, "not-yet", "the service has not decided yet (HTTP 202)"),
            (302, "invalid", "the service does not take the request (HTTP 302)"),
            (400, "invalid", "the service does not take the request (HTTP 400)"),
            (401, "denied", "is Token= the right one? (HTTP 401)"),
            (403, "denied", "the service refuses this device (HTTP 403)"),
            (404, "invalid", "is Url= right? (HTTP 404)"),
            (409, "invalid", "with another key (HTTP 409)"),
            (429, "cloud-busy", "asked too often (HTTP 429)"),
            (500, "cloud-busy", "in trouble (HTTP 500)"),
            (503, "cloud-busy", "in trouble (HTTP 503)"),
        ]
        for status, class_name, words in cases:
            with self.subTest(status):
                self.assertSays(service.Refusal(status, "its own words"), class_name, words, ": its own words")
        self.assertEqual(self.cloud.device_certificates(), {})

    def test_bad_answers(self):
        self.scene()
        other = service.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                                "-keyout", self.directory / "other.key", "-subj", "/CN=other")  # fmt: skip
        self.assertSays(lambda answer: [], "cloud-busy", "the service's reply is no JSON object")
        self.assertSays(lambda answer: {}, "cloud-busy", "the service's reply has no certificatePem")
        self.assertSays(lambda answer: answer | {"certificatePem": other}, "invalid", "issued for another key")
        self.assertSays(lambda answer: answer | {"certificatePem": "none"}, "invalid", "certificate")
        self.assertSays(lambda answer: answer | {"thingName": "no name"}, "invalid", 'thing name "no name" is not one')

    def test_the_token_is_never_said(self):
        self.scene()
        self.assertSays(service.Refusal(401, f"not {TOKEN}"), "denied", "(HTTP 401): not *****")
        (self.service_directory / "wrong").write_text("wrong\n")
        self.gateway.configure("https-json", Token=self.service_directory / "wrong")
        self.assertSays(None, "denied", "this token is not known")
        (self.service_directory / "wrong").write_text("\n")
        self.assertSays(None, "invalid", "Token= has no token")

    def test_wrong_service(self):
        self.scene()
        self.gateway.configure("https-json", ServerCA=None)
        self.assertSays(None, "network", "localhost: the server's certificate is not signed by a CA in RootCA=")
        self.gateway.configure("https-json", ServerCA=self.cloud.root_ca)
        self.assertSays(None, "network", "not signed by a CA in the certificates that the method trusts")
        self.gateway.configure("https-json", Url=self.server.url.replace("https:", "http:"))
        self.assertSays(None, "invalid", "the URL does not begin with https://")
        self.assertEqual(self.service.asked, [])


CLIENT = r"""
#include <enrolld/plugin.h>
#include <string.h>
static const struct enrolld_option options[] = {
    {"Url", ENROLLD_OPTION_TEXT, true, "whom", NULL, NULL},
    {"ServerCA", ENROLLD_OPTION_FILE, true, "whom to trust", NULL, NULL},
    {"Certificate", ENROLLD_OPTION_FILE, false, "its own", NULL, NULL},
    {"PrivateKey", ENROLLD_OPTION_FILE, false, "its key", NULL, NULL},
    {"Header", ENROLLD_OPTION_TEXT, false, "one more", NULL, "A: b"},
    {NULL, ENROLLD_OPTION_TEXT, false, NULL, NULL, NULL}};
static const struct enrolld_method methods[] = {
    {"client", "asks as a client with a certificate", options, false}, {NULL, NULL, NULL, false}};
static int enroll(const struct enrolld_host *host) {
    const char *headers[] = {host->option(host, "Header"), NULL};
    struct enrolld_https_response response;
    memset(&response, 0x5a, sizeof response);
    response.size = sizeof response - RESPONSE_LACKS;
    const struct enrolld_https_request request = {
        .size = sizeof request - REQUEST_LACKS, .method = "GET", .url = host->option(host, "Url"), .headers = headers,
        .root_ca_pem = host->option(host, "ServerCA"), .certificate_pem = host->option(host, "Certificate"),
        .private_key_pem = host->option(host, "PrivateKey")};
    if (host->https(host, &request, &response) < 0)
        return -1;
    for (int i = 1; i <= RESPONSE_LACKS; i++)
        if (((const char *)(&response + 1))[-i] != 0x5a)
            return host->fail(host, ENROLLD_CLASS_INTERNAL, "%d bytes before the end there is something new", i);
    return host->fail(host, ENROLLD_CLASS_NOT_YET, "the answer is %d", response.status);
}
const struct enrolld_plugin enrolld_plugin = {
    .abi = ENROLLD_PLUGIN_ABI, .size = sizeof(struct enrolld_plugin), .host_size = sizeof(struct enrolld_host),
    .method_size = sizeof(struct enrolld_method), .option_size = sizeof(struct enrolld_option),
    .methods = methods, .enroll = enroll,
};
"""


class ClientCertificate(Scene):
    def assertSays(self, words, lacks=0, request_lacks=0, **options):
        source = self.directory / "client.c"
        source.write_text(CLIENT)
        flags = ["-Wno-missing-field-initializers", f"-DRESPONSE_LACKS={lacks}", f"-DREQUEST_LACKS={request_lacks}"]
        compile_plugin(source, self.plugins / "client.so", *flags)
        self.gateway.sections["client"] = {
            "Url": self.server.url + "?canary-of-the-query",
            "ServerCA": self.service_directory / "server-ca.pem",
        } | options
        self.gateway.configure("Agent", Methods="client")
        said = self.enroll_by_hand()
        self.assertIn(words, said)
        self.assertNotIn("canary", said)

    def test_of_the_host(self):
        self.scene()
        self.server.context.verify_mode = service.ssl.CERT_REQUIRED
        self.server.context.load_verify_locations(self.cloud.state / "issuer.pem")
        certificate, key = self.cloud.claim_certificate, self.cloud.claim_key
        self.assertSays("failed (not-yet) at step configuration: the answer is 501",
                        Certificate=certificate, PrivateKey=key)
        self.assertSays("failed (denied) at step configuration: localhost:")
        self.assertSays("does not belong to its certificate", Certificate=self.service_directory / "server.pem",
                        PrivateKey=key)  # fmt: skip
        self.assertSays("a client certificate or its key, not both", Certificate=certificate)
        for lacks, request_lacks in ((8, 0), (-8, 0), (0, 8), (0, -8)):
            self.assertSays("has not set the sizes", lacks, request_lacks, Certificate=certificate, PrivateKey=key)
        # What follows the last member of the first version is not there for a plugin that says so.
        behind_the_last = 4 if sys.maxsize > 2**32 else 0
        self.assertSays("the answer is 501", behind_the_last, Certificate=certificate, PrivateKey=key)
        self.assertSays("header 1 of the request is not", Header="canary", Certificate=certificate, PrivateKey=key)


IMPORTER = r"""
#include <enrolld/plugin.h>
#include <string.h>
static const struct enrolld_option options[] = {
    {"Span", ENROLLD_OPTION_SPAN, false, "a time", NULL, "90s"},
    {"Text", ENROLLD_OPTION_TEXT, false, "a text", NULL, "%s"},
    {NULL, ENROLLD_OPTION_TEXT, false, NULL, NULL, NULL}};
static const struct enrolld_method methods[] = {
    {"asker", "asks for a certificate", options, false},
    {"importer", "takes what was imported", options, true},
    {NULL, NULL, NULL, false}};
static int enroll(const struct enrolld_host *host) {
    const char *pem = host->certificate_pem(host), *id = host->certificate_id(host);
    const char *name = host->certificate_common_name(host);
    if (pem == NULL || id == NULL || name == NULL)
        return host->fail(host, ENROLLD_CLASS_INTERNAL, "nothing was imported");
    for (int i = 0; i < 2; i++) {
        struct enrolld_refusal refusal;
        int r = host->try_identity(host, &refusal);
        if (r <= 0)
            return r;
        host->step(host, "distance");
    }
    if (strstr(pem, "-----BEGIN CERTIFICATE-----") == NULL || strlen(id) != 64)
        return host->fail(host, ENROLLD_CLASS_INTERNAL, "what was borrowed has changed");
    return host->fail(host, ENROLLD_CLASS_DENIED, "%s, %s, %u ms", name, host->option(host, "Text"),
                      (unsigned)host->span_ms(host, "Span"));
}
const struct enrolld_plugin enrolld_plugin = {
    .abi = ENROLLD_PLUGIN_ABI, .size = sizeof(struct enrolld_plugin), .host_size = sizeof(struct enrolld_host),
    .method_size = sizeof(struct enrolld_method), .option_size = sizeof(struct enrolld_option),
    .methods = methods, .enroll = enroll,
};
"""


class Imported(harness.TestCase):
    """A plugin with methods of both kinds, which tries its imported identity as fast as it can."""

    def test_the_host_keeps_the_distance(self):
        cloud = Cloud(self, front=True)
        gateway = Gateway(self, cloud, backend="file", serial=SERIAL)
        plugins = self.directory / "plugins"
        plugins.mkdir()
        (self.directory / "importer.c").write_text(IMPORTER)
        compile_plugin(self.directory / "importer.c", plugins / "importer.so", "-Wno-missing-field-initializers")
        gateway.extra_environment["ENROLLD_PLUGIN_DIR"] = str(plugins)
        del gateway.sections["fleet-claim"]
        gateway.configure("Agent", Methods="importer")
        gateway.start()
        gateway.wait_property("LastError", lambda error: error[0] == "invalid")
        receipt = certificate_id(Authority(self.directory, "maker").device("common-name"))
        key, chain = (str(self.directory / f"common-name.{suffix}") for suffix in ("key", "pem"))
        done = gateway.enrollctl("import", f"--key={key}", chain)
        self.assertEqual(done.returncode, 0, done.stderr)
        error = gateway.wait_property("LastError", lambda error: error[0] not in ("", "invalid"))
        self.assertEqual(error[:3], ["denied", "distance", f"common-name, {SERIAL}, 90000 ms"])
        first, second = cloud.events(event="refused", certificateId=receipt)[:2]
        self.assertEqual(first["clientId"], second["clientId"])
        self.assertGreaterEqual(second["time"] - first["time"], 1000)


PLUGIN = r"""
#include <enrolld/plugin.h>
static int enroll(const struct enrolld_host *host) { return host->fail(host, ENROLLD_CLASS_INTERNAL, "no"); }
static const struct enrolld_option options[] = {
    %(options)s
    {NULL, ENROLLD_OPTION_TEXT, false, NULL, NULL, NULL}};
static const struct enrolld_method methods[] = {{"%(name)s", "%(help)s", options, false}, {NULL, NULL, NULL, false}};
const struct enrolld_plugin %(symbol)s = {
    .abi = %(abi)s, .size = %(size)s, .host_size = %(host_size)s,
    .method_size = %(method_size)s, .option_size = %(option_size)s, .methods = methods, .enroll = enroll,
};
"""
GOOD = {
    "name": "test",
    "help": "a test",
    "symbol": "enrolld_plugin",
    "abi": "ENROLLD_PLUGIN_ABI",
    "size": "sizeof(struct enrolld_plugin)",
    "host_size": "sizeof(struct enrolld_host)",
    "method_size": "sizeof(struct enrolld_method)",
    "option_size": "sizeof(struct enrolld_option)",
    "options": "",
}


class Loader(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.plugins = self.directory / "plugins"
        self.plugins.mkdir()
        self.module = self.plugins / "test.so"

    def make(self, header=None, **changes):
        source = self.directory / "test.c"
        source.write_text(PLUGIN % (GOOD | changes))
        self.module.unlink(missing_ok=True)
        compile_plugin(source, self.module, "-Wno-missing-field-initializers", header=header)

    def worker(self, *words, check=True):
        environment = {name: value for name, value in os.environ.items() if name.endswith("SAN_OPTIONS")}
        environment |= {"PATH": os.environ["PATH"], "ENROLLD_PLUGIN_DIR": str(self.plugins)}
        done = subprocess.run([built("enrolld-worker"), *words], env=environment, capture_output=True, text=True,
                              timeout=DEADLINE)  # fmt: skip
        if check:
            self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def configure(self, methods="test", extra=""):
        path = self.directory / "enrolld.conf"
        path.write_text(f"[Agent]\nMethods={methods}\nSerialNumber=literal:{SERIAL}\n[Cloud]\nEndpoint=localhost\n"
                        f"RootCA=/nowhere\n[Key]\nBackend=file\n{extra}")  # fmt: skip
        return f"--config={path}"

    def assertLoads(self):
        self.assertEqual(self.worker("plugins").stdout, "test: a test\n")
        self.worker("check-config", self.configure())

    def assertRefused(self, *words):
        said = self.worker("check-config", self.configure(), check=False)
        self.assertEqual(said.returncode, 1, said.stdout)
        listed = self.worker("plugins").stdout
        for word in words:
            self.assertIn(word, said.stderr)
            self.assertIn(word, listed)
        self.assertTrue(listed.startswith("test: "), listed)

    def test_versions(self):
        self.make()
        self.assertLoads()
        self.make(host_size=str(8))
        self.assertLoads()
        old = "was built for another enrolld (plugin interface"
        newer = "was built for a newer enrolld than this one"
        self.make(abi="ENROLLD_PLUGIN_ABI + 1")
        self.assertRefused(str(self.module), old)
        self.make(abi="0")
        self.assertRefused(old)
        self.make(FIRST_HEADER)
        self.assertLoads()
        self.make(FIRST_HEADER, size="sizeof(struct enrolld_plugin) - sizeof(void *)")
        self.assertRefused(old)
        self.make(size="sizeof(struct enrolld_plugin) + 8")
        self.assertRefused(newer)
        self.make(host_size="sizeof(struct enrolld_host) + 8")
        self.assertRefused(newer)
        for table in ("method", "option"):
            size = f"sizeof(struct enrolld_{table})"
            self.make(FIRST_HEADER, **{f"{table}_size": f"{size} - sizeof(void *)"})
            self.assertRefused(old)
            self.make(**{f"{table}_size": "0"})
            self.assertRefused(old)
            self.make(**{f"{table}_size": f"{size} + 8"})
            self.assertRefused(newer)
        self.make(options='{"Later", (enum enrolld_option_type)4, false, "of a type to come", NULL, NULL},')
        self.assertRefused(newer)
        self.make(options='{.name = "Later", .help = "of a use to come", .use = (enum enrolld_option_use)3},')
        self.assertRefused(newer)

    def test_defaults(self):
        """They are read as if somebody had set them."""
        self.make(options='{"Span", ENROLLD_OPTION_SPAN, false, "a time", NULL, "soon"},')
        wrong = self.worker("check-config", self.configure(), check=False)
        self.assertEqual(wrong.returncode, 1)
        self.assertIn("the plugin's own default of Span= in section [test], soon, is no time span", wrong.stderr)
        self.make(options='{"Text", ENROLLD_OPTION_TEXT, false, "a text", NULL, "100%"},')
        wrong = self.worker("check-config", self.configure(), check=False)
        self.assertEqual(wrong.returncode, 1)
        self.assertIn("default of Text= in section [test], 100%, has a % that starts no specifier", wrong.stderr)

    def test_what_is_no_plugin(self):
        self.make(symbol="another_symbol")
        self.assertRefused(str(self.module), "cannot be loaded", "enrolld_plugin")
        self.make(name="other")
        self.assertRefused("has no method test")
        self.module.write_text("no module")
        self.assertRefused("cannot be loaded")
        self.module.unlink()
        said = self.worker("check-config", self.configure(), check=False).stderr
        self.assertIn("enrolld.conf:2: there is no plugin for the method test: ", said)
        self.assertIn("; `enrollctl plugins` lists the methods", said)
        self.assertEqual(self.worker("plugins").stdout, "")
        self.plugins.rmdir()
        self.assertIn(f"{self.plugins} cannot be read", self.worker("plugins", check=False).stderr)

    def test_who_can_change_it(self):
        self.make()
        words = "can be changed by others than root: no plugin is loaded from there"
        for mode in (0o664, 0o646):
            self.module.chmod(mode)
            self.assertRefused(f"{self.module} {words}")
        self.module.chmod(0o644)
        for mode in (0o775, 0o757):
            self.plugins.chmod(mode)
            self.assertRefused(f"{self.plugins} {words}")
        self.plugins.chmod(0o755)
        self.assertLoads()
        if os.geteuid() == 0:
            os.chown(self.module, 65534, 65534)
            self.assertRefused(f"{self.module} {words}")

    def test_links(self):
        self.make(name="test")
        inside = self.plugins / "real.so"
        self.module.rename(inside)
        self.module.symlink_to("real.so")
        self.assertLoads()
        outside = self.directory / "outside"
        outside.mkdir()
        inside.rename(outside / "real.so")
        self.module.unlink()
        self.module.symlink_to(outside / "real.so")
        self.assertRefused("leads out of the plugin directory")

    def test_the_list_is_bounded(self):
        self.make(help=r"a \033[31mred\n help" + 5000 * "x")
        listed = self.worker("plugins").stdout
        self.assertTrue(listed.startswith("test: a  [31mred  help"), listed[:100])
        self.assertLess(len(listed), 4200)
        for number in range(70):
            shutil.copy(self.module, self.plugins / f"a{number:02}.so")
        listed = self.worker("plugins").stdout.splitlines()
        self.assertEqual([line.split(": ")[0] for line in listed], [f"a{number:02}" for number in range(64)])

    def test_options_of_renewals(self):
        """They are judged as all others, but not demanded of who never renews by this method; no credential is there."""
        shutil.copy(built("abi.so"), self.plugins)
        self.worker("check-config", self.configure("abi", "[abi]\nText=one\n"))
        renewal = "[Renewal]\nRenewMethod=abi\n[abi]\nText=one\n"
        self.worker("check-config", self.configure("abi", renewal + "Renewing=%o\n"))
        wrong = self.worker("check-config", self.configure("abi", renewal), check=False)
        self.assertEqual(wrong.returncode, 1)
        self.assertIn(f"Renewing= is missing in section [abi] of {self.directory / 'enrolld.conf'}", wrong.stderr)
        wrong = self.worker("check-config", self.configure("abi", renewal + "Renewing=100%\n"), check=False)
        self.assertRegex(wrong.stderr, r"enrolld\.conf:\d+: Renewing=100% has a % that starts no specifier")
        wrong = self.worker("check-config", self.configure("abi", renewal + "RenewingX=1\n"), check=False)
        self.assertRegex(wrong.stderr, r"enrolld\.conf:\d+: the method abi knows no key RenewingX=")
        credential = renewal + "Renewing=x\nLater.x=credential:y\n"
        wrong = self.worker("check-config", self.configure("abi", credential), check=False)
        self.assertRegex(wrong.stderr, r"enrolld\.conf:\d+: Later\.x=credential:y is a credential, and there are none")
        self.make()
        wrong = self.worker("check-config", self.configure("test", "[Renewal]\nRenewMethod=test\n"), check=False)
        self.assertEqual(wrong.returncode, 1)
        self.assertRegex(wrong.stderr, r"enrolld\.conf:\d+: RenewMethod=test cannot renew anything")
        wrong = self.worker("check-config", self.configure("test", "[Renewal]\nRenewMethod=other\n"), check=False)
        self.assertRegex(wrong.stderr, r"enrolld\.conf:\d+: there is no plugin for the method other")
        self.worker("check-config", self.configure("test", "[Renewal]\nRenewMethod=none\n"))

    def test_all_methods_are_judged(self):
        """check-config knows the keys of each method, and prints those that are not set."""
        shutil.copy(built("abi.so"), self.plugins)
        self.make()
        good = self.worker("check-config", self.configure("test abi", "[abi]\nText=one\nFamily.x=y\n")).stdout
        self.assertIn("[abi] Other=three  (default)\n[abi] Span=90s  (default)\n[abi] File=  (default)\n", good)
        self.assertNotIn("Text=", good)
        configuration = self.configure("test abi", "[abi]\nText=one\nTest=two\n")
        wrong = self.worker("check-config", configuration, check=False)
        self.assertEqual(wrong.returncode, 1)
        self.assertRegex(wrong.stderr, r"enrolld\.conf:\d+: the method abi knows no key Test=")
        wrong = self.worker("check-config", self.configure("test abi", "[abi]\nText=three\n"), check=False)
        self.assertRegex(wrong.stderr, r"enrolld\.conf:\d+: Text=three is not one of: one two")
        wrong = self.worker("check-config", self.configure("test abi", "[abi]\nText=one\nSpan=soon\n"), check=False)
        self.assertRegex(wrong.stderr, r"enrolld\.conf:\d+: Span=soon is no time span")
        wrong = self.worker("check-config", self.configure("test abi"), check=False)
        self.assertIn(f"Text= is missing in section [abi] of {self.directory / 'enrolld.conf'}", wrong.stderr)
        self.assertIn("abi: does nothing\n  Text=  a text (required) (one of: one two)\n  Other=  another text"
                      " (default: three)\n  Span=  a time (default: 90s)\n  File=  a file (file)\n  Family.NAME=  a family\n"
                      "  Renewing=  a text for renewals (required for renewals)\n"
                      "  Later.NAME=  a family for renewals (for renewals)\n",
                      self.worker("plugins").stdout)  # fmt: skip


class Header(harness.TestCase):
    """tests/plugins/abi.c asserts each size, offset, type and value; here for other compilers and machines."""

    def test_it_compiles_everywhere(self):
        compilers = [name for name in ("cc", "gcc", "clang") if shutil.which(name)]
        targets = [[name, f"-std={standard}", "-pedantic"] for name in compilers for standard in ("c11", "gnu17")]
        if shutil.which("clang"):
            machines = ("i686-linux-gnu", "arm-linux-gnueabihf", "aarch64-linux-gnu", "riscv64-linux-gnu")
            targets += [["clang", f"--target={machine}", "-ffreestanding"] for machine in machines]
        warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers"]
        source = SOURCE_DIR / "tests/plugins/abi.c"
        for words in targets:
            run(*words, *warnings, f"-I{SOURCE_DIR / 'plugins'}", "-fsyntax-only", source)

    def test_it_serves_other_languages(self):
        """C++ has words of its own, and others read the header by libclang."""
        compilers = [name for name in ("c++", "clang++") if shutil.which(name)]
        source = self.directory / "test.cc"
        source.write_text(PLUGIN % GOOD)
        for compiler in compilers:
            words = ["-std=c++20", "-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers"]
            run(compiler, *words, f"-I{SOURCE_DIR / 'plugins'}", "-fsyntax-only", source)


class Tutorial(harness.TestCase):
    """The commands of docs/plugin.md, as they stand there."""

    def setUp(self):
        super().setUp()
        self.text = (SOURCE_DIR / "docs/plugin.md").read_text()
        self.tutorial = self.text.split("\n## Reference\n")[0]

    def script(self):
        """Files that the reader is to write, and commands, in their order."""
        parts = ["set -eu"]
        for language, name, block in re.findall(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", self.tutorial, re.M | re.S):
            if name:
                parts.append(f"cat > {name} <<'END_OF_FILE'\n{block}END_OF_FILE")
            elif language == "sh":
                parts.append(block)
        return "\n".join(parts) + "\n"

    def test_its_commands(self):
        folder = self.directory / "my-plugin"
        folder.mkdir()
        script = self.directory / "script"
        script.write_text(self.script())
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        environment |= {"ENROLLD_SOURCE": str(SOURCE_DIR), "ENROLLD_BUILD": str(BUILD_DIR), "HOME": str(self.directory)}
        process = harness.Process("sh", ["sh", script], self.directory / "output", environment, cwd=folder,
                                  start_new_session=True)  # fmt: skip
        self.show_on_failure("output of the commands", process.log)
        try:
            self.assertEqual(process.wait(4 * DEADLINE), 0)
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)  # what a script that has failed has left running
            except ProcessLookupError:
                pass
        output = process.log.read_text()
        for expected in re.findall(r"^```text\n(.*?)^```$", self.tutorial, re.M | re.S):
            for line in expected.splitlines():
                if line != "...":
                    self.assertIn(line, output)

    def test_the_listing_is_the_example(self):
        """What the reference shows of the example stands in it."""
        source = (EXAMPLE / "https-json.c").read_text()
        for block in re.findall(r"^```c\n(.*?)^```$", self.text, re.M | re.S):
            self.assertIn(block, source)


if __name__ == "__main__":
    try:
        harness.main()
    finally:
        Installation.remove()
