"""A year in a drawer: the certificate's time has come or is over, and at first nobody knows what day it is."""

import image
from renewal import RENEWAL, complaints, in_days, lasting, rtc, wait_retired
from scenario import expect, provision, scenario
from scenarios_clock import DATE_TOLERANCE, NOT_SYNCHRONISED, TIMESYNCD_FILES, UNSET, start_timesyncd, tell_time

YEAR = 365  # days
AHEAD = 5 * YEAR
OLD, NEW = 1, 2  # generations


def store_provisioned(scene, days, standin=(), **options):
    """A gateway with a certificate of so many days, switched off; from now on nobody but timesyncd sets its clock."""
    gateway, status = provision(scene, standin=(*lasting(days), *standin), more=RENEWAL, **options)
    gateway.power_off()
    image.put_files(gateway.root, {**NOT_SYNCHRONISED, **TIMESYNCD_FILES})
    return gateway, status


def boot_without_date(gateway, clock):
    """By a clock that is wrong, and that nobody vouches for, nothing has expired, and nothing is due."""
    gateway.options = clock
    expect("after the boot the system is", gateway.boot(), "running")
    status = gateway.wait_provisioned()
    expect("the generation", status["Generation"], OLD)
    gateway.wait("systemctl is-active enrolld-provisioned.target")
    workers = gateway.workers()
    expect("workers with a network", {role: workers[role] for role in ("claim", "worker")}, {"claim": 0, "worker": 0})
    expect("complaints", complaints(gateway), [])


def learn_date(scene, gateway):
    scene.say(f"the clock showed {gateway.run('date --utc --iso-8601=seconds')}")
    tell_time(gateway, in_days(YEAR))
    start_timesyncd(gateway)
    away = "test $(date +%s) -ge {:.0f} && test $(date +%s) -lt {:.0f}"
    gateway.wait(away.format(in_days(YEAR) - DATE_TOLERANCE, in_days(YEAR) + DATE_TOLERANCE))
    scene.say(f"and then {gateway.run('date --utc --iso-8601=seconds')}")


def say_journal(scene, gateway):
    scene.say(gateway.run("journalctl --boot --quiet --output=short-monotonic --no-hostname --unit=enrolld.service"))


def expect_renewed(gateway, before):
    gateway.wait(f"grep -x {NEW} /run/enrolld/generation", 240)
    after = wait_retired(gateway)
    expect("the thing", after["ThingName"], before["ThingName"])
    expect("in the cloud", gateway.certificates(), {after["CertificateId"]: "ACTIVE"})
    old = gateway.registry()["certificates"][before["CertificateId"]]
    expect("the old certificate", (old["status"], old["things"]), ("INACTIVE", {}))
    expect("the journal", gateway.journal(), lambda text: "the clock was set" in text)
    gateway.wait("systemctl is-active enrolld-provisioned.target")


@scenario
def year_off(scene):
    """Switched off for a year a gateway has a certificate that is due, and no date: it waits for who knows that, renews at
    once, and was provisioned all the time."""
    gateway, before = store_provisioned(scene, days=500)
    boot_without_date(gateway, UNSET)
    since = gateway.run("systemctl show --property=ActiveEnterTimestampMonotonic --value enrolld-provisioned.target")
    learn_date(scene, gateway)
    expect_renewed(gateway, before)
    expect("the target has been up since", gateway.run("systemctl show --property=ActiveEnterTimestampMonotonic --value "
                                                       "enrolld-provisioned.target"), since)  # fmt: skip
    expect("workers with the claim", gateway.workers()["claim"], 0)
    expect("complaints", complaints(gateway), [])
    say_journal(scene, gateway)


@scenario
def year_off_expired(scene):
    """The certificate has expired meanwhile: nothing says so by a clock that is five years ahead, and trusted by nobody. When
    that is set back to the true date it is lost, which is told, and the gateway enrols anew as soon as it gets through."""
    gateway, before = store_provisioned(scene, days=90, agent="ClockWait=1s")
    boot_without_date(gateway, rtc(in_days(AHEAD)))
    gateway.run("systemctl stop cloud.service")
    learn_date(scene, gateway)
    gateway.wait("! systemctl is-active enrolld-provisioned.target")
    gateway.wait_state("backoff")
    expect("the journal", gateway.journal(), lambda text: "identity 1 is lost: invalid: verify: the certificate expired on" in text)
    scene.say(gateway.run("enrollctl status || test $? = 3"))
    gateway.run("systemctl start cloud.service")
    expect_renewed(gateway, before)
    expect("workers with the claim", gateway.workers()["claim"], lambda number: number > 0)
    say_journal(scene, gateway)


@scenario
def year_off_without_claim(scene):
    """The claim has expired, too: the gateway boots to the end and says what is wrong and what to do, and is provisioned as
    soon as it is given a new one."""
    standin = ["--claim=short:90"]
    gateway, before = store_provisioned(scene, days=90, standin=standin, claim="short")
    boot_without_date(gateway, UNSET)
    learn_date(scene, gateway)
    gateway.wait("enrollctl status --json | grep -w 'put a new one'", 240)
    error = gateway.status()["LastError"]
    expect("the error", (error["Class"], error["Step"]), ("denied", "claim"))
    expect("what to do", error["Message"], lambda text: "put a new one in its place" in text)
    expect("the journal", gateway.journal(), lambda text: "put a new one in its place" in text)
    expect("the system is", gateway.wait_booted(), "running")
    scene.say(gateway.run("enrollctl status || test $? = 3"))
    say_journal(scene, gateway)
    gateway.run("cd /srv/cloud && cp claim.pem /etc/credstore/claim-certificate && cp claim.key /etc/credstore/claim-key")
    expect_renewed(gateway, before)
