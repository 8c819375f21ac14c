"""One cell of the fault table, run: a fresh cloud and a fresh gateway, the fault, what the gateway says about it, the
fault lifted, the identity in use, what is left in the cloud."""

import collections

import harness
import injection
import policies
from front import Front
from gateway import RETRY, Gateway, changed_properties
from parts import Cloud, Tpm

# Seconds from CONNECT to CONNECT of one client id at least (AWS IoT Core quotas, "Connect requests per second per
# client ID"); events have milliseconds.
CONNECT_DISTANCE = 0.999

# The class that is expected waits exactly that long (base and cap of the full jitter are its floor), all others would
# wait so long that the test sees it.
RIGHT_WAIT = 1.0
WRONG_WAIT = "1h 1h"

# How long a refusal of the new certificate may be propagation.
PROPAGATION = "2s"

CLASSES = {
    "network": "Network",
    "cloud-busy": "CloudBusy",
    "not-yet": "NotYet",
    "denied": "Denied",
    "invalid": "Invalid",
    "tpm": "TPM",
    "internal": "Internal",
}
OPERATOR_CLASSES = ("denied", "invalid")


def retry_key(row):
    """The row of the section [Retry] that decides when the next attempt is; None where there is none."""
    return CLASSES.get(row["class"])


def state(row):
    if not row["class"] or (row.get("renews") and row["class"] != "not-yet"):
        return "provisioned"
    if row["class"] == "not-yet":
        return "renewing" if row.get("renews") else "enrolling"
    return "failed" if row["class"] in OPERATOR_CLASSES else "backoff"


