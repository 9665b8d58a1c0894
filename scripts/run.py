"""Run Outpost from a clean clone: set up .venv beside the project when needed, then do what was asked.

    python3 scripts/run.py demo [arguments]      the demo: a server, three nodes, an hour offline
    python3 scripts/run.py test [arguments]      the tests (arguments go to pytest)
    python3 scripts/run.py check [--fast]        what CI runs: format, lint, types, layers, tests
    python3 scripts/run.py bench [--quick]       what it costs on this machine: capture, push, pull, changes, bytes, memory
    python3 scripts/run.py outpost [arguments]   the program itself

Needs Python 3.11 or newer and nothing else; the first run fetches the packages that constraints.txt names. Progress
goes to standard error, so that `outpost ... --json` keeps standard output to itself. The exit status is the program's.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

MIN_VERSION = (3, 11)
if sys.version_info < MIN_VERSION:  # this file must say so itself: it runs before anything is installed
    newer = [name for name in ("python3.14", "python3.13", "python3.12", "python3.11") if shutil.which(name)]
    advice = f"Run it as: {newer[0]} {' '.join(sys.argv)}" if newer else "Install a newer one, then run this again."
    sys.exit(f"Outpost needs Python 3.11 or newer; this is {sys.version.split()[0]}. {advice}")

from collections.abc import Iterator, Sequence  # noqa: E402  an older Python must reach the message above

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
TOOLS = ROOT / ".venv-tools"
STAMP = VENV / "outpost-stamp"
LOG = VENV / "outpost-install.log"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
EXE = ".exe" if os.name == "nt" else ""
PYTHON = BIN / f"python{EXE}"

NO_VENV = """This Python cannot make environments: its venv part is missing.
On Debian and Ubuntu:  sudo apt install python3-venv
Then run the same command again."""

NO_NETWORK = """The packages could not be fetched: the package index cannot be reached.
Connect once and run the same command again; later runs need no network. Behind a proxy, set HTTPS_PROXY.
Without any network: on a connected machine run `pip download -d wheels hatchling editables -c constraints.txt '.[dev]'`
in this folder, bring the folder wheels here, and run with PIP_NO_INDEX=1 PIP_FIND_LINKS=wheels."""

# What pip writes when the index cannot be reached, whatever the cause.
NETWORK_SIGNS = (
    "Connection refused",
    "Failed to establish a new connection",
    "Name or service not known",
    "NameResolutionError",
    "Network is unreachable",
    "NewConnectionError",
    "ProxyError",
    "ReadTimeoutError",
    "ConnectTimeoutError",
    "Temporary failure in name resolution",
    "getaddrinfo failed",
    "(from versions: none)",  # asked without retries, pip says no more than this
)


class SetupFailed(Exception):
    """The environment could not be made; the message says what to do next."""


def main(arguments: Sequence[str]) -> int:
    """Set up if needed, then run; return the exit status of what ran, 2 for wrong usage, 1 when set-up failed."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(__doc__)
        return 0 if arguments else 2
    command = command_for(arguments[0], list(arguments[1:]))
    if command is None:
        print(f"No such thing to run: {arguments[0]}. Choose from: demo, test, check, bench, outpost.", file=sys.stderr)
        return 2
    try:
        set_up()
    except SetupFailed as error:
        print(error, file=sys.stderr)
        return 1
    return run(command)


def command_for(word: str, rest: list[str]) -> list[str] | None:
    """Return the command line that `word` stands for, or None."""
    outpost = str(BIN / f"outpost{EXE}")
    # all of the tests: two at a time, a file's tests together, for they share their server
    tests = rest or ["-n", "2", "--dist", "loadfile"]
    return {
        "demo": [outpost, "demo", *rest],
        "outpost": [outpost, *rest],
        "test": [str(PYTHON), "-m", "pytest", f"--rootdir={ROOT}", "-c", str(ROOT / "pyproject.toml"), *tests],
        "bench": [outpost, "bench", *rest],
        "check": [str(PYTHON), str(ROOT / "scripts" / "check.py"), *rest],
    }.get(word)


def run(command: list[str]) -> int:
    """Run the command in the environment and return its exit status; on POSIX it takes this process's place."""
    if command[1:2] == ["-m"]:  # pytest: found in the project's folder
        os.chdir(ROOT)
    env = environment()
    sys.stdout.flush()
    if os.name == "posix":
        os.execve(command[0], command, env)  # so that signals and the status are the program's own
    return subprocess.run(command, env=env, check=False).returncode


