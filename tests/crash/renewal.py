"""As Scene, of a device with an identity that works and whose successor is due: at no instant may it be without one, and
the cloud must be told of the old one. The cloud runs the rule and the function of etc/aws."""

import contextlib
import json
import shutil

from scene import PREDECESSOR

# The first identity is older than that, its successor is not, however long the states take that are tried.
MAX_AGE = "365d"
AGE = 400 * 86400


class Renewal:
    """Before Scene in a class."""

    def __init__(self, _):
        super().__init__(True)

    cloud_options = ("--hooks", "--retire", "--control-port=0")

    def prepare_ways(self):
        gateway = self.gateway
        gateway.sections["Renewal"] = {
            "MaxAge": MAX_AGE,
            "Spread": "0%",
            "RetireTopic": "$aws/rules/enrolld_retire/things/%t/retire",
            "RetireAcknowledged": "yes",
        }
        gateway.configure("Cloud", ProveTopic="things/%t/enrolld")
        gateway.configure("fleet-claim", RenewTemplate="enrolld-renew", RenewParameter_ThingName="%t")

    def make_predecessor(self):
        gateway = self.gateway
        self.cloud.edit(options={"issuer": f"private:10000:-{AGE}"})  # until it is started again
        with super().new_device():
            gateway.start()
            self.wait_settled()
            gateway.stop()
            self.old = gateway.identity()
            self.old["issuedAt"] = self.old["notBefore"]
            (gateway.state / PREDECESSOR / "identity.json").write_text(json.dumps(self.old))
            shutil.copytree(gateway.state, self.predecessor, symlinks=True)
        self.moment, _ = self.cloud.history()[-1]

    @contextlib.contextmanager
    def new_device(self):
        """The same one each time: its cloud forgets what came after the enrolment."""
        self.cloud.stop()
        self.cloud.restore(self.moment)
        self.cloud.start()
        self.make_state()
        try:
            yield
        finally:
            self.end_everything()
            self.clear_device()

    def settled(self):
        """Another identity is in use, and the cloud was told of the one before."""
        gateway = self.gateway
        if not self.predecessor.exists():
            return super().settled()
        generations, pending = gateway.signalled("Generation"), gateway.signalled("RetirePending")
        return super().settled() and max(generations, default=0) > 1 and not any(pending[-1:])

    # What must hold.

    def look_at_current(self):
        replacement, self.replacement = self.replacement, False
        try:
            problem = super().look_at_current()
        finally:
            self.replacement = replacement
        return "is absent" if problem is None else problem

    def judge_crash(self, verdict, announced):
        """An identity is there, it works, and the cloud accepts it; what must survive is only the new one."""
        identity = super().judge_crash(verdict, announced)
        if identity is None:
            return None
        if (status := self.certificates().get(identity["certificateId"])) != "ACTIVE":
            verdict.lost.append(f"after the crash the certificate in use is {status} in the cloud")
        return identity if identity["generation"] > 1 else None

    def judge_cloud(self, verdict, used):
        super().judge_cloud(verdict, used)
        certificates = self.certificates()
        if used == self.old["certificateId"]:
            verdict.other.append("the old certificate is in use")
        if (status := certificates.pop(self.old["certificateId"])) != "INACTIVE":
            verdict.other.append(f"the old certificate is {status}")
        certificates.pop(used, None)
        if unknown := set(certificates.values()) - {"PENDING_ACTIVATION"}:
            verdict.other.append(f"there are other certificates: {unknown}")
