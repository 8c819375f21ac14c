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
    sample       one of those that `make check` runs
    renewal      false: it is about what a renewal does not have; or what differs in one: members as these
Rows of renewals alone are in renewal.json; there also:
    import       the successor is imported, and renewed by jitp"""

import json
import pathlib

import cell
import renewal

PATH = pathlib.Path(__file__).with_name("table.json")
RENEWALS = pathlib.Path(__file__).with_name("renewal.json")


def read():
    """All rows, those of renewals behind the others."""
    rows = json.loads(PATH.read_text())
    found = rows + [in_renewal(row) for row in rows if row.get("renewal", True)]
    found += [{"renews": True, "alone": True, **row} for row in json.loads(RENEWALS.read_text())]
    names = [name(row) for row in found]
    twice = {each for each in names if names.count(each) > 1}
    if twice:
        raise ValueError(f"twice in {PATH}: {twice}")
    return found


def in_renewal(row):
    """The row as it is in a renewal, which asks with the identity in use where an enrolment asks with the claim."""
    common = {key: value for key, value in row.items() if key not in ("renewal", "sample")}
    if common["step"] == "claim":
        common["step"] = "identity"
    return common | row.get("renewal", {}) | {"renews": True}


def name(row):
    return f"{'renewal, ' if row.get('renews') else ''}{row['step']}: {row['fault']}"


def cell_class(row):
    return renewal.RenewalCell if row.get("renews") else cell.Cell


def litter_text(row):
    words = []
    for status, number in row.get("litter", {}).items():
        words.append(f"{status} with each attempt" if number == "each attempt" else f"{number} {status}")
    return ", ".join(words) or "nothing"


def line(row, last):
    key = cell.retry_key(row)
    wait = f"`{key}=`" if key and row["class"] != "not-yet" else ""
    says = row.get("says", "").replace("|", "\\|")
    words = [row["fault"], row["step"], row["class"], cell.state(row), wait, says, litter_text(row), *last]
    return "| " + " | ".join(words) + " |"


def difference(row):
    """What a renewal makes of it."""
    if not row.get("renewal", True):
        return ""
    there = in_renewal(row)
    words = [there["class"]] if there["class"] != row["class"] else []
    words += [f'"{there["says"]}"'] if there.get("says") != row.get("says") else []
    words += [litter_text(there)] if litter_text(there) != litter_text(row) else []
    return "; ".join(words) or "the same"


def markdown(rows):
    """As it stands in docs/reliability.md."""
    titles = ["fault", "step", "class", "state", "waits as", "message", "left in the cloud"]
    lines = ["| " + " | ".join([*titles, "in a renewal"]) + " |", "|" + "---|" * 8]
    lines += [line(row, [difference(row)]) for row in rows if not row.get("renews")]
    lines += ["", "Of renewals alone:", "", "| " + " | ".join(titles) + " |", "|" + "---|" * 7]
    lines += [line(row, []) for row in rows if row.get("alone")]
    return "\n".join(lines) + "\n"
