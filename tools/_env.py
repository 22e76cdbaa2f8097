"""The virtual environment behind tools/demo.py and tools/test.py: made once, then reused.

    python3 tools/_env.py [extra ...]     makes or reuses it and prints the path of its Python

It is `.venv` beside pyproject.toml, or the folder that $MINIGRAD_VENV names. A stamp inside holds
a hash of pyproject.toml: as long as that fits, a run starts nothing but its own command. Needs only
the standard library, and parses under old Pythons so that they can be told that they are too old.
"""

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEEDED = (3, 11)
STAMP = "minigrad-env.json"
PIP_LOG = "minigrad-pip.log"


class SetupError(Exception):
    """What stops the set-up, in one line that says what to do."""


def folder():
    chosen = os.environ.get("MINIGRAD_VENV")
    return Path(chosen).expanduser().resolve() if chosen else ROOT / ".venv"


def python_in(venv):
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def fingerprint(root=ROOT):
    """What an installation depends on: the metadata and where the checkout lies."""
    digest = hashlib.sha256((root / "pyproject.toml").read_bytes())
    digest.update(str(root).encode())
    return digest.hexdigest()


def read_stamp(venv):
    """The stamp of a finished installation, or {} when there is none or it cannot be read."""
    try:
        stamp = json.loads((venv / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def is_ready(venv, extras, root=ROOT):
    stamp = read_stamp(venv)
    return (
        stamp.get("fingerprint") == fingerprint(root)
        and set(extras) <= set(stamp.get("extras", ()))
        and python_in(venv).exists()
    )


def check_python(version, executable):
    """Raises SetupError unless `version` is new enough; names a newer Python if PATH has one."""
    if tuple(version[:2]) >= NEEDED:
        return
    newer = [f"python3.{minor}" for minor in range(NEEDED[1] + 4, NEEDED[1] - 1, -1)]
    found = next((name for name in newer if runs(name)), None)
    advice = f"run it with {found}" if found else "install one and run this with it"
    raise SetupError(
        f"minigrad needs Python {NEEDED[0]}.{NEEDED[1]} or newer and this is "
        f"{version[0]}.{version[1]} ({executable}); {advice}."
    )


def runs(name):
    """Whether a command is on PATH and answers: launchers of version managers exist and fail."""
    if shutil.which(name) is None:
        return False
    quiet = subprocess.DEVNULL
    return subprocess.call([name, "-c", ""], stdout=quiet, stderr=quiet) == 0


def check_modules():
    """Raises SetupError if this Python cannot make environments (Debian splits that off)."""
    missing = [m for m in ("venv", "ensurepip") if importlib.util.find_spec(m) is None]
    if missing:
        raise SetupError(
            f"this Python ({sys.executable}) lacks the module {missing[0]}; on Debian or Ubuntu: "
            f"apt install python{sys.version_info[0]}.{sys.version_info[1]}-venv."
        )


def make(venv):
    """Makes the environment, or completes one left half-made by an interrupted run."""
    if venv.exists() and not venv.is_dir():
        raise SetupError(f"{venv} is not a folder; move it or set MINIGRAD_VENV.")
    occupied = venv.is_dir() and any(venv.iterdir())
    if occupied and not (venv / "pyvenv.cfg").exists():
        raise SetupError(
            f"{venv} has files and is no virtual environment; move it or set MINIGRAD_VENV."
        )
    command = [sys.executable, "-m", "venv", str(venv)]
    if occupied and not answers(python_in(venv)):  # its base Python was upgraded or removed
        command.insert(3, "--clear")
    elif occupied and answers(python_in(venv), "import pip"):
        return
    check_modules()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SetupError(f"could not make {venv}: {last_line(done.stdout)}")


def answers(python, code=""):
    if not python.exists():
        return False
    quiet = subprocess.DEVNULL
    return subprocess.call([str(python), "-c", code], stdout=quiet, stderr=quiet) == 0


def last_line(text):
    """The line of a failed command's output that says most: its last error, else its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no output"]
    errors = [line for line in lines if line.startswith("ERROR")]  # pip's, also of its children
    return (errors or lines)[-1]


def install(venv, extras, root=ROOT):
    target = str(root) + (f"[{','.join(extras)}]" if extras else "")
    command = [str(python_in(venv)), "-m", "pip", "install", "--disable-pip-version-check"]
    # Not compiled now: most of what is installed is never imported, and a third of the time.
    command += ["--no-compile", "--editable", target]
    with open(str(venv / PIP_LOG), "w", encoding="utf-8") as log:
        failed = subprocess.call(command, stdout=log, stderr=subprocess.STDOUT)
    if failed:
        output = (venv / PIP_LOG).read_text(encoding="utf-8", errors="replace")
        raise SetupError(
            f"pip could not install minigrad: {last_line(output)} (all of it: {venv / PIP_LOG})"
        )


def ensure(extras=(), root=ROOT):
    """Makes or reuses the environment with the given extras; returns the path of its Python."""
    check_python(sys.version_info, sys.executable)
    venv = folder()
    if is_ready(venv, extras, root):
        return python_in(venv)
    extras = sorted(set(extras) | set(read_stamp(venv).get("extras", ())))
    say(f"setting up {venv} (once; a minute or two)")
    try:
        make(venv)
        install(venv, extras, root)
        stamp = {"fingerprint": fingerprint(root), "extras": extras}
        (venv / STAMP).write_text(json.dumps(stamp), encoding="utf-8")
    except OSError as error:
        raise SetupError(f"cannot write {venv}: {error.strerror or error}.") from None
    return python_in(venv)


def say(text):
    """One line to stderr: stdout belongs to the command that is run."""
    print(f"{Path(sys.argv[0]).name}: {text}", file=sys.stderr, flush=True)


def run(command):
    """Runs a command in the foreground and returns its exit status as a shell would."""
    child = subprocess.Popen([str(part) for part in command])
    while True:
        try:
            status = child.wait()
            return 128 - status if status < 0 else status
        except KeyboardInterrupt:  # the child got it as well and decides how to end
            continue


def main(action):
    """Exits with the status of `action`, or with 2 and one line when the set-up fails."""
    try:
        sys.exit(action())
    except SetupError as error:
        say(error)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def print_python():
    print(ensure(sys.argv[1:]))


if __name__ == "__main__":
    main(print_python)
