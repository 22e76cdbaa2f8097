"""The commands around the kernel cache: info, warmup, cache."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from minigrad import cli
from minigrad.cli import warmup
from minigrad.flow.comparison import CELLS, Settings
from minigrad.kernels import cache, jit

Captured, Patch = pytest.CaptureFixture[str], pytest.MonkeyPatch
KEY = "0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: Patch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cache, "spilled", lambda: None)
    return tmp_path


@pytest.fixture
def filled(folder: Path) -> Path:
    """One kernel of 3000 bytes, an older one, a lone source, a remainder and a foreign file."""
    (folder / f"scan_GRUCell_forward-{KEY}.sums").write_bytes(bytes(1000))
    (folder / f"scan_GRUCell_forward-{KEY}.py").write_bytes(bytes(2000))
    (folder / f"element-{KEY}.sums").write_bytes(bytes(72))
    os.utime(folder / f"element-{KEY}.sums", (1.0, 1.0))
    (folder / f"refused-{KEY}.py").write_bytes(bytes(500))
    (folder / f".element-{KEY}.sums.12.34").write_bytes(bytes(500))
    (folder / "thesis.py").write_text("precious")
    return folder


def status(*argv: str) -> int:
    return cli.main(argv)


def row(out: str, name: str) -> str:
    (line,) = (line for line in out.splitlines() if line.startswith(name + "  "))
    return line.removeprefix(name).strip()


# -- info


def test_info_names_versions_machine_cache_and_engine(capsys: Captured) -> None:
    assert status("info") == 0
    out = capsys.readouterr().out
    for name in ("minigrad", "Python", "numpy", "numba", "CPU", "threads", "JIT", "kernel cache"):
        assert row(out, name)
    assert row(out, "drawing engine").startswith("/")


def test_info_counts_kernels_by_kind(filled: Path, capsys: Captured) -> None:
    assert status("info") == 0
    out = capsys.readouterr().out
    assert row(out, "kernel cache") == f"{filled}, can be written"
    assert row(out, "kernels kept") == "2 kernels, 3 KiB: 1 element, 1 scan"


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("missing/below", "made with the first kernel"),
        ("file", "can't be written (Not a directory)"),
        ("file/below", "can't be written (Not a directory)"),
        ("x" * 300, "can't be written (File name too long)"),
    ],
)
def test_info_says_whether_the_folder_can_be_written(
    place: str, said: str, folder: Path, capsys: Captured, monkeypatch: Patch
) -> None:
    (folder / "file").touch()
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(folder / place))
    assert status("info") == 0
    out = capsys.readouterr().out
    assert said in row(out, "kernel cache")
    assert row(out, "kernels kept") == "0 kernels, 0 KiB"
    assert [path.name for path in folder.iterdir()] == ["file"]


def test_commands_work_without_a_home(capsys: Captured, monkeypatch: Patch) -> None:
    monkeypatch.setattr(cache, "folder", lambda: None)
    for command in (["info"], ["cache"], ["cache", "clear"]):
        assert status(*command) == 0
        assert "no home folder" in capsys.readouterr().out
    assert status("warmup") == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("MINIGRAD_DOT", "no-such-dot", "no-such-dot"),
        ("MINIGRAD_NUM_THREADS", "many", "expected a whole number from 1 to 512, came 'many'"),
    ],
)
def test_info_works_with_a_wrong_setting(
    name: str, value: str, said: str, capsys: Captured, monkeypatch: Patch
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setattr("minigrad.kernels.threads._pool", None)
    monkeypatch.setattr("minigrad.kernels.threads._asked", None)  # by an earlier test
    assert status("info") == 0
    assert said in capsys.readouterr().out


# -- cache


def test_cache_lists_kernels_newest_first(filled: Path, capsys: Captured) -> None:
    assert status("cache") == 0
    new, old, total, most = capsys.readouterr().out.splitlines()
    assert new.split()[:4] == [f"scan_GRUCell_forward-{KEY}", "scan", "3", "KiB"]
    assert new.endswith(" s")
    assert old.split()[:4] == [f"element-{KEY}", "element", "1", "KiB"]
    assert old.endswith(" days")
    assert total == f"2 kernels, 3 KiB: 1 element, 1 scan, in {filled}"
    assert most.startswith("at most 262,144 KiB, the least recently used go first")


def test_cache_clear_removes_what_is_ours(filled: Path, capsys: Captured) -> None:
    assert status("cache", "clear") == 0
    said = f"removed 2 kernels and 2 other files, 4 KiB, from {filled}\n"
    assert capsys.readouterr().out == said
    assert [path.name for path in filled.iterdir()] == ["thesis.py"]
    assert status("cache", "clear") == 0
    assert capsys.readouterr().out == f"no kernels in {filled}, nothing to remove\n"


@pytest.mark.parametrize("place", ["missing", "file", "file/below"])
def test_a_cache_that_is_not_there_is_empty(
    place: str, folder: Path, capsys: Captured, monkeypatch: Patch
) -> None:
    (folder / "file").touch()
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(folder / place))
    for command in (["cache"], ["cache", "clear"]):
        assert status(*command) == 0
        assert capsys.readouterr().out.startswith(f"no kernels in {folder / place}")
    assert [path.name for path in folder.iterdir()] == ["file"]


def test_what_cannot_be_removed_is_told_in_one_line(
    filled: Path, capsys: Captured, monkeypatch: Patch
) -> None:
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".sums":
            raise PermissionError(13, "Permission denied", str(path))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    assert status("cache", "clear") == 1
    captured = capsys.readouterr()
    assert captured.err == (
        f"minigrad cache: 2 files in {filled} can't be removed: Permission denied\n"
    )
    assert "removed 0 kernels and 3 other files" in captured.out


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="users of POSIX")
@pytest.mark.parametrize(("mode", "verb"), [(0, "read"), (0o555, "removed")])
def test_a_cache_of_another_user_is_told_in_one_line(
    mode: int, verb: str, filled: Path, capsys: Captured, monkeypatch: Patch
) -> None:
    filled.chmod(0o755)
    (filled / "inner").mkdir()
    os.replace(filled / f"element-{KEY}.sums", filled / "inner" / f"element-{KEY}.sums")
    (filled / "inner").chmod(mode)
    monkeypatch.chdir(filled)  # folders above may be closed
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", "inner")
    root = os.geteuid() == 0  # whom permissions do not bind
    try:
        if root:
            os.seteuid(65534)
        assert status("cache", "clear") == 1
        assert status("cache") == 0
    finally:
        if root:
            os.seteuid(0)
        (filled / "inner").chmod(0o755)
    (line,) = capsys.readouterr().err.splitlines()
    assert f"can't be {verb}: Permission denied" in line


# -- warmup


@pytest.fixture
def no_layers(monkeypatch: Patch) -> None:
    """In this process, which knows what was put in place of a function."""
    monkeypatch.setattr("minigrad.cli.warmup._run_layer", lambda cell, settings: None)
    monkeypatch.setattr("minigrad.cli.warmup.default_threads", lambda: 1)


@pytest.mark.usefixtures("no_layers")
@pytest.mark.needs_jit
def test_warmup_says_what_each_cell_took_and_what_is_kept(
    capsys: Captured, monkeypatch: Patch
) -> None:
    asked, sizes = [], (32, 64)  # those of `minigrad flow`

    def warm_up(cells: list[str], settings: Settings) -> None:
        assert (settings.embedding, settings.hidden) == sizes
        asked.extend(cells)
        cache.seal(cache.store(f"element-{cache.key(*cells)}.py", b""))

    monkeypatch.setattr("minigrad.flow.comparison.warm_up", warm_up)
    assert status("warmup") == 0
    *lines, total = capsys.readouterr().out.splitlines()
    assert asked == list(CELLS) == [line.split()[0] for line in lines]
    assert all(line.endswith("s    1 kernels compiled") for line in lines)
    assert total.endswith(f"{len(asked)} kernels, 1 KiB: {len(asked)} element")
    asked.clear()
    sizes = (5, 7)
    assert status("warmup", "--cells", "GRU", "rnn", "gru", "--input", "5", "--hidden", "7") == 0
    assert asked == ["gru", "rnn"]
    assert "gru       0.0 s    0 kernels" in capsys.readouterr().out


@pytest.mark.needs_jit
@pytest.mark.parametrize("place", ["file", "file/below"])
def test_warmup_that_can_keep_nothing_compiles_nothing(
    place: str, folder: Path, capsys: Captured, monkeypatch: Patch
) -> None:
    (folder / "file").touch()
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(folder / place))
    monkeypatch.setattr("minigrad.flow.comparison.warm_up", lambda *_: pytest.fail("compiles"))
    assert status("warmup") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"minigrad warmup: kernels can't be kept in {folder / place}: Not a directory"


@pytest.mark.slow
@pytest.mark.needs_jit
def test_warmup_compiles(capsys: Captured, monkeypatch: Patch) -> None:
    monkeypatch.delenv("MINIGRAD_CACHE_DIR")  # the one that all tests fill
    assert status("warmup", "--cells", "rnn", "--input", "2", "--hidden", "3") == 0
    assert " scan" in capsys.readouterr().out.splitlines()[-1]


class Pool:
    """Runs what is submitted at once, in this process, and notes it."""

    def __init__(self, jobs: int, context: Any, begin: Any, arguments: Any):
        self.jobs, self.ran = jobs, list[tuple[str, str]]()
        begin(*arguments)
        pools.append(self)

    def submit(self, work: Any, cell: str, settings: Settings, part: str) -> Future[Any]:
        self.ran.append((cell, part))
        found: Future[Any] = Future()
        try:
            found.set_result(work(cell, settings, part))
        except Exception as error:
            found.set_exception(error)
        return found

    def shutdown(self, cancel_futures: bool) -> None:
        assert cancel_futures


pools: list[Pool] = []


@pytest.fixture
def pool(monkeypatch: Patch) -> list[Pool]:
    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor", Pool)
    monkeypatch.setattr("minigrad.flow.comparison.warm_up", lambda *_: None)
    monkeypatch.setattr("minigrad.cli.warmup._run_layer", lambda *_: None)
    monkeypatch.setenv("MINIGRAD_PROGRESS", "0")
    pools.clear()
    return pools


@pytest.mark.needs_jit
def test_processes_of_warmup_begin_with_what_others_share(
    capsys: Captured, pool: list[Pool]
) -> None:
    assert status("warmup", "--jobs", "3", "--cells", "gru", "bilstm", "lstm") == 0
    (used,) = pool
    assert used.jobs == 3
    assert sorted(used.ran) == sorted(itertools.product(("gru", "bilstm", "lstm"), warmup.PARTS))
    when = used.ran.index
    for dtype in ("float32", "float64"):
        assert when(("gru", dtype)) < when(("lstm", dtype)) < when(("bilstm", dtype))
        assert when(("lstm", dtype)) < when(("lstm", "training"))
    assert when(("gru", "training")) < when(("lstm", "training")) < when(("bilstm", "training"))
    *lines, _ = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["gru", "lstm", "bilstm"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.needs_jit
@pytest.mark.parametrize("cells", list(itertools.permutations(("lstm", "bilstm", "rnn"))))
def test_processes_of_warmup_run_every_part_in_any_order(
    cells: tuple[str, ...], pool: list[Pool]
) -> None:
    assert status("warmup", "--jobs", "90", "--cells", *cells) == 0
    assert pool[0].jobs == len(pool[0].ran) == len(set(pool[0].ran)) == 9
    assert pool[0].ran[0][0] == cells[0]


@pytest.mark.needs_jit
def test_a_process_of_warmup_that_fails_or_is_killed_fails_its_cell(
    capsys: Captured, monkeypatch: Patch, pool: list[Pool]
) -> None:
    def fails(cell: str, settings: Settings, dtypes: Any) -> None:
        if cell == "lstm":
            raise jit.KernelError("jit.build: Numba\nrefuses")

    monkeypatch.setattr("minigrad.cli.warmup._run_layer", fails)
    assert status("warmup", "--jobs", "2", "--cells", "rnn", "lstm", "gru") == 1
    captured = capsys.readouterr()
    assert captured.err == "minigrad warmup: lstm: jit.build: Numba refuses\n"
    assert [line.split()[0] for line in captured.out.splitlines()][:-1] == ["rnn", "gru"]

    def killed(cell: str, settings: Settings, dtypes: Any) -> None:
        if cell == "lstm":
            raise BrokenProcessPool

    monkeypatch.setattr("minigrad.cli.warmup._run_layer", killed)
    assert status("warmup", "--jobs", "2", "--cells", "rnn", "lstm", "gru") == 1
    assert "lstm: a process that compiles was killed; try --jobs 1" in capsys.readouterr().err


@pytest.mark.long  # what one process does, `test_warmup_compiles` shows
@pytest.mark.slow
@pytest.mark.needs_jit
def test_warmup_compiles_in_processes_of_its_own(capsys: Captured, monkeypatch: Patch) -> None:
    monkeypatch.delenv("MINIGRAD_CACHE_DIR")  # the one that all tests fill
    sizes = "--input", "2", "--hidden", "3"
    for _ in range(2):
        assert status("warmup", "--jobs", "2", "--cells", "rnn", "rnn", "gru", *sizes) == 0
        *lines, total = capsys.readouterr().out.splitlines()
        assert sorted(line.split()[0] for line in lines) == ["gru", "rnn"]
        assert " scan" in total
    assert all(line.endswith("  0 kernels compiled") for line in lines)


def test_warmup_without_jit_says_so(capsys: Captured, monkeypatch: Patch) -> None:
    monkeypatch.setattr(jit, "mode", lambda: "plain")
    assert status("warmup") == 1
    assert "NUMBA_DISABLE_JIT=1: nothing is compiled" in capsys.readouterr().err


@pytest.mark.usefixtures("no_layers")
@pytest.mark.needs_jit
def test_warmup_goes_on_after_a_cell_that_fails(capsys: Captured, monkeypatch: Patch) -> None:
    def warm_up(cells: list[str], settings: Settings) -> None:
        if cells == ["lstm"]:
            raise jit.KernelError("jit.build: Numba\nrefuses")

    monkeypatch.setattr("minigrad.flow.comparison.warm_up", warm_up)
    assert status("warmup") == 1
    captured = capsys.readouterr()
    assert captured.err == "minigrad warmup: lstm: jit.build: Numba refuses\n"
    assert [line.split()[0] for line in captured.out.splitlines()][:-1] == ["rnn", "gru", "bilstm"]


@pytest.mark.usefixtures("no_layers")
@pytest.mark.needs_jit
def test_warmup_says_when_the_folder_got_full(
    folder: Path, capsys: Captured, monkeypatch: Patch
) -> None:
    monkeypatch.setattr("minigrad.flow.comparison.warm_up", lambda *_: None)
    monkeypatch.setattr(cache, "spilled", lambda: folder / "private")
    assert status("warmup") == 1
    assert "not all kernels could be kept" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.needs_jit
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("more", [(), ("gru", "--jobs", "2")], ids=["alone", "processes"])
def test_ctrl_c_leaves_warmup_with_what_it_has_compiled(
    more: tuple[str, ...], folder: Path
) -> None:
    command = [sys.executable, "-m", "minigrad", "warmup", "--cells", "rnn", *more]
    root = str(Path(cli.__file__).parents[2])
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": root}
    ) as process:
        while len(cache.kernels()) < 3 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.startswith(f"\nminigrad warmup: stopped; in {folder} are ")
    assert "Traceback" not in errors
    kept = cache.kernels()
    assert len(kept) >= 3
    assert all(cache.whole(entry.stem) for entry in kept)
    assert not list(folder.glob(".*"))
