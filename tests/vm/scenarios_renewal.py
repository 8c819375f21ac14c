"""The identity in use gets its successor."""

import random

import block_log
import replay
from gateway_machine import THING
from machine import wait_for
from renewal import FOLLOWING_FILES, RENEWAL, events, in_days, lasting, rtc
from scenario import expect, provision, scenario

DAYS = 400  # that a certificate is valid: its successor is due after 237 to 264 of them
LATER = 270
# Of the moments at which the power goes: from the boot's first flush of the state disk to the end of the retirement.
SEEDS = (1, 2, 3)
FLUSHES = range(6, 50)


def used_by_application(gateway):
    """The certificate that the application has connected with at last."""
    return ([event["certificateId"] for event in events(gateway, event="connect", clientId=THING)] or [""])[-1]


def wait_renewed(gateway, generation):
    gateway.wait(f"grep -x {generation} /run/enrolld/generation", 240)
    gateway.wait("test ! -s /var/lib/enrolld/retire", 240)
    status = gateway.wait_provisioned()
    expect("the generation", status["Generation"], generation)
    return status


@scenario
def renewal_first(scene):
    gateway, before = provision(scene, more=RENEWAL, standin=lasting(DAYS), files=FOLLOWING_FILES)
    gateway.wait("systemctl is-active application.service")
    gateway.power_off()
    gateway.options = rtc(in_days(LATER))
    gateway.log_state()
    expect("after the boot the system is", gateway.boot(), "running")
    gateway.wait("grep -x 2 /run/enrolld/generation", 240)
    scene.say(f"{block_log.count_flushes(gateway.state_log)} flushes")
    scene.say(gateway.run("journalctl --boot --output=short-monotonic --unit=enrolld.service"))
    gateway.wait("systemctl is-active application.service")
    scene.say(str(gateway.certificates()))
    scene.say(used_by_application(gateway))
    scene.say(str(events(gateway, event="function")))
    scene.say(gateway.run("enrollctl status; ls -la /var/lib/enrolld; cat /srv/cloud/state/functions.log || true"))
