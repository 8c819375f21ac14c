"""A gateway that sleeps: what comes due meanwhile is done when it wakes, and not as much later as it has slept."""

import json

from machine import wait_for
from renewal import FOLLOWING_FILES, RENEWAL, complaints, lasting, wait_retired
from scenario import expect, provision, scenario
from scenarios_renewal import used_by_application
from suspend import date, seconds_asleep, sleep_until

DAYS = 400  # that a certificate is valid
AHEAD = 60  # seconds from going to sleep to what is due
MOMENT = 20  # seconds from waking to its beginning, at most: an emulated machine wakes slowly
PROMPT = 5  # that the date of waking is off by, at most
ADD_ADDRESS = "ip link add dummy0 type dummy && ip address add 192.0.2.1/24 dev dummy0 && ip link set dummy0 up"
OFFLINE = "ip link delete dummy0"


def sleep_past(scene, gateway, due):
    """What is due meanwhile begins when it wakes, and would not if it counted only the time that it is awake."""
    before = seconds_asleep(gateway)
    woken = sleep_until(gateway, due + 1)
    slept = seconds_asleep(gateway) - before
    expect("seconds asleep", slept, lambda seconds: seconds > 1.5 * MOMENT)
    since = f"--boot --quiet --output=json --unit='enrolld-worker@*' --since=@{woken - PROMPT:.0f}"
    first = gateway.wait(f"journalctl {since} | head -n 1 | grep .")
    begun = int(json.loads(first)["__REALTIME_TIMESTAMP"]) / 1e6
    scene.say(f"slept for {slept:.1f} s, until {woken - due:.1f} s after the date; a worker began {begun - woken:.1f} s later")
    expect("seconds from waking to the worker", begun - woken, lambda seconds: seconds < MOMENT)


def expect_successor(gateway, before):
    gateway.wait("grep -x 2 /run/enrolld/generation", 240)
    after = wait_retired(gateway)
    expect("in the cloud", gateway.certificates(), {after["CertificateId"]: "ACTIVE"})
    expect("the old certificate", gateway.registry()["certificates"][before["CertificateId"]]["status"], "INACTIVE")
    expect("workers with the claim", gateway.workers()["claim"], 1)
    return after


def target_up_since(gateway):
    return gateway.run("systemctl show --property=ActiveEnterTimestampMonotonic --value enrolld-provisioned.target")


@scenario
def suspend(scene):
    """A certificate's time comes while the gateway is suspended to memory: it is renewed as soon as that wakes, with the
    same TPM, and the application goes on."""
    gateway, before = provision(scene, more=RENEWAL, standin=lasting(DAYS), files=FOLLOWING_FILES)
    wait_for("the application uses it", lambda: used_by_application(gateway) == before["CertificateId"], 120)
    since = target_up_since(gateway)
    due = before["RenewAfter"] / 1e6
    gateway.run(f"date --set=@{due - AHEAD:.3f}")
    sleep_past(scene, gateway, due)
    after = expect_successor(gateway, before)
    wait_for("the application uses it", lambda: used_by_application(gateway) == after["CertificateId"], 120)
    expect("the target has been up since", target_up_since(gateway), since)
    expect("complaints", complaints(gateway), [])
    scene.say(gateway.run("journalctl --boot --quiet --output=short-iso --no-hostname --unit=enrolld.service | cut -c-150"))


def next_attempt(gateway, after, seconds):
    """The date of the next one, once an attempt has failed that was due at `after`. Waits are random: it is asked anew until
    this one is long enough."""
    status = {}

    def failed():
        status.update(gateway.status())
        return status["NextAttempt"] / 1e6 > after

    while True:
        wait_for(lambda: f"an attempt has failed: {status}", failed, 120)
        expect("the class of the failure", status["LastError"]["Class"], "network")
        if status["NextAttempt"] / 1e6 - date(gateway) > seconds:
            return status["NextAttempt"] / 1e6
        gateway.run("enrollctl renew || true")


@scenario
def suspend_retry(scene):
    """A renewal that found no network waits while the gateway sleeps: the next attempt comes at the same date, or when it
    wakes; and what comes back after that, an address, brings the one after it forward."""
    files = {"/etc/hosts": "127.0.0.1 localhost\n192.0.2.1 cloud.example\n"}
    standin = (*lasting(DAYS), "--bind=0.0.0.0", "--host=cloud.example")
    more = RENEWAL.replace("Network=1s 5s", "Network=2min 1h")
    gateway = scene.gateway(endpoint="cloud.example", standin=standin, files=files, more=more)
    expect("after the boot the system is", gateway.boot(), "running")
    gateway.run(ADD_ADDRESS)
    before = gateway.wait_provisioned()
    gateway.run(OFFLINE)
    gateway.run(f"date --set=@{before['RenewAfter'] / 1e6 + 1:.3f}")
    due = next_attempt(gateway, 0, 2 * MOMENT)
    sleep_past(scene, gateway, due)
    next_attempt(gateway, due, MOMENT)
    gateway.run(ADD_ADDRESS)
    expect_successor(gateway, before)
    expect("the journal", gateway.journal(), lambda text: "the network has changed: the next attempt" in text)
    scene.say(gateway.run("journalctl --boot --quiet --output=short-iso --no-hostname --unit=enrolld.service | cut -c-150"))
