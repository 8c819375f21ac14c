#!/usr/bin/env python3
"""The commands of tests/iotcore/README.md, "Just in time, step by step", do what it says."""

import os
import re
import subprocess

import harness
from parts import aws_program, free_port


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


if __name__ == "__main__":
    harness.main()
