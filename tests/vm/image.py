"""The golden image of a gateway: Debian with its own kernel, and what `make install` puts beside it. Made without mounts
and loop devices: a tar file by mmdebstrap, a file system by `mke2fs -d`. Both are kept, named by what they are made of.
"""

import contextlib
import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile

SUITE = "bookworm"
SIZE = "700M"
HERE = pathlib.Path(__file__).resolve().parent
SOURCE_DIR = HERE.parent.parent

# What would only cost time in a machine that lives for a minute, and the broker that Debian starts.
MASKED = """apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer
    getty.target modprobe@configfs.service modprobe@dm_mod.service modprobe@drm.service modprobe@efi_pstore.service
    modprobe@fuse.service modprobe@loop.service mosquitto.service systemd-timesyncd.service
    systemd-tmpfiles-clean.timer""".split()
DISABLED = ["tpm2-abrmd.service"]  # started by whom it concerns
ARCHIVES = "usr/local/share/archives"  # packages that a scenario installs
# Documents and translations are half of the files.
LEFT_OUT = ["/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*"]


def command(*words, **options):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, words))}: {done.stdout}{done.stderr}")
    return done.stdout


def digest(*texts):
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def tree_digest(directory):
    """Of all names, modes and contents."""
    total = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        total.update(f"{path.relative_to(directory)} {path.lstat().st_mode:o}\0".encode())
        if path.is_symlink():
            total.update(os.readlink(path).encode())
        elif path.is_file():
            total.update(path.read_bytes())
    return total.hexdigest()[:16]


@contextlib.contextmanager
def new_file(path):
    """A name to make the file under; it gets its own name when it is whole, so that a run that is cut off leaves none."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="new-") as directory:
        yield pathlib.Path(directory) / path.name
        (pathlib.Path(directory) / path.name).rename(path)


def make_archive(path, packages, *options):
    """Debian with these packages, a tar file. The way to the mirror is this system's: its proxy, and whether an old mirror
    will do."""
    lines = command("apt-config", "dump", "--no-empty", "Acquire").splitlines()
    wanted = ("Acquire::Check-", "Acquire::http::", "Acquire::https::")
    settings = path.parent / "apt.conf"
    settings.write_text("".join(f"{line}\n" for line in lines if line.startswith(wanted)))
    exclude = [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    command("mmdebstrap", "--quiet", "--variant=minbase", f"--aptopt={settings}", *exclude, *options,
            f"--include={','.join(packages)}", SUITE, path)  # fmt: skip


def take_boot_files(archive, base):
    """The kernel and its initial file system, to lie beside base."""
    names = command("tar", "--list", f"--file={archive}").split()
    for prefix, suffix in (("./boot/vmlinuz-", ".kernel"), ("./boot/initrd.img-", ".initrd")):
        name = next(name for name in names if name.startswith(prefix))
        with base.with_suffix(suffix).open("wb") as output:
            subprocess.run(["tar", "--extract", "--to-stdout", f"--file={archive}", name], stdout=output, check=True)


def make_guest(root, build):
    """A test machine of what root contains."""
    standin = root / "usr/local/lib/iotcore"
    standin.mkdir(parents=True)
    shutil.copy(build / "tests/iotcore/.libs/iotcore.so", standin)
    shutil.copytree(HERE / "guest", root, symlinks=True, dirs_exist_ok=True)
    for target in ("sysinit", "emergency"):
        wants = root / f"usr/lib/systemd/system/{target}.target.wants"
        wants.mkdir(parents=True, exist_ok=True)
        (wants / "machine-shell.service").symlink_to("../machine-shell.service")
    masked = root / "etc/systemd/system"
    masked.mkdir(parents=True, exist_ok=True)
    for unit in MASKED:
        (masked / unit).unlink(missing_ok=True)
        (masked / unit).symlink_to("/dev/null")


class Image:
    """root: the file system, to be copied. kernel and initrd: what qemu boots it with."""

    def __init__(self, cache, build):
        self.cache = cache
        self.build = build
        cache.mkdir(parents=True, exist_ok=True)
        packages = command(SOURCE_DIR / "tests/install-packages", "print-machine").split()
        archives = command(SOURCE_DIR / "tests/install-packages", "print-machine-archives").split()
        self.base = cache / f"base-{digest(SUITE, *LEFT_OUT, *packages, *archives)}.tar"
        if not self.base.exists():
            self.make_base(packages, archives)
        self.kernel = self.base.with_suffix(".kernel")
        self.initrd = self.base.with_suffix(".initrd")
        with tempfile.TemporaryDirectory(dir=cache, prefix="install-") as directory:
            installed = pathlib.Path(directory)
            self.install(installed)
            key = digest(self.base.name, tree_digest(installed), pathlib.Path(__file__).read_text())
            self.root = cache / f"root-{key}.img"
            if not self.root.exists():
                self.forget_others()
                self.make_root(installed)

    def make_base(self, packages, archives):
        download = (
            f'--customize-hook=mkdir "$1/{ARCHIVES}" && cd "$1/{ARCHIVES}" &&'
            f' APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get download {" ".join(archives)}'
        )
        with new_file(self.base) as path:
            make_archive(path, packages, download)
            take_boot_files(path, self.base)

    def install(self, directory):
        """What a gateway gets, by `make install`; and what makes a test machine of it."""
        command("make", "-C", self.build, "install", f"DESTDIR={directory}")
        make_guest(directory, self.build)

    def forget_others(self):
        for old in self.cache.glob("root-*.img"):
            old.unlink()

    def make_root(self, installed):
        with tempfile.TemporaryDirectory(dir=self.cache, prefix="root-") as directory, new_file(self.root) as path:
            command("tar", "--extract", f"--file={self.base}", f"--directory={directory}")
            shutil.copytree(installed, directory, symlinks=True, dirs_exist_ok=True)
            for unit in DISABLED:
                command("rm", "-f", f"{directory}/etc/systemd/system/multi-user.target.wants/{unit}")
            # As README.md says: Debian has no service that does it at the first boot.
            command("journalctl", "--update-catalog", f"--root={directory}")
            make_file_system(path, SIZE, "root", directory)


def make_file_system(path, size, label, directory=None):
    """ext4 with blocks of 4 KiB, as on a gateway. Its tree: that of a directory."""
    tree = ["-d", str(directory)] if directory is not None else []
    whole = "lazy_itable_init=0,lazy_journal_init=0"  # and not by the kernel in the background
    command("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-E", whole, "-L", label, *tree, path, size)


def put_files(path, files):
    """Into a file system that nobody uses: {name: text, or a pathlib.Path that a link shall point to, or None for what
    shall not be there}. What is there is replaced."""
    with tempfile.TemporaryDirectory() as directory:
        lines = []
        for number, (name, value) in enumerate(files.items()):
            parents = list(pathlib.PurePath(name).parents)[-2::-1]
            lines += [f"mkdir {parent}" for parent in parents]  # refused where it is there
            lines.append(f"rm {name}")
            if isinstance(value, pathlib.PurePath):
                lines.append(f"symlink {name} {value}")
            elif value is not None:
                source = pathlib.Path(directory) / str(number)
                source.write_text(value)
                source.chmod(0o644)
                lines.append(f"write {source} {name}")
        script = pathlib.Path(directory) / "commands"
        script.write_text("\n".join(lines) + "\n")
        command("debugfs", "-w", "-f", script, path)


def read_file(path, name):
    """From a file system that nobody uses."""
    return command("debugfs", "-R", f"cat {name}", path)
