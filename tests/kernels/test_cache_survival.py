"""What the kernel cache survives: broken files, folders of all kinds, other versions and machines.

Each test asks twice for a kernel that multiplies, as two processes would, with a fault in between.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from minigrad import files
from minigrad.kernels import cache, compiler

pytestmark = pytest.mark.needs_jit


# -- files


CHANGES = {
    "empty": lambda data: b"",
    "cut in the middle": lambda data: data[: len(data) // 2],
    "a byte long": lambda data: data + b"\0",
    "one bit": lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
    "zeros": lambda data: bytes(len(data)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("suffix", ["nbi", "nbc", "sums", "py"])
def test_a_damaged_file_is_built_again_and_replaced(builds, suffix, change):
    file = builds.files(3)[suffix]
    damaged = CHANGES[change](file.read_bytes())
    file.write_bytes(damaged)
    assert builds.works(3)
    assert builds.compiled == ["times_3"] * 2
    assert file.read_bytes() != damaged
    assert builds.works(3)
    assert builds.compiled == ["times_3"] * 2


@pytest.mark.parametrize(
    "sums", ["[]", "{}", '{"times_3": 1}', "nothing", '{"PY": "0", "../x": "0"}', "\xff"]
)
def test_sums_that_are_none_are_written_again(builds, sums):
    stem, file = builds.times(3).stem, builds.files(3)["sums"]
    file.write_bytes(sums.replace("PY", f"{stem}.py").encode("latin-1"))
    assert builds.works(3)
    assert builds.works(3)
    assert builds.compiled == ["times_3"] * 2


@pytest.mark.parametrize("suffix", ["sums", "py", "nbi", "nbc"])
def test_a_folder_in_place_of_a_file_is_no_obstacle(builds, suffix):
    file = builds.files(3)[suffix]
    file.unlink()
    (file / "below").mkdir(parents=True)
    assert builds.works(3)
    assert (file / "below").is_dir()
    assert cache.clear().refused == []
    assert (file / "below").is_dir()


def test_a_link_that_leads_nowhere_is_replaced(builds):
    file = builds.files(3)["sums"]
    file.unlink()
    file.symlink_to(file)
    assert builds.works(3)
    assert not file.is_symlink()


# -- folders


@pytest.mark.parametrize(
    "place", ["file/below", "x" * 300, "\udcff/below", "link/below"], ids=ascii
)
def test_a_folder_that_cannot_be_made_is_replaced_by_a_private_one(
    builds, monkeypatch, tmp_path, place
):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("link")
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", os.path.join(tmp_path, place))
    assert builds.works(3)
    assert builds.works(3)
    if place != "\udcff/below":  # a name for most file systems
        assert builds.compiled == ["times_3"]  # the private folder is read, too
        assert len(list(builds.private.glob("*.sums"))) == 1
        assert cache.kernels() == []
        assert cache.obstacle()


def test_a_read_only_folder_is_still_read(builds, monkeypatch):
    builds.times(3)

    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    write, access = cache._write, os.access
    monkeypatch.setattr(
        cache, "_write", lambda at, *rest: (refuse if at == builds.folder else write)(at, *rest)
    )
    monkeypatch.setattr(
        os, "access", lambda at, how: builds.folder not in at.parents and access(at, how)
    )
    assert builds.works(3)
    assert builds.works(5)
    assert builds.compiled == ["times_3", "times_5"]
    assert {path.stem[:7] for path in builds.private.glob("*.py")} == {"times_3", "times_5"}


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="users of POSIX")
def test_a_folder_of_another_user_is_no_obstacle(builds, monkeypatch, tmp_path):
    builds.times(3)
    builds.private.mkdir()
    if os.geteuid() == 0:
        os.chown(builds.private, 65534, -1)
    monkeypatch.setattr(cache, "_private", lambda: builds.private)
    monkeypatch.setattr(cache, "spilled", lambda: builds.private)
    tmp_path.chmod(0o755)
    builds.folder.chmod(0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", "kernels")
    monkeypatch.setattr(builds, "private", Path("private"))
    root = os.geteuid() == 0  # whom permissions do not bind
    try:
        if root:
            os.seteuid(65534)
        assert builds.works(3)
        assert cache.kernels() == []
        assert cache.obstacle() == os.strerror(errno.EACCES)
    finally:
        if root:
            os.seteuid(0)
        builds.folder.chmod(0o755)
    assert builds.compiled == ["times_3"] * 2


@pytest.mark.parametrize("after", [0, 100])
def test_a_full_disk_leaves_no_remains(builds, monkeypatch, after):
    @contextmanager
    def full(*args, **kwargs):
        with files.replacing(*args, **kwargs) as file:
            file.write(bytes(after))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            yield

    monkeypatch.setattr(cache, "replacing", full)
    kernel = builds.times(3)
    assert kernel.function("times_3")(2.0) == 6.0
    assert kernel.path is None
    for place in (builds.folder, builds.private):
        assert [path for path in place.rglob("*") if path.is_file()] == []
    monkeypatch.undo()


def test_a_user_without_home_and_temporary_folder_has_kernels(builds, monkeypatch):
    def nowhere():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory")

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    for name in ("MINIGRAD_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    nowhere.cache_info = lambda: SimpleNamespace(currsize=0)
    monkeypatch.setattr(cache, "_private", nowhere)
    assert builds.works(3)
    assert cache.folder() is None
    assert cache.kernels() == []
    assert cache.clear().kernels == 0
    assert "no home folder" in cache.obstacle()


def test_a_private_folder_that_is_gone_is_not_made_again(builds, monkeypatch, tmp_path):
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", os.devnull)
    assert builds.works(3)
    shutil.rmtree(builds.private)
    assert builds.works(3)
    assert not builds.private.exists()


KILLED = """
import os, signal
from minigrad.kernels import cache
os.replace = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
cache.store("times_3-" + "0" * 24 + ".py", bytes(1000))
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_what_a_killed_process_leaves_is_harmless_until_it_is_cleared(builds):
    done = subprocess.run([sys.executable, "-c", KILLED], check=False, timeout=60)
    assert done.returncode == -9
    (left,) = builds.folder.glob(".*")
    assert left.name.startswith(".times_3-")
    assert cache.kernels() == []
    assert builds.works(3)
    assert builds.works(3)
    assert builds.compiled == ["times_3"]
    assert cache.clear()[:2] == (1, 1)
    assert list(builds.folder.iterdir()) == []


