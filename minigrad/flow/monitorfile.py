"""The file of a Monitor: JSON lines, each on the disk as soon as it is written.

The first line is a header with the schema and the parameters; every other line is a record of one
of the kinds that History.add knows. A process that is killed loses at most its last line.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from ..errors import FlowError
from ..untrusted import cause, lines_of, open_regular, parse_json, reading, shortly
from .history import KEPT, History
from .results import OutputError, to_line

SCHEMA = 1
MOST_FILE = 1 << 40  # bytes; it is read line by line


class MonitorWarning(UserWarning):
    """Something a Monitor cannot measure or write, while training goes on."""


def read_monitor(
    path: str | Path, keep: int = KEPT, heard: Callable[[dict[str, Any]], None] | None = None
) -> History:
    """The History that a Monitor wrote; its `torn` tells whether the last line was cut off.

    keep: measurements to hold, evenly spaced over the run (the file may have many more). heard: is
    called with every record, as it stands in the file.
    Raises FlowError for a file that is none of a Monitor's, with the line that is not.

    >>> import tempfile, numpy as np, minigrad as mg
    >>> layer = mg.nn.Linear(2, 1, generator=np.random.default_rng(0))
    >>> path = Path(tempfile.mkdtemp()) / "run.jsonl"
    >>> with mg.flow.Monitor(layer, path) as monitor:
    ...     with monitor.step():
    ...         layer(mg.tensor([[1.0, 2.0]], dtype=np.float32)).sum().backward()
    >>> history = read_monitor(path)
    >>> history.step, history.series("weight")[1].round(3).tolist()
    (1, [2.236])
    """
    path = Path(path)
    history, first = History(keep=keep), True
    with reading(path, FlowError, what="file of a Monitor"):
        for number, record in _records(path, history):
            if first:
                _check_header(path, record)
                first = False
            try:
                history.add(record)
            except Exception as error:
                raise FlowError(
                    f"{path}: line {number} is not a Monitor's record ({cause(error)})."
                ) from None
            if heard is not None:
                heard(record)
    if first:
        raise FlowError(f"{path}: holds no whole header; expected a file that a Monitor wrote.")
    return history


def _records(path: Path, history: History) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, record). Tells `history` if the last line is torn."""
    torn = 0
    with open_regular(path, most=MOST_FILE) as file:
        for number, line in enumerate(lines_of(file), 1):
            if torn:
                raise FlowError(f"{path}: line {torn} is not JSON; expected one record a line.")
            record = _parsed(line)
            if record is None:
                torn = number
            else:
                yield number, record
    history.torn = bool(torn)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = parse_json(line)
    except ValueError:  # no JSON, not UTF-8, or nested too deeply
        return None
    return record if isinstance(record, dict) else None


def _check_header(path: Path, record: Mapping[str, Any]) -> None:
    if record.get("record") != "header" or "schema" not in record:
        raise FlowError(f"{path}: line 1 is no header; expected a file that a Monitor wrote.")
    if record["schema"] != SCHEMA:
        raise FlowError(
            f"{path}: has schema {shortly(record['schema'])}, this minigrad reads {SCHEMA}; read "
            f"it with minigrad {str(record.get('minigrad', 'of its time'))[:20]}."
        )


class MonitorFile:
    """Where a Monitor writes. append: goes on after the whole lines of a file that is there."""

    def __init__(self, path: str | Path, append: bool = False):
        self.path = Path(path)
        self._file: IO[bytes] | None = None
        try:
            if append and self.path.exists():
                open_regular(self.path, MOST_FILE).close()
                self._file = open(self.path, "r+b")  # noqa: SIM115
                self._after_whole_lines(self._file)
            else:
                self._file = open(self.path, "xb")  # noqa: SIM115
        except FileExistsError:
            raise OutputError(
                f"{path}: is there already, and is not overwritten; Monitor(append=True) goes on "
                f"with it, or choose another name."
            ) from None
        except OSError as error:
            raise OutputError(f"{path}: cannot write here ({error.strerror or error}).") from error

    @staticmethod
    def _after_whole_lines(file: IO[bytes]) -> None:
        """Cuts off a torn last line; ends a whole one that lacks only its line break."""
        end, last = 0, b""
        for line in file:
            last = line
            if line.endswith(b"\n") and _parsed(line) is not None:
                end += len(line)
        if last and not last.endswith(b"\n") and _parsed(last) is not None:
            file.seek(0, 2)
            file.write(b"\n")
        else:
            file.truncate(end)
            file.seek(end)

    def write(self, record: Mapping[str, Any]) -> None:
        """One line. A disk that is full ends the file, with a warning; training goes on."""
        if self._file is None:
            return
        try:
            self._file.write(to_line(record).encode())
            self._file.flush()
        except OSError as error:
            warnings.warn(
                f"{self.path}: cannot be written any more ({error.strerror or error}); the monitor "
                f"goes on in memory.",
                MonitorWarning,
                stacklevel=2,
            )
            self.close()

    def close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            try:
                file.close()
            except OSError:  # what was not written was told of above
                return
