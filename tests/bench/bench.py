#!/usr/bin/env python3
"""Measures the figures of enrolld on real parts, prints a table, exits 1 if one that is judged is missed.

Started by tests/bench/run, which builds what is measured. Counts and sizes are judged. Times are only reported, as
they depend on the machine.
"""

import argparse
import pathlib
import signal
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))

import broker_log
import harness
import process_cost
import system_calls
from figures import Figure, count, print_table, write_json
from scene import Device, OldCloud, Scene
from parts import Cloud

DELAY = 0.04  # seconds, each direction: far above what the machine itself takes
ROUND_TRIP_RUNS = 5
TIMED_RUNS = 10
IDLE_SECONDS = 5


def milliseconds(seconds):
    return f"{seconds * 1000:.0f} ms"


def listed(counter):
    return ", ".join(f"{number} {name}" for name, number in counter.items())


def claim_to_proven(device, delay):
    """Seconds from the first TCP connection to the CONNACK of the proof, and the connections."""
    device.network.delay = delay
    device.enroll()
    connections = device.network.take()
    return connections[-1].last_answer() - connections[0].accepted, connections


def measure_round_trips(version, cloud, limit):
    how = f"a relay delays each way by {milliseconds(DELAY)}: (time with - time without) / {milliseconds(2 * DELAY)}, "
    how += f"quickest of {ROUND_TRIP_RUNS}, + 1 for each TCP handshake, which a relay can't delay"
    near, far = [], []
    with Scene() as scene:
        device = Device(scene, cloud)
        for _ in range(ROUND_TRIP_RUNS):
            near.append(claim_to_proven(device, 0)[0])
            seconds, connections = claim_to_proven(device, DELAY)
            far.append(seconds)
            if any(connection.tls13 != (version == "1.3") for connection in connections):
                raise AssertionError(f"not all connections were TLS {version}")
    trips = (min(far) - min(near)) / (2 * DELAY) + len(connections)
    detail = f"{trips:.2f} before rounding, {len(connections)} connections"
    yield count(f"round trips, claim to proven, TLS {version}", round(trips), limit, how, detail)


def measure_round_trips_tls13():
    yield from measure_round_trips("1.3", Cloud, 9)


def measure_round_trips_tls12():
    yield from measure_round_trips("1.2", OldCloud, 11)


def measure_provisioning():
    with Scene() as scene:
        device = Device(scene)
        device.provision()
        commands = device.chip.take()
        harness.wait_for("the broker has seen the end", lambda: len(device.cloud.events(event="disconnect")) == 2)
        packets = broker_log.received(device.cloud.directory / "mosquitto.log")
    how = "mosquitto's log of what it received from the device"
    yield count("MQTT packets sent by the device", packets.total(), 8, how, listed(packets))
    how = "a relay between agent and swtpm, from no key to a committed identity; persistent noDA SRK"
    # Two of them make and flush the endorsement key, which tells this TPM from others.
    yield count("TPM commands, with an SRK", len(commands), 12, how, " ".join(map(str, commands)))


def measure_tpm_without_srk():
    with Scene() as scene:
        device = Device(scene, srk=False)
        device.provision()
        commands = device.chip.take()
    how = "the same on a TPM without a persistent key"
    # The question whether there is an SRK, twice CreatePrimary instead of ReadPublic, and the flush of each.
    yield count("TPM commands, without an SRK", len(commands), 15, how, " ".join(map(str, commands)))


def measure_idle():
    """PSS leans on who else has the same libraries mapped: so both daemons have copies of their own, and each is looked
    at in the place of the other."""
    for program in ("enrolld", "tests/bench/empty-daemon"):
        process_cost.write_back(harness.built(program))
    with Scene() as scene:
        device = Device(scene)
        libraries = scene.directory / "libraries"
        process_cost.copy_libraries(harness.built("enrolld"), libraries)
        device.gateway.extra_environment["LD_LIBRARY_PATH"] = str(libraries)
        device.provision()
        wakeups = process_cost.wakeups(device.gateway.process.pid, IDLE_SECONDS)
        enrolled = process_cost.memory(device.gateway.process.pid)
        device.gateway.stop()
        device.provision()
        booted = process_cost.memory(device.gateway.process.pid)
        device.gateway.stop()
        floor = process_cost.memory(device.start_empty_daemon().pid)
    for state, own in (("after boot", booted), ("after enrolling", enrolled)):
        how = "PSS of smaps_rollup / that of tests/bench/empty-daemon.c started in its place on the same bus, each with "
        how += "libraries that nobody else has mapped, but for libc"
        ratio = round(own["Pss"] / floor["Pss"], 2)
        yield count(f"idle {state}: PSS / empty daemon", ratio, 1.5, how, f"{own['Pss']} / {floor['Pss']} KiB")
        how = "Private_Dirty of smaps_rollup"
        detail = f"the empty daemon {floor['Private_Dirty']} KiB"
        yield count(f"idle {state}: private dirty", own["Private_Dirty"], 512, how, detail, "KiB")
    how = f"voluntary_ctxt_switches over {IDLE_SECONDS} s, without a watchdog"
    yield count("idle: wakeups", wakeups, 0, how)


