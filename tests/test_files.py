"""A file that is replaced is whole for every reader, keeps its permissions and links."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from minigrad import files
from minigrad.files import replacing, write_whole

posix = pytest.mark.skipif(os.name != "posix", reason="permissions and links of POSIX")


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


WRITER = """
import sys
from minigrad.files import write_whole
for _ in range(50):
    write_whole(sys.argv[1], sys.argv[2].encode() * 20_000)
"""


@pytest.mark.slow
def test_threads_and_processes_write_one_file_and_no_reader_sees_half_of_it(tmp_path: Path) -> None:
    path, failed, torn = tmp_path / "a", [], []
    write_whole(path, b"0" * 20_000)
    stop = threading.Event()

    def write(letter: bytes) -> None:
        try:
            for _ in range(50):
                write_whole(path, letter * 20_000)
        except BaseException as error:
            failed.append(error)

    def read() -> None:
        while not stop.is_set():
            found = path.read_bytes()
            if found != found[:1] * 20_000:
                torn.append(found)

    others = [subprocess.Popen([sys.executable, "-c", WRITER, path, x]) for x in "xy"]
    threads = [threading.Thread(target=write, args=(x,)) for x in (b"a", b"b", b"c", b"d")]
    reader = threading.Thread(target=read)
    for thread in (reader, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    codes = [other.wait() for other in others]
    stop.set()
    reader.join()
    assert (failed, torn, codes, names(tmp_path)) == ([], [], [0, 0], ["a"])


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o755])
def test_permissions_of_a_file_stay(tmp_path: Path, mode: int, umask: None) -> None:
    path = tmp_path / "a"
    path.touch()
    path.chmod(mode)
    for content in (b"", b"1", b"three"):
        write_whole(path, content)
        assert path.read_bytes() == content
        assert stat.S_IMODE(path.stat().st_mode) == mode


@posix
def test_a_new_file_has_the_permissions_of_the_umask(tmp_path: Path, umask: None) -> None:
    assert stat.S_IMODE(write_whole(tmp_path / "a", b"1").stat().st_mode) == 0o640


@posix
@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_leads_to_the_new_content(tmp_path: Path, there: bool) -> None:
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "a", tmp_path / "link"
    if there:
        target.write_bytes(b"old")
        target.chmod(0o604)
    link.symlink_to(Path("far") / "a")
    (tmp_path / "second").symlink_to(link)
    write_whole(tmp_path / "second", b"new")
    assert link.is_symlink()
    assert (tmp_path / "second").is_symlink()
    assert target.read_bytes() == b"new"
    assert not there or stat.S_IMODE(target.stat().st_mode) == 0o604
    assert names(tmp_path / "far") == ["a"]


@posix
def test_what_no_file_can_replace_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "round").symlink_to("round")
    before = names(tmp_path)
    for name in before:
        with pytest.raises(OSError, match=r"pipe, and no file replaces it|directory|links"):
            write_whole(tmp_path / name, b"1")
    with pytest.raises(OSError, match="is a device"):
        write_whole(os.devnull, b"1")
    assert names(tmp_path) == before
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


@posix
def test_a_link_planted_at_the_temporary_name_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    monkeypatch.setattr(os, "urandom", lambda n: bytes(n))  # the name is known after all
    (tmp_path / f".a.{os.getpid()}").symlink_to(victim)
    (tmp_path / f".a.{'00' * 8}").symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "a", b"new")
    assert victim.read_bytes() == b"precious"


def test_temporary_names_are_never_the_same(tmp_path: Path) -> None:
    with replacing(tmp_path / "a") as first, replacing(tmp_path / "a") as second:
        assert first.name != second.name


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("there", [True, False])
def test_after_any_exception_nothing_has_changed(
    tmp_path: Path, error: type[BaseException], there: bool
) -> None:
    path = tmp_path / "a"
    if there:
        path.write_bytes(b"old")

    def fail() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert names(tmp_path) == (["a"] if there else [])
    assert not there or path.read_bytes() == b"old"


@pytest.mark.parametrize("name", ["x", "x" * 255, "я" * 127, "." + "x" * 200])
def test_every_name_that_a_file_can_have_will_do(tmp_path: Path, name: str) -> None:
    assert write_whole(tmp_path / name, b"1").read_bytes() == b"1"
    assert names(tmp_path) == [name]


@pytest.mark.skipif(os.name != "posix", reason="groups of POSIX")
def test_what_a_group_may_do_is_not_for_another_group(tmp_path: Path, monkeypatch) -> None:
    def refuse(*args: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    (tmp_path / "a").touch()
    (tmp_path / "a").chmod(0o664)
    fields = list((tmp_path / "a").stat())
    fields[stat.ST_GID] += 1  # of a group that this process may not give
    monkeypatch.setattr(os, "fchown", refuse)
    with open(tmp_path / "b", "wb") as file:
        files._make_alike(file.fileno(), os.stat_result(fields))
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o604


@pytest.mark.parametrize("mode", [0o444, 0o400])
def test_a_file_that_may_not_be_written_is_not_replaced(
    tmp_path: Path, monkeypatch, mode: int
) -> None:
    (tmp_path / "a").write_bytes(b"precious")
    (tmp_path / "a").chmod(mode)
    # root may write everything, so say what the system says to others
    monkeypatch.setattr(os, "access", lambda path, what: bool(os.stat(path).st_mode & 0o200))
    with pytest.raises(PermissionError):
        write_whole(tmp_path / "a", b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"precious"]


KILLED = """
import os, signal, sys
from minigrad.files import replacing
with replacing(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_what_a_killed_process_leaves_does_not_make_a_folder_full(tmp_path: Path) -> None:
    from minigrad.flow.results import new_folder

    out = tmp_path / "out"
    out.mkdir()
    done = subprocess.run([sys.executable, "-c", KILLED, out / "a"], check=False, timeout=60)
    assert done.returncode == -9
    (left,) = out.iterdir()
    assert files.is_remainder(left.name)
    assert files.is_empty(out)
    with new_folder(out) as folder:
        (folder / "result").touch()
    assert [path.name for path in out.iterdir()] == ["result"]
    assert not files.is_empty(out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
def test_a_link_to_a_folder_of_results_stays_a_link(tmp_path: Path) -> None:
    from minigrad.flow.results import MARK, new_folder

    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk")
    for content in ("first", "second"):
        with new_folder(tmp_path / "out", replace=True) as folder:
            (folder / MARK).write_text(content)
        assert (tmp_path / "out").is_symlink()
        assert (tmp_path / "disk" / MARK).read_text() == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "out"]
