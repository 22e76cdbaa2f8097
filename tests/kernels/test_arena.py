"""Memory that is used again is never used twice at once."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from minigrad.kernels import arena

N = arena.SMALL  # floats: four times what is small


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    gc.collect()
    arena.clear()


def test_memory_comes_back_when_its_array_is_gone() -> None:
    x = arena.empty((4, N // 4), np.float32)
    place = x.ctypes.data
    del x
    assert arena.empty((N,), np.float32).ctypes.data == place


@pytest.mark.parametrize(
    "view",
    [lambda x: x, lambda x: x[1:], lambda x: x.reshape(-1)[5:].view(np.int32), lambda x: x.T[::2]],
)
def test_memory_stays_while_any_view_of_it_is_there(view: object) -> None:
    kept = view(arena.empty((4, N // 4), np.float32))  # type: ignore[operator]
    kept[...] = 7
    gc.collect()
    others = [arena.empty((N,), np.float32) for _ in range(4)]
    for other in others:
        other.fill(1)
        assert not np.may_share_memory(other, kept)
    assert (kept == 7).all()


def test_arrays_of_nearly_one_size_share_memory() -> None:
    x = arena.empty((N,), np.float32)
    place = x.ctypes.data
    del x
    assert arena.empty((N - 100,), np.float32).ctypes.data == place


def test_no_more_is_kept_than_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena, "MOST", 6 * N)
    arrays = [arena.empty((N,), np.float32) for _ in range(3)]
    arrays.clear()
    assert 0 < arena.clear() <= 6 * N
