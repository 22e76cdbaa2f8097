"""A series from a CSV file of yours, for windows of it.

series = mg.data.read_csv("power.csv", columns=["load", "wind"])
data = mg.data.forecasting(series.filled(), past=48, ahead=1, dtype=np.float32)
batches = mg.data.Batches(data.train, batch=32)
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from .series import Series
from .sources import DataError
from .text import read_text

Array = np.ndarray
MISSING = frozenset(("", "nan", "na", "n/a", "null", "none", "?", "-"))
_ZONE = re.compile(r":.*(?:Z|[+-]\d\d:?\d\d)$")


def read_csv(
    path: str | Path,
    columns: Sequence[str] | None = None,
    time: str | bool = True,
    *,
    delimiter: str | None = None,
    decimal: str = ".",
    unit: str = "",
    season: int = 1,
) -> Series:
    r"""The numbers of a CSV file, a row a step: values (T, D), or (T,) if it is one column.

    columns: their names, in the first line; of all that is no time, if left out. A file whose first
        line is data, too (numbers, times, or missing), has the names "0", "1", ...
    time: the name of the column that says when, in ISO 8601 (2024-02-29, 2024-02-29 18:00Z, or a
        year). True: the first column not named in `columns` that is one and no number, if any, else
        times are 0, 1, ... False: the same without looking. Times of a zone become UTC.
    delimiter: of ",", ";" and tab the one that the first line has most of, if left out.
    decimal: "," where 1,5 is one and a half.
    unit, season: of the Series. A field that is empty, nan, NA, N/A, null, None, ? or - is missing,
    NaN; `Series.filled` closes gaps.

    Raises DataError, with line and column, for what is neither; for a row that is too short or too
    long; and for times that do not ascend, of which windows would be no stretch of time.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "tide.csv")
    ...     _ = path.write_text("day,low,high\n2024-02-28,1.5,4\n2024-02-29,,3.5\n")
    ...     read_csv(path), read_csv(path).filled().values.tolist()
    (Series(tide: [2, 2], 2024-02-28 to 2024-02-29, season 1), [[1.5, 4.0], [1.5, 3.5]])
    """
    who = f"read_csv: {path}"
    if isinstance(columns, str):
        columns = [columns]
    lines = _lines(who, read_text(path), delimiter)
    header = [field.strip() for field in lines[0][1]]
    if all(_is_number(field, decimal) or _is_time([field]) for field in header):
        header = [str(i) for i in range(len(header))]
    else:
        lines = lines[1:]
    if not lines:
        raise DataError(f"{who}: there is no row below the names of the columns.")
    for number, row in lines:
        if len(row) != len(header):
            raise DataError(
                f"{who}, line {number}: {len(row)} fields, and the first line has {len(header)}."
            )
    table = dict(zip(header, zip(*(row for _, row in lines)), strict=False))
    when = time if isinstance(time, str) else None
    if time is True:
        others = [name for name in header if name not in (columns or ())]
        when = next((name for name in others if _is_when(table[name], decimal)), None)
    chosen = [name for name in header if name != when] if columns is None else list(columns)
    for name in [*chosen, *([] if when is None else [when])]:
        if header.count(name) != 1:
            known = ", ".join(map(repr, header))
            raise DataError(
                f"{who}: there are {header.count(name)} columns {name!r}; it has {known}."
            )
    if columns is None and "" in chosen:
        raise DataError(
            f"{who}: column {header.index('') + 1} has no name, and may be a count of the rows; "
            f"name the columns to read, columns=[...]."
        )
    if not chosen:
        raise DataError(f"{who}: there is no column beside the times.")
    numbers = [number for number, _ in lines]
    values = np.array([_values(who, name, table[name], numbers, decimal) for name in chosen]).T
    return Series(
        name=Path(path).stem,
        values=values if len(chosen) > 1 else values[:, 0],
        times=np.arange(len(lines))
        if when is None
        else _ascending(who, when, table[when], numbers),
        unit=unit,
        season=season,
        source=str(path),
        licence="",
        columns=tuple(chosen) if len(chosen) > 1 else (),
    )


def _lines(who: str, text: str, delimiter: str | None) -> list[tuple[int, list[str]]]:
    """(line number, fields) of all lines that hold anything; at least one."""
    if delimiter is None:
        first = next(line for line in text.split("\n") if line.strip())
        delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        return [(reader.line_num, row) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise DataError(f"{who}, line {reader.line_num}: {error}.") from None


def _number(field: str, decimal: str) -> float:
    text = field.strip()
    if text.lower() in MISSING:
        return np.nan
    if "_" in text or (decimal != "." and "." in text):
        raise ValueError(text)
    return float(text.replace(decimal, "."))


def _is_number(field: str, decimal: str) -> bool:
    try:
        _number(field, decimal)
    except ValueError:
        return False
    return True


def _values(
    who: str, name: str, fields: Sequence[str], lines: Sequence[int], decimal: str
) -> list[float]:
    values = []
    for field, line in zip(fields, lines, strict=True):
        try:
            values.append(_number(field, decimal))
        except ValueError:
            comma = decimal == "." and _is_number(field, ",")
            hint = "pass decimal=','" if comma else "name the columns to read, columns=[...]"
            raise DataError(
                f"{who}, line {line}, column {name!r}: {field!r} is no number; {hint}."
            ) from None
    return values


def _is_when(fields: Sequence[str], decimal: str) -> bool:
    """Whether a column holds times, and not numbers: 1999 may be either."""
    return not all(_is_number(field, decimal) for field in fields) and _is_time(fields)


def _is_time(fields: Sequence[str]) -> bool:
    try:
        _times(fields)
    except ValueError:
        return False
    return True


def _times(fields: Sequence[str]) -> Array:
    return np.array([_moment(field.strip()) for field in fields], "datetime64")


def _moment(text: str) -> str:
    if not text[:1].isdigit():  # NumPy knows "now", and takes "" for no time
        raise ValueError(f"{text!r} is no time")
    if _ZONE.search(text):
        return datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None).isoformat()
    return text


def _ascending(who: str, name: str, fields: Sequence[str], lines: Sequence[int]) -> Array:
    try:
        times = _times(fields)
    except ValueError as error:
        raise DataError(
            f"{who}, column {name!r}: {error}; times are in ISO 8601, as 2024-02-29 18:00. Convert "
            f"them, or leave them out with time=False and columns=[...]."
        ) from None
    late = np.flatnonzero(~(np.diff(times) > np.timedelta64(0)))
    if late.size:
        row = int(late[0]) + 1
        raise DataError(
            f"{who}, line {lines[row]}: {fields[row]} does not come after {fields[row - 1]}; sort "
            f"the rows by {name!r}, one row for each, or pass time=False to take them as they are."
        )
    return times
