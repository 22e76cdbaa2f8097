"""Kernels that another user may have written are not run, and the cache stays within its limit."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from minigrad.kernels import cache, eviction, trust

posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="users of POSIX")
as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away"
)
pytestmark = pytest.mark.needs_jit
OTHER = 65534


@pytest.fixture(autouse=True)
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "_told", set())
    monkeypatch.setattr(cache, "_tally", eviction.Tally())


def give_away(path: Path) -> None:
    os.chown(path, OTHER, -1)


# -- whose code is run


@posix
@pytest.mark.parametrize(
    ("suffix", "mode"), [("nbi", 0o664), ("nbc", 0o646), ("sums", 0o666), ("py", 0o777)]
)
def test_a_file_that_others_may_write_is_built_again_with_one_warning(builds, suffix, mode):
    builds.files(3)[suffix].chmod(mode)
    with pytest.warns(trust.KernelCacheWarning, match=r"kernel cache .*kernels.*go-w") as told:
        assert builds.works(3)
    assert len(told) == 1
    assert builds.compiled == ["times_3"] * 2
    assert builds.works(3)
    assert builds.compiled == ["times_3"] * 2  # ours now


@as_root
def test_a_file_of_another_user_is_built_again(builds):
    give_away(builds.files(3)["nbc"])
    with pytest.warns(trust.KernelCacheWarning, match="belongs to user 65534"):
        assert builds.works(3)
    assert builds.compiled == ["times_3"] * 2


@posix
@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
def test_a_folder_that_others_may_write_is_neither_read_nor_written(builds, mode):
    builds.times(3)
    builds.folder.chmod(mode)
    before = {path: path.stat().st_mtime_ns for path in builds.folder.iterdir()}
    with pytest.warns(trust.KernelCacheWarning, match="others may write to it") as told:
        assert all(map(builds.works, (3, 5)))
    assert len(told) == 1
    assert builds.compiled == ["times_3", "times_3", "times_5"]
    assert {path: path.stat().st_mtime_ns for path in builds.folder.iterdir()} == before
    assert "others may write" in cache.obstacle()
    assert len(list(builds.private.glob("*.sums"))) == 2


@as_root
@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_a_folder_of_another_user_is_neither_read_nor_written(builds, mode):
    builds.times(3)
    builds.folder.chmod(mode)
    give_away(builds.folder)
    with pytest.warns(trust.KernelCacheWarning, match="folder is not safe: it belongs to user"):
        assert builds.works(3)
    assert builds.compiled == ["times_3"] * 2


@posix
def test_a_sticky_folder_is_no_exception(builds):
    """There another user may link one of my kernels under the name of another."""
    builds.times(3)
    builds.folder.chmod(0o1777)
    with pytest.warns(trust.KernelCacheWarning, match="others may write to it"):
        assert builds.works(3)
    assert builds.compiled == ["times_3"] * 2


@posix
@pytest.mark.parametrize("place", ["", "__pycache__"])
def test_the_folder_of_numba_is_trusted_as_little_as_the_other(builds, place):
    builds.times(3)
    (builds.folder / place).chmod(0o770)
    with pytest.warns(trust.KernelCacheWarning, match="others may write to it"):
        assert builds.works(3)
    assert builds.compiled == ["times_3"] * 2
    assert (builds.private / "__pycache__").is_dir()


PICKLE = """
import numba, os, sys
numba.config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"]
from minigrad.kernels.compiler import build
kernel = build("f", "def f(x):\\n    return x + 1.0\\n", {"f": "float64(float64)"})
print(kernel.function("f")(1.0), len(os.listdir(os.environ["NUMBA_CACHE_DIR"])))
"""


def test_no_pickle_is_read_from_a_folder_that_numba_alone_was_told_of(builds, tmp_path):
    (tmp_path / "numba").mkdir()
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "numba")}
    done = subprocess.run(
        [sys.executable, "-c", PICKLE], env=env, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["2.0", "0"], done.stderr


@posix
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_is_no_regular_file_is_not_loaded(builds, tmp_path, kind):
    file = builds.files(3)["nbc"]
    if kind == "link":
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    else:
        file.unlink()
        os.mkfifo(file)
    assert builds.works(3)
    assert builds.compiled == ["times_3"] * 2
    assert file.is_file()
    assert not file.is_symlink()


@posix
def test_a_loose_umask_makes_no_kernel_that_others_may_write(builds):
    before = os.umask(0)
    try:
        assert builds.works(3)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert builds.works(3)
    finally:
        os.umask(before)
    assert builds.compiled == ["times_3"]
    assert builds.folder.stat().st_mode & 0o077 == 0


# -- how much is kept


def fill(folder: Path, count: int, size: int) -> list[str]:
    """Kernels stored one after the other; each was used a minute after the one before."""
    stems = [f"k{i}-{cache.key(str(i))}" for i in range(count)]
    start = time.time() - 100_000
    for i, stem in enumerate(stems):
        keep(stem, size)
        for path in (*folder.glob(f"{stem}.*"), *folder.glob(f"__pycache__/{stem}.*")):
            os.utime(path, (start + 60 * i, start + 60 * i))
    return stems


def keep(stem: str, size: int) -> None:
    """A kernel as Numba and we write it; its machine code has so many bytes."""
    path = cache.store(f"{stem}.py", b"# source")
    assert path is not None
    (path.parent / "__pycache__" / f"{stem}.f-1.py311.1.nbc").write_bytes(bytes(size))
    cache.seal(path)


def total(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(tmp_path / "kernels"))
    monkeypatch.setenv("MINIGRAD_CACHE_LIMIT", "100000")
    return tmp_path / "kernels"


def test_the_kernels_used_least_recently_go_first(place, monkeypatch):
    monkeypatch.setenv("MINIGRAD_CACHE_LIMIT", "0")
    stems = fill(place, 15, 10_000)
    assert cache.whole(stems[0])  # is used now
    monkeypatch.setenv("MINIGRAD_CACHE_LIMIT", "100 kB")
    keep(new := f"new-{cache.key('new')}", 10_000)
    kept = {entry.stem for entry in cache.kernels()}
    assert kept == {stems[0], new, *stems[-7:]}
    texts = {path.name.partition(".")[0] for path in place.glob("*.*")}
    assert texts == kept  # went too
    assert total(place) <= 102_400


@pytest.mark.parametrize("count", [1, 3, 40])
def test_one_process_stays_within_the_limit(place, count):
    stems = fill(place, count, 10_000)
    assert total(place) <= 100_000
    assert cache.whole(stems[-1])


def test_the_folder_is_not_looked_through_for_each_kernel(place, monkeypatch):
    monkeypatch.setenv("MINIGRAD_CACHE_LIMIT", "1G")
    scans = []
    monkeypatch.setattr(eviction, "evict", lambda files: scans.append(1))
    fill(place, 40, 1000)
    assert len(scans) == 1


def test_what_is_being_written_and_files_of_others_are_not_evicted(place):
    place.mkdir()
    stem = f"k-{cache.key('being built')}"
    beside = [f"{stem}.py", f".{stem}.sums.{'0' * 16}", "notes.txt"]
    for name in beside:
        (place / name).write_bytes(bytes(60_000))
    fill(place, 20, 10_000)
    assert {*beside} <= {path.name for path in place.iterdir()}
    for name in beside:
        os.utime(place / name, (0, 0))
    fill(place, 20, 10_000)
    assert [name for name in beside if (place / name).exists()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", 256 << 20), ("0", 0), ("1000", 1000), ("3k", 3072), ("500 MiB", 500 << 20),
        ("2GB", 2 << 30),
    ],
)  # fmt: skip
def test_a_limit_is_bytes_or_has_a_unit(monkeypatch, text, size):
    monkeypatch.setenv("MINIGRAD_CACHE_LIMIT", text)
    assert eviction.limit() == size


@pytest.mark.parametrize("text", ["-1", "much", "1e9", "5 X", "9" * 99])
def test_a_limit_that_is_no_size_is_named(monkeypatch, text):
    monkeypatch.setenv("MINIGRAD_CACHE_LIMIT", text)
    with pytest.raises(eviction.CacheLimitError, match=r"MINIGRAD_CACHE_LIMIT: expected bytes or"):
        eviction.limit()


STORING = """
import sys
from minigrad.kernels import cache
for i in range(60):
    stem = f"k{i}-" + cache.key(sys.argv[1], str(i))
    cache.seal(cache.store(f"{stem}.py", bytes(5000)))
"""


def test_several_processes_that_store_and_evict_harm_nobody(place):
    asked = [subprocess.Popen([sys.executable, "-c", STORING, name]) for name in "abc"]
    assert [one.wait(60) for one in asked] == [0, 0, 0]
    assert total(place) <= 100_000 * (1 + 3 / 16)
    for entry in cache.kernels():
        assert cache.whole(entry.stem) == place
