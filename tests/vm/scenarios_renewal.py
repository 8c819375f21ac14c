"""The power goes while the identity in use gets its successor."""

import block_log
import replay
from gateway_machine import THING
from machine import wait_for
from renewal import FOLLOWING_FILES, RENEWAL, events, in_days, lasting, rtc, wait_retired
from scenario import expect, provision, scenario
from scenarios_power import expect_whole, replay_all

DAYS = 400  # that a certificate is valid: its successor is due after 237 to 264 of them
LATER = 270
MINUTES = 5 / 24 / 60  # from a power cut to the next boot, days
# Flushes of the state disk after which the power goes: as an attempt is begun, on its way, at the commit. The whole of it is
# about 41, which depends on how much each of the kernel's commits takes along.
FLUSHES = (9, 21, 35)


def used_by_application(gateway):
    """The certificate that the application has connected with at last."""
    return ([event["certificateId"] for event in events(gateway, event="connect", clientId=THING)] or [""])[-1]


def wait_renewed(gateway, generation):
    """Until a later one is in use. Its number need not be the next: one that a power cut has left is not taken again."""
    gateway.wait(f"test $(cat /run/enrolld/generation) -gt {generation}", 240)
    return wait_retired(gateway)


def cut_at_flush(scene, gateway, number, days, generation):
    """The renewal of a generation that has become due: the power goes, and the next boot ends it. The next generation."""
    gateway.options = rtc(in_days(days))
    gateway.log_state()
    gateway.boot(wait=False)
    wait_for(f"flush {number}", lambda: block_log.count_flushes(gateway.state_log) >= number, 240)
    gateway.cut()
    with replay.recovered(gateway.state.read_bytes()) as (tree, fault):
        expect("the file system has a fault", fault, None)
        expect("what is wrong with the state", list(replay.judge(tree, replay.Promise(generation))), [])
        names = sorted(path.name for path in tree.iterdir() if path.name != "lost+found")
        current = (tree / "current").readlink()
    gateway.options = rtc(in_days(days + MINUTES))
    expect("after the boot the system is", gateway.boot(), "running")
    status = wait_renewed(gateway, generation)
    expect("in the cloud", gateway.certificates(), {status["CertificateId"]: "ACTIVE"})
    wait_for("the application uses it", lambda: used_by_application(gateway) == status["CertificateId"], 120)
    gateway.power_off()
    after = status["Generation"]
    scene.say(f"cut after flush {number}, with {' '.join(names)}, {current} in use: then {after}, 1 certificate ACTIVE")
    return after


@scenario
def renewal_power_cut(scene):
    """The machine is killed at three moments of renewals that are due: the next boot ends them, the cloud is told which
    certificate was replaced, and the application uses the new one."""
    gateway, status = provision(scene, more=RENEWAL, standin=lasting(DAYS), files=FOLLOWING_FILES)
    gateway.power_off()
    generation = status["Generation"]
    for number, flush in enumerate(FLUSHES, 1):
        generation = cut_at_flush(scene, gateway, flush, LATER * number, generation)


def record(gateway, before):
    """One renewal, from power on to power off."""
    begin = gateway.state.read_bytes()
    gateway.options = rtc(in_days(LATER))
    gateway.log_state()
    gateway.boot(wait=False)
    gateway.run("until grep -qsx 2 /run/enrolld/generation; do :; done", 240)
    announced = now = kept = block_log.count_requests(gateway.state_log)
    while gateway.registry()["certificates"][before]["status"] == "ACTIVE":
        kept, now = now, block_log.count_requests(gateway.state_log)
    wait_retired(gateway)
    wait_for("the identity is on the disk", lambda: replay.is_kept(begin, gateway.state_log, 2), 60)
    gateway.power_off()
    return replay.Recording(begin, gateway.state_log, {1: -1, 2: announced}, before, kept)


@scenario
def renewal_power_cuts(scene):
    """Whatever a disk may have kept when the power went in a renewal: one of both identities is in use, whole, and not the old
    one once the new one was announced; and until the cloud knows of the old one the gateway remembers it."""
    gateway, status = provision(scene, more=RENEWAL, standin=lasting(DAYS))
    gateway.power_off()
    outcome = replay_all(scene, "a renewal", record(gateway, status["CertificateId"]))
    expect("states without an identity", outcome.without, 0)
    expect_whole(gateway, outcome, 2)


renewal_power_cut.deadline = renewal_power_cuts.deadline = 1200
