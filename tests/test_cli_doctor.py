"""The command doctor, what info says of it, and the example in every --help."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from commands import status

from minigrad.cli import build_parser, doctor, info
from minigrad.kernels import threads

Captured, Patch = pytest.CaptureFixture[str], pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: Patch) -> None:
    """An empty cache, no settings, no trial. What says whether the JIT is on stays as it is: Numba,
    once imported, goes by what it found then.
    """
    for name in ("MINIGRAD_DOT", "MINIGRAD_NUM_THREADS", "MINIGRAD_CACHE_LIMIT", "MINIGRAD_CPU"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(doctor, "TRIAL", "")
    monkeypatch.setattr(threads, "_pool", None)
    monkeypatch.setattr(threads, "_asked", None)
    monkeypatch.setattr(info, "QUOTA", tmp_path / "cpu.max")


def mended(out: str) -> list[str]:
    return out.splitlines()[-1].removeprefix("to be mended: ").split(", ")


def test_without_the_jit_that_alone_is_to_be_mended() -> None:
    root = str(Path(info.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-m", "minigrad", "doctor"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": root, "NUMBA_DISABLE_JIT": "1"},
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert mended(done.stdout) == ["JIT"]
    assert "what to do: unset NUMBA_DISABLE_JIT" in done.stdout
    assert "tanh and matmul run, and are right" in done.stdout


def test_a_machine_with_nothing_wrong_is_told_so(capsys: Captured, monkeypatch: Patch) -> None:
    monkeypatch.setattr(doctor, "facts", lambda: [info.Fact("JIT", "on")])
    assert status("doctor") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "nothing is wrong"


@pytest.mark.parametrize(
    ("name", "value", "wrong", "do"),
    [
        ("MINIGRAD_NUM_THREADS", "many", "threads", "set $MINIGRAD_NUM_THREADS to 3"),
        ("MINIGRAD_NUM_THREADS", "4", "threads", "set $MINIGRAD_NUM_THREADS to 3"),
        ("MINIGRAD_CACHE_LIMIT", "much", "kernels at most", "to 256M, or unset it"),
        ("MINIGRAD_CACHE_DIR", __file__, "kernel cache", "a folder of your own"),
        ("MINIGRAD_DOT", "no-such-dot", "drawing engine", "or unset it"),
    ],
)
def test_a_wrong_setting_is_named_with_its_remedy(
    name: str, value: str, wrong: str, do: str, capsys: Captured, monkeypatch: Patch
) -> None:
    monkeypatch.setattr("minigrad.kernels.host.default_threads", lambda: 3)
    monkeypatch.setenv(name, value)
    assert status("doctor") == 1
    out = capsys.readouterr().out
    assert set(mended(out)) - {"trial of a drawing", "JIT"} == {wrong}
    assert do in out
    assert status("info") == 0
    assert do in capsys.readouterr().out


@pytest.mark.parametrize(
    ("quota", "said", "do"),
    [
        ("150000 100000", "1.5 of them at a time", "set $MINIGRAD_NUM_THREADS to 2"),
        ("50000 100000", "0.5 of them at a time", "set $MINIGRAD_NUM_THREADS to 1"),
        ("max 100000", " thread", ""),
        ("", " thread", ""),
    ],
)
def test_a_containers_share_of_the_cpus_is_counted(
    quota: str, said: str, do: str, tmp_path: Path, monkeypatch: Patch
) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr("minigrad.kernels.host.default_threads", lambda: 3)
    row = next(row for row in info.facts() if row.name == "threads")
    assert said in row.value
    assert row.do == do


@pytest.mark.parametrize(
    ("trial", "why", "do"),
    [
        (
            "import os; assert 'NUMBA_OPT' not in os.environ, 'so'",
            "failed: AssertionError: so",
            "unset $NUMBA_OPT: with that the trial succeeds",
        ),
        (
            "import os; assert not os.path.exists(os.environ['MINIGRAD_CACHE_DIR'] + '/bad')",
            "failed: AssertionError",
            "run `minigrad cache clear`",
        ),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGILL)",
            "crashed: SIGILL",
            "pip install --upgrade --force-reinstall numba llvmlite numpy",
        ),
    ],
)
def test_a_kernel_that_fails_is_mended_by_what_was_tried(
    trial: str, why: str, do: str, tmp_path: Path, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(doctor, "TRIAL", trial)
    monkeypatch.setenv("NUMBA_OPT", "3")
    (tmp_path / "bad").touch()
    fact = doctor._kernel()
    assert fact.value == why
    assert fact.do.startswith(do)


def test_every_help_ends_with_an_example_that_the_command_takes(
    monkeypatch: Patch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    parser = build_parser()
    (commands,) = (a for a in parser._actions if a.dest == "command")
    for name, command in {"": parser, **commands.choices}.items():  # type: ignore[dict-item]
        epilog = command.epilog or ""
        assert epilog.startswith(f"example: minigrad {name}".rstrip()), name
        assert command.format_help().rstrip().endswith(epilog)
        for line in epilog.removeprefix("example: ").partition(" (")[0].split("; "):
            argv = shlex.split(line.partition(" > ")[0])[1:]
            assert parser.parse_args(argv).command == (name or argv[0])
