"""What tests/demo shows: an unprovisioned gateway becomes provisioned, a program that knows nothing of enrolld uses its
identity, and that is renewed. Every part is real; each claim printed is checked."""

import contextlib
import pathlib
import subprocess
import sys
import tempfile

from gateway import Gateway
from harness import SOURCE_DIR
from parts import Cloud, Tpm
from stock_client import StockClient

SERIAL = "GW-0001"
RETIRE_TOPIC = "$aws/rules/enrolld_retire/things/%t/retire"


class Stage(contextlib.ExitStack):
    """Stands in for a test: a directory, and what is stopped at the end."""

    def __init__(self):
        super().__init__()
        self.directory = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory(prefix="enrolld-demo-")))
        self.logs = []

    def addCleanup(self, function, *arguments):
        self.callback(function, *arguments)

    def show_on_failure(self, name, path):
        self.logs.append((name, path))


def say(text):
    print(f"\n\033[1m== {text}\033[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)


def expect(condition, what):
    if not condition:
        raise AssertionError(what)


def show(result):
    """Prints what a command printed; it must have succeeded."""
    print(result.stdout.rstrip(), flush=True)
    expect(result.returncode == 0, f"exit status {result.returncode}: {result.stderr}")


def provision(gateway, cloud):
    say("A gateway starts: no identity, a TPM, a claim certificate that its batch shares; the cloud is out of reach")
    cloud.stop()
    gateway.start()
    gateway.wait_property("LastError", lambda error: error[0] == "network")
    status = gateway.enrollctl("status")
    print(status.stdout.rstrip())
    expect(status.returncode == 3, f"enrollctl status has said {status.returncode}, not 3: not provisioned")
    say("The cloud is back; nothing is restarted: enrollctl wait, and the steps as the agent named them")
    since = gateway.monitor.mark()
    cloud.start()
    show(gateway.enrollctl("wait", "--timeout=60"))
    for step in gateway.signalled("Step", since):
        if step:
            print(f"   {step}")
    say("enrollctl status")
    show(gateway.enrollctl("status"))
    thing = gateway.property("ThingName")
    expect(thing == cloud.thing_name(SERIAL), f"the thing is called {thing}")
    say(f"What the registry in the cloud knows of it: tests/iotcore/iotcore-registry DIR thing {thing}")
    show(subprocess.run([SOURCE_DIR / "tests/iotcore/iotcore-registry", cloud.directory, "thing", thing], text=True,
                        capture_output=True))
    certificates = cloud.device_certificates()
    expect(list(certificates.values()) == ["ACTIVE"], f"certificates: {certificates}")
    say("The private key on disk can be used in this TPM only")
    print("\n".join(gateway.read("private.pem").splitlines()[:2]) + "\n...")
    expect(gateway.read("private.pem").startswith("-----BEGIN TSS2 PRIVATE KEY-----"), "private.pem")
    return thing


def publish(stage, gateway, cloud, tpm, thing):
    topic = f"things/{thing}/hello"
    say(f"A stock client publishes with current/: mosquitto_pub ... -t {topic}")
    StockClient(stage, gateway, cloud, tpm).publish(thing, topic, '{"temperature": 21.5}')
    event = cloud.wait_event(event="message", topic=topic)
    print(f"The stand-in accepted it: {event['payload']} from {event['clientId']}, "
          f"certificate {event['certificateId'][:16]}...")
    expect(event["certificateId"] == gateway.property("CertificateId"), "another certificate than the gateway's")


def renew(gateway, cloud, thing):
    say("It gets another certificate, proven before it is used, and the cloud deactivates the old one: enrollctl renew")
    old = gateway.property("CertificateId")
    show(gateway.enrollctl("renew"))
    gateway.wait_property("RetirePending", [])
    new = gateway.property("CertificateId")
    for identifier, status in cloud.device_certificates().items():
        print(f"   {identifier[:16]}... {status}")
    expect(cloud.device_certificates() == {old: "INACTIVE", new: "ACTIVE"}, "the certificates are others")
    expect(gateway.property("ThingName") == thing and gateway.property("Generation") == 2, "not its second identity")


def main():
    with Stage() as stage:
        try:
            say("Starting swtpm, mosquitto with the stand-in for AWS IoT Core, a private D-Bus")
            tpm = Tpm(stage)
            cloud = Cloud(stage, "--hooks", "--retire", "--control-port=0")
            gateway = Gateway(stage, cloud, tpm, serial=SERIAL)
            gateway.sections["Renewal"] = {"RetireTopic": RETIRE_TOPIC, "RetireAcknowledged": "yes"}
            gateway.configure("fleet-claim", RenewTemplate="enrolld-renew", **{"RenewParameter.ThingName": "%t"})
            thing = provision(gateway, cloud)
            publish(stage, gateway, cloud, tpm, thing)
            renew(gateway, cloud, thing)
            say("Done: provisioned, used by a program that knows nothing of enrolld, and renewed")
        except (AssertionError, subprocess.TimeoutExpired) as error:
            for name, path in stage.logs:
                if pathlib.Path(path).is_file():
                    print(f"--- {name}\n{pathlib.Path(path).read_text(errors='replace')}", file=sys.stderr)
            sys.exit(f"demo: {error}")


if __name__ == "__main__":
    main()
