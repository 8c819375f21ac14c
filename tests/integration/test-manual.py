#!/usr/bin/env python3
"""The manual pages against what they describe: a setting, option, exit code, D-Bus member or error that one of them
lacks, or has and that does not exist, is a failure. Both are read: the pages by their mdoc(7) macros, the programs by
what they print of themselves, and by their sources where they do not."""

import re
import shlex
import shutil
import subprocess
import unittest
import xml.etree.ElementTree

import harness
from gateway import INTERFACE

MAN = harness.SOURCE_DIR / "man"
PAGES = ("enrollctl.1", "enrolld-plugin.7", "enrolld-worker.8", "enrolld.8", "enrolld.conf.5", "org.enrolld1.5")
MACRO = re.compile(r"[A-Z][a-z]$")


class Item:
    """An entry of a list: its tag, and the lines below it."""

    def __init__(self, tag):
        self.tag = shlex.split(tag.replace("'", r"\'"))
        self.lines = []

    def words(self, macro):
        """What stands behind the macro in the tag, without commas."""
        found, current = [], None
        for token in self.tag:
            if MACRO.match(token):
                current = token
            elif current == macro and token != ",":
                found.append(token)
        return found

    def word(self, macro):
        return self.words(macro)[0]

    def marked(self, macro):
        """The first word behind each line of that macro in the text."""
        return [line.split()[1] for line in self.lines if line.startswith(f".{macro} ")]


class Page:
    """The lists of a page, by the heading they stand under. Lists within lists are text of their item."""

    def __init__(self, name):
        self.name = name
        self.lists = {}
        self.text = (MAN / name).read_text()
        heading, depth, item = "", 0, None
        for line in re.sub(r"\.It Xo\n(.*?)\n\.Xc", self.join, self.text, flags=re.DOTALL).splitlines():
            if line.startswith((".Sh ", ".Ss ")):
                heading = line[4:]
            depth += line.startswith(".Bl ") - line.startswith(".El")
            if depth == 1 and line.startswith(".It "):
                item = Item(line[4:])
                self.lists.setdefault(heading, []).append(item)
            elif depth == 0:
                item = None
            elif item is not None:
                item.lines.append(line)

    @staticmethod
    def join(match):
        return ".It " + " ".join(line.removeprefix(".") for line in match[1].splitlines())

    def items(self, heading):
        if heading not in self.lists:
            raise AssertionError(f"{self.name} has no list under {heading}")
        return self.lists[heading]

    def all(self, heading, macro):
        """Every word behind the macro in the tags under the heading, in their order."""
        return [word for item in self.items(heading) for word in item.words(macro)]


def run(program, *words, environment=None):
    done = subprocess.run(
        [harness.built(program), *words], capture_output=True, text=True, timeout=harness.DEADLINE, env=environment
    )
    return done.stdout


def source(name):
    return (harness.SOURCE_DIR / name).read_text()


def options_in(text):
    return set(re.findall(r"--[a-z-]+", text))


def option_names(item_or_page, *heading):
    """-config becomes --config."""
    words = item_or_page.all(*heading, "Fl") if heading else item_or_page.words("Fl")
    return {f"-{word}" for word in words}


def plugin_options():
    """Methods that come along with enrolld, and of each key its default, None for none, "required"."""
    environment = {"ENROLLD_PLUGIN_DIR": str(harness.built("fleet-claim.so").parent), "PATH": "/usr/bin:/bin"}
    methods = {}
    for line in run("enrolld-worker", "plugins", environment=environment).splitlines():
        option = re.match(r"  ([\w.]+)=  (.*)", line)
        if option is None:
            keys = methods.setdefault(line.split(":")[0], {})
        elif "(required)" in option[2]:
            keys[option[1]] = "required"
        else:
            default = re.search(r"\(default: (.*)\)$", option[2])
            keys[option[1]] = default[1] if default else None
    return methods


