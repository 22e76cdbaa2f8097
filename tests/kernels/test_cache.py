"""The kernel cache: nothing stale, nothing broken, no crash where it can't be written."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minigrad.kernels import cache, compiler, host

pytestmark = pytest.mark.needs_jit

BUILD = """
import sys
from minigrad.kernels import compiler
text = "def triple(x):\\n    return 3.0 * x\\n"
kernel = compiler.build("triple", text, {"triple": "float64(float64)"})
print(kernel.function("triple")(2.0), "found" if kernel.found else "built")
"""
# Nobody compiles before all have looked in the cache in vain.
MEET = """
import os, sys, time
from pathlib import Path
from minigrad.kernels import cache
begin, place = cache.begin, Path(sys.argv[1])
def meet(*args):
    (place / str(os.getpid())).touch()
    until = time.monotonic() + 60
    while len(list(place.iterdir())) < 4 and time.monotonic() < until:
        time.sleep(0.001)
    return begin(*args)
cache.begin = meet
"""
COLD, WARM = "6.0 built", "6.0 found"


def start(
    folder: Path | str, meeting: Path | None = None, **environment: str
) -> subprocess.Popen[str]:
    code = [BUILD] if meeting is None else [MEET + BUILD, str(meeting)]
    return subprocess.Popen(
        [sys.executable, "-c", *code],
        env={**os.environ, "MINIGRAD_CACHE_DIR": str(folder), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert not err
    return out.strip()


def build(folder: Path | str, **environment: str) -> str:
    return finish(start(folder, **environment))


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> Path:
    """A folder that holds the kernel, made by four processes at once."""
    folder, meeting = tmp_path_factory.mktemp("kernels"), tmp_path_factory.mktemp("meeting")
    all_four = [start(folder, meeting) for _ in range(4)]
    assert [finish(process) for process in all_four] == [COLD] * 4
    return folder


@pytest.mark.long
def test_processes_that_build_a_kernel_at_once_leave_one_that_the_next_ones_find(filled):
    assert build(filled) in (COLD, WARM)  # sums of one process, a file of another: built again
    assert build(filled) == WARM
    names = sorted(path.suffix for path in filled.rglob("*") if path.is_file())
    assert names == [".nbc", ".nbi", ".py", ".sums"]


def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert build(tmp_path / "file") == COLD


def test_nothing_that_can_be_written_is_no_obstacle(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(tmp_path / "file" / "below"))
    monkeypatch.setattr(cache, "_private", lambda: tmp_path / "file")
    monkeypatch.setattr(cache, "spilled", lambda: None)
    text = "def quarter(x):\n    return x / 4.0\n"
    kernel = compiler.build("quarter", text, {"quarter": "float64(float64)"})
    assert kernel.function("quarter")(2.0) == 0.5
    assert kernel.path is None


def test_a_home_that_is_none_is_no_obstacle(tmp_path):
    (tmp_path / "home").write_text("not a folder")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    home, nowhere = str(tmp_path / "home"), {"XDG_CACHE_HOME": "", "TMPDIR": str(temporary)}
    assert finish(start("", HOME=home, **nowhere)) == COLD
    assert list(temporary.iterdir()) == []  # the private folder went with its process


def test_the_folder_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(tmp_path / "own"))
    assert cache.folder() == tmp_path / "own"
    monkeypatch.delenv("MINIGRAD_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.folder() == tmp_path / "minigrad"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.folder() == tmp_path / "home" / ".cache" / "minigrad"


def test_kernels_are_listed_with_their_size(filled, monkeypatch):
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(filled))
    (entry,) = cache.kernels()
    assert entry.stem.startswith("triple-")
    assert entry.kind == "triple"
    files = [path for path in filled.rglob("*") if path.is_file()]
    assert entry.size == sum(path.stat().st_size for path in files) > 500
    assert time.time() - 600 < entry.built < time.time() + 2
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(filled / "none"))
    assert cache.kernels() == []


def test_the_newest_kernel_is_listed_first(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(tmp_path))
    for built, name in ((3.0, "scan_GRUCell_forward"), (9.0, "element"), (5.0, "max_along")):
        stem = f"{name}-{cache.key(name)}"
        cache.seal(cache.store(f"{stem}.py", b""))
        os.utime(tmp_path / f"{stem}.sums", (built, built))
    assert [entry.kind for entry in cache.kernels()] == ["element", "max", "scan"]


def test_the_key_depends_on_all_that_makes_the_code():
    assert cache.key("ab", "c") != cache.key("a", "bc")
    about = compiler._surroundings()
    changed = {cache.key(*about[:i], "other", *about[i + 1 :]) for i in range(len(about))}
    assert len(changed | {cache.key(*about)}) == len(about) + 1
    assert set(host.cpu()) <= set(about)  # besides: versions


@pytest.mark.long
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names an x86 CPU")
def test_another_cpu_has_kernels_of_its_own(filled):
    assert build(filled, MINIGRAD_CPU="x86-64-v2") == COLD
    assert len(list(filled.glob("*.sums"))) == 2
    assert build(filled) == WARM
