"""tools/_env.py decides rightly when to set up, and says in one line what stops it. No network."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).resolve().parent.parent / "tools"


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """tools/_env.py with its environment in tmp_path/venv."""
    spec = importlib.util.spec_from_file_location("_env", TOOLS / "_env.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("MINIGRAD_VENV", str(tmp_path / "venv"))
    return module


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "pyproject.toml").write_text("[project]\n")
    return tmp_path / "project"


@pytest.fixture
def installed(env: ModuleType, root: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Replaces making and installing by notes; returns the list of extras asked for."""
    calls: list[list[str]] = []

    def make(venv: Path) -> None:
        env.python_in(venv).parent.mkdir(parents=True, exist_ok=True)
        env.python_in(venv).touch()

    monkeypatch.setattr(env, "make", make)
    monkeypatch.setattr(env, "install", lambda venv, extras, root: calls.append(extras))
    return calls


def test_a_second_run_installs_nothing(
    env: ModuleType, root: Path, installed: list[list[str]]
) -> None:
    first, second = env.ensure(["test"], root), env.ensure(["test"], root)
    assert first == second == env.python_in(env.folder())
    assert installed == [["test"]]


def test_more_extras_are_added_to_those_there(
    env: ModuleType, root: Path, installed: list[list[str]]
) -> None:
    env.ensure(["test"], root)
    env.ensure([], root)
    env.ensure(["dev"], root)
    env.ensure(["test"], root)
    assert installed == [["test"], ["dev", "test"]]


def dependency_added(venv: Path, root: Path) -> None:
    (root / "pyproject.toml").write_text("[project]\ndependencies = ['numpy']\n")


def stamp_garbled(venv: Path, root: Path) -> None:
    next(venv.glob("*.json")).write_text('{"finger')


def python_removed(venv: Path, root: Path) -> None:
    shutil.rmtree(venv / "bin", ignore_errors=True)
    shutil.rmtree(venv / "Scripts", ignore_errors=True)


@pytest.mark.parametrize("change", [dependency_added, stamp_garbled, python_removed])
def test_what_no_longer_fits_is_installed_again(
    env: ModuleType,
    root: Path,
    installed: list[list[str]],
    change: Callable[[Path, Path], None],
) -> None:
    env.ensure(["test"], root)
    change(env.folder(), root)
    env.ensure(["test"], root)
    assert len(installed) == 2


def test_a_moved_checkout_is_installed_again(
    env: ModuleType, root: Path, installed: list[list[str]], tmp_path: Path
) -> None:
    env.ensure(["test"], root)
    env.ensure(["test"], shutil.copytree(root, tmp_path / "elsewhere"))
    assert len(installed) == 2


