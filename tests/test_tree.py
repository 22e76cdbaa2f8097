"""Trees of states: leaves, names, rebuilding, and what counts as alike."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from minigrad.errors import ShapeError
from minigrad.tree import check_alike, leaves, map_leaves, named_leaves, rebuild, structure


class Pair(NamedTuple):
    h: Any
    c: Any


TREES: list[Any] = [
    1,
    (),
    None,
    (1, 2),
    [1, [2]],
    Pair(1, 2),
    {"b": 1, "a": Pair(2, (3, None))},
    (Pair([1], {"x": 2}), None, 3),
]


@pytest.mark.parametrize("tree", TREES, ids=structure)
def test_rebuilding_from_its_leaves_gives_the_tree_back(tree: Any) -> None:
    assert rebuild(tree, leaves(tree)) == tree
    assert map_leaves(lambda x: x, tree) == tree
    assert [leaf for _, leaf in named_leaves(tree)] == leaves(tree)


def test_named_tuples_keep_their_type_and_name_their_leaves() -> None:
    mapped = map_leaves(lambda x, y: x + y, Pair(1, (2, 3)), (10, (20, 30)))
    assert mapped == Pair(11, (22, 33))
    assert type(mapped) is Pair
    assert [name for name, _ in named_leaves(Pair(1, {"a": (2,)}))] == ["h", "c.a[0]"]


def test_dicts_match_by_key_whatever_their_order() -> None:
    assert map_leaves(lambda x, y: x - y, {"h": 3, "c": 5}, {"c": 1, "h": 1}) == {"h": 2, "c": 4}


def test_a_different_structure_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"carry: expected \(\*, \*\), got \*"):
        check_alike("carry", Pair(1, 2), 3)
    with pytest.raises(ShapeError, match=r"expected \{h: \*\}, got \{c: \*\}"):
        map_leaves(lambda x, y: x, {"h": 1}, {"c": 1})
    check_alike("carry", Pair(1, 2), (3, 4))  # a plain tuple stands for a named one
