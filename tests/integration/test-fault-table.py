#!/usr/bin/env python3
"""A sample of the fault table (tests/faults), one test for each cell of it; the command tests/faults/run has them all.
And the document that shows the table shows this one."""

import sys

import harness

sys.path.insert(0, str(harness.SOURCE_DIR / "tests/faults"))

import table  # noqa: E402
from cell import Cell  # noqa: E402
from renewal import RenewalCell  # noqa: E402


class Sample(Cell):
    pass


class RenewalSample(RenewalCell):
    pass


def add_test(row):
    words = "".join(letter if letter.isalnum() else "_" for letter in table.name(row))
    sample = RenewalSample if row.get("renews") else Sample
    setattr(sample, f"test_{words}", lambda self: self.run_row(row))


for each in table.read():
    if each.get("sample"):
        add_test(each)


class Document(harness.TestCase):
    def test_shows_the_table(self):
        text = (harness.SOURCE_DIR / "docs/reliability.md").read_text()
        _, begun, rest = text.partition("<!-- the fault table: made by tests/faults/run --markdown -->\n\n")
        shown, ended, _ = rest.partition("\n<!-- end of the fault table -->\n")
        self.assertTrue(begun and ended, "docs/reliability.md has no place for the table")
        self.assertEqual(shown, table.markdown(table.read()))


if __name__ == "__main__":
    harness.main()
