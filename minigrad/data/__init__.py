"""Small real data sets that ship with the package, and what turns them into batches."""

from .text import DataError, Vocabulary, read_text, shakespeare, spaced_windows, split, windows

__all__ = [
    "DataError",
    "Vocabulary",
    "read_text",
    "shakespeare",
    "spaced_windows",
    "split",
    "windows",
]
