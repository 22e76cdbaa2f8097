"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_REMAINDER = re.compile(r"\..*\.[0-9a-f]{16}", re.DOTALL)


def beside(path: Path) -> Path:
    """A name in the same folder for what is to become `path`; nobody can foresee it.

    Two writers never share it, and nobody can plant a link there.
    """
    return path.with_name(f".{_short(path.name)}.{os.urandom(8).hex()}")


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing but what killed processes left of files being written."""
    return all(map(is_remainder, os.listdir(folder)))


def is_remainder(name: str) -> bool:
    """Whether `beside` makes such names.

    >>> is_remainder(beside(Path("run.ckpt")).name), is_remainder("run.ckpt")
    (True, False)
    """
    return _REMAINDER.fullmatch(name) is not None


@contextmanager
def replacing(
    path: str | Path, *, mode: int = 0o666, durable: bool = True, follow: bool = True
) -> Iterator[BinaryIO]:
    """A file to write to, which becomes `path`, on the disk, when the block ends well.

    Until then, and for ever after an exception, what was there stays; no reader sees half of it,
    however many threads and processes write it. Its permissions stay too, and a link stays and
    leads to the new content.

    mode: permissions of a new file, less those of the umask. durable: wait for the disk. follow:
    False replaces a link, and the permissions of what was there, by a new file.
    Raises OSError, also where `path` is a device, a pipe, or a file that may not be written.
    """
    target = Path(os.path.realpath(path)) if follow else Path(path)
    old = _replaceable(target) if follow else None
    # Made only if it is new ("x"). tempfile.mkstemp makes it private, and the umask, which would
    # give it the permissions of any new file, can only be asked for by changing it for all threads.
    temporary = beside(target)
    first_mode = 0o600 if old else mode
    try:
        with open(temporary, "xb", opener=lambda at, flags: os.open(at, flags, first_mode)) as file:
            if old:
                _make_alike(file.fileno(), old)
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, target)
        if durable:
            sync_folder(target.parent)
    finally:
        with suppress(OSError):  # gone: it is `path` now
            temporary.unlink()


def _replaceable(target: Path) -> os.stat_result | None:
    """What is there, None for nothing. Raises OSError where no file can take its place."""
    try:
        found = os.lstat(target)
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(found.st_mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(target))
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    if not stat.S_ISREG(found.st_mode):  # root would replace /dev/null itself
        raise OSError(errno.EINVAL, "is a device or a pipe, and no file replaces it", str(target))
    if not os.access(target, os.W_OK):  # renaming would not ask
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))
    return found


def _make_alike(descriptor: int, old: os.stat_result) -> None:
    if not hasattr(os, "fchmod"):  # Windows
        return
    new = os.fstat(descriptor)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        with suppress(OSError):  # only root gives files away
            os.fchown(descriptor, old.st_uid, old.st_gid)
    # What the one group might do is not for another.
    same_group = os.fstat(descriptor).st_gid == old.st_gid
    os.fchmod(descriptor, old.st_mode & (0o777 if same_group else 0o707))


def sync_folder(path: Path) -> None:
    """The names in a folder onto the disk, where the system can do that."""
    if os.name != "posix":
        return
    with suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _short(name: str) -> str:
    """A file's name, cut so that 20 bytes can be added where 255 are allowed."""
    return os.fsencode(name)[:200].decode("utf-8", "ignore")


def write_whole(path: str | Path, content: bytes) -> Path:
    """Writes a file by `replacing`; returns its path.

    >>> import tempfile
    >>> write_whole(Path(tempfile.mkdtemp()) / "a.txt", b"whole").read_bytes()
    b'whole'
    """
    with replacing(path) as file:
        file.write(content)
    return Path(path)
