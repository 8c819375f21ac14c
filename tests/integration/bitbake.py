"""A small reader of BitBake recipes: what test-yocto.py needs to judge those of meta-enrolld, no more. It knows assignments with
=, ?=, ??=, :=, +=, .=, =+ and the overrides :append, :prepend and those of packages; ${NAME}; bb.utils.contains() and
inline Python in ${@...} with a fake datastore; shell functions; inherit and require. What it does not know is an error.
"""

import pathlib
import re

ASSIGNMENT = re.compile(r'^(?P<name>[\w${}:.%@+/-]+?)(?P<flag>\[\w[\w.-]*\])?\s*(?P<operator>\?\?=|\?=|:=|\+=|=\+|\.=|=)\s*"(?P<value>.*)"$')
FUNCTION = re.compile(r"^(?P<python>python )?(?P<name>[\w:]*)\s*\(\) \{$")
DIRECTIVE = re.compile(r"^(inherit|require|include|addtask|deltask)\s+(.*)$")

# Of bitbake.conf and the classes that are inherited, with a merged /usr and no multilib.
PLACES = {
    "prefix": "/usr", "bindir": "/usr/bin", "libdir": "/usr/lib", "libexecdir": "/usr/libexec", "includedir": "/usr/include",
    "datadir": "/usr/share", "docdir": "/usr/share/doc", "mandir": "/usr/share/man", "sysconfdir": "/etc",
    "nonarch_libdir": "/usr/lib", "systemd_system_unitdir": "/usr/lib/systemd/system",
}  # fmt: skip


class Utils:
    """bb.utils, as far as recipes here use it."""

    @staticmethod
    def contains(variable, wanted, yes, no, data):
        return yes if set(wanted.split()) <= set((data.getVar(variable) or "").split()) else no


class BitBake:
    utils = Utils


class Recipe:
    def __init__(self, path, **given):
        self.path = pathlib.Path(path)
        self.values = {**PLACES, **given}
        self.weak = {}
        self.appended = []
        self.functions = {}
        self.directives = []
        name, _, version = self.path.stem.partition("_")
        self.values.setdefault("PN", name)
        self.values.setdefault("BPN", name)
        self.values.setdefault("PV", version)
        self.values.setdefault("BP", f"{name}-{version}")
        self.read(self.path.read_text())

    # Reading

    def read(self, text):
        lines = iter(re.sub(r"\\\n", "", text).split("\n"))
        for line in lines:
            if not line.strip() or line.startswith("#"):
                continue
            if match := FUNCTION.match(line):
                self.read_function(match, lines)
            elif match := DIRECTIVE.match(line):
                self.directives.append((match[1], match[2]))
            elif match := ASSIGNMENT.match(line):
                self.assign(match)
            else:
                raise AssertionError(f"{self.path.name}: cannot read {line!r}")

    def read_function(self, match, lines):
        body = []
        for line in lines:
            if line == "}":
                break
            body.append(line)
        else:
            raise AssertionError(f"{self.path.name}: {match['name']} has no end")
        self.functions[(match["python"] or "") + match["name"]] = "\n".join(body)

    def assign(self, match):
        name, value, operator = match["name"] + (match["flag"] or ""), match["value"], match["operator"]
        name = name.replace("${PN}", self.values["PN"])
        for override in (":append", ":prepend"):
            if name.endswith(override):
                self.appended.append((name.removesuffix(override), override, value))
                return
        old = self.values.get(name)
        if operator == "??=":
            self.weak[name] = value
        elif operator == "?=":
            self.values.setdefault(name, value)
        elif operator in ("=", ":="):
            self.values[name] = value
        else:
            old = old or ""
            self.values[name] = {"+=": f"{old} {value}", "=+": f"{value} {old}", ".=": old + value}[operator]

    # Asking

    def getVar(self, name, expand=True):  # as the datastore of BitBake calls it
        value = self.values.get(name, self.weak.get(name))
        for other, where, text in self.appended:
            if other == name:
                value = (value or "") + text if where == ":append" else text + (value or "")
        return self.expand(value) if expand and value is not None else value

    def expand(self, text):
        text = re.sub(r"\$\{@(.*?)\}(?=[\s\"]|$)", lambda match: str(self.evaluate(match[1])), text)
        for _ in range(10):
            expanded = re.sub(r"\$\{(\w+)\}", lambda match: self.expand_name(match), text)
            if expanded == text:
                return text
            text = expanded
        raise AssertionError(f"{self.path.name}: endless: {text}")

    def expand_name(self, match):
        value = self.getVar(match[1])
        return match[0] if value is None else value

    def evaluate(self, code):
        return eval(code, {"d": self, "bb": BitBake})  # the recipes are ours

    def words(self, name):
        return (self.getVar(name) or "").split()

    def flag(self, name, flag):
        return self.values.get(f"{name}[{flag}]", "")

    def inherited(self):
        return {word for directive, words in self.directives if directive == "inherit" for word in words.split()}

    def shell(self, name):
        """The text of a shell function, expanded as BitBake does: names that it does not know are the shell's."""
        return self.expand(self.functions[name])
