"""What `make install` puts below a directory."""

import os
import pathlib
import shutil
import subprocess
import tempfile

from harness import BUILD_DIR, DEADLINE


def run(*words, environment=None, **options):
    """Runs a command that must succeed; returns what it printed."""
    done = subprocess.run(
        [str(word) for word in words], env=environment, capture_output=True, text=True, timeout=4 * DEADLINE, **options
    )
    if done.returncode != 0:
        raise AssertionError(f"{words[0]}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Installation:
    """Made once for all tests of a program."""

    directory = None

    @classmethod
    def get(cls):
        if cls.directory is None:
            cls.directory = pathlib.Path(tempfile.mkdtemp(prefix="enrolld-installed-"))
            environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
            run("make", "-C", BUILD_DIR, "install", f"DESTDIR={cls.directory}", environment=environment)
        return cls.directory

    @classmethod
    def find(cls, name):
        """The one file or directory of that path's end."""
        found = [path for path in cls.get().rglob(pathlib.Path(name).name) if str(path).endswith(f"/{name}")]
        if len(found) != 1:
            raise AssertionError(f"{name} is installed {len(found)} times: {found}")
        return found[0]

    @classmethod
    def remove(cls):
        if cls.directory is not None:
            shutil.rmtree(cls.directory)

    @classmethod
    def environment(cls):
        """For pkg-config: as if the directory were the root."""
        path = cls.find("enrolld-plugin.pc")
        return os.environ | {"PKG_CONFIG_PATH": f"{path.parent}:{os.environ.get('PKG_CONFIG_PATH', '')}"}

    @classmethod
    def pkg_config(cls, *words):
        return run("pkg-config", "--define-prefix", *words, environment=cls.environment()).split()
