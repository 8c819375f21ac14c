#!/usr/bin/env python3
"""The commands of tests/iotcore/README.md, "Just in time, step by step", and those of etc/aws/README.md that set up
renewals, do what is said there."""

import os
import re
import subprocess

import harness
from authority import Authority
from mqtt_client import register_thing
from parts import aws_program, free_port
from renewing import FIRST, CloudOfTwo, Gateway

# The stand-in is not AWS Lambda, nor IAM: its functions are there already, under the same names.
AWS = """#!/bin/sh
echo "aws $*" >> "$CALLS"
[ "$1" = iot ] || exit 0
exec "$AWS" --endpoint-url "$URL" "$@"
"""
ZIP = """#!/bin/sh
[ -f "$2" ] && cp "$2" "$1"
"""


def commands(heading):
    """The indented lines of a section."""
    text = (harness.SOURCE_DIR / "tests/iotcore/README.md").read_text()
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return "\n".join(line[4:] for line in section.splitlines() if line.startswith("    "))


class Readme(harness.TestCase):
    def test_just_in_time(self):
        """In a folder that looks as a build directory below the sources does, with other ports."""
        (self.directory / "tests").symlink_to(harness.SOURCE_DIR / "tests")
        build = self.directory / "build"
        build.mkdir()
        (build / "tests").symlink_to(harness.BUILD_DIR / "tests")
        script = re.sub("(?m)^make .*\n", "", commands("Just in time, step by step"))
        for port in ("8883", "8080"):
            self.assertIn(port, script)
            script = script.replace(port, str(free_port()))
        path = f"{os.path.dirname(aws_program())}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-eu", "-c", "trap 'kill $(jobs -p); wait' EXIT\n" + script],
            cwd=build,
            env=dict(os.environ, PATH=path, HOME=str(self.directory), AWS_PAGER=""),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=4 * harness.DEADLINE,
        )
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("Not authorized", done.stdout)
        self.assertRegex(done.stdout, r'"principals": \[\s+"arn:aws:iot:eu-central-1:123456789012:cert/[0-9a-f]{64}"')


class Account(CloudOfTwo):
    def script(self, *headings):
        """The commands of these sections of etc/aws/README.md."""
        text = (harness.SOURCE_DIR / "etc/aws/README.md").read_text()
        sections = [re.search(f"(?ms)^#+ {re.escape(name)}$(.*?)(^##|\\Z)", text)[1] for name in headings]
        return "".join("".join(re.findall("(?ms)^```sh$(.*?)^```$", section)) for section in sections)

    def run_script(self, script):
        """As an operator does, in the folder etc/aws; what they called."""
        programs = self.directory / "programs"
        programs.mkdir(exist_ok=True)
        for name, text in (("aws", AWS), ("zip", ZIP)):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        calls = self.directory / "calls"
        environment = self.cloud.operator_environment() | {
            "AWS": aws_program(), "URL": self.cloud.control_url(), "CALLS": str(calls), "OUT": str(self.directory),
            "REGION": "eu-central-1", "ACCOUNT": "123456789012"}  # fmt: skip
        environment["PATH"] = f"{programs}:{environment['PATH']}"
        done = subprocess.run(
            ["bash", "-e", "-c", script],
            cwd=harness.SOURCE_DIR / "etc/aws",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=4 * harness.DEADLINE,
        )
        self.assertEqual(done.returncode, 0, done.stdout)
        return calls.read_text()

    def test_hooks_renewal_and_retirement(self):
        gateway, _ = self.start()
        self.cloud.aws("delete-provisioning-template", "--template-name", "enrolld-renew")
        calls = self.run_script(self.script("Hooks, renewal and retirement: commands"))
        called = set(re.findall("function-name (\\S+) .*--handler (\\S+) .*--role (\\S+)", calls))
        role = "arn:aws:iam::123456789012:role/"
        functions = self.cloud.registry()["functions"]
        self.assertEqual(len(called), 3, calls)
        for name, handler, own_role in called:
            self.assertEqual(handler, os.path.basename(functions[name]["file"])[:-3] + ".lambda_handler")
            self.assertEqual(own_role, role + name)
            self.assertEqual((self.directory / f"{name}-policy.json").read_text().count("ACCOUNT"), 0)
        old = gateway.id
        gateway.renew()
        self.assertEqual(gateway.retire(old), (True, {"old": old}))
        accepted, reply = gateway.ask(gateway.connect(), ThingName="another")
        self.assertEqual((accepted, reply["statusCode"]), (False, 403))
        self.come_again()
        # Those that have been INACTIVE for long enough go; what is attached stays.
        own = self.own_certificate()
        script = self.script("Deleting retired certificates")
        self.run_script(script)
        self.assertEqual(self.status(old), ("INACTIVE", []))
        self.run_script(script.replace("30 days ago", "30 days"))
        self.assertNotIn(old, self.cloud.registry()["certificates"])
        self.assertEqual(self.status(own), ("INACTIVE", []))
        self.run_script(re.search("(?ms)^aws iot delete-topic-rule.*?^done$", self.script("Taking it away"))[0])
        self.assertEqual(self.cloud.aws("list-topic-rules")["rules"], [])
        self.assertNotIn("enrolld-renew", self.cloud.registry()["templates"])

    def test_what_is_left(self):
        """Of the commands of etc/aws, without --hooks and --retire."""
        self.start()
        theirs = self.script("Hooks, renewal and retirement: commands")
        ours = "\n".join(re.findall("(?m)^iot .*", commands("Functions, renewal and retirement")))
        needed = "\n".join(re.findall("(?m)^(?:hook_of\\(\\)|sed .* retire-rule.json >).*", theirs))
        self.run_script(f'{needed}\niot() {{ aws iot "$@"; }}\n{ours}\n')
        registry = self.cloud.registry()
        for template, function in (("enrolld", "enrolld-hook"), ("enrolld-renew", "enrolld-renewal-hook")):
            hook = registry["templates"][template]["preProvisioningHook"]
            self.assertEqual(hook["targetArn"].rpartition(":")[2], function)
        self.assertEqual(list(registry["rules"]), ["enrolld_retire"])

    def own_certificate(self):
        """An INACTIVE one of an authority of the operator's own."""
        authority = Authority(self.directory, "maker")
        self.cloud.register_authority(authority.path)
        pem = self.directory / "own.pem"
        pem.write_text(authority.device("own"))
        return self.cloud.aws("register-certificate", "--certificate-pem", f"file://{pem}", "--ca-certificate-pem",
                              f"file://{authority.path}", "--status", "INACTIVE")["certificateId"]  # fmt: skip

    def come_again(self):
        """A gateway that has lost its certificate, by the commands for one that comes again."""
        lost = Gateway(self, "gateway-GW-0001")
        allow, forbid = self.script("A gateway that comes again").split("# ...")

        def enroll():
            lost.certificate, lost.key = self.cloud.claim_certificate, self.cloud.claim_key
            return lost.ask(lost.connect("any-enroll"), register_thing("enrolld"), SerialNumber=FIRST)[0]

        self.assertEqual([enroll(), enroll()], [True, False])
        self.run_script(allow)
        self.assertTrue(enroll())
        self.run_script("# " + forbid)
        self.assertFalse(enroll())


if __name__ == "__main__":
    harness.main()
