"""As Scene, of a device that is provisioned just in time: its request is signed, or a key and a certificate come from the
factory, and an operator imports them; or whose successor comes so."""

import contextlib
import shutil
import sys
import threading
import time

import renewal
from authority import Authority
from scene import harness

AGAIN = 0.05  # seconds until the operator repeats what has failed


class Operator:
    """Has the device's request signed, and imports the answer; repeats what fails."""

    def __init__(self, scene):
        self.scene = scene
        self.chain = None  # for the request that was printed
        self.receipt = None
        self.learned = []  # microseconds since the epoch, chain, receipt
        self.refusals = []  # what commands have said of failures inside the device
        self.lost = []
        self.over = threading.Event()
        self.thread = None

    def learn(self, chain, receipt):
        self.chain, self.receipt = chain, receipt
        self.learned.append((time.time_ns() // 1000, chain, receipt))

    def as_of(self, microseconds):
        """One who knows what this one knew then."""
        other = type(self)(self.scene)
        for moment, chain, receipt in self.learned:
            if moment <= microseconds:
                other.chain, other.receipt = chain, receipt
        return other

    def start(self):
        self.over.clear()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def stop(self):
        if self.thread is not None:
            self.over.set()
            self.thread.join(harness.DEADLINE)
            if self.thread.is_alive():
                raise AssertionError("enrollctl has not ended")
            self.thread = None

    def runs(self):
        return self.thread is not None and self.thread.is_alive()

    def run(self):
        while not self.over.is_set() and self.receipt is None:
            done = self.next_command()
            if "is provisioned already" in done.stderr:
                return  # what it has said of the import was lost
            if done.returncode != 0:
                self.refusals += [done.stderr] if " failed: internal: " in done.stderr else []
                time.sleep(AGAIN)

    def next_command(self):
        gateway = self.scene.gateway
        if self.chain is None:
            done = gateway.enrollctl("request")
            if done.returncode == 0:
                self.learn(self.scene.maker.sign(done.stdout) + self.scene.maker.pem, None)
            return done
        return self.import_chain()

    def import_chain(self, *options):
        done = self.scene.gateway.enrollctl("import", *options, "-", input=self.chain)
        if done.returncode == 0:
            self.learn(self.chain, done.stdout.strip())
        if " failed: invalid: " in done.stderr:
            self.lost.append(f"the certificate for the request that was printed is refused: {done.stderr}")
        return done


class Factory(Operator):
    """Has made the key, too."""

    def next_command(self):
        self.chain = (self.scene.directory / f"{self.scene.thing}.pem").read_text()
        return self.import_chain(f"--key={self.scene.directory / self.scene.thing}.key")


class Imported:
    """Before Scene in a class, and before Renewal: there the first identity is one of the claim."""

    operator_class = Operator
    operator = None
    front = True
    way_options = ("--jitp-delay=0",)
    method = "jitp"

    @property
    def cloud_options(self):
        return (*self.way_options, *super().cloud_options)

    def register_maker(self):
        self.cloud.register_authority(self.maker.path, template=self.cloud.jitp_template())

    def prepare_ways(self):
        super().prepare_ways()
        gateway = self.gateway
        self.maker = Authority(self.directory, "maker")
        self.register_maker()
        gateway.sections |= {self.method: {}, "Request": {"Subject": "CN=" + self.cloud.thing_name("%s")}}
        if "Renewal" in gateway.sections:
            gateway.configure("Renewal", RenewMethod=self.method)
        else:
            gateway.configure("Agent", Methods=self.method, ThingName="%c")
        # Without a certificate it waits for the operator, and for nothing else.
        gateway.configure("Retry", Invalid="1h 1h")

    @contextlib.contextmanager
    def new_device(self):
        self.operator = self.first_operator = self.operator_class(self)
        with super().new_device():
            self.operator.start()
            yield

    def go_back(self, microseconds):
        super().go_back(microseconds)
        self.operator = self.first_operator.as_of(microseconds)

    def refusals(self):
        return self.operator.refusals

    def is_beside(self, error):
        """The first connection of a new certificate is refused by design."""
        return super().is_beside(error) or error[0] == "not-yet"

    def settled(self):
        """The operator has his receipt, too."""
        return super().settled() and not (self.operator and self.operator.runs())

    def end_everything(self):
        self.gateway.kill()
        if self.operator:
            self.operator.stop()
        super().end_everything()

    def recover(self, verdict, before):
        self.operator.start()
        super().recover(verdict, before)

    def judge_end(self, verdict, before=None):
        super().judge_end(verdict, before)
        verdict.lost += self.operator.lost
        if (method := self.gateway.property("Method")) != self.method:
            verdict.other.append(f"the identity in use is one of {method}")
        used = self.gateway.property("CertificateId")
        if self.operator.receipt not in (None, used):
            verdict.lost.append(f"{self.operator.receipt} was imported, {used} is in use")


class ImportedKey(Imported):
    operator_class = Factory

    def make_state(self):
        self.maker.device(self.thing)
        super().make_state()


class ImportedForLambda(Imported):
    way_options = ("--lambda", "--control-port=0")
    method = "jitr"

    def register_maker(self):
        self.cloud.register_authority(self.maker.path)
        self.cloud.control_url()
        program = harness.SOURCE_DIR / "tests/iotcore/iotcore-lambda"
        log = self.directory / "lambda.log"
        process = harness.Process("iotcore-lambda", [sys.executable, "-B", program, self.cloud.directory], log)
        self.addCleanup(process.stop)
        self.cloud.wait_event(event="subscribe", clientId="jitr-lambda")


class Claim:
    """Before Scene in a class. What is staged is a key with a request; it must be gone with the claim's identity."""

    def __enter__(self):
        super().__enter__()
        self.gateway.sections["jitp"] = {}
        self.staged = self.directory / "staged"
        self.make_staged()
        self.gateway.configure("Agent", Methods="jitp fleet-claim")
        return self

    def make_staged(self):
        self.gateway.configure("Agent", Methods="jitp")
        with self.new_device():
            self.gateway.start()
            done = self.gateway.enrollctl("request")
            if done.returncode != 0:
                raise AssertionError(f"enrollctl request: {done.stderr}")
            self.gateway.stop()
            shutil.copy(self.gateway.state / "staged", self.staged)

    def make_state(self):
        super().make_state()
        if self.staged.exists():
            shutil.copy(self.staged, self.gateway.state / "staged")


WAYS = {"jitp": Imported, "key": ImportedKey, "jitr": ImportedForLambda, "claim": Claim}
SUCCESSORS = ("jitp", "key")  # the ways of a renewal


def add_way(parser):
    parser.add_argument("--way", choices=SUCCESSORS, help="how the certificate is imported; without: there is no import")


def scene_class(base, options):
    """base, or what it is with --renewal and --way."""
    kinds = [WAYS[options.way]] if options.way else []
    kinds += [renewal.Renewal] if options.renewal else []
    return type(base.__name__, (*kinds, base), {}) if kinds else base
