#!/usr/bin/env python3
"""The Yocto layer against what is built here: packages against installed files, dependencies against configure.ac, users
against sysusers.d, the kernel's options against the units. BitBake itself is no package of Debian: bitbake.py reads the recipes."""

import fnmatch
import hashlib
import os
import pathlib
import re
import shutil
import tempfile
import unittest

import harness
from bitbake import Recipe
from harness import BUILD_DIR, SOURCE_DIR
from installation import Installation, run

LAYER = SOURCE_DIR / "yocto/meta-enrolld"
CONFIGURE = (SOURCE_DIR / "configure.ac").read_text()
UNITS = SOURCE_DIR / "systemd"

# What systemd takes from the kernel for a setting (systemd's README, "REQUIREMENTS", and systemd.exec(5)); None: nothing
# that can be left out of a kernel.
SECCOMP = {"SECCOMP", "SECCOMP_FILTER"}
CGROUP_PROGRAM = {"CGROUPS", "BPF_SYSCALL", "CGROUP_BPF"}
NEEDS = {
    "SystemCallFilter": SECCOMP, "SystemCallErrorNumber": SECCOMP, "SystemCallArchitectures": SECCOMP,
    "RestrictAddressFamilies": SECCOMP, "RestrictNamespaces": SECCOMP, "RestrictRealtime": SECCOMP,
    "RestrictSUIDSGID": SECCOMP, "MemoryDenyWriteExecute": SECCOMP, "LockPersonality": SECCOMP,
    "ProtectClock": SECCOMP, "ProtectKernelLogs": SECCOMP, "ProtectKernelModules": SECCOMP,
    "PrivateNetwork": {"NAMESPACES", "NET_NS"}, "PrivateUsers": {"NAMESPACES", "USER_NS"},
    "PrivateIPC": {"NAMESPACES", "IPC_NS"}, "ProtectHostname": {"NAMESPACES", "UTS_NS"},
    "MemoryMax": {"CGROUPS", "MEMCG"}, "TasksMax": {"CGROUPS", "CGROUP_PIDS"},
    "DevicePolicy": CGROUP_PROGRAM, "DeviceAllow": CGROUP_PROGRAM, "PrivateDevices": CGROUP_PROGRAM, "IPAddressDeny": CGROUP_PROGRAM,
    "KeyringMode": {"KEYS"}, "PrivateTmp": {"TMPFS"}, "BindPaths": {"TCG_TPM"}, "PathExists": {"INOTIFY_USER"},
}  # fmt: skip
NOTHING = """AmbientCapabilities CapabilityBoundingSet LimitCORE LoadCredential NoNewPrivileges PrivateMounts ProcSubset
    ProtectControlGroups ProtectHome ProtectKernelTunables ProtectProc ProtectSystem ReadWritePaths RemoveIPC UMask
    RuntimeDirectory RuntimeDirectoryMode RuntimeDirectoryPreserve StateDirectory StateDirectoryMode SupplementaryGroups
    User Group BusName ExecStart ExecStopPost ExecReload RemainAfterExit Restart RestartSec RuntimeMaxSec Sockets SuccessExitStatus
    TimeoutStartSec TimeoutStopSec Type WatchdogSec Environment""".split()


def layer(name, **given):
    found = list(LAYER.glob(f"recipes-*/*/{name}"))
    if len(found) != 1:
        raise AssertionError(f"{name} is {len(found)} times in the layer")
    return Recipe(found[0], DISTRO_FEATURES="enrolld systemd ptest", **given)


def recipe():
    return layer("enrolld_*.bb", PTEST_ENABLED="1", PTEST_PATH="/usr/lib/enrolld/ptest")


def make(*words):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return run("make", "-s", "-C", BUILD_DIR, *words, environment=environment)


def files_below(directory):
    return {f"/{path.relative_to(directory)}" for path in directory.rglob("*") if path.is_symlink() or path.is_file()}


def places():
    """Where this build installs: where the recipe does. Longest first."""
    enrolld = recipe()
    given = dict(re.findall(r"--with-(\w+)=(\S+)", enrolld.getVar("EXTRA_OECONF")))
    names = "bindir libexecdir libdir includedir mandir datadir sysconfdir".split()
    given |= {name: enrolld.getVar(name) for name in names}
    given["docdir"] = enrolld.getVar("docdir") + "/enrolld"
    values = make(f"--eval=print-places: ; @echo {' '.join(f'$({name})' for name in given)}", "print-places").split()
    here = dict(zip(given, values, strict=True))
    return sorted(((here[name], there) for name, there in given.items()), key=lambda pair: -len(pair[0]))


