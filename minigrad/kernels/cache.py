"""Where compiled kernels are kept between processes: a folder of objects named by content.

    <folder>/<kernel>-<key>.py    the source that the kernel was built from, to read
    <folder>/<kernel>-<key>.o     a magic line, the SHA-256 of the rest, a line of JSON, an object

The key hashes all that decides the machine code, so nothing is ever stale: a change has another
name. A file that is cut short or garbled fails its checksum and is built again. Files appear
by renaming, so two processes that build one kernel at the same time both end with a whole one.

The folder is `$MINIGRAD_CACHE_DIR`, else `$XDG_CACHE_HOME/minigrad`, else `~/.cache/minigrad`.
Where it can't be written (read-only or missing home), a private temporary folder serves this
process; what the other one holds is still read. Where nothing can be written at all, kernels are
compiled in every process.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import threading
from functools import cache
from pathlib import Path

_MAGIC = b"minigrad kernel 1\n"


def folder() -> Path:
    """The folder asked for, whether or not it exists or can be written."""
    if chosen := os.environ.get("MINIGRAD_CACHE_DIR"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    if base and os.path.isabs(base):
        return Path(base) / "minigrad"
    try:
        return Path.home() / ".cache" / "minigrad"
    except RuntimeError:  # no home at all
        return _private()


@cache
def _private() -> Path:
    import tempfile  # 4 ms that only an unwritable home has to pay

    # mkdtemp makes it readable by this user alone: machine code is loaded from here.
    path = tempfile.mkdtemp(prefix="minigrad-")
    atexit.register(_remove, path, os.getpid())
    return Path(path)


def _remove(path: str, owner: int) -> None:
    import shutil

    if os.getpid() == owner:  # not a forked child on its way out
        shutil.rmtree(path, ignore_errors=True)


def key(*parts: str) -> str:
    """A 16-hex-digit hash of all parts, with their borders."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()[:16]


def find(name: str) -> Path | None:
    """Where a file of this name is."""
    places = [folder()]
    if _private.cache_info().currsize:  # it exists
        places.append(_private())
    return next((place / name for place in places if (place / name).is_file()), None)


def load(stem: str) -> tuple[dict, bytes] | None:
    """(header, object code) of `<stem>.o`, or None where there is no whole one."""
    path = find(f"{stem}.o")
    try:
        return _unpack(path.read_bytes()) if path else None
    except OSError:  # gone meanwhile, or not ours to read
        return None


def _unpack(data: bytes) -> tuple[dict, bytes] | None:
    body = data[len(_MAGIC) + 65 :]
    digest = hashlib.sha256(body).hexdigest().encode()
    if not data.startswith(_MAGIC + digest + b"\n"):
        return None
    header, _, code = body.partition(b"\n")
    return json.loads(header), code


def store(name: str, data: bytes) -> Path | None:
    """Write a file whole or not at all; returns its path, or None where nothing can be written."""
    for place in (folder, _private):
        try:
            return _write(place(), name, data)
        except OSError:
            continue
    return None


def store_object(stem: str, header: dict, code: bytes) -> None:
    """Keep an object for `load(stem)`."""
    body = json.dumps(header).encode() + b"\n" + code
    digest = hashlib.sha256(body).hexdigest().encode()
    store(f"{stem}.o", _MAGIC + digest + b"\n" + body)


def _write(place: Path, name: str, data: bytes) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    temporary = place / f".{name}.{os.getpid()}.{threading.get_ident()}"
    try:
        temporary.write_bytes(data)
        os.replace(temporary, place / name)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return place / name


def kernels() -> list[tuple[str, int]]:
    """(name, bytes) of every object in the folder, for `minigrad info`."""
    place = folder()
    found = place.glob("*.o") if place.is_dir() else ()
    return sorted((path.stem, path.stat().st_size) for path in found)