class Cell(harness.TestCase):
    """run_row() is the test."""

    row = None
    cloud = front = gateway = None
    due = 0  # NextAttempt as it was published last
    punctual = True  # nobody asks for an attempt before
    busy = "enrolling"  # the state of an attempt
    strangers = ()  # client ids of others

    def run_row(self, row):
        self.row = row
        self.cloud = self.make_cloud()
        if "policy" in row:
            name = "enrolld-claim"
            document = getattr(policies, row["policy"])(self.cloud.registry()["policies"][name])
            self.cloud.edit(policy=name, document=document)
        self.front = Front(self, self.cloud)
        self.gateway = self.make_gateway()
        fault = injection.make(self, row)
        fault.prepare()
        self.begin(fault)
        pid = self.gateway.pid()
        if row["class"]:
            self.check_failures()
            self.check_meanwhile()
            fault.lift()
            self.punctual = "settings" not in row["inject"]  # Reload means now
        self.wait_done()
        self.assertEqual(self.gateway.pid(), pid)
        self.check_afterwards()

    def make_cloud(self):
        return Cloud(self)

    def begin(self, fault):
        """With the fault, what it is to disturb."""
        fault.arm()
        self.gateway.start()

    def make_gateway(self):
        self.tpm = Tpm(self) if self.row.get("backend") == "tpm2" else None
        gateway = Gateway(self, self.cloud, self.tpm, self.row.get("backend", "file"))
        waits = dict.fromkeys(RETRY, WRONG_WAIT)
        if retry_key(self.row):
            waits[retry_key(self.row)] = "1s 1s"
        gateway.sections["Retry"] = {**waits, "Propagation": self.row.get("propagation", PROPAGATION)}
        gateway.sections["Renewal"] = {}
        gateway.configure("Cloud", Port=self.front.port)
        for name, value in self.row.get("settings", {}).items():
            section, key = name.split(".", 1)
            gateway.configure(section, **{key: value})
        return gateway

    # What the gateway says.

    def allowed(self):
        """Refusals at the proof are told while they may still be propagation."""
        return {self.row["class"], "not-yet"} if self.row["step"] == "prove" else {self.row["class"]}

    def next_change(self, look, since, seconds, what):
        """The first true look(properties) from message `since` on. An error of a wrong class is the end."""

        self.due = 0

        def look_at(message):
            properties = changed_properties(message)
            error = properties.get("LastError", [""])
            if error[0] and error[0] not in self.allowed() and not self.is_beside(error):
                raise AssertionError(f"unexpected error: {error}")
            self.check_punctual(message, properties)
            return look(properties)

        found = self.gateway.monitor.first(look_at, since, seconds)
        if found is None:
            raise AssertionError(f"not within {seconds} s: {what}\n{self.gateway.describe()}\n{self.front.errors}")
        return found

    def check_punctual(self, message, properties):
        """The next attempt does not begin before the time that was published."""
        if properties.get("NextAttempt", 0) > 0:
            self.due = properties["NextAttempt"]
        elif properties.get("State") == self.busy and self.punctual:
            early = (self.due - message["timestamp-realtime"]) / 1e6
            self.assertLess(early, 0, "seconds before NextAttempt that the attempt has begun")

    def wait_state(self, wanted):
        self.next_change(
            lambda properties: properties.get("State") == wanted,
            self.gateway.since,
            self.row.get("seconds", 2 * harness.DEADLINE),
            f"state {wanted}",
        )

    def check_meanwhile(self):
        """While the fault is there."""

    def wait_done(self):
        self.wait_state("provisioned")

    def check_failures(self):
        """Two attempts, or as many as the row says, end as it says."""
        self.failures = 0

        def failed(properties):
            error = properties.get("LastError", [""])
            if error[0] != self.row["class"] or self.is_beside(error):
                return False
            self.check_words(properties)
            if not self.ends_attempt(properties):
                return False
            self.check_wait(properties)
            self.failures += 1
            return self.failures == self.row.get("attempts", 2)

        self.next_change(failed, self.gateway.since, self.row.get("seconds", 2 * harness.DEADLINE), "the failures")

    def is_beside(self, _):
        """Whether that error is not of the attempts."""
        return False

    def ends_attempt(self, properties):
        """Or the same one asks again."""
        return "State" in properties or self.row["class"] == "not-yet"

    def check_words(self, properties):
        _, step, message, _ = properties["LastError"]
        self.assertEqual(step, self.row["step"], properties)
        self.assertIn(self.row["says"], message)

    def check_wait(self, properties):
        error_class, _, _, time = properties["LastError"]
        if error_class == "not-yet":
            return
        self.assertEqual(properties.get("State"), state(self.row), properties)
        wait = (properties["NextAttempt"] - time) / 1e6
        self.assertAlmostEqual(wait, RIGHT_WAIT, delta=0.1, msg=str(properties))

    # What it leaves behind.

    def check_afterwards(self):
        gateway = self.gateway
        self.assertEqual(gateway.property("LastError"), ["", "", "", 0])
        self.assertEqual(gateway.property("Attempt"), 0)
        self.assertEqual(gateway.property("NextAttempt"), 0)
        self.check_generations(sorted(int(path.name) for path in gateway.state.glob("generations/*")))
        self.assertEqual(self.front.errors, [])
        self.check_litter(gateway.property("CertificateId"))
        self.check_distance()

    def check_generations(self, found):
        self.assertEqual(found, [1])

    def check_litter(self, in_use):
        """Beside the certificate in use only those that the row admits are there."""
        certificates = self.other_certificates()
        self.assertEqual(certificates.pop(in_use), "ACTIVE")
        errors = self.gateway.signalled("LastError")
        attempts = sum(error[0] == self.row["class"] != "" and not self.is_beside(error) for error in errors)
        allowed = {
            status: attempts if number == "each attempt" else number
            for status, number in self.row.get("litter", {}).items()
        }
        self.assertEqual(dict(collections.Counter(certificates.values())), allowed)

    def other_certificates(self):
        """The status of each certificate that the gateway may have asked for meanwhile."""
        return self.cloud.device_certificates()

    def check_distance(self):
        """No client id has connected twice within a second, whoever it was that heard it."""
        seen = collections.defaultdict(list)
        for event in self.cloud.events(event="connect") + self.cloud.events(event="refused"):
            seen[event["clientId"]].append(event["time"] / 1000)
        for time, client_id in self.front.connects:
            seen[client_id].append(time)
        for client_id, times in seen.items():
            if client_id in self.strangers:
                continue
            times.sort()
            for first, second in zip(times, times[1:]):
                self.assertGreaterEqual(second - first, CONNECT_DISTANCE, f"CONNECTs of {client_id}: {times}")
