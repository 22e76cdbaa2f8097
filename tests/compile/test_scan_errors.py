"""What scan refuses, and what it says: the value, the place, and what to do instead."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import DTypeError, ShapeError, TraceError

H = mg.tensor(np.zeros((2, 3), np.float32))
X = mg.tensor(np.zeros((4, 2, 3), np.float32))
W = mg.tensor(np.ones((3, 3), np.float32), requires_grad=True, name="W")


def keep(h: Any, x: Any) -> tuple[Any, Any]:
    return h, x


@pytest.mark.parametrize("mode", ["fused", "tape"])
@pytest.mark.parametrize(
    ("error", "message", "arguments", "options"),
    [
        (ShapeError, r"\(T, B, \.\.\.\).*xs float32\[3\]", (H, np.ones(3, np.float32)), {}),
        (ShapeError, r"\(T, B, \.\.\.\).*\[1\]", (H, (X, X[:3])), {}),
        (ShapeError, r"at least one step and one row", (H, X[:0]), {}),
        (ShapeError, r"one length for each of the 2 rows", (H, X), {"lengths": [1, 2, 3]}),
        (ShapeError, r"lengths\[1\] is -1", (H, X), {"lengths": [1, -1]}),
        (ShapeError, r"lengths\[0\] is 5, and the input has 4", (H, X), {"lengths": [5, 1]}),
        (DTypeError, r"lengths are numbers of steps", (H, X), {"lengths": [1.0, 2.0]}),
        (ValueError, r"truncate is a number of steps.*got 0", (H, X), {"truncate": 0}),
        (ValueError, r"truncate is .*got True", (H, X), {"truncate": True}),
        (ValueError, r"checkpoint is .*got 2\.5", (H, X), {"checkpoint": 2.5}),
    ],
)
def test_arguments(error: Any, message: str, arguments: Any, options: Any, mode: str) -> None:
    with pytest.raises(error, match=message):
        mg.scan(keep, *arguments, mode=mode, **options)


def test_an_unknown_mode() -> None:
    with pytest.raises(ValueError, match="mode must be 'fused' or 'tape', got 'fast'"):
        mg.scan(keep, H, X, mode="fast")


def test_a_state_of_another_number_of_rows() -> None:
    with pytest.raises(ShapeError, match=r"carry is float32\[3, 3\], but xs have 2 rows"):
        mg.scan(keep, np.ones((3, 3), np.float32), X)
    with pytest.raises(ShapeError, match=r"c is float32\[1\].*2 rows"):
        mg.scan(keep, {"h": H, "c": np.ones(1, np.float32)}, X)


def test_record_of_an_unknown_name_lists_the_known_ones() -> None:
    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        return mg.tap("state", h + x), h

    with pytest.raises(ValueError, match=r"record='gate', but the cell taps 'state'; mark it by"):
        mg.scan(cell, H, X, record=["state", "gate"])
    with pytest.raises(ValueError, match="the cell taps nothing"):
        mg.scan(keep, H, X, record="h")


@pytest.mark.parametrize("mode", ["fused", "tape"])
@pytest.mark.parametrize(
    ("error", "message", "cell"),
    [
        (ShapeError, r"the carry leaves the cell as float32\[2, 2\] but came in as float32\[2, 3\]",
         lambda h, x: (h[:, :2], x)),
        (DTypeError, r"the carry leaves the cell as bool\[2, 3\]", lambda h, x: (h > 0, x)),
        (ShapeError, r"the carry leaves the cell as \(\*, \*\) but came in as \*",
         lambda h, x: ((h, h), x)),
    ],
)  # fmt: skip
def test_a_state_that_changes(error: Any, message: str, cell: Any, mode: str) -> None:
    with pytest.raises(error, match=message):
        mg.scan(cell, H, X, mode=mode)


@pytest.mark.parametrize("mode", ["fused", "tape"])
def test_a_state_that_changes_names_the_component(mode: str) -> None:
    with pytest.raises(ShapeError, match=r"carry 'c\[1\]' leaves the cell as float32\[2, 1\]"):
        mg.scan(lambda s, x: ({"c": (x, x[:, :1])}, x), {"c": (H, H)}, X, mode=mode)


def in_scope(cell: Any) -> Any:
    def scoped(h: Any, x: Any) -> Any:
        with mg.scope("gate"):
            return cell(h, x)

    return scoped


def branch(h: Any, x: Any) -> Any:
    return (h, x) if h[:, 0] > 0 else (x, h)


def edit(h: Any, x: Any) -> Any:
    h[0] = 1.0
    return h, x


MIXING = [
    ("sum", lambda h: h + mg.sum(h)),
    ("mean", lambda h: h - h.mean(axis=0)),
    ("max", lambda h: h - mg.max(h, axis=0, keepdims=True)),
    ("softmax", lambda h: mg.softmax(h, axis=0)),
    ("cumsum", lambda h: mg.cumsum(h, axis=0)),
    ("flip", lambda h: mg.flip(h, 0)),
    ("flip", lambda h: h[::-1]),
    ("roll", lambda h: mg.roll(h, 1, axis=0)),
    ("getitem", lambda h: h + h[0]),
    ("getitem", lambda h: mg.concatenate([h[1:], h[:1]])),
    ("getitem", lambda h: h[[1, 0]]),
    ("concatenate", lambda h: mg.concatenate([h, h])),
    ("pad", lambda h: mg.pad(h, [(1, 0), (0, 0)])),
    ("reshape", lambda h: h.reshape(3, 2)),
    ("matmul", lambda h: h @ h.T @ h),
    ("matmul", lambda h: mg.tensor(np.ones((2, 2), np.float32)) @ h),
]


@pytest.mark.parametrize(("op", "cell"), MIXING, ids=[f"{n}{k}" for k, (n, _) in enumerate(MIXING)])
def test_an_op_that_mixes_rows_is_named_with_its_scope(op: str, cell: Any) -> None:
    del op  # composites are named by the op inside
    with pytest.raises(TraceError, match=r"(scope gate)|(In \w+ \(scope gate\))") as caught:
        mg.scan(in_scope(lambda h, x: (cell(h), x)), H, X)
    text = str(caught.value)
    assert "rows" in text or "batch" in text
    assert "mode='tape'" in text


@pytest.mark.parametrize(
    ("message", "cell"),
    [
        (r"a Python branch asked whether a value holds.*mg\.where", branch),
        (r"item\(\) asked for its number", lambda h, x: (h * h.sum(1)[0:2].item(), x)),
        (r"item\(\) asked for its number", lambda h, x: (h * float(h), x)),
        (r"numpy\(\) asked for its values.*functions of minigrad", lambda h, x: (h, x.numpy())),
        (r"NumPy asked for its values", lambda h, x: (h, np.asarray(h))),
        (r"\.data asked for its values", lambda h, x: (h, h.data)),
        (r"tolist\(\) asked for its values", lambda h, x: (h, h.tolist())),
        (r"t\[\.\.\.\] = value.*mg\.where", edit),
        (r"backward\(\).*call backward on what scan returns", lambda h, x: h.backward()),
        (r"register_hook\(\).*mg\.tap", lambda h, x: h.register_hook(print)),
        (r"requires_grad_\(\)", lambda h, x: (h.requires_grad_(), x)),
        (r"used as an index.*choose with mg.where", lambda h, x: (h, x[x > 0])),
        (r"used as an index.*mg.where", lambda h, x: (h, W[(h > 0)])),
        (r"list of 65 integers", lambda h, x: (h, x[:, [0] * 65])),
        (r"a mask or several lists need mode='tape'", lambda h, x: (h, x[:, [True, False, True]])),
        (r"the cell returned Tracer; expected a pair", lambda h, x: h),
        (r"y is a constant \[3, 3\]; expected \(B", lambda h, x: (h, W)),
        (r"the carry's batch axis has moved", lambda h, x: (mg.transpose(x, (1, 0))[:2], x)),
    ],
)
def test_what_a_traced_step_cannot_do(message: str, cell: Any) -> None:
    init, xs = (H, X) if "moved" not in message else (H[:, :2], X[:, :, :2])
    with pytest.raises(TraceError, match=message) as caught:
        mg.scan(cell, init, xs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("message", "cell"),
    [
        (r"float64 in a step of float32; a step has one float dtype.*astype\(np\.float32\)",
         lambda h, x: (h + mg.tensor(np.ones(3)), x)),
        (r"expected a mask", lambda h, x: (h, mg.where(h, h, x))),
        (r"expected floats", lambda h, x: (h, (h > 0) * 2.0)),
        (r"where: of two numbers it is float64", lambda h, x: (h, mg.where(h > 0, 1.0, 0.0))),
        (r"concatenate: bool\[B, 3\] beside float32",
         lambda h, x: (h, mg.concatenate([h, h > 0], 1))),
    ],
)  # fmt: skip
def test_dtypes_do_not_mix(message: str, cell: Any) -> None:
    with pytest.raises(DTypeError, match=message):
        mg.scan(cell, H, X)


def test_dtypes_of_state_and_input_do_not_mix() -> None:
    with pytest.raises(DTypeError, match=r"the x x is float64 in a step of float32"):
        mg.scan(keep, H, np.ones((4, 2, 3)))


def test_astype_to_another_float_is_refused_in_a_step() -> None:
    with pytest.raises(TraceError, match=r"astype.*a step has one float dtype, float32"):
        mg.scan(lambda h, x: (h, (h + x).astype(np.float64)), H, X)


def test_a_carry_of_integers_has_no_bptt() -> None:
    w = mg.tensor(np.ones((3, 3), np.float32), requires_grad=True)
    count = mg.tensor(np.zeros((2, 1), np.int64))
    with pytest.raises(DTypeError, match=r"carry of the cell is int64\[B, 1\].*state of floats"):
        mg.scan(lambda n, x: (n, x @ w), count, X)


def test_dropout_inside_a_step_would_draw_once_for_all_steps() -> None:
    drop = mg.nn.Dropout(0.5)
    with pytest.raises(TraceError, match=r"pass them in as xs.*mode='tape'"):
        mg.scan(lambda h, x: (h, drop(x)), H, X)
    drop.eval()
    assert mg.scan(lambda h, x: (h, drop(x)), H, X).ys.shape == (4, 2, 3)


def test_a_value_of_one_step_does_not_leak_into_another() -> None:
    leaked: list[Any] = []

    def first(h: Any, x: Any) -> Any:
        leaked.append(h)
        return h, x

    mg.scan(first, H, X)
    with pytest.raises(TraceError, match="one scan's step is used in the step of another"):
        mg.scan(lambda h, x: (h + leaked[0], x), H, X)


def test_after_a_refusal_the_next_scan_works() -> None:
    with pytest.raises(TraceError):
        mg.scan(branch, H, X)
    final, _ = mg.scan(lambda h, x: (h + 1.0, x), H, X)
    np.testing.assert_array_equal(final.numpy(), np.full((2, 3), 4.0, np.float32))
