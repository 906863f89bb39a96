"""Where peers come from: Python's packages, each in a virtual environment of its own with its version pinned, and Debian's. Knows
nothing of what is measured."""

import glob
import os
import shutil
import subprocess
import sys
from pathlib import Path

from processes import Failed

PINNED = {"duckdb": "duckdb==2.0.0", "chdb": "chdb==4.4.0", "flink": "apache-flink==2.3.0"}

# A program, and the package of Debian that has it.
DEBIAN = {
    "redis-server": "redis-server",
    "redis-cli": "redis-tools",
    "postgres": "postgresql",
    "initdb": "postgresql",
    "psql": "postgresql-client",
    "java": "default-jre-headless",
}

# Why a package could not be installed, by peer: asked twice, the answer comes at once.
_cannot = {}


def say(text):
    print(f"peers: {text}", file=sys.stderr, flush=True)


def python_of(peer, folder):
    """The Python that has this peer's package; made when it is missing or of another version."""
    environment = folder / peer
    python, stamp = environment / "bin/python", environment / "made-from"
    made_from = f"{sys.version}\n{PINNED[peer]}\n"
    # Written last, so that half an environment is not taken for a whole one.
    if stamp.exists() and stamp.read_text() == made_from:
        return python
    if peer in _cannot:
        raise Failed(_cannot[peer])
    say(f"installing {PINNED[peer]} into {environment}")
    shutil.rmtree(environment, ignore_errors=True)
    for command in (
        [sys.executable, "-m", "venv", environment],
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", PINNED[peer]],
    ):
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode != 0:
            lines = (ran.stderr.strip() or ran.stdout.strip() or "no reason given").splitlines()
            _cannot[peer] = f"cannot install {PINNED[peer]}: {lines[-1]}"
            raise Failed(_cannot[peer])
    stamp.write_text(made_from)
    return python


def find(program):
    """The path of a program. PostgreSQL's server is not on the path in Debian."""
    newest_first = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{program}"), key=lambda path: -float(path.split("/")[4]))
    return shutil.which(program) or next(iter(newest_first), None)


def programs(*names):
    """The paths of these programs, installed if they are missing and we may."""
    missing = sorted({DEBIAN[name] for name in names if find(name) is None})
    if missing:
        _install(missing)
    still = sorted({DEBIAN[name] for name in names if find(name) is None})
    if still:
        raise Failed(f"needs {' '.join(still)}: apt-get install {' '.join(still)}")
    return [Path(find(name)) for name in names]


def _install(packages):
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    say(f"installing Debian's {' '.join(packages)}")
    # At this level, packages do not start the servers that they bring.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    quiet = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(["apt-get", "update"], **quiet)
    subprocess.run(["apt-get", "install", "--yes", "--no-install-recommends", *packages], **quiet)


def version(*command):
    """What a program says of its version, in one line."""
    ran = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    return (ran.stdout or ran.stderr).strip().splitlines()[0]
