"""Training, validation and test parts that share nothing.

    parts = mg.data.split_in_time(len(series))                     # the future is never trained on
    parts = mg.data.split_by_group(speakers)                       # no speaker is in two parts
    parts = mg.data.split_at_random(len(names), labels=labels)     # the same mix of labels in each
    parts.train, parts.valid, parts.test                           # int64 indices

A number that is measured on the test part says something about new data only if nothing of it was
seen in training: not its items, not another recording of the same person, not its mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .sources import DataError

Array = np.ndarray

SHARES = (0.8, 0.1, 0.1)


class Parts(NamedTuple):
    """Indices of the three parts, int64, ascending. Together every item once."""

    train: Array
    valid: Array
    test: Array


def split_in_time(length: int, shares: Sequence[float] = SHARES) -> Parts:
    """The first share, the next, the last: for series, and for one long text.

    >>> [len(part) for part in split_in_time(309)]
    [247, 31, 31]
    """
    _check_shares("split_in_time", shares)
    parts = np.split(np.arange(length, dtype=np.int64), _cuts(length, shares))
    return _none_empty("split_in_time", Parts(*parts), shares, f"{length} steps")


def split_at_random(
    length: int,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
    labels: Sequence[Any] | Array | None = None,
) -> Parts:
    """Items drawn at random, for items that have nothing to do with each other.

    labels: (length,), keeps the shares within each label too (stratified).

    >>> labels = ["rare"] * 10 + ["frequent"] * 90
    >>> [(part < 10).sum().item() for part in split_at_random(100, labels=labels)]
    [8, 1, 1]
    """
    return _split("split_at_random", np.arange(length), shares, seed, labels)


def split_by_group(
    groups: Sequence[Any] | Array,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
    labels: Sequence[Any] | Array | None = None,
) -> Parts:
    """Whole groups drawn at random: all items of a speaker, a word, a date land in one part.

    groups: (N,), equal for the items that belong together. The shares are of groups, so those of
        items differ from them when groups differ in size.
    labels: (N,), one for each item and the same within a group, keeps the shares of groups within
        each label (stratified).

    >>> words = ["read", "lead", "read", "lead", "tin"]
    >>> [[words[i] for i in part] for part in split_by_group(words, (0.4, 0.3, 0.3))]
    [['tin'], ['read', 'read'], ['lead', 'lead']]
    """
    return _split("split_by_group", groups, shares, seed, labels)


def _split(who: str, groups: Any, shares: Sequence[float], seed: int, labels: Any) -> Parts:
    _check_shares(who, shares)
    keys = np.asarray(groups)
    if keys.ndim != 1:
        raise DataError(f"{who}: groups are one number or string for each item, got {keys.shape}.")
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    kinds = np.zeros(len(keys), np.int64) if labels is None else _numbers(who, labels, len(keys))
    mixed = kinds != kinds[first][group]
    if mixed.any():
        at = int(np.argmax(mixed))
        raise DataError(
            f"{who}: item {at} has another label than item {first[group[at]]} of its group; "
            f"all items of a group need the same, or leave labels out."
        )
    order = shuffled(len(first), seed)
    part_of_group = np.empty(len(first), np.int64)
    for kind in np.unique(kinds):
        members = order[kinds[first][order] == kind]
        cuts = _cuts(len(members), shares)
        part_of_group[members] = np.searchsorted(cuts, np.arange(len(members)), side="right")
    part = part_of_group[group]
    parts = Parts(*(np.flatnonzero(part == i) for i in range(3)))
    return _none_empty(who, parts, shares, f"{len(first)} items or groups")


def shuffled(length: int, *seed: int) -> Array:
    """int64 (length,): the numbers 0 ... length - 1 in an order that depends on the seed alone.

    Drawn from the raw 64 bits of PCG64, whose stream NumPy promises to keep (NEP 19), unlike that
    of Generator.permutation: an order saved in a checkpoint is the same under a later NumPy.

    >>> shuffled(5, 0).tolist()
    [3, 2, 1, 0, 4]
    """
    if seed and min(seed) < 0:
        raise DataError(f"a seed is a whole number of 0 or more, got {min(seed)}.")
    bits = np.random.PCG64(np.random.SeedSequence(seed)).random_raw(length)
    return np.argsort(np.asarray(bits, np.uint64), kind="stable").astype(np.int64)


def _cuts(length: int, shares: Sequence[float]) -> Array:
    """Where the second and the third part begin."""
    return np.floor(np.cumsum(shares)[:2] * length + 0.5 + 1e-9).astype(np.int64)


def _check_shares(who: str, shares: Sequence[float]) -> None:
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise DataError(
            f"{who}: shares are those of train, valid and test and add up to 1, got {shares}."
        )


def _none_empty(who: str, parts: Parts, shares: Sequence[float], what: str) -> Parts:
    for name, share, indices in zip(Parts._fields, shares, parts, strict=True):
        if share > 0 and not len(indices):
            raise DataError(
                f"{who}: of {what} none is left for {name} (share {share}); use a larger share or "
                f"more data."
            )
    return parts


def _numbers(who: str, labels: Any, length: int) -> Array:
    values = np.asarray(labels)
    if values.shape != (length,):
        raise DataError(f"{who}: labels are one for each of {length} items, got {values.shape}.")
    return np.unique(values, return_inverse=True)[1].astype(np.int64)