def test_a_failed_installation_leaves_no_stamp(
    env: ModuleType, root: Path, installed: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(venv: Path, extras: list[str], root: Path) -> None:
        raise env.SetupError("no network")

    monkeypatch.setattr(env, "install", fail)
    with pytest.raises(env.SetupError, match="no network"):
        env.ensure(["test"], root)
    assert env.read_stamp(env.folder()) == {}


def test_an_old_python_is_told_the_version_needed(env: ModuleType) -> None:
    with pytest.raises(
        env.SetupError, match=r"needs Python 3\.11 or newer and this is 3\.9 \(/py\)"
    ):
        env.check_python((3, 9, 18), "/py")
    env.check_python((3, 11, 0), "/py")
    env.check_python((4, 0, 0), "/py")


def test_a_newer_python_on_path_is_named(env: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env, "runs", lambda name: name == "python3.12")
    with pytest.raises(env.SetupError, match=r"run it with python3\.12\.$"):
        env.check_python((3, 8, 1), "/py")


def test_a_python_without_venv_is_told_what_to_install(
    env: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(env.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(env.SetupError, match=r"lacks the module venv; .*apt install python3"):
        env.check_modules()


def test_a_folder_with_other_files_is_left_alone(env: ModuleType, root: Path) -> None:
    env.folder().mkdir()
    (env.folder() / "thesis.tex").write_text("mine")
    with pytest.raises(env.SetupError, match="has files and is no virtual environment; move it"):
        env.ensure(["test"], root)
    assert [path.name for path in env.folder().iterdir()] == ["thesis.tex"]


def test_a_file_in_the_place_of_the_environment_is_reported(env: ModuleType, root: Path) -> None:
    env.folder().write_text("mine")
    with pytest.raises(env.SetupError, match="is not a folder"):
        env.ensure([], root)


@pytest.mark.parametrize(
    "says",
    [
        "Collecting numba\nERROR: No matching distribution found for numba\nmore\n",
        "  exit: 1\n      ERROR: No matching distribution found for numba\nerror: subprocess\n",
    ],
)
def test_a_failing_pip_is_reported_in_one_line_with_its_log(
    env: ModuleType, root: Path, monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    fake = f"import sys; sys.stdout.write({says!r}); sys.exit(1)"
    monkeypatch.setattr(env.subprocess, "call", call_python(fake))
    env.folder().mkdir()
    with pytest.raises(env.SetupError) as caught:
        env.install(env.folder(), ["test"], root)
    message = str(caught.value)
    assert message.startswith("pip could not install minigrad: ERROR: No matching distribution")
    assert message.count("\n") == 0
    assert (env.folder() / env.PIP_LOG).read_text() == says
    assert env.PIP_LOG in message


def call_python(code: str) -> Callable[..., int]:
    def call(command: list[str], **options: object) -> int:
        return subprocess.run([sys.executable, "-c", code], **options).returncode

    return call


def test_the_status_of_the_command_is_passed_on(env: ModuleType) -> None:
    assert env.run([sys.executable, "-c", "raise SystemExit(5)"]) == 5
    assert env.run([sys.executable, "-c", ""]) == 0


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_killed_command_gives_the_status_of_a_shell(env: ModuleType) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert env.run([sys.executable, "-c", code]) == 128 + 9


@pytest.mark.parametrize("tool", ["test.py", "demo.py"])
def test_a_tool_that_cannot_set_up_prints_one_line_and_exits_with_2(
    tool: str, tmp_path: Path
) -> None:
    occupied = tmp_path / "venv"
    occupied.write_text("")
    done = subprocess.run(
        [sys.executable, TOOLS / tool],
        env=os.environ | {"MINIGRAD_VENV": str(occupied)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(f"{tool}: {occupied} is not a folder")


def test_a_ready_environment_runs_the_tests_without_setting_up(
    env: ModuleType, tmp_path: Path
) -> None:
    """A stamped environment whose Python is this one: tools/test.py goes straight to pytest."""
    venv = env.folder()
    python = env.python_in(venv)
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    stamp = {"fingerprint": env.fingerprint(), "extras": ["test"]}
    (venv / env.STAMP).write_text(json.dumps(stamp))
    done = subprocess.run(
        [sys.executable, TOOLS / "test.py", "--version"],
        env=os.environ | {"MINIGRAD_VENV": str(venv)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert (done.stdout + done.stderr).startswith("pytest ")


# -- tools/test.py


@pytest.mark.parametrize(
    ("arguments", "spread"),
    [
        ([], True),
        (["-q", "-x", "-m", "not slow"], True),
        (["-q", "tests/test_tools.py"], False),
        (["tests/test_tools.py::test_nothing"], False),
        (["-n0"], False),
        (["--pdb"], False),
        (["-s"], False),
    ],
)
def test_the_whole_suite_is_spread_over_the_cores_and_named_tests_are_not(
    arguments: list[str], spread: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(TOOLS)
    monkeypatch.chdir(TOOLS.parent)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    spec = importlib.util.spec_from_file_location("run_tests", TOOLS / "test.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    options = module.processes(arguments)
    assert options == (["--numprocesses=3", "--dist=worksteal"] if spread else [])