def installed():
    """Every file as the recipe installs it."""
    found, directories = set(), places()
    for name in files_below(Installation.get()):
        for here, there in directories:
            if name.startswith(f"{here}/"):
                found.add(there + name.removeprefix(here))
                break
        else:
            raise AssertionError(f"{name}: no directory of this build")
    return found


def matches(pattern, name):
    """As OpenEmbedded takes FILES: a glob, and all that is below."""
    parts = name.split("/")
    wanted = pattern.rstrip("/").split("/")
    return len(parts) >= len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


def run_shell(text, **variables):
    run("sh", "-euc", text, environment=os.environ | {name: str(value) for name, value in variables.items()})


def settings(path):
    return re.findall(r"^(\w+)=", path.read_text(), re.MULTILINE)


class Yocto(unittest.TestCase):
    maxDiff = None

    def scratch(self):
        directory = pathlib.Path(tempfile.mkdtemp(prefix="enrolld-yocto-"))
        self.addCleanup(shutil.rmtree, directory)
        return directory

    def test_version_and_licence(self):
        version = re.search(r"AC_INIT\(\[enrolld\], \[([\d.]+)\]\)", CONFIGURE)[1]
        enrolld = recipe()
        self.assertEqual(enrolld.getVar("PV"), version)
        self.assertIn(f"file://enrolld-{version}.tar.xz", enrolld.words("SRC_URI"))
        digest = hashlib.md5((SOURCE_DIR / "LICENSE").read_bytes()).hexdigest()
        self.assertEqual(enrolld.getVar("LIC_FILES_CHKSUM"), f"file://LICENSE;md5={digest}")

    def test_every_file_is_in_one_package(self):
        enrolld, root = recipe(), self.scratch()
        run_shell(enrolld.shell("do_install:append").replace("${D}", "$D").replace("${S}", "$S"), D=root, S=SOURCE_DIR)
        make("install-ptest", f"DESTDIR={root}{enrolld.getVar('PTEST_PATH')}")
        files = installed() | files_below(root)
        packages = {key.removeprefix("FILES:"): enrolld.words(key) for key in enrolld.values if key.startswith("FILES:")}
        self.assertIn("enrolld-plugin-jit", packages)
        owners = {name: [p for p, patterns in packages.items() if any(matches(x, name) for x in patterns)] for name in files}
        self.assertEqual({name: owner for name, owner in owners.items() if len(owner) != 1}, {})
        unused = {x for patterns in packages.values() for x in patterns if not any(matches(x, name) for name in files)}
        self.assertEqual(unused, set())

    def test_every_plugin_has_its_package(self):
        enrolld = recipe()
        for path in sorted((SOURCE_DIR / "plugins").iterdir()):
            if path.is_dir() and path.name != "enrolld":
                package = f"enrolld-plugin-{path.name}"
                self.assertIn(f"/usr/lib/enrolld/plugins/{path.name}.so", enrolld.words(f"FILES:{package}"))
                self.assertIn(package, enrolld.words("PACKAGES"))

    def test_dependencies_are_those_of_configure(self):
        always, tests = CONFIGURE.split("AM_COND_IF([TESTS_ENABLED]")
        pattern = r"ENROLLD_PACKAGE\(\[\w+\], \[.*?\], \[\S+\], \[(\S+)\]\)"
        enrolld = recipe()
        self.assertEqual(set(enrolld.words("DEPENDS")), set(re.findall(pattern, always)))
        more = set(re.findall(pattern, tests)) | set(re.findall(r"add the recipe (\w+)", tests))
        options, without, depends = enrolld.flag("PACKAGECONFIG", "tests").split(",")
        self.assertEqual(set(depends.split()), more - set(enrolld.words("DEPENDS")))
        self.assertEqual((options, without), ("--enable-tests", "--disable-tests"))
        self.assertIn("AC_ARG_ENABLE([tests]", CONFIGURE)
        for name in re.findall(r"--with-(\w+)=", enrolld.getVar("EXTRA_OECONF")):
            self.assertIn(f"ENROLLD_SYSTEMD_DIRECTORY([{name}]", CONFIGURE)

    def test_wolfssl_has_what_configure_asks_for(self):
        wolfssl = layer("wolfssl-enrolld.inc")
        asked = set(re.findall(r"^ENROLLD_WOLFSSL\(\[.*?\], \[(\S+)\]", CONFIGURE, re.MULTILINE))
        given = set(wolfssl.words("EXTRA_OECONF")) | {f"CPPFLAGS={flag}" for flag in wolfssl.words("CPPFLAGS")}
        self.assertEqual(given - asked, {"--enable-curve25519", "--enable-ip-alt-name"})  # X25519; https.c
        self.assertEqual(asked - given, set())

    def test_units_that_are_enabled(self):
        enrolld = recipe()
        named = {unit for package in enrolld.words("SYSTEMD_PACKAGES") for unit in enrolld.words(f"SYSTEMD_SERVICE:{package}")}
        folders = (UNITS, SOURCE_DIR / "docs/examples/seal-claim")
        units = [path for folder in folders for path in folder.iterdir() if re.search(r"\.(service|socket|path|target)(\.in)?$", path.name)]
        wanted = {path.name.removesuffix(".in") for path in units if re.search(r"^\[Install\]", path.read_text(), re.MULTILINE)}
        self.assertEqual(named, wanted)

    def test_users_are_those_of_sysusers(self):
        enrolld = recipe()
        users, groups = {}, set()
        for line in (UNITS / "sysusers.d/enrolld.conf").read_text().splitlines():
            words = re.findall(r'"[^"]*"|\S+', line)
            if words and words[0] == "u":
                users[words[1]] = words[4] if len(words) > 4 else "/"
            elif words and words[0] == "g":
                groups.add(words[1])
        made = {}
        for command in enrolld.getVar("USERADD_PARAM:enrolld").split(";"):
            words = command.split()
            self.assertLessEqual({"--system", "--user-group", "--no-create-home"}, set(words))
            made[words[-1]] = words[words.index("--home-dir") + 1]
        self.assertEqual(made, users)
        self.assertEqual({command.split()[-1] for command in enrolld.getVar("GROUPADD_PARAM:enrolld").split(";")}, groups)
        self.assertIn("enrolld", enrolld.words("USERADD_PACKAGES"))

    def test_kernel_has_what_the_units_use(self):
        used = set()
        for path in (*UNITS.glob("*.service*"), *UNITS.glob("*.conf"), *UNITS.glob("*.path")):
            if path.name.startswith("org."):
                continue
            text = path.read_text().split("[Install]")[0]
            for section in ("Service", "Path"):
                used |= set(re.findall(r"^(\w+)=", text.partition(f"[{section}]")[2], re.MULTILINE))
        used -= {"Unit"}
        self.assertEqual(used - set(NEEDS) - set(NOTHING), set(), "say in NEEDS or NOTHING what these take from the kernel")
        self.assertEqual(set(NEEDS) - used, set())
        fragment = next(LAYER.glob("recipes-kernel/linux/files/*.cfg")).read_text()
        options = set(re.findall(r"^CONFIG_(\w+)=y$", fragment, re.MULTILINE))
        self.assertEqual(options, set().union(*NEEDS.values()))
        self.assertIn("file://enrolld.cfg", layer("linux-yocto_%.bbappend").words("SRC_URI"))

    def test_nothing_changes_unless_asked_for(self):
        for name in ("wolfssl_%.bbappend", "linux-yocto_%.bbappend"):
            path = next(LAYER.glob(f"recipes-*/*/{name}"))
            other = Recipe(path, DISTRO_FEATURES="systemd")
            self.assertEqual(other.words("SRC_URI"), [])
            self.assertEqual([other.expand(words) for what, words in other.directives], [""] * len(other.directives))
        self.assertEqual(recipe().words("REQUIRED_DISTRO_FEATURES"), ["enrolld", "systemd"])

    def example(self, **given):
        """Installs the example recipe with a claim of no worth; returns the recipe and the directory."""
        claim, root = self.scratch(), self.scratch()
        for name in ("claim.pem", "claim.key", "root-ca.pem"):
            (claim / name).write_text(name)
        source = LAYER / "recipes-example/enrolld-example-claim/files/50-gateway.conf.in"
        shutil.copy(source, claim)
        example = layer(
            "enrolld-example-claim_*.bb", UNPACKDIR=str(claim), D=str(root), ENROLLD_CLAIM_DIR=str(claim),
            ENROLLD_ENDPOINT="x-ats.iot.eu-central-1.amazonaws.com", **given,
        )  # fmt: skip
        for uri in example.words("SRC_URI"):
            self.assertTrue((claim / uri.removeprefix("file://")).exists(), uri)
        run_shell(example.shell("do_install"))
        return example, root

    def test_example_with_the_key_in_the_image(self):
        example, root = self.example()
        credentials = root / "usr/lib/credstore"
        for name in ("claim-certificate", "claim-key"):
            self.assertEqual((credentials / name).stat().st_mode & 0o777, 0o600)
            self.assertIn(f"LoadCredential={name}\n", (UNITS / "enrolld-claim@.service.in").read_text())
        configuration = root / "usr/lib/enrolld/enrolld.conf.d/50-gateway.conf"
        said = run(harness.built("enrolld"), "--check-config", f"--config={configuration}")
        self.assertIn("Endpoint=x-ats.iot.eu-central-1.amazonaws.com", said)
        self.assertNotIn("@", configuration.read_text())
        for name in files_below(root):
            self.assertTrue(any(matches(x, name) for x in example.words("FILES:enrolld-example-claim")), name)
        self.assertNotIn("enrolld-seal-claim", example.words("RDEPENDS:enrolld-example-claim"))

    def test_example_with_the_key_from_the_line(self):
        example, root = self.example(ENROLLD_CLAIM_KEY="line")
        self.assertEqual([name for name in files_below(root) if "key" in name], [])
        self.assertIn("enrolld-seal-claim", example.words("RDEPENDS:enrolld-example-claim"))

    def test_readme_names_what_there_is(self):
        readme = (LAYER / "README.md").read_text()
        collections = {"openembedded-layer": "meta-oe", "networking-layer": "meta-networking", "tpm-layer": "meta-tpm"}
        depends = Recipe(LAYER / "conf/layer.conf").words("LAYERDEPENDS_enrolld")
        self.assertEqual(set(depends), {"core", *collections})
        for name in collections.values():
            self.assertIn(name, readme)
        texts = "".join(f"{path.name}\n{path.read_text()}" for path in LAYER.glob("recipes-*/*/*.bb"))
        pattern = r"\bENROLLD_\w+"
        self.assertEqual(set(re.findall(pattern, readme)), set(re.findall(pattern, texts)))
        classes = {"bash-completion", "dev", "doc", "ptest"} & {*recipe().inherited(), "dev", "doc"}
        for name in {name for name in re.findall(r"`enrolld-([\w-]+)`", readme)} - {"worker", "identity"} - classes:
            self.assertIn(f"-{name}", texts)

    def test_run_ptest(self):
        """Its words, by a program that passes, one that fails and one that crashes; and one of ours."""
        root = self.scratch()
        make("install-ptest", f"DESTDIR={root}")
        programs = root / "tests/unit"
        wanted = make("--eval=print-tests: ; @echo $(UNIT_TESTS)", "print-tests").split()
        self.assertEqual({path.name for path in programs.glob("test-*")}, {pathlib.Path(name).name for name in wanted})
        for path in programs.glob("test-*"):
            if path.name != "test-text":
                path.unlink()
        for name, text in (("test-bad", "echo 'not ok 1 - a b'; echo '#   x is 1'; exit 1"), ("test-crash", "kill -SEGV $$")):
            (programs / name).write_text(f"#!/bin/sh\n{text}\n")
            (programs / name).chmod(0o755)
        said = run(root / "run-ptest").splitlines()
        self.assertEqual(said[:3], ["FAIL: test-bad: a b", "#   x is 1", "FAIL: test-crash: ended with 139"])
        self.assertGreater(len(said), 4)
        for line in said[3:]:
            self.assertRegex(line, r"^PASS: test-text: \S")


if __name__ == "__main__":
    try:
        harness.main()
    finally:
        Installation.remove()
