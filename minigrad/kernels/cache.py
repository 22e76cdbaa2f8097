"""Where compiled kernels are kept between processes: a folder of files named by content.

    <folder>/<kernel>-<key>.py                      the text that the kernel was built from, to read
    <folder>/__pycache__/<kernel>-<key>.*.nbi .nbc  what Numba's `cache=True` made of it: pickles
    <folder>/<kernel>-<key>.sums                    the SHA-256 of each of these files, written last

The key hashes all that decides the machine code, so nothing is ever stale: a change has another
name. A file that is cut short or garbled is not what its sum says, and is built again. Files appear
by renaming; two processes that build one kernel at the same time end with whole files, and if their
sums do not fit, with a kernel that the next one builds again; what a killed process leaves of a
file has a name that nobody looks for.

The folder is `$MINIGRAD_CACHE_DIR`, else `$XDG_CACHE_HOME/minigrad`, else `~/.cache/minigrad`.
Where it can't be written (read-only or missing home, a full disk), a private temporary folder
serves this process; what the other one holds is still read. Where nothing can be written at all,
kernels are compiled in every process.

A pickle runs code, as machine code does. So they are loaded only if nobody but this user and root
can have written them (`trust`): from folders and files of theirs that others may not write. Else
they are compiled anew, with one warning. Over `$MINIGRAD_CACHE_LIMIT` (256 MiB) the kernels that
were used least recently go (`limit`), those of other versions too.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from minigrad.files import replacing
from minigrad.kernels import eviction, trust

_NUMBA = "__pycache__"  # where Numba keeps what it made of a file
_DIGITS = 24  # of a key: no time stamp and no other tool's hash in a file name is as long as that
_STEM = rf"\w+-[0-9a-f]{{{_DIGITS}}}"
_OURS = re.compile(rf"({_STEM})\.(?:sums|py|o)")  # .o: of 0.1
_TEMPORARY = re.compile(rf"\.{_OURS.pattern}\.(?:[0-9a-f]{{16}}|\d+\.\d+)")  # or of 0.1
_NUMBAS = re.compile(rf"({_STEM})\.\w+-\d+\.py\d+\w*\.(?:nbi|\d+\.nbc)(?:\.tmp\.[0-9a-f]+)?")
_tally = eviction.Tally()


def folder() -> Path | None:
    """The folder asked for, whether or not it exists or can be written; None without a home."""
    if chosen := os.environ.get("MINIGRAD_CACHE_DIR"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    if base and os.path.isabs(base):
        return Path(base) / "minigrad"
    try:
        return Path.home() / ".cache" / "minigrad"
    except RuntimeError:  # a user without a home, as in some containers
        return None


@cache
def _private() -> Path:
    import tempfile  # 4 ms that only an unwritable home has to pay

    # mkdtemp makes it readable by this user alone: machine code is loaded from here.
    path = tempfile.mkdtemp(prefix="minigrad-")
    atexit.register(_remove, path, os.getpid())
    return Path(path)


def _remove(path: str, owner: int) -> None:
    if os.getpid() == owner:  # not a forked child on its way out
        shutil.rmtree(path, ignore_errors=True)


def spilled() -> Path | None:
    """The private folder, where something had to go there."""
    return _private() if _private.cache_info().currsize else None


def key(*parts: str) -> str:
    """A hash of all parts and of their borders, in 24 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()[:_DIGITS]


def _places() -> list[Path]:
    return [place for place in (folder(), spilled()) if place]


def whole(stem: str) -> Path | None:
    """The folder with a whole kernel that only this user or root can have written, or None.

    Numba looks into a folder only if it can write there: from another one, files are copied.
    """
    for place in _places():
        try:
            kept = _checked(place, stem)
        except (OSError, ValueError):  # not there, gone meanwhile, or not ours to read
            continue
        if kept is None:
            continue
        if os.access(place / _NUMBA, os.W_OK):
            return place
        for name in kept:
            copy = _private() / name
            copy.parent.mkdir(mode=0o700, exist_ok=True)
            shutil.copy2(place / name, copy)  # with its time, by which an older Numba goes
        return _private()
    return None


def _checked(place: Path, stem: str) -> list[str] | None:
    """The names of a kernel's files, if all of them are what was written."""
    data = trust.read(place, f"{stem}.sums")
    if data is None:
        return None
    sums = json.loads(data)
    if not isinstance(sums, dict) or f"{stem}.py" not in sums:
        return None
    for name, digest in sums.items():
        folder, _, file = name.rpartition("/")
        if folder not in ("", _NUMBA) or not file.startswith(f"{stem}."):
            return None
        found = trust.read(place / folder, file)
        if found is None or hashlib.sha256(found).hexdigest() != digest:
            return None
    return list(sums)


def begin(stem: str, text: bytes) -> Path | None:
    """Keeps the text of a kernel; and nothing is left there that Numba would take for its own."""
    path = store(f"{stem}.py", text)
    if path is not None:
        for file in (path.parent / _NUMBA).glob(f"{stem}.*"):
            with suppress(OSError):
                file.unlink()
    return path


