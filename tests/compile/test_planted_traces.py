"""Faults planted in what is remembered and cut: the tests that state the rules see them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from compile import test_cut, test_indices, test_pure, test_record, test_repeats

from minigrad.compile import checks, compiled, fusing, promise, remember, reversing
from minigrad.compile.tracer import Tracer


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """No program with a fault is left for another test."""
    fusing._COMPILED.clear()
    yield
    fusing._COMPILED.clear()


def test_indices_of_an_earlier_call_are_seen(monkeypatch: Any) -> None:
    monkeypatch.setattr(remember, "why_not", lambda *args: "")
    monkeypatch.setattr(remember, "has_integers", lambda given: False)
    with pytest.raises(AssertionError):
        test_indices.test_each_call_reads_its_own_indices(test_indices.promised, np.int64)
    with pytest.raises(AssertionError):
        test_indices.test_each_window_reads_its_own_indices(test_indices.promised, {"truncate": 1})


def test_a_trace_used_again_after_an_attribute_changed_is_seen(monkeypatch: Any) -> None:
    monkeypatch.setattr(remember, "attributes", lambda *args: ())
    with pytest.raises(AssertionError):
        test_pure.test_a_trace_is_not_used_again_once_an_attribute_has_changed("an attribute")


def test_a_class_trusted_after_its_method_was_replaced_is_seen(monkeypatch: Any) -> None:
    monkeypatch.setattr(promise, "_definition", lambda cls: promise._CLASSES.get(cls))
    with pytest.raises(AssertionError):
        test_pure.test_a_class_whose_method_was_replaced_is_not_trusted("forward", monkeypatch)


def test_a_cut_passed_on_as_uncut_is_seen(monkeypatch: Any) -> None:
    real = reversing._Reverse._facts

    def uncut(self: Any, v: Any, rule: Any) -> list[Any]:
        facts = real(self, v, rule)
        return [Tracer(self.trace, f._value) if type(f) is Tracer else f for f in facts]

    monkeypatch.setattr(reversing._Reverse, "_facts", uncut)
    with pytest.raises(AssertionError):
        test_cut.test_second_derivatives_of_a_product_with_a_detached_factor()


def test_a_gradient_of_a_tap_that_leaves_out_eager_ops_is_seen(monkeypatch: Any, rng: Any) -> None:
    monkeypatch.setattr(compiled, "read_ahead", lambda program: set())
    with pytest.raises(AssertionError):
        test_record.test_every_tapped_value_has_the_gradient_that_the_tape_gives_it({}, rng)


def test_side_effects_that_nobody_looks_for_are_seen(monkeypatch: Any) -> None:
    monkeypatch.setattr(fusing, "check_repeats", lambda *args: None)
    assert checks.check_repeats is not fusing.check_repeats
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_repeats.test_what_changes_from_trace_to_trace_is_refused_and_named(
            test_repeats._mask, "multiply"
        )
