"""States as trees: a Tensor, or tuples, named tuples, lists and dicts of trees.

The state of a GRU is one Tensor, that of an LSTM the named tuple (h, c), that of your own cell
whatever you like. These functions treat them alike. `None` is a tree without leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .errors import ShapeError


def named_leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(name, leaf) for every leaf; a name reads like the access to it. Dicts go by sorted key.

    >>> list(named_leaves({"h": 1, "c": (2, 3)}))
    [('c[0]', 2), ('c[1]', 3), ('h', 1)]
    """
    children = _children(tree)
    if children is None:
        yield path, tree
        return
    for key, child in children:
        where = f"[{key}]" if isinstance(key, int) else f".{key}" if path else key
        yield from named_leaves(child, path + where)


def leaves(tree: Any) -> list[Any]:
    """The leaves alone, in the order of `named_leaves`."""
    if not isinstance(tree, (tuple, list)):
        children = _children(tree)
        return [tree] if children is None else [x for _, child in children for x in leaves(child)]
    found: list[Any] = []
    for child in tree:
        if child is None or isinstance(child, (tuple, list, dict)):
            found += leaves(child)
        else:
            found.append(child)
    return found


def emptied(tree: Any) -> Any:
    """The tree with 0 for each leaf: what `rebuild` needs of it, without keeping the leaves.

    >>> emptied({"h": 1, "c": (2, 3)})
    {'c': (0, 0), 'h': 0}
    """
    return map_leaves(lambda _: 0, tree)


def rebuild(tree: Any, values: Iterable[Any]) -> Any:
    """A tree of the same structure with `values` as its leaves.

    >>> rebuild({"h": 1, "c": (2, 3)}, [20, 30, 10])
    {'c': (20, 30), 'h': 10}
    """
    values = iter(values)
    if not isinstance(tree, (tuple, list)):
        children = _children(tree)
        if children is None:
            return next(values)
        if tree is None:
            return None
        return {key: rebuild(child, values) for key, child in children}
    inside = []
    for child in tree:
        if child is None or isinstance(child, (tuple, list, dict)):
            inside.append(rebuild(child, values))
        else:
            inside.append(next(values))
    return type(tree)(*inside) if hasattr(tree, "_fields") else type(tree)(inside)


def map_leaves(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """The tree of function(leaf, and the leaves of `others` at the same place).

    Raises ShapeError if the trees differ in structure.

    >>> map_leaves(lambda a, b: a + b, (1, [2]), (10, [20]))
    (11, [22])
    """
    for other in others:
        check_alike("map_leaves", tree, other)
    return rebuild(tree, [function(*row) for row in zip(*map(leaves, (tree, *others)))])


def check_alike(who: str, expected: Any, came: Any) -> None:
    """Raises ShapeError unless the two trees have the same structure."""
    if structure(expected) != structure(came):
        raise ShapeError(f"{who}: expected {structure(expected)}, got {structure(came)}.")


def structure(tree: Any) -> str:
    """The tree with `*` for each leaf; a named tuple reads as a tuple.

    >>> structure({"h": 1.0, "c": (2.0, 3.0)})
    '{c: (*, *), h: *}'
    """
    children = _children(tree)
    if children is None:
        return "*"
    if tree is None:
        return "None"
    parts = [structure(child) for _, child in children]
    if isinstance(tree, dict):
        named = (f"{key}: {part}" for (key, _), part in zip(children, parts, strict=True))
        return f"{{{', '.join(named)}}}"
    return f"[{', '.join(parts)}]" if isinstance(tree, list) else f"({', '.join(parts)})"


def _children(tree: Any) -> list[tuple[Any, Any]] | None:
    """(key, subtree) pairs; None for a leaf."""
    if tree is None:
        return []
    if isinstance(tree, dict):
        return sorted(tree.items())
    if isinstance(tree, (tuple, list)):
        return list(zip(getattr(tree, "_fields", range(len(tree))), tree, strict=True))
    return None