def seal(path: Path) -> None:
    """Notes what a kernel's text at `path` and Numba's files beside it are, for `whole`."""
    place, stem = path.parent, path.stem
    with suppress(OSError):
        sums, size = {}, 0
        for file in (path, *sorted((place / _NUMBA).glob(f"{stem}.*.nb[ic]"))):
            file.chmod(0o644)  # not as the umask says: what a group may write is not loaded
            data = file.read_bytes()
            sums[str(file.relative_to(place).as_posix())] = hashlib.sha256(data).hexdigest()
            size += len(data)
        _write(place, f"{stem}.sums", json.dumps(sums).encode())
        _keep_within_limit(place, size)


def store(name: str, data: bytes) -> Path | None:
    """Write a file whole or not at all; returns its path, or None where nothing can be written."""
    with suppress(OSError):
        if place := folder():
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not (why := trust.objection(place) or trust.objection(place / _NUMBA)):
                path = _write(place, name, data)
                _keep_within_limit(place, len(data))
                return path
            trust.warn(place, f"the folder is not safe: {why}")
    with suppress(OSError):
        # Never made anew: once it is gone (its maker was a parent that ended), anyone could be the
        # next to make a folder of that name.
        return _write(_private(), name, data)
    return None


def _keep_within_limit(place: Path, size: int) -> None:
    if _tally.is_due(place, size):
        with suppress(OSError):  # a folder that can be written and not listed
            eviction.evict(_files())


def _write(place: Path, name: str, data: bytes) -> Path:
    if name.endswith(".py"):  # Numba would make the folder as the umask says
        (place / _NUMBA).mkdir(mode=0o700, exist_ok=True)
    # Not as the umask says: what a group may write is not loaded.
    with replacing(place / name, mode=0o644, durable=False, follow=False) as file:
        file.write(data)
    return place / name


# -- what `minigrad cache` and `minigrad info` show ------------------------------------------------


class Entry(NamedTuple):
    """A kernel in the folder."""

    stem: str
    size: int  # bytes of all its files
    built: float  # seconds since 1970

    @property
    def kind(self) -> str:
        """The first word of its name: `scan` of scan_LSTMCell_forward, `element` of element."""
        return re.split("[_-]", self.stem, maxsplit=1)[0]


class Cleared(NamedTuple):
    """What `clear` did."""

    kernels: int
    others: int  # files of no whole kernel: what killed processes left
    size: int  # bytes
    refused: list[OSError]


def kernels() -> list[Entry]:
    """Every kernel in the folder, newest first; none where it can't be read."""
    built: dict[str, float] = {}
    sizes: dict[str, int] = {}
    with suppress(OSError):
        for path, stem in _files():
            if path.name.startswith("."):  # a remainder, or being written
                continue
            with suppress(OSError):  # another process is clearing the folder
                about = path.stat()
                sizes[stem] = sizes.get(stem, 0) + about.st_size
                if path.suffix == ".sums":
                    built[stem] = about.st_mtime
    found = [Entry(stem, sizes[stem], when) for stem, when in built.items()]
    return sorted(found, key=lambda entry: (-entry.built, entry.stem))


def clear() -> Cleared:
    """Remove all kernels and what killed processes left; nothing else.

    Processes that run meanwhile keep what they have loaded, and build the rest again. Raises
    OSError where the folder can't be read.
    """
    removed: list[tuple[str, Path]] = []
    refused: list[OSError] = []
    size = 0
    for path, stem in _files():
        try:
            bytes_here = path.lstat().st_size
            path.unlink()
        except FileNotFoundError:  # another process is clearing too
            continue
        except OSError as error:
            refused.append(error)
            continue
        size += bytes_here
        removed.append((stem, path))
    if (place := folder()) is not None:
        with suppress(OSError):  # there is none, or somebody writes
            (place / _NUMBA).rmdir()
    whole = {stem for stem, path in removed if path.suffix == ".sums"}
    others = [path for stem, path in removed if stem not in whole or path.name.startswith(".")]
    return Cleared(len(whole), len(others), size, refused)


def _files() -> Iterator[tuple[Path, str]]:
    """(path, `<kernel>-<key>`) of each of our files in the folder; others may lie there too."""
    place = folder()
    if place is None:
        return
    for where, patterns in ((place, (_OURS, _TEMPORARY)), (place / _NUMBA, (_NUMBAS,))):
        try:
            found = list(os.scandir(where))
        except (FileNotFoundError, NotADirectoryError):
            continue
        for file in found:
            match = next(filter(None, (p.fullmatch(file.name) for p in patterns)), None)
            if match and not file.is_dir(follow_symlinks=False):
                yield where / file.name, match[1]


def obstacle() -> str:
    """Why no kernel can be kept in the folder, or "" where nothing is in the way."""
    import tempfile

    place = folder()
    if place is None:
        return "there is no home folder; set $MINIGRAD_CACHE_DIR"
    try:
        if why := trust.objection(place):
            return f"not safe, {why}"
        while not place.exists():  # it is made with the first kernel
            place = place.parent
        # Asking for permissions does not see a read-only file system, nor a full one.
        with tempfile.TemporaryFile(dir=place) as probe:
            probe.write(bytes(4096))
    except OSError as error:
        return error.strerror or str(error)
    return ""
