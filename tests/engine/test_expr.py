"""Scalar expressions: recording a body, sharing equal parts, printing kernel source."""

import numpy as np
import pytest

from minigrad import DeclarationError, scalar
from minigrad.expr import source
from minigrad.ops import cos, where


def test_a_body_is_printed_with_equal_parts_shared():
    got = source(lambda x: scalar.exp(x) * (1.0 + scalar.exp(x)), ["x"])
    assert got.text == (
        "def element(x):\n    t0 = exp(x)\n    t1 = c(1.0) + t0\n    t2 = t0 * t1\n    return t2\n"
    )
    assert (got.inputs, got.signature) == (("x",), "f->f")


def test_inputs_that_are_not_read_are_left_out():
    got = source(lambda g, a, b: g * b, ["g", "a", "b"])
    assert got.inputs == ("g", "b")


def test_the_untouched_first_input_needs_no_kernel():
    assert source(lambda g, x: g, ["g", "x"]) is None


def test_registered_ops_are_recorded_in_place():
    got = source(lambda g, x: -g * cos(x), ["g", "x"])
    assert "cos(x)" in got.text


def test_masks_have_their_own_type():
    got = source(lambda c, g: where(c, g, 0.0), ["c", "g"], bools=["c"])
    assert got.signature == "bf->f"
    assert source(lambda a, b: a < b, ["a", "b"]).signature == "ff->b"


def test_several_results_and_special_constants():
    got = source(lambda x: (x + np.inf, x * float("nan"), x - 1), ["x"])
    assert got.signature == "f->fff"
    assert 'c("inf")' in got.text
    assert 'c("nan")' in got.text


def test_a_diamond_of_depth_200_is_walked_once():
    def double(x):
        for _ in range(200):
            x = x + x
        return x

    assert source(double, ["x"]).text.count("\n") == 202


def test_branching_on_a_value_says_what_to_use_instead():
    with pytest.raises(DeclarationError, match=r"use scalar.where"):
        source(lambda x: x if x > 0 else -x, ["x"])