# -- clearing


def test_files_of_any_other_program_are_not_ours(builds):
    builds.times(3)
    foreign = (
        "notes.py", "model.o", "backup-20240101123456123456.py", "backup-1700000000000000.py",
        "serde-0123456789abcdef.o", "x-" + "0" * 24, "x-" + "0" * 24 + ".txt", ".hidden",
        "x-" + "G" * 24 + ".o", "x-" + "0" * 25 + ".py", "-" + "0" * 24 + ".o",
        "." + "x-" + "0" * 24 + ".o.swp",
    )  # fmt: skip
    for name in foreign:
        (builds.folder / name).write_text("precious")
    (builds.folder / "sub").mkdir()
    inside = builds.folder / "sub" / f"{builds.times(3).stem}.sums"
    inside.write_text("precious")
    assert [entry.kind for entry in cache.kernels()] == ["times"]
    done = cache.clear()
    assert (done.kernels, done.others, done.refused) == (1, 0, [])
    assert {path.name for path in builds.folder.iterdir()} == {*foreign, "sub"}
    assert inside.is_file()


def test_clearing_while_others_build_harms_nobody(builds, monkeypatch):
    replace = os.replace

    def clear_first(*args):
        cache.clear()
        replace(*args)

    monkeypatch.setattr(os, "replace", clear_first)
    assert builds.works(3)


def test_two_may_clear_at_once(builds, monkeypatch):
    builds.times(3)
    unlink = Path.unlink

    def second(path):
        unlink(path)
        unlink(path)

    monkeypatch.setattr(Path, "unlink", second)
    assert cache.clear() == (0, 0, 0, [])
    assert list(builds.folder.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the full device of Linux")
def test_a_full_disk_is_an_obstacle(builds, monkeypatch):
    assert cache.obstacle() == ""
    monkeypatch.setattr("tempfile.TemporaryFile", lambda dir: open("/dev/full", "wb"))  # noqa: SIM115
    assert cache.obstacle() == os.strerror(errno.ENOSPC)


def test_names_that_files_cannot_have_are_made_plain(builds):
    for name in ("<lambda>", "a/b", "Ячейка", "x" * 300):
        kernel = compiler.build(name, "def f(x): return x + 1.0", {"f": "float64(float64)"})
        assert kernel.function("f")(1.0) == 2.0
    assert len(cache.kernels()) == 4
