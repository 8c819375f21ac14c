"""The table: what was measured, against what it shall be."""

import dataclasses
import json


@dataclasses.dataclass
class Figure:
    name: str
    how: str
    target: str = "-"
    measured: str = ""
    value: float | None = None
    limit: float | None = None  # of `value`; None: reported, not judged
    error: str | None = None  # why there is no value

    @property
    def verdict(self):
        if self.error is not None:
            return "FAILED"
        if self.limit is None or self.value is None:
            return "-"
        return "ok" if self.value <= self.limit else "MISSED"

    @property
    def good(self):
        return self.verdict in ("ok", "-")


def count(name, value, limit, how, detail="", unit=""):
    """A figure that is judged: at most `limit`."""
    unit = f" {unit}" if unit else ""
    measured = f"{value:g}{unit}" + (f": {detail}" if detail else "")
    return Figure(name, how, f"<= {limit:g}{unit}", measured, value, limit)


def print_table(figures):
    rows = [("figure", "target", "verdict", "measured")]
    rows += [(figure.name, figure.target, figure.verdict, figure.error or figure.measured) for figure in figures]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        print("  ".join([text.ljust(width) for text, width in zip(row, widths)] + [row[3]]))
    print("\nHow it was measured")
    for figure in figures:
        print(f"  {figure.name.ljust(widths[0])}  {figure.how}")


def write_json(figures, path):
    members = [dataclasses.asdict(figure) | {"verdict": figure.verdict} for figure in figures]
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"figures": members}, file, indent=2)
        file.write("\n")
