"""The clock is not set: nothing in the dates of certificates means anything, and enrolld waits for who sets it."""

import json
import re
import time

from image import ARCHIVES
from scenario import expect, scenario

UNSET = ["-rtc", "base=1970-01-01T00:00:00"]  # a battery that is empty, or none
NOT_SYNCHRONISED = {"/usr/lib/tmpfiles.d/clock.conf": None}
TIMESYNCD_FILES = {"/etc/systemd/timesyncd.conf.d/server.conf": "[Time]\nNTP=127.0.0.1\n"}
CHRONY_FILES = {"/etc/chrony/conf.d/server.conf": "server 127.0.0.1 iburst\n"}
DATE_TOLERANCE = 60  # seconds between the machine's clock and the host's


def boot_without_clock(scene, files):
    """A gateway that waits for its clock, with its boot done and nothing sent."""
    gateway = scene.gateway(options=UNSET, files={**NOT_SYNCHRONISED, **files})
    expect("after the boot the system is", gateway.boot(), "running")
    expect("jobs that wait", gateway.run("systemctl list-jobs --no-legend"), "")
    gateway.wait_state("waiting-clock")
    date = int(gateway.run("date +%s"))  # that of systemd's build: PID 1 sets no earlier one
    expect("the clock is back by at least a month", time.time() - date > 30 * 86400, True)
    scene.say(f"the clock shows {gateway.run('date --utc --iso-8601=seconds')}")
    scene.say(gateway.run("enrollctl status || test $? = 3"))
    expect_nothing_sent(gateway)
    return gateway


def expect_nothing_sent(gateway):
    workers = gateway.workers()
    expect("workers with a network", {role: workers[role] for role in ("claim", "worker")}, {"claim": 0, "worker": 0})
    connections = gateway.run("grep 'New connection' /srv/cloud/mosquitto.log || true")
    expect("connections to the cloud", connections, "")


def tell_time(gateway, seconds=None):
    """From now on somebody knows the time: that of the host, or another one."""
    seconds = time.time() if seconds is None else seconds
    gateway.run(f"systemd-run --quiet --unit=sntp-server /usr/local/lib/machine/sntp-server {seconds:.3f}")


def start_timesyncd(gateway):
    gateway.run("systemctl unmask systemd-timesyncd.service && systemctl start systemd-timesyncd.service")


def expect_provisioned(scene, gateway):
    gateway.wait_provisioned()
    away = int(gateway.run("date +%s")) - time.time()
    expect("seconds between the clocks", away, lambda seconds: abs(seconds) < DATE_TOLERANCE)
    gateway.wait("systemctl is-active enrolld-provisioned.target")
    expect("workers", gateway.workers(), {"check": 1, "claim": 1, "worker": 0})
    # It was woken by that, and has not just found it when it looked again.
    expect("the journal", gateway.journal(), lambda text: "the clock was set" in text)
    expect("complaints", gateway.complaints(), re.compile(r"the clock is not set: [^\n]*").fullmatch)
    scene.say(gateway.run("journalctl --boot --quiet --output=short-iso --unit=enrolld.service | cut -c-150"))


@scenario
def clock_timesyncd(scene):
    """With its clock unset a gateway sends nothing, boots to the end, and is provisioned as soon as timesyncd has the time."""
    gateway = boot_without_clock(scene, TIMESYNCD_FILES)
    tell_time(gateway)
    start_timesyncd(gateway)
    expect_provisioned(scene, gateway)


@scenario
def clock_chrony(scene):
    """The same with chrony as Debian configures it: it tells the kernel that the clock is synchronised (rtcsync)."""
    gateway = boot_without_clock(scene, CHRONY_FILES)
    tell_time(gateway)
    gateway.run("DEBIAN_FRONTEND=noninteractive dpkg --purge systemd-timesyncd")
    gateway.run(f"DEBIAN_FRONTEND=noninteractive dpkg --install /{ARCHIVES}/chrony_*.deb", 300)
    expect("timesyncd's sign", gateway.succeeds("test -e /run/systemd/timesync/synchronized"), False)
    expect_provisioned(scene, gateway)


@scenario
def clock_plausible(scene):
    """A clock that shows a date that may be true, and that nobody synchronises, is trusted after ClockWait=."""
    gateway = scene.gateway(files=NOT_SYNCHRONISED, agent="ClockWait=40s")
    expect("after the boot the system is", gateway.boot(), "running")
    gateway.wait_provisioned()
    text = gateway.run("journalctl --boot --quiet --output=short-monotonic --unit=enrolld.service")
    scene.say(text)
    start = float(gateway.run("systemctl show --property=ExecMainStartTimestampMonotonic --value enrolld.service")) / 1e6
    first = gateway.run("journalctl --boot --quiet --output=json --unit='enrolld-claim@*' | head -n 1")
    monotonic = json.loads(first)["__MONOTONIC_TIMESTAMP"]
    expect("seconds from the daemon's start to the attempt", int(monotonic) / 1e6 - start, lambda seconds: seconds >= 40)
