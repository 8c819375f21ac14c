"""Gateways whose certificates end, and what a year is made of."""

import datetime
import json
import pathlib
import time

from application import APPLICATION_FILES

# As in docs/renewal.md; the first lines are of [fleet-claim]. Waits that a scenario can afford: a hook has five seconds, as in
# AWS, and may need more in an emulated machine, which counts as denied.
RENEWAL = """RenewTemplate=enrolld-renew
RenewParameter.ThingName=%t

[Renewal]
RetireTopic=$aws/rules/enrolld_retire/things/%t/retire
RetireAcknowledged=yes

[Retry]
CloudBusy=1s 5s
Denied=1s 5s
Invalid=1s 5s
Network=1s 5s
"""
STANDIN = ("--hooks", "--retire", "--control-port=0")
DAY = 86400  # seconds

# What README.md says of an application that takes up a new identity.
RENEWED_PATH = "[Path]\nPathChanged=/run/enrolld/generation\n"
RENEWED_SERVICE = "[Service]\nType=oneshot\nExecStart=systemctl try-restart application.service\n"
FOLLOWING_FILES = {
    **APPLICATION_FILES,
    "/etc/systemd/system/application-renewed.path": RENEWED_PATH,
    "/etc/systemd/system/application-renewed.service": RENEWED_SERVICE,
    "/etc/systemd/system/enrolld-provisioned.target.wants/application-renewed.path": pathlib.PurePath(
        "/etc/systemd/system/application-renewed.path"
    ),
}


def rtc(seconds):
    """Options of a machine whose battery-backed clock shows this at power on."""
    date = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return ["-rtc", f"base={date:%Y-%m-%dT%H:%M:%S}"]


def lasting(days):
    """Options of the stand-in: the certificates that it issues end after so many days."""
    return (*STANDIN, f"--issuer=private:{days}")


def in_days(days):
    return time.time() + days * DAY


def complaints(gateway):
    """Of enrolld since the boot, but for such hooks."""
    return [line for line in gateway.complaints().splitlines() if "did not answer in time" not in line]


def events(gateway, **wanted):
    """What the cloud has seen, of these members."""
    lines = gateway.run("cat /srv/cloud/state/events").splitlines()
    found = [json.loads(line) for line in lines]
    return [event for event in found if all(event.get(key) == value for key, value in wanted.items())]


def wait_retired(gateway):
    """Until the cloud has been told of all that was replaced; the status then."""
    gateway.wait("test ! -s /var/lib/enrolld/retire", 240)
    return gateway.wait_provisioned()