def measure_boot():
    """Each start of the worker leaves a line in a file."""
    with Scene() as scene:
        device = Device(scene)
        device.provision()
        device.gateway.stop()
        device.network.take()
        device.chip.take()
        runs = scene.directory / "runs"
        wrapper = scene.directory / "worker"
        wrapper.write_text(f'#!/bin/sh\necho run >>"{runs}"\nexec "{harness.built("enrolld-worker")}" "$@"\n')
        wrapper.chmod(0o755)
        device.gateway.extra_environment["ENROLLD_WORKER"] = str(wrapper)
        device.provision()
        connections, commands = device.network.take(), device.chip.take()
        lines = runs.read_text().splitlines()
    how = "a script around the worker that counts its starts, second start of the daemon"
    yield count("boot when provisioned: worker runs", len(lines), 1, how, f"{len(commands)} TPM commands")
    how = "TCP connections to the cloud, same run"
    yield count("boot when provisioned: connections", len(connections), 0, how)


def measure_commit():
    how = "strace --follow-forks on the daemon, from its first start to provisioned"
    figure = Figure("fsyncs and renames of one enrolment", how)
    obstacle = system_calls.obstacle()
    if obstacle is not None:
        figure.measured = f"not measured: {obstacle}"
        yield figure
        return
    with Scene() as scene:
        device = Device(scene)
        output = scene.directory / "strace"
        device.gateway.start(before=system_calls.command(output))
        device.gateway.wait_provisioned()
        device.gateway.stop()
        calls = system_calls.succeeded(output)
    figure.value = calls.total()
    figure.measured = listed(calls)
    yield figure


def measure_time():
    """The whole without the relays; then its parts, as the relays see them."""
    with Scene() as scene:
        device = Device(scene)
        gateway = device.gateway
        gateway.configure("Cloud", Port=device.cloud.port)
        gateway.configure("Key", TCTI=device.chip.tcti)
        times = [device.enroll() for _ in range(TIMED_RUNS)]
        walls, processors = zip(*times)
        commands = device.chip.take()
        gateway.configure("Cloud", Port=device.network.port)
        clouds = []
        for _ in range(ROUND_TRIP_RUNS):
            device.enroll()
            clouds.append(sum(connection.cloud_time() for connection in device.network.take()))
    wall, processor, cloud = statistics.median(walls), statistics.median(processors), statistics.median(clouds)
    tpm = sum(command.seconds for command in commands) / TIMED_RUNS
    create = sum(command.seconds for command in commands if str(command) == "Create") / TIMED_RUNS
    how = f"exec of the worker to the broker's event, loopback, TPM included, {TIMED_RUNS} runs; not judged"
    measured = f"min {milliseconds(min(walls))}, median {milliseconds(wall)}"
    yield Figure("time to connected, new certificate", how, "60 ms", measured, wall)
    how = "the relays: swtpm from command to response; the cloud from question to answer, TLS handshakes included"
    measured = f"{wall / (tpm + cloud):.1f} (TPM {milliseconds(tpm)}, of it Create {milliseconds(create)}; "
    measured += f"cloud {milliseconds(cloud)}; worker's processor time {milliseconds(processor)})"
    yield Figure("same / what TPM and cloud take of it", how, "-", measured, wall / (tpm + cloud))


def measure_size():
    sizes = {}
    for path in (harness.BUILD_DIR / "root").rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(4) == b"\x7fELF":
                    sizes[path.name] = path.stat().st_size
    kibibytes = round(sum(sizes.values()) / 1024, 1)
    how = "make install-strip: programs and plugins"
    detail = ", ".join(f"{name} {size / 1024:.0f}" for name, size in sorted(sizes.items()))
    yield count("installed size", kibibytes, 400, how, detail, "KiB")


MEASUREMENTS = (
    measure_round_trips_tls13,
    measure_round_trips_tls12,
    measure_provisioning,
    measure_tpm_without_srk,
    measure_idle,
    measure_boot,
    measure_commit,
    measure_time,
    measure_size,
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="also write the figures there")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # what was started is stopped before the end
        signal.signal(number, signal.default_int_handler)
    figures = []
    for measure in MEASUREMENTS:
        name = measure.__name__.removeprefix("measure_").replace("_", " ")
        print(f"measuring: {name}", file=sys.stderr)
        try:
            figures += measure()
        except Exception as error:  # one figure less must not cost the others
            figures.append(Figure(name, "the logs stand before this table", error=str(error).partition("\n")[0]))
    print_table(figures)
    if options.json:
        write_json(figures, options.json)
    sys.exit(0 if all(figure.good for figure in figures) else 1)


if __name__ == "__main__":
    main()
