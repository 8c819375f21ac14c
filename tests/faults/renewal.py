"""One cell of the fault table in a renewal: the identity in use asks for its successor. Whatever is wrong, it stays in
use and works, until the new one is."""

from authority import Authority
from cell import Cell
from gateway import BusError
from harness import wait_for
from parts import Cloud
from stock_client import StockClient

RETIRE_TOPIC = "$aws/rules/enrolld_retire/things/%t/retire"


class RenewalCell(Cell):
    """Somebody asks for the renewal once, or imports a certificate; and nobody does so a second time."""

    busy = "renewing"
    first = None  # the identity before

    def retires(self):
        return self.row["step"] == "retire"

    def imports(self):
        return self.row.get("import", False)

    def make_cloud(self):
        if self.imports():
            return Cloud(self, "--jitp-delay=0", front=True)
        return Cloud(self, *(["--retire", "--control-port=0"] if self.retires() else []))

    def make_gateway(self):
        gateway = super().make_gateway()
        gateway.configure("Cloud", ProveTopic="things/%t/enrolld")
        gateway.configure("fleet-claim", RenewTemplate="enrolld-renew", RenewParameter_ThingName="%t")
        if self.retires():
            gateway.configure("Renewal", RetireTopic=RETIRE_TOPIC, RetireAcknowledged="yes")
        if self.imports():
            gateway.sections |= {"jitp": {}, "Request": {"Subject": "CN=" + self.cloud.thing_name("%s")}}
            gateway.configure("Renewal", RenewMethod="jitp")
        return gateway

    def begin(self, fault):
        gateway = self.gateway
        gateway.start()
        gateway.wait_provisioned()
        self.first = gateway.identity()
        self.thing = self.first["thingName"]
        self.strangers = (self.thing,)
        self.stock = StockClient(self, gateway, self.cloud)
        first = (gateway.state / "current").resolve()
        if self.row.get("backend") != "tpm2":
            self.front.set_asker(first / "certificate.pem", first / "private.pem")
        self.front.committed = lambda: (gateway.state / "current").resolve() != first
        chain = self.signed_chain() if self.imports() else None
        fault.arm()
        if "settings" in self.row["inject"]:
            gateway.call("Reload")
        gateway.since = gateway.monitor.mark()
        if self.imports():
            self.enrollctl("import", "-", input=chain)
        else:
            wait_for("nothing else is being done", self.ask)

    def enrollctl(self, *words, **options):
        done = self.gateway.enrollctl(*words, **options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def signed_chain(self):
        """A certificate for the device's request, of an authority whose devices are provisioned just in time."""
        self.maker = Authority(self.directory, "maker")
        self.authority = self.cloud.register_authority(self.maker.path, template=self.cloud.jitp_template())
        return self.maker.sign(self.enrollctl("request")) + self.maker.pem

    def ask(self):
        try:
            return self.gateway.call("Renew")
        except BusError as error:
            if not error.name.endswith(".Busy"):  # with a look at the identity, after Reload
                raise
            return None

    def publish(self):
        """With a key in the TPM it is test-renewal.py that does it."""
        if self.tpm is not None:
            return
        self.stock.publish(self.thing, f"things/{self.thing}/data", "{}")

    def check_meanwhile(self):
        """What is in use works: the old identity, and only while it is retired the new one."""
        before = self.gateway.identity() == self.first
        self.assertEqual(before, not self.retires())
        self.assertEqual(self.cloud.device_certificates()[self.first["certificateId"]], "ACTIVE")
        if self.row["inject"].get("cloud", {}).get("operation") != "connect":
            self.publish()

    def check_generations(self, found):
        """Numbers of those that never were in use are not given again."""
        self.assertEqual((len(found), found[0]), (2, 1), found)

    def check_words(self, properties):
        super().check_words(properties)
        if self.retires():
            self.assertEqual(self.gateway.property("RetirePending"), [self.first["certificateId"]])

    def is_beside(self, error):
        """A refusal makes enrolld look whether it is the identity that is refused; and the first CONNECT of a certificate
        that is provisioned just in time is refused by design."""
        if self.imports() and self.row["class"] != "not-yet" and error[0] == "not-yet":
            return True
        return error[1:2] == ["prove"] and self.row["step"] != "prove"

    def ends_attempt(self, properties):
        return super().ends_attempt(properties) or self.retires()

    def check_wait(self, properties):
        if not self.retires():
            super().check_wait(properties)

    def wait_done(self):
        wanted = lambda properties: properties.get("Generation", 0) > 1 or (self.retires() and self.row["class"])
        self.next_change(wanted, self.gateway.since, self.row.get("seconds", 60), "the successor in use")
        self.gateway.wait_property("State", "provisioned")
        self.gateway.wait_property("RetirePending", [])

    def other_certificates(self):
        """The old one is there as well."""
        certificates = super().other_certificates()
        status = certificates.pop(self.first["certificateId"])
        self.assertEqual(status, "INACTIVE" if self.retires() else "ACTIVE")
        return certificates

    def check_afterwards(self):
        self.publish()
        super().check_afterwards()
        self.assertEqual(self.gateway.identity()["thingName"], self.thing)
