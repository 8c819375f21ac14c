#!/usr/bin/env python3
"""The documents that `make install` installs: what they name of each other, and what other installed files send their
readers to, is there, too. And a table that is easily forgotten."""

import re
import subprocess
import sys
import unittest

import harness
from harness import SOURCE_DIR
from installation import Installation

LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
NAME = re.compile(rb"\b(?:docs|etc/aws)/[\w./-]*\w")
# What README.md says is in the sources alone; the configuration is installed where it is read.
SOURCES = ("HACKING.md", "etc/enrolld.conf", "man/", "tests/", "yocto/")


def documents():
    """Their directory, and those with links."""
    directory = Installation.find("ARCHITECTURE.md").parent
    return directory, sorted(directory.rglob("*.md"))


class Documents(unittest.TestCase):
    maxDiff = None

    def test_links(self):
        directory, texts = documents()
        found, dead = 0, []
        for text in texts:
            for link in LINK.findall(text.read_text()):
                if "://" in link:
                    continue
                target = (text.parent / link).resolve()
                name = str(target.relative_to(directory))
                found += 1
                there = SOURCE_DIR / name if name.startswith(SOURCES) else target
                if not there.exists():
                    dead.append(f"{text.relative_to(directory)}: {link}")
        self.assertGreater(found, 20)
        self.assertEqual(dead, [])

    def test_what_others_name(self):
        """Units, manual pages, the texts in the programs."""
        directory, texts = documents()
        named = {}
        for path in Installation.get().rglob("*"):
            if path.is_file() and not path.is_symlink() and path not in texts:
                for name in NAME.findall(path.read_bytes()):
                    named.setdefault(name.decode(), path.name)
        self.assertIn("docs/credentials.md", named)
        missing = {name: who for name, who in named.items() if not (directory / name).exists()}
        self.assertEqual(missing, {})

    def test_nothing_is_left_out(self):
        """Each document of the sources is installed: one that is new is easily forgotten."""
        directory, _ = documents()
        for folder in ("docs", "etc/aws"):
            wanted = {str(path.relative_to(SOURCE_DIR)) for path in (SOURCE_DIR / folder).rglob("*") if path.is_file()}
            installed = {str(path.relative_to(directory)) for path in (directory / folder).rglob("*") if path.is_file()}
            self.assertEqual(installed, {name for name in wanted if "__pycache__" not in name})

    def test_scenarios(self):
        """The machines' README.md has each of them, as they describe themselves."""
        words = [sys.executable, "-B", SOURCE_DIR / "tests/vm/vm.py", "--images=.", "--build=.", "--list"]
        listed = subprocess.run(words, capture_output=True, text=True, check=True, timeout=harness.DEADLINE).stdout
        table = re.findall(r"^\| `(\S+)` \| (.*?) \| .* \|$", (SOURCE_DIR / "tests/vm/README.md").read_text(), re.MULTILINE)
        rows = [(name, text) for name, text in table if not name.endswith(".py")]
        self.assertEqual(rows, [tuple(line.split(maxsplit=1)) for line in listed.splitlines()])


if __name__ == "__main__":
    try:
        harness.main()
    finally:
        Installation.remove()
