"""A clean Debian 12 on which somebody has done what README.md says: the packages, the build and the installation in a
chroot of it, as there the network is; what comes then is left to the machine."""

import hashlib
import pathlib
import shutil
import subprocess
import tempfile

import image

SIZE = "4G"  # sparse
# As a user's shell would be, and mounts that vanish with it, however it ends.
CHROOT = """mount --rbind "$1" "$1" && mount --rbind /proc "$1/proc" && mount --rbind /dev "$1/dev" &&
exec chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 sh -c "set -e; cd /root/enrolld; $2" """


def readme_step(name):
    return image.command(image.SOURCE_DIR / "tests/readme-steps", name)


def sources():
    """The files of the checkout or of the release, without what was built in it."""
    if (image.SOURCE_DIR / ".git").exists():
        return image.command("git", "-C", image.SOURCE_DIR, "ls-files", "-z").split("\0")[:-1]
    return [str(path.relative_to(image.SOURCE_DIR)) for path in image.SOURCE_DIR.rglob("*") if path.is_file()]


class CleanImage:
    """To be copied and booted like image.Image, which the cloud's parts are taken from."""

    def __init__(self, golden):
        self.cache = golden.cache
        self.build = golden.build
        packages = image.command(image.SOURCE_DIR / "tests/install-packages", "print-clean-machine").split()
        self.base = self.cache / f"clean-{image.digest(image.SUITE, *image.LEFT_OUT, *packages)}.tar"
        if not self.base.exists():
            with image.new_file(self.base) as path:
                image.make_archive(path, packages)
                image.take_boot_files(path, self.base)
        self.kernel = self.base.with_suffix(".kernel")
        self.initrd = self.base.with_suffix(".initrd")
        self.root = self.cache / f"readme-{self.key()}.img"
        if not self.root.exists():
            for old in self.cache.glob("readme-*.img"):
                old.unlink()
            self.make_root()

    def key(self):
        total = hashlib.sha256(self.base.name.encode())
        for name in sources():
            path = image.SOURCE_DIR / name
            # The tests are no part of what is installed; what prepares the machine and the steps is.
            if name.startswith("tests/") and not name.startswith(("tests/vm/guest", "tests/vm/clean", "tests/install")):
                continue
            total.update(f"{name}\0".encode() + (path.read_bytes() if path.is_file() else b""))
        return total.hexdigest()[:16]

    def make_root(self):
        with tempfile.TemporaryDirectory(dir=self.cache, prefix="readme-") as directory, image.new_file(self.root) as path:
            image.command("tar", "--extract", f"--file={self.base}", f"--directory={directory}")
            root = pathlib.Path(directory)
            self.prepare(root)
            image.command("unshare", "--mount", "--propagation=private", "sh", "-c", CHROOT, "sh", root, readme_step("build"))
            shutil.rmtree(root / "root/enrolld")
            image.make_guest(root, self.build)
            image.make_file_system(path, SIZE, "root", root)

    @staticmethod
    def prepare(root):
        """The sources, this system's way to the mirror, and no waiting for the disk."""
        (root / "etc/dpkg/dpkg.cfg.d/unsafe").write_text("force-unsafe-io\n")
        for name in sources():
            source = image.SOURCE_DIR / name
            target = root / "root/enrolld" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target, follow_symlinks=False)
        for path in pathlib.Path("/etc/apt/apt.conf.d").iterdir():
            shutil.copy(path, root / "etc/apt/apt.conf.d")
        for name in ("hosts", "resolv.conf"):
            subprocess.run(["cp", f"/etc/{name}", root / "etc"], check=False)