class Test(harness.TestCase):
    maxDiff = None

    def settings(self):
        """Sections, keys and defaults, as the programs know them."""
        empty = self.directory / "empty.conf"
        empty.write_text("")
        sections = {}
        for line in run("enrolld", "--check-config", f"--config={empty}").splitlines():
            section, key, value = re.fullmatch(r"\[(.*?)\] (\w+)=(.*)  \(default\)", line).groups()
            sections.setdefault(section, {})[key] = value or None
        for key, section in (("Methods", "Agent"), ("Endpoint", "Cloud"), ("RootCA", "Cloud")):
            self.assertIsNone(sections[section][key])
            sections[section][key] = "required"
        return sections | plugin_options()

    def test_pages(self):
        self.assertEqual(sorted(PAGES), sorted(path.name for path in MAN.glob("*.[0-9]")))
        listed = re.findall(r"man/(\S+\.[0-9])", source("man/Makefile-man.am"))
        self.assertEqual(sorted(PAGES), sorted(listed), "man/Makefile-man.am")
        for name in PAGES:
            page = Page(name)
            stem, _, number = name.rpartition(".")
            self.assertIn(f".Dt {stem.upper()} {number}\n", page.text)
            for other, section in re.findall(r"^\.Xr (\S*enroll\S*) (\d)", page.text, re.MULTILINE):
                self.assertIn(f"{other}.{section}", PAGES, f"{name} refers to it")

    @unittest.skipUnless(shutil.which("mandoc"), "mandoc(1) is not installed")
    def test_lint(self):
        for name in PAGES:
            words = ["mandoc", "-Tlint", "-Wwarning", name]
            done = subprocess.run(words, capture_output=True, text=True, cwd=MAN, timeout=harness.DEADLINE)
            self.assertEqual((done.returncode, done.stdout), (0, ""))

    # The command lines.

    def assertSameHelp(self, page, text):
        """Options, variables and exit codes of a program."""
        self.assertEqual(option_names(page, "OPTIONS") - {"-h"}, options_in(text))
        told = re.search(r"Environment: (.*?)\n(?=Exit codes)", text, re.DOTALL)[1]
        variables = re.findall(r"\b[A-Z_]{5,}\b", told)
        self.assertEqual(sorted(page.all("ENVIRONMENT", "Ev")), sorted(variables))
        codes = re.findall(r"\b(\d) [a-z]", re.search(r"Exit codes: (.*)", text, re.DOTALL)[1])
        self.assertEqual([item.tag[0] for item in page.items("EXIT STATUS")], codes)

    def assertVariables(self, page, folder):
        """What a program asks its environment for is told."""
        read = set()
        for path in (harness.SOURCE_DIR / folder).glob("*.c"):
            read |= set(re.findall(r'(?:getenv|directory_from)\("(\w+)"', path.read_text()))
        # systemd's and the terminal's business
        self.assertEqual(read - {"JOURNAL_STREAM", "TERM"} - set(page.all("ENVIRONMENT", "Ev")), set())

    def test_enrolld(self):
        page = Page("enrolld.8")
        self.assertSameHelp(page, run("enrolld", "--help"))
        self.assertVariables(page, "agent/daemon")
        signals = set(re.findall(r"SIG[A-Z]+", re.search(r"signals\[\] = (.*);", source("agent/daemon/main.c"))[1]))
        self.assertEqual(set(page.all("SIGNALS", "Dv")), signals)
        groups = re.findall(r'#define GROUP_\w+ "(.*?)"', source("agent/daemon/group.h"))
        self.assertEqual(set(page.all("USERS AND GROUPS", "Sy")), {"enrolld", *groups})
        flags = re.findall(r'(?:openat|touch|unlinkat)\(directory, "([\w-]+)"', source("agent/daemon/runtime.c"))
        files = {path for path in page.all("FILES", "Pa") if path.startswith("/run/enrolld/")}
        self.assertEqual(files, {f"/run/enrolld/{flag}" for flag in flags})

    def test_units(self):
        page = Page("enrolld.8")
        suffixes = (".service", ".socket", ".path", ".target")
        names = {path.name.removesuffix(".in") for path in (harness.SOURCE_DIR / "systemd").glob("enrolld*")}
        self.assertEqual(sorted(page.all("UNITS", "Sy")), sorted(name for name in names if name.endswith(suffixes)))
        fields = re.findall(r'add_field\(&fields, "(\w+_\w+=)%s"', source("agent/daemon/log.c"))
        self.assertEqual(re.findall(r"\.Sq (\w+=)", page.text[page.text.index(".Sh UNITS") :]), fields)

    def test_enrolld_worker(self):
        page, text = Page("enrolld-worker.8"), run("enrolld-worker", "--help")
        self.assertSameHelp(page, text)
        self.assertVariables(page, "agent/worker")
        jobs = {}
        for job, words in re.findall(r"(?:Usage: |^ +)enrolld-worker (\S+)(.*(?:\n {30,}.*)?)", text, re.MULTILINE):
            jobs[job] = options_in(words)
        told = {item.word("Cm"): option_names(item) for item in page.items("JOBS")}
        self.assertEqual(told, jobs)
        known = re.findall(r'#define JOB_(?!LOST)\w+[\s\\]+"([a-z-]+)"', source("agent/common/job.h"))
        self.assertEqual(sorted(jobs), sorted(known))

    def test_enrollctl(self):
        page, text = Page("enrollctl.1"), run("enrollctl", "--help")
        self.assertSameHelp(page, text)
        self.assertVariables(page, "agent/ctl")
        listed = text[text.index("Verbs:") : text.index("Options:")]
        verbs = {verb: options_in(words) for verb, words in re.findall(r"^  ([a-z-]+)((?: \S+)*)", listed, re.MULTILINE)}
        self.assertEqual({item.word("Cm"): option_names(item) for item in page.items("VERBS")}, verbs)
        codes = dict(re.findall(r"EXIT_CODE_(\w+) = (\d)", source("agent/ctl/bus.h")))
        self.assertEqual([item.tag[0] for item in page.items("EXIT STATUS")], list(codes.values()))

    # Files.

    def test_configuration(self):
        page, told = Page("enrolld.conf.5"), {}
        for heading in page.lists:
            section = re.fullmatch(r"\[(.*)\] settings", heading)
            if section is None:
                continue
            for item in page.items(heading):
                end = "\n".join(item.lines[item.lines.index(".br") + 1 :])
                default = re.fullmatch(r"(Required\.)|Default:\n\.Ql (.*) \.|Default: none[,.].*", end, re.DOTALL)
                self.assertTrue(default, f"[{section[1]}] {item.word('Va')}= does not end with its default: {end}")
                told.setdefault(section[1], {})[item.word("Va")] = "required" if default[1] else default[2]
        self.assertEqual(told, self.settings())
        letters = re.search(r'strchr\("(\S+)", \*text\)', source("agent/common/specifier.c"))[1]
        self.assertEqual(page.all("Specifiers", "Ic"), [f"%{letter}" for letter in letters])

    def test_example_configuration(self):
        """etc/enrolld.conf, which is installed, has every key, commented out, with its default."""
        seen, section = {}, None
        for line in source("etc/enrolld.conf").splitlines():
            if line.startswith("["):
                section = seen.setdefault(line.strip("[]"), {})
            elif setting := re.fullmatch(r"#([A-Z][\w.]*)=(.*)", line):
                section[setting[1]] = setting[2] or None
        wanted = self.settings()
        # A default that depends on something is told, too, and a family by its usual member.
        wanted["fleet-claim"]["ClientId"] = "%s-enroll"
        del wanted["fleet-claim"]["Parameter.NAME"]
        wanted["fleet-claim"]["Parameter.SerialNumber"] = "%s"
        del wanted["fleet-claim"]["RenewParameter.NAME"]
        wanted["fleet-claim"]["RenewParameter.ThingName"] = "%t"
        wanted["jitp"]["Patience"], wanted["jitr"]["Patience"] = "30min", "2h"
        for name, keys in wanted.items():
            for key, default in keys.items():
                if default == "required":
                    keys[key] = seen.get(name, {}).get(key)
        self.assertEqual(seen, wanted)

    def test_one_recipe(self):
        """Who follows one document has what who follows another has."""
        recipes = {}
        for name in ("README.md", "docs/renewal.md", "etc/aws/README.md"):
            blocks = re.findall(r"^ *```ini\n(.*?)^ *```$", (harness.SOURCE_DIR / name).read_text(), re.M | re.S)
            (recipe,) = [block for block in blocks if "RenewTemplate=" in block]
            recipes[name] = [line.strip() for line in recipe.splitlines()]
        for name, recipe in recipes.items():
            self.assertEqual(recipe, recipes["README.md"], name)

    def test_identity(self):
        text = source("agent/worker/identity.c")
        members = re.findall(r'(?:document_add_\w+|json_object_object_add)\(object, "(\w+)"', text)
        self.assertEqual(Page("enrolld.8").all("identity.json", "Va"), members)

    # D-Bus.

    def interface(self):
        root = xml.etree.ElementTree.fromstring(run("enrolld", "--introspect"))
        return root.find(f"interface[@name='{INTERFACE}']")

    def test_properties(self):
        properties = [(item.get("name"), item.get("type")) for item in self.interface().findall("property")]
        page = Page("org.enrolld1.5")
        self.assertEqual([(item.word("Va"), item.word("Li")) for item in page.items("Properties")], properties)
        members = Page("enrollctl.1").all("STATUS AS JSON", "Va")
        self.assertEqual(sorted(members), sorted(name for name, _ in properties))

    def test_doctor(self):
        """The members of its JSON, and the words of a verdict."""
        page, item = Page("enrollctl.1"), Page("enrollctl.1").items("DOCTOR AS JSON")[0]
        members = re.findall(r'add\(object, "(\w+)"', source("agent/ctl/findings.c"))
        self.assertEqual({*page.all("DOCTOR AS JSON", "Va"), *item.marked("Va")}, set(members))
        verdicts = re.findall(r'return "([a-z]+)";', source("agent/common/diagnosis.c"))
        self.assertEqual(item.marked("Ql"), verdicts)
        told = [item for item in Page("org.enrolld1.5").items("Methods") if item.tag[1] == "GetDiagnosis"][0]
        self.assertEqual(told.marked("Ql"), verdicts)

    def test_export(self):
        """The members of its JSON."""
        (item,) = [item for item in Page("enrollctl.1").items("VERBS") if item.word("Cm") == "export"]
        told = {word for line in item.lines if line.startswith(".Va ") for word in re.findall(r"\w{3,}", line)}
        code = source("agent/ctl/export.c")
        self.assertEqual(told, set(re.findall(r'\badd\(object, "(\w+)"', code)))

    @staticmethod
    def signature(item):
        """Name, arguments that go in, and what comes out, of a tag like Fn Cancel "u id" No -> u."""
        words = item.tag[1:]
        end = words.index("No") if "No" in words else len(words)
        return words[0], words[1:end], words[end + 2 :]

    def test_methods_and_signals(self):
        def arguments(member, direction):
            return [arg for arg in member.findall("arg") if arg.get("direction", "in") == direction]

        methods, signals = [], []
        for member in self.interface().findall("method"):
            inside = [f"{arg.get('type')} {arg.get('name')}" for arg in arguments(member, "in")]
            methods.append((member.get("name"), inside, [arg.get("type") for arg in arguments(member, "out")]))
        for member in self.interface().findall("signal"):
            inside = [f"{arg.get('type')} {arg.get('name')}" for arg in member.findall("arg")]
            signals.append((member.get("name"), inside, []))
        page = Page("org.enrolld1.5")
        self.assertEqual([self.signature(item) for item in page.items("Methods")], methods)
        self.assertEqual([self.signature(item) for item in page.items("Signals")], signals)

    def test_errors(self):
        text = source("agent/daemon/bus-methods.c")
        page = Page("org.enrolld1.5")
        errors, last = {}, None
        heads = re.findall(r"^/\* (\w+)\(.*\)(?: -> \S+)?: (.*) \*/\nint bus_", text, re.MULTILINE)
        for name, words in heads:
            last = errors[name] = last if words == "the same" else words.split(", ")
        self.assertEqual({item.tag[1]: item.marked("Er") for item in page.items("Methods")}, errors)
        names = set(re.findall(r'BUS_ERROR "(\w+)"', text)) | {"AccessDenied"}
        self.assertEqual(set(page.all("Errors", "Er")), names)
        self.assertEqual({name for words in errors.values() for name in words}, names)

    def test_words(self):
        """States, steps, classes and outcomes."""
        page = Page("org.enrolld1.5")
        states = re.findall(r'return "([a-z-]+)";', source("agent/daemon/status.c"))
        self.assertEqual(page.all("States", "Ql"), states)
        steps = re.findall(r'#define STEP_\w+ "([a-z]+)"', source("agent/common/step.h"))
        self.assertEqual(page.all("Steps", "Ql"), steps)
        names = re.findall(r"#define (STEP_\w+) ", source("agent/common/step.h"))
        described = re.findall(r"\{(STEP_\w+), ", source("agent/ctl/steps.c"))
        self.assertEqual(described, names, "enrollctl has words for each")
        classes = re.findall(r'\[FAILURE_\w+\] = "([a-z-]+)"', source("agent/common/failure.c"))
        self.assertEqual(page.all("Classes", "Ql"), classes)
        outcomes = re.findall(r'return "([a-z-]+)";', source("agent/daemon/methods.c"))
        self.assertEqual(page.all("Outcomes", "Ql"), outcomes)

    # The plugin interface.

    def test_plugin(self):
        header = re.sub(r"/\*.*?\*/", "", source("plugins/enrolld/plugin.h"), flags=re.DOTALL)
        page = Page("enrolld-plugin.7")

        def members(struct):
            body = re.search(rf"^struct {struct} \{{(.*?)^\}};", header, re.DOTALL | re.MULTILINE)[1]
            return re.findall(r"(\w+)(?:\)\(const[^;]*)?;", body)

        def values(enum):
            return re.findall(r"ENROLLD_\w+", re.search(rf"^enum {enum} \{{(.*?)\}};", header, re.DOTALL | re.M)[1])

        def told(heading):
            words = [item.tag for item in page.items(heading)]
            return [word for tag in words for word in tag if word not in ("Va", "Fn", "Dv", ",")]

        self.assertEqual(told("The symbol"), members("enrolld_plugin"))
        self.assertEqual(told("A method"), members("enrolld_method"))
        self.assertEqual(told("An option"), members("enrolld_option"))
        self.assertEqual(told("The host"), members("enrolld_host"))
        self.assertEqual(told("Options"), values("enrolld_option_type"))
        self.assertEqual(told("Classes"), values("enrolld_class"))
        self.assertEqual(told("Registrations"), values("enrolld_registration"))


if __name__ == "__main__":
    harness.main()