def environment() -> dict[str, str]:
    """Return this process's environment, turned to .venv and without what would let other packages in."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH")}
    return env | {"VIRTUAL_ENV": str(VENV), "PATH": f"{BIN}{os.pathsep}{env.get('PATH', os.defpath)}"}


# --- setting up -----------------------------------------------------------------------------------------------------


def set_up() -> None:
    """Bring .venv in line with pyproject.toml and constraints.txt; nothing to do when the stamp says it is."""
    if is_ready():
        return
    with only_one():
        if is_ready():  # another run did it while this one waited
            return
        start = time.monotonic()
        if not is_ours():
            say(f"making .venv with Python {sys.version.split()[0]}")
            make_venv()
        say("installing packages into .venv (about a minute the first time)")
        install()
        STAMP.write_text(wanted_stamp(), encoding="utf-8")
        say(f"ready in {time.monotonic() - start:.0f} s")


def is_ready() -> bool:
    """Return whether .venv was completely installed from the files as they are now, at this very place."""
    return PYTHON.exists() and STAMP.exists() and STAMP.read_text(encoding="utf-8") == wanted_stamp()


def is_ours() -> bool:
    """Return whether .venv can be kept: its Python runs, is new enough, has pip, and it was not moved here."""
    if not PYTHON.exists():
        return False
    probe = f"import sys, pip; print(sys.prefix); sys.exit(sys.version_info < {MIN_VERSION})"
    seen = subprocess.run([str(PYTHON), "-c", probe], capture_output=True, text=True, check=False, env=environment())
    if seen.returncode != 0 or Path(seen.stdout.strip()).resolve() != VENV.resolve():
        return False
    pip = BIN / f"pip{EXE}"  # its first line names the place the environment was made for
    return os.name == "nt" or (pip.exists() and str(VENV) in pip.read_text(encoding="utf-8", errors="replace"))


def wanted_stamp() -> str:
    """Return what the stamp file holds when .venv matches: a hash of all that decides the installation."""
    digest = hashlib.sha256(str(ROOT).encode())
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update(b"\0" + (ROOT / name).read_bytes())
    return digest.hexdigest()


def make_venv() -> None:
    """Make an empty .venv with the standard library, or with virtualenv where Debian left that part out."""
    shutil.rmtree(VENV, ignore_errors=True)
    if can_import("venv") and can_import("ensurepip"):
        done = quietly([sys.executable, "-m", "venv", str(VENV)])
    elif can_import("pip"):
        say("no venv module here; using virtualenv instead")
        fetched = quietly([sys.executable, "-m", "pip", "install", "--target", str(TOOLS), "--upgrade", "virtualenv"])
        if fetched.returncode != 0:
            raise SetupFailed(f"{NO_NETWORK if is_network(fetched.stdout) else tail(fetched.stdout)}\n\n{NO_VENV}")
        done = quietly([sys.executable, "-m", "virtualenv", str(VENV)], PYTHONPATH=str(TOOLS))
    else:
        raise SetupFailed(NO_VENV)
    if done.returncode != 0:
        shutil.rmtree(VENV, ignore_errors=True)
        raise SetupFailed(f"The environment .venv could not be made:\n{tail(done.stdout)}")


def install() -> None:
    """Install the project, editable, with the versions of constraints.txt; what pip said is kept in a file."""
    target = f"{ROOT}[dev]"
    constraints = str(ROOT / "constraints.txt")
    done = quietly([str(PYTHON), "-m", "pip", "install", "--no-input", "-c", constraints, "-e", target])
    LOG.write_text(done.stdout, encoding="utf-8")
    if done.returncode == 0:
        return
    if is_network(done.stdout):
        raise SetupFailed(NO_NETWORK)
    raise SetupFailed(f"Installing failed; all that pip said is in {LOG}. The end of it:\n{tail(done.stdout)}")


def can_import(module: str) -> bool:
    """Return whether this Python really has the module (Debian ships some of them empty)."""
    return quietly([sys.executable, "-c", f"import {module}"]).returncode == 0


def quietly(command: list[str], **extra: str) -> "subprocess.CompletedProcess[str]":
    """Run to the end without input and return the result, both outputs in `stdout`."""
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
        env=environment() | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"} | extra,
    )


def is_network(output: str) -> bool:
    """Return whether pip's output shows that the index could not be reached."""
    return any(sign in output for sign in NETWORK_SIGNS)


def tail(output: str, lines: int = 15) -> str:
    """Return the last lines of an output, indented."""
    return "\n".join(f"    {line}" for line in output.rstrip().splitlines()[-lines:])


def say(line: str) -> None:
    """Print one line of progress."""
    print(f"outpost: {line}", file=sys.stderr, flush=True)


@contextmanager
def only_one() -> Iterator[None]:
    """Hold the set-up lock: two runs at once must not install into each other."""
    try:
        import fcntl
    except ImportError:  # Windows: no lock, the second run repeats the work
        yield
        return
    with (ROOT / ".venv.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another run is setting up .venv; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
