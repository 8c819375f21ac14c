"""The power goes."""

import pathlib
import random
import subprocess
import tempfile

import block_log
import replay
from gateway_machine import CONFIGURATION, PORT, SERIAL
from machine import wait_for
from scenario import expect, scenario

# Of the moments at which the power goes: a provisioning goes from the sixth flush of the state disk to the 38th.
SEEDS = (1, 7, 9)
FLUSHES = range(6, 38)


@scenario
def power_cut(scene):
    """Right after the identity is announced the power goes: it is there after the next boot, without the cloud."""
    gateway = scene.gateway()
    gateway.boot(wait=False)
    before = gateway.wait_provisioned()
    gateway.cut()
    expect("after the boot the system is", gateway.boot("systemd.mask=cloud.service"), "running")
    after = gateway.wait_provisioned()
    expect("the certificate", after["CertificateId"], before["CertificateId"])
    expect("the generation", after["Generation"], 1)


def cut_at_flush(scene, number):
    gateway = scene.gateway()
    gateway.log_state()
    gateway.boot(wait=False)
    wait_for(f"flush {number}", lambda: block_log.count_flushes(gateway.state_log) >= number, 120)
    gateway.cut()
    with replay.recovered(gateway.state.read_bytes()) as (tree, fault):
        expect("the file system has a fault", fault, None)
        expect("what is wrong with the state", list(replay.judge(tree, replay.Promise())), [])
        names = sorted(path.name for path in tree.iterdir() if path.name != "lost+found")
    expect("after the boot the system is", gateway.boot(), "running")
    status = gateway.wait_provisioned()
    expect("in the cloud", gateway.certificates(), {status["CertificateId"]: "ACTIVE"})
    scene.say(f"cut after flush {number}, with {' '.join(names) or 'nothing'}: provisioned, 1 certificate")


@scenario
def power_cut_seeds(scene):
    """The machine is killed at three moments of its provisioning: the next boot ends it, with one certificate."""
    for seed in SEEDS:
        cut_at_flush(scene, random.Random(seed).choice(FLUSHES))
        scene.machines[-1].power_off()


# Its fsync, fdatasync, sync ... do nothing.
WITHOUT_FSYNC = {
    "/etc/systemd/system/enrolld.service.d/without-fsync.conf": "[Service]\nEnvironment=LD_PRELOAD=libeatmydata.so\n"
}


def record(gateway):
    """One provisioning, from power on to power off."""
    begin = gateway.state.read_bytes()
    gateway.log_state()
    gateway.boot(wait=False)
    gateway.run("until [ -e /run/enrolld/provisioned ]; do :; done", 120)
    announced = block_log.count_requests(gateway.state_log)
    # Without an fsync the file system writes names every 5 s, and data much later: that is when files are empty.
    wait_for("the identity is on the disk", lambda: replay.is_kept(begin, gateway.state_log), 60)
    wait_for("the journal is written", lambda: block_log.count_requests(gateway.state_log) > announced, 60)
    gateway.power_off()
    return replay.Recording(begin, gateway.state_log, {1: announced})


def check_identity(gateway, identity):
    """The worker's check, with the machine's TPM: returns what it has to say against these files."""
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name) / "identity"
        directory.mkdir()
        for file, content in zip(replay.FILES, identity, strict=True):
            (directory / file).write_bytes(content)
        configuration = pathlib.Path(name) / "enrolld.conf"
        more = f"[Key]\nTCTI={gateway.tpm.tcti}"
        names = {"serial": f"literal:{SERIAL}", "endpoint": "localhost", "port": PORT, "agent": "", "more": more}
        configuration.write_text(CONFIGURATION.format(**names))
        worker = [gateway.golden.build / "enrolld-worker", "check", f"--config={configuration}", f"--directory={directory}"]
        done = subprocess.run(worker, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def replay_all(scene, what, recording):
    outcome = replay.replay(recording)
    scene.say(f"{what}: {outcome}")
    for name, fault in list(outcome.faults.items())[:5]:
        scene.say(f"  {name}: {fault}")
    return outcome


def expect_whole(gateway, outcome, number):
    """Nothing is broken, and what was in use works."""
    expect("broken", len(outcome.faults), 0)
    expect("identities that were in use", len(outcome.identities), number)
    gateway.tpm.start()
    for identity in outcome.identities:
        expect("the check says", check_identity(gateway, identity), "")
    gateway.tpm.stop()


@scenario
def power_cuts(scene):
    """Whatever a disk may have kept when the power went: an identity is whole or absent, and stays once it was announced."""
    gateway = scene.gateway()
    expect_whole(gateway, replay_all(scene, "as shipped", record(gateway)), 1)


@scenario
def power_cuts_without_fsync(scene):
    """The same with a daemon whose fsyncs do nothing: the replay finds what is broken, or it would be worth nothing."""
    outcome = replay_all(scene, "without fsync", record(scene.gateway(files=WITHOUT_FSYNC)))
    expect("broken", len(outcome.faults), lambda number: number > 0)
