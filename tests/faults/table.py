"""The fault table, table.json: one row, one cell. Members of a row:
    fault        what is wrong, in words; with the step it names the cell
    step         where the gateway meets it: the step that D-Bus names
    inject       how: see injection.py
    class        of the failure; "" if there is none and the gateway is provisioned at once
    says         words of the message
    litter       certificates that are left beside the one in use, by status: a number, or "each attempt"; absent: none
    attempts     that are watched before the fault is lifted, 2 if absent
    backend      of the key; file if absent
    policy       of the claim, as policies.py changes it, all the time
    settings     further ones of the gateway, SECTION.KEY
    propagation  [Retry] Propagation= if it is not the 2 s of these tests
    seconds      for what takes longer than a minute
    sample       one of those that `make check` runs"""

import json
import pathlib

import cell

PATH = pathlib.Path(__file__).with_name("table.json")


def read():
    rows = json.loads(PATH.read_text())
    names = [name(row) for row in rows]
    twice = {each for each in names if names.count(each) > 1}
    if twice:
        raise ValueError(f"twice in {PATH}: {twice}")
    return rows


def name(row):
    return f"{row['step']}: {row['fault']}"


def litter_text(row):
    words = []
    for status, number in row.get("litter", {}).items():
        words.append(f"{status} with each attempt" if number == "each attempt" else f"{number} {status}")
    return ", ".join(words) or "nothing"


def markdown(rows):
    """As it stands in docs/reliability.md."""
    lines = ["| fault | step | class | state | waits as | message | left in the cloud |", "|" + "---|" * 7]
    for row in rows:
        key = cell.retry_key(row)
        wait = f"`{key}=`" if key and row["class"] != "not-yet" else ""
        says = row.get("says", "").replace("|", "\\|")
        words = [row["fault"], row["step"], row["class"], cell.state(row), wait, says, litter_text(row)]
        lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines) + "\n"
