"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


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
    Raises OSError, also where `path` is a device or a pipe.
    """
    target = Path(os.path.realpath(path)) if follow else Path(path)
    old = _replaceable(target) if follow else None
    # Random, and made only if it is new: two writers never share it, and nobody can plant a link
    # there. tempfile.mkstemp makes it private, and the umask, which would give it the permissions
    # of any new file, can only be asked for by changing it for all threads.
    temporary = target.with_name(f".{_short(target.name)}.{os.urandom(8).hex()}")
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
    return found


def _make_alike(descriptor: int, old: os.stat_result) -> None:
    if not hasattr(os, "fchmod"):  # Windows
        return
    new = os.fstat(descriptor)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        with suppress(OSError):  # only root gives files away
            os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, old.st_mode & 0o777)


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
