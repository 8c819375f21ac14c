"""What all scenarios use. Each is a function that gets a scene (vm.py); its first line says what must hold, its name is that
of the function with hyphens."""

EVERY = {}
# What a unit may do and what not, by a script in its place.
TRIES = """
refused() { if "$@"; then echo "it can: $*"; exit 9; fi; }
allowed() { "$@" || { echo "it cannot: $*"; exit 9; }; }
"""


def scenario(function):
    EVERY[function.__name__.replace("_", "-")] = function
    return function


def expect(what, value, wanted):
    """Fails unless value is wanted, or wanted(value)."""
    if not (wanted(value) if callable(wanted) else value == wanted):
        raise AssertionError(f"{what}: {value!r}" + ("" if callable(wanted) else f" and not {wanted!r}"))
    return value


def provision(scene, **options):
    """A gateway after its first boot, and its status."""
    gateway = scene.gateway(**options)
    expect("after the boot the system is", gateway.boot(), "running")
    status = gateway.wait_provisioned()
    return gateway, status
