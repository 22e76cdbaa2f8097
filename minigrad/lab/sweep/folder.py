"""The folder of a sweep: who may write to it, and the table of what is finished.

    DIR/sweep.toml      the configuration
    DIR/results.jsonl   one line per finished run, on disk before the next one counts
    DIR/results.csv     the same as a table, in the order of the grid
    DIR/workers.log     what runs print, and where a worker crashed
    DIR/sweep.lock      locked while a sweep writes here; the lock dies with its process

A line counts once its newline is on disk. What a killed process left of one is cut off, and that
run is done again. A later line for the same run replaces the earlier one (--retry-failed).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...files import is_remainder, sync_folder, write_whole
from ...flow.results import to_csv, to_line
from ...untrusted import lines_of, open_regular, parse_json, reading, whole_number
from . import config as configs
from .config import Config, Run
from .errors import SweepError

CONFIG, RESULTS, CSV, LOG, LOCK = (
    "sweep.toml", "results.jsonl", "results.csv", "workers.log", "sweep.lock",
)  # fmt: skip
OURS = ("status", "attempts", "error")  # columns
Row = dict[str, Any]


class Folder:
    """DIR, locked and open for writing. Use as a context manager.

    Raises SweepError if DIR is no sweep's, another sweep's, or in use.
    """

    def __init__(self, path: Path, config: Config, text: str):
        self.path = path
        self.added = False
        _check_ours(path)
        path.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(path / LOCK)
        try:
            self._adopt(config, text)
            os.close(_open_own(path / RESULTS, os.O_WRONLY))  # before anything is cut off
            cut_torn(path / RESULTS)
            self.rows = read_rows(path)
            self._table = _open_own(path / RESULTS, os.O_WRONLY | os.O_APPEND)
            sync_folder(path)
        except BaseException:
            os.close(self._lock)
            raise

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._table)
        os.close(self._lock)

    def _adopt(self, config: Config, text: str) -> None:
        place = self.path / CONFIG
        if place.exists():
            earlier = configs.read(place)
            check_continues(self.path, earlier, config)
            if earlier == config:
                return
            self.added = len(config.runs()) > len(earlier.runs())
        write_whole(place, _utf8(text))

    def add(self, row: Row) -> None:
        """Appends one finished run; on disk when this returns.

        Raises SweepError if it cannot be written, with the table as it was before.
        """
        line = to_line(row).encode()
        size = os.fstat(self._table).st_size
        try:
            if _write(self._table, line) != len(line):
                raise OSError("the disk is full")
            os.fsync(self._table)
        except OSError as error:
            os.ftruncate(self._table, size)
            raise SweepError(
                f"{self.path / RESULTS}: cannot be written: {error.strerror or error}. The "
                f"runs before it ({len(self.rows)}) are safe; make room and give the same command."
            ) from None
        self.rows[row["key"]] = row

    def write_csv(self, runs: Sequence[Run]) -> None:
        """Writes the table of the finished runs, in the order of the grid, whole or not at all."""
        finished = [self.rows[r.key] for r in runs if r.key in self.rows]
        write_whole(self.path / CSV, _utf8(csv_text(finished)))


def check_continues(path: Path, earlier: Config, config: Config) -> None:
    """Raises SweepError, with what differs, if `config` does not have all runs of `earlier`."""
    if what := configs.difference(earlier, config):
        raise SweepError(
            f"{path}: holds another sweep: {what}. Choose a new folder with --out; only a grid "
            "that has all runs of the one before continues a sweep."
        )


def csv_text(rows: Sequence[Row]) -> str:
    """Parameters, status, results and error of each row; a column for every name that occurs, and
    results.NAME for a result that is called like a column before it.
    """
    parameters = dict.fromkeys(name for row in rows for name in row["parameters"])
    results = dict.fromkeys(name for row in rows for name in row["results"])
    taken = {*parameters, *OURS}
    names = [f"results.{name}" if name in taken else name for name in results]
    head = [*parameters, "status", *names, "attempts", "error"]
    body = [
        [row["parameters"].get(name, "") for name in parameters]
        + [row["status"]]
        + [row["results"].get(name, "") for name in results]
        + [row["attempts"], row.get("error", "")]
        for row in rows
    ]
    return to_csv(head, body)


def read_rows(path: Path) -> dict[str, Row]:
    """Key -> row of all whole lines. Raises SweepError for a line that is none of ours."""
    rows: dict[str, Row] = {}
    if not (path / RESULTS).exists():
        return rows
    with reading(path / RESULTS, SweepError), open_regular(path / RESULTS) as file:
        for number, line in enumerate(lines_of(file), 1):
            if not line.endswith(b"\n"):
                break
            try:
                row = _row(parse_json(line))
            except (ValueError, KeyError, TypeError, OverflowError):
                raise SweepError(
                    f"{path / RESULTS}: line {number} is not a run; delete that line, and the same "
                    "command does its run again."
                ) from None
            rows[row["key"]] = row
    return rows


def _row(stored: Any) -> Row:
    """One line of the table, as `add` writes it. Raises TypeError, KeyError, ValueError if not."""
    row = {"attempts": 1, **stored}
    for name, value in {**row["parameters"], **row["results"]}.items():
        if not isinstance(value, (str, int, float, bool, type(None))) or not isinstance(name, str):
            raise TypeError
        if isinstance(value, int):
            float(value)  # what is printed of it is a mean
    whole_number(row["attempts"])
    if not all(isinstance(row.get(name, ""), str) for name in ("error", "traceback")):
        raise TypeError
    if not isinstance(row["key"], str) or not isinstance(row["status"], str):
        raise TypeError
    return row


def cut_torn(path: Path) -> None:
    """Cuts off a last line without a newline: what a killed process had not finished writing."""
    if not path.exists():
        return
    with reading(path, SweepError), open_regular(path) as file:
        content = file.read()
    whole = content.rfind(b"\n") + 1
    if whole != len(content):
        os.truncate(path, whole)


def _utf8(text: str) -> bytes:
    """A result may hold half of a surrogate pair, which UTF-8 cannot say."""
    return text.encode("utf-8", "backslashreplace")


def open_for_reading(path: Path) -> tuple[Config, dict[str, Row]]:
    """The configuration and the finished runs of a sweep, which may still be going on."""
    if not (path / CONFIG).is_file():
        raise SweepError(f"{path}: is no folder of a sweep; it has no {CONFIG}.")
    return configs.read(path / CONFIG), read_rows(path)


def _check_ours(path: Path) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise SweepError(f"{path}: this is a file; choose a new folder with --out.")
    for name in (CONFIG, RESULTS, CSV, LOG, LOCK):
        if (path / name).is_symlink() or ((path / name).exists() and not (path / name).is_file()):
            raise SweepError(
                f"{path / name}: is a link or no file; nothing is written there. Remove it, or "
                f"choose another folder with --out."
            )
    # A process killed at its start leaves a lock and no configuration yet.
    others = {item.name for item in path.iterdir() if not is_remainder(item.name)} - {LOCK}
    if others and CONFIG not in others:
        raise SweepError(
            f"{path}: this folder is not empty and holds no sweep; choose a new one with --out."
        )


def _write(file: int, line: bytes) -> int:
    return os.write(file, line)  # in one piece; tests put a full disk here


def _lock(path: Path) -> int:
    file = _open_own(path, os.O_RDWR)
    try:
        _lock_or_raise(file)
    except OSError:
        holder = os.read(file, 20).decode("ascii", "replace").strip()
        os.close(file)
        raise SweepError(
            f"{path.parent}: another sweep is writing here (process {holder or 'unknown'}); wait "
            "for it, or choose another folder with --out."
        ) from None
    os.ftruncate(file, 0)
    os.write(file, f"{os.getpid()}\n".encode())
    return file


def _open_own(path: Path, flags: int) -> int:
    """Opens a file of the folder to write to, or makes it. A link would lead to another's file."""
    more = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        return os.open(path, flags | os.O_CREAT | more, 0o644)
    except OSError as error:
        raise SweepError(f"{path}: cannot be written ({error.strerror or error}).") from None


def _lock_or_raise(file: int) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
