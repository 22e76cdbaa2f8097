"""Files that somebody else wrote: opened, read and parsed within bounds, with one way to fail.

    with reading(path, FormatError, what="safetensors file"):
        data = read_bytes(path, most=1 << 30)
        header = parse_json(data[8:1000])

A file may be a pipe that never ends, say that it holds 10^12 numbers, or be nested a million deep.
What is read here is a regular file, no larger than a bound, and whatever goes wrong inside
`reading` comes out as the loader's own error, which names the file and the cause.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

MOST_TEXT = 64 << 20  # bytes of a file of text: JSON, TOML, a data set
MOST_LINE = 16 << 20  # bytes of one record of a JSONL file
DEPTH = 100  # lists and dictionaries of JSON inside each other
_NOT_REGULAR = {
    stat.S_IFDIR: "it is a folder",
    stat.S_IFIFO: "it is a pipe, not a file",
    stat.S_IFSOCK: "it is a socket, not a file",
    stat.S_IFCHR: "it is a device, not a file",
    stat.S_IFBLK: "it is a device, not a file",
}
# A string that does not end goes to the end of the text: no place is looked at twice.
_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)


class UnsuitableFileError(OSError):
    """What is at a path cannot be read as a file: no regular file, or too large."""


@contextmanager
def reading(
    path: str | Path, error: type[Exception], *passed: type[Exception], what: str = "file"
) -> Iterator[None]:
    """Whatever goes wrong inside comes out as `error`, with the path and the cause.

    passed: other errors that the loader documents; they and `error` itself stay as they are.
    KeyboardInterrupt and SystemExit always do. The cause stays attached for those who debug.

    >>> with reading("a.json", ValueError, what="JSON file"):
    ...     {}["step"]
    Traceback (most recent call last):
    ValueError: a.json: this is no whole JSON file (KeyError: 'step').
    """
    try:
        yield
    except (error, *passed):
        raise
    except FileNotFoundError:
        raise error(f"{path}: cannot be read: there is no such file.") from None
    except OSError as told:
        raise error(f"{path}: cannot be read ({told.strerror or told}).") from told
    except MemoryError as told:
        raise error(f"{path}: asks for more memory than there is.") from told
    except RecursionError as told:
        raise error(f"{path}: is nested too deeply to be a {what}.") from told
    except Exception as told:
        raise error(f"{path}: this is no whole {what} ({cause(told)}).") from told


def cause(error: BaseException) -> str:
    r"""An exception in one line, with its type where the text alone says little.

    >>> cause(KeyError("step")), cause(ValueError("line 1 is\nno number"))
    ("KeyError: 'step'", 'line 1 is no number')
    """
    text = " ".join(str(error).split())[:300]
    plain = isinstance(error, (ValueError, EOFError)) and text
    return text if plain else f"{type(error).__name__}: {text}".removesuffix(": ")


def open_regular(path: str | Path, most: int | None = None) -> BinaryIO:
    """An open regular file of at most `most` bytes; a link to one will do.

    Raises UnsuitableFileError for a folder, a pipe, a device or a larger file, without waiting for
    whoever is at the other end; FileNotFoundError and other OSErrors as `open` does.
    """
    _check_regular(os.stat(path))  # opening alone does something to some devices
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    try:
        found = os.fstat(descriptor)  # it may have been exchanged since
        _check_regular(found)
        if found.st_size > (limit := memory_share() if most is None else most):
            raise UnsuitableFileError(
                f"it has {found.st_size:,} bytes; at most {limit:,} are read here"
            )
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _check_regular(found: os.stat_result) -> None:
    kind = stat.S_IFMT(found.st_mode)
    if kind != stat.S_IFREG:
        raise UnsuitableFileError(_NOT_REGULAR.get(kind, "it is no regular file"))


def size_of(file: BinaryIO) -> int:
    """The bytes of an open file."""
    return os.fstat(file.fileno()).st_size


def memory_share() -> int:
    """Bytes that a file of weights may have: half of this machine's memory."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):  # Windows
        return 8 << 30


def read_bytes(path: str | Path, most: int | None = None) -> bytes:
    """The content of a regular file of at most `most` bytes. Raises as `open_regular`.

    A file that grows while it is read, or says that it is empty and is not (those of /proc), is cut
    off at the size that was checked, or refused.
    """
    with open_regular(path, most) as file:
        size = size_of(file)
        content = file.read(size)
        if not size and file.read(1):
            raise UnsuitableFileError("it is no file on a disk")
    return content


def read_text(path: str | Path, most: int = MOST_TEXT) -> str:
    """The text of a regular UTF-8 file, with line ends unified and without a byte order mark."""
    text = read_bytes(path, most).decode("utf-8-sig")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parse_json(text: bytes | str, depth: int = DEPTH) -> Any:
    """What a JSON text holds. Raises ValueError if it is none, nested too deeply, or names a key
    twice, where readers differ on which counts.

    >>> parse_json('{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ValueError: the key 'a' is there twice
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if data.count(b"[") + data.count(b"{") > depth:
        _check_depth(data, depth)
    return json.loads(data, object_pairs_hook=_distinct)


def read_json(path: str | Path, most: int = MOST_TEXT) -> Any:
    """What a JSON file holds."""
    return parse_json(read_bytes(path, most))


def _check_depth(data: bytes, depth: int) -> None:
    level = 0
    for match in _STRING_OR_BRACKET.finditer(data):
        sign = match[0]
        if sign in (b"[", b"{"):
            level += 1
            if level > depth:
                raise ValueError(f"nested more than {depth} deep")
        elif sign in (b"]", b"}"):
            level -= 1


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"the key {shortly(name)} is there twice")
            seen.add(name)
    return found


def lines_of(file: BinaryIO, most: int = MOST_LINE) -> Iterator[bytes]:
    """The lines of a file, with their ends. Raises ValueError for one of more than `most` bytes."""
    number = 0
    while line := file.readline(most + 1):
        number += 1
        if len(line) > most:
            raise ValueError(f"line {number} has more than {most:,} bytes")
        yield line


def whole_number(value: Any, least: int = 0, most: int = 2**63 - 1) -> int:
    """`value`, if it is an integer (no truth value) from least to most; else ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"expected a whole number from {least} on, got {shortly(value)}")
    return value


def shortly(value: Any) -> str:
    """repr, cut off where it would fill the screen."""
    if isinstance(value, int) and abs(value) > 10**30:
        return "an integer of more than 30 digits"
    text = repr(value) if isinstance(value, (str, int, float, bool, type(None))) else ""
    return (text if len(text) < 80 else f"{text[:80]}...") or f"a {type(value).__name__}"
