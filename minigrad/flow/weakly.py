"""What is remembered of objects for as long as they live."""

from __future__ import annotations

import weakref
from typing import Any, Generic, TypeVar

V = TypeVar("V")


class Weakly(Generic[V]):
    """object -> value, by identity: objects need no hash, and are not kept alive.

    >>> class Net: __hash__ = None
    >>> known, net = Weakly[int](), Net()
    >>> known[net] = 3
    >>> known.get(net), known.get(Net())
    (3, None)
    >>> del net
    >>> len(known)
    0
    """

    def __init__(self) -> None:
        self._items: dict[int, tuple[weakref.ref[Any], V]] = {}

    def get(self, key: Any) -> V | None:
        item = self._items.get(id(key))
        return item[1] if item is not None and item[0]() is key else None

    def __setitem__(self, key: Any, value: V) -> None:
        # Nothing here is part of a cycle: where the garbage collector clears weak references to an
        # object that is just going, CPython 3.11 crashes (PyObject_ClearWeakRefs).
        k, own = id(key), weakref.ref(self)

        def gone(_: Any) -> None:
            if (known := own()) is not None:
                known._items.pop(k, None)

        self._items[k] = weakref.ref(key, gone), value

    def __len__(self) -> int:
        return len(self._items)
