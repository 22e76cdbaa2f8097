"""Text for character models: a play that ships with the package, your own file, and windows of it.

    text = mg.data.shakespeare()
    vocabulary = mg.data.Vocabulary(text)
    ids = vocabulary.encode(text)
    batch = mg.data.windows(ids, length=101, batch=16, rng=np.random.default_rng(0))   # (101, 16)
    xs, ys = batch[:-1], batch[1:]

Arrays are (T, B) as everywhere: time first. Here ys holds the next character for each of xs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..untrusted import read_bytes
from .sources import DataError, read

Array = np.ndarray
MOST_CORPUS = 1 << 30  # bytes of a text to learn from


def shakespeare() -> str:
    """Hamlet: plain ASCII, 177,898 characters of 64 kinds. Public domain; see the README beside it.

    >>> shakespeare().splitlines()[8:10]
    ['BERNARDO:', "Who's there?"]
    """
    return read("shakespeare").decode("ascii")


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file, line ends unified. Raises DataError that says what is wrong."""
    path = Path(path)
    try:
        raw = read_bytes(path, MOST_CORPUS)
    except FileNotFoundError:
        raise DataError(f"text file {path}: no such file.") from None
    except OSError as error:
        if path.is_dir():
            raise DataError(f"text file {path}: this is a folder; give a file in it.") from None
        raise DataError(f"text file {path}: cannot be read ({error.strerror or error}).") from None
    try:
        text = raw.decode("utf-8-sig")  # an editor's byte order mark is not part of the text
    except UnicodeDecodeError as error:
        raise DataError(
            f"text file {path}: not UTF-8 (byte 0x{raw[error.start]:02x} at position "
            f"{error.start}); convert it, for example with `iconv -f latin1 -t utf-8`."
        ) from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise DataError(f"text file {path}: it is empty.")
    return text


class Vocabulary:
    """The characters of a text, sorted, and their numbers 0 ... len - 1.

    limit: keep this many of the most frequent characters; all others share the last number and
        decode to U+FFFD. A text in Chinese has thousands of kinds, most seen once.

    >>> v = Vocabulary("to be or not to be")
    >>> v.symbols, v.encode("bet").tolist(), v.decode([1, 5, 2, 6])
    (' benort', [1, 2, 6], 'bret')
    """

    OTHER = "\ufffd"

    def __init__(self, text: str, limit: int | None = None):
        if not text:
            raise DataError("Vocabulary: expected a text with at least one character, it is empty.")
        points, counts = np.unique(_code_points(text), return_counts=True)
        if limit is not None and points.size > limit:
            kept = np.sort(np.argsort(-counts, kind="stable")[: limit - 1])
            points = np.append(points[kept], ord(self.OTHER)).astype(points.dtype)
            points = np.unique(points)
        self._points = points
        self.symbols = "".join(map(chr, points))

    def __len__(self) -> int:
        return len(self.symbols)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} symbols: {self.symbols[:40]!r}{'...' * (len(self) > 40)})"

    def encode(self, text: str) -> Array:
        """int64[len(text)]. Raises DataError for a character outside the vocabulary (unless it was
        limited).
        """
        points = _code_points(text)
        ids = np.searchsorted(self._points, points).clip(max=len(self) - 1)
        unknown = self._points[ids] != points
        if unknown.any():
            if self.OTHER not in self.symbols:
                at = int(np.argmax(unknown))
                raise DataError(
                    f"Vocabulary.encode: {text[at]!r} at position {at} is not among the "
                    f"{len(self)} symbols."
                )
            ids[unknown] = self.symbols.index(self.OTHER)
        return ids.astype(np.int64)

    def decode(self, ids: Array | list[int]) -> str:
        """The text of a sequence of numbers."""
        return "".join(self.symbols[i] for i in np.asarray(ids).ravel())


def _code_points(text: str) -> Array:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def split(ids: Array, holdout: float = 0.1) -> tuple[Array, Array]:
    """(training part, last `holdout` share): the end of the text is never trained on."""
    cut = len(ids) - round(len(ids) * holdout)
    return ids[:cut], ids[cut:]


def windows(ids: Array, length: int, batch: int, rng: np.random.Generator) -> Array:
    """int64 (length, batch): `batch` stretches of the text at random places, one in each column."""
    return _columns(ids, rng.integers(0, _last_start(ids, length) + 1, batch), length)


def spaced_windows(ids: Array, length: int, batch: int) -> Array:
    """int64 (length, batch): stretches evenly spaced over the text, the same at each call; for
    evaluation.
    """
    starts = np.linspace(0, _last_start(ids, length), batch).astype(np.int64)
    return _columns(ids, starts, length)


def _columns(ids: Array, starts: Array, length: int) -> Array:
    return ids[starts + np.arange(length)[:, None]]


def _last_start(ids: Array, length: int) -> int:
    if length < 1 or len(ids) < length:
        raise DataError(
            f"windows: {len(ids)} characters hold no stretch of {length}; use a longer text or "
            f"fewer steps."
        )
    return len(ids) - length
