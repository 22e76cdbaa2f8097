"""Two recordings side by side: what is said to differ does, where it does."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.flow import FlowError, compare, intervene, probe

T, B, H = 12, 2, 3


def lstm(**options: Any) -> Any:
    generator = np.random.default_rng(0)
    return mg.nn.LSTM(2, H, dtype=np.float64, mode="tape", generator=generator, **options)


@pytest.fixture
def xs(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(T, B, 2))


def test_a_patched_state_differs_from_its_step_on_by_what_numpy_finds(xs: np.ndarray) -> None:
    layer = lstm()
    before = probe(layer, xs)
    with intervene("c", patch=1.0, steps=5, rows=0):
        after = probe(layer, xs)
    found = compare(before, after)
    path = "lstm/l0/fwd"
    for name in ("c", "h", "i"):
        change, a, b = found[path, name], before[path].values[name], after[path].values[name]
        np.testing.assert_allclose(change.before, np.sqrt((a**2).mean()), rtol=1e-12)
        np.testing.assert_allclose(change.after, np.sqrt((b**2).mean()), rtol=1e-12)
        wanted = np.sqrt(((b - a) ** 2).mean(axis=(1, 2)))
        np.testing.assert_allclose(change.difference, wanted, rtol=1e-12)
        assert change.where == ("t = 6 to 11" if name == "i" else "t = 5 to 11")
        assert np.flatnonzero(change.touched).tolist() == ([5] if name == "c" else [])
    gradient = next(c for c in found.changes if (c.name, c.of) == ("c", "gradient"))
    np.testing.assert_allclose(gradient.before, np.linalg.norm(before[path].norms["c"]), rtol=1e-12)
    verdicts = found.verdicts["lstm/l0/fwd"]
    assert [v.kind for v in verdicts] == [before.verdict.kind, after.verdict.kind]
    text = str(found)
    assert text.splitlines()[0].split() == [
        "cut,", "layer", "before", "after", "differs", "at", "most", "by",
    ]  # fmt: skip
    assert "t = 5 to 11" in text
    assert found.to_dict()["changes"][0]["path"] == path
    assert '<td style="text-align:left;white-space:pre">t = 5 to 11</td>' in found._repr_html_()


def test_the_reverse_direction_differs_from_its_step_back(xs: np.ndarray) -> None:
    layer = lstm(bidirectional=True)
    before = probe(layer, xs)
    with intervene("h", scale=2.0, steps=5):
        after = probe(layer, xs)
    found = compare(before, after)
    assert found["lstm/l0/fwd", "c"].where == "t = 6 to 11"
    assert found["lstm/l0/rev", "c"].where == "t = 0 to 4"
    assert found["lstm/l0/rev", "h"].steps.tolist() == list(range(T))


def test_the_same_twice_is_the_same_and_a_clipped_gradient_changes_no_value(xs: np.ndarray) -> None:
    layer = lstm()
    before = probe(layer, xs)
    assert {c.where for c in compare(before, probe(layer, xs)).changes} == {"same"}
    with intervene("h", clip_norm=1e-3):
        found = compare(before, probe(layer, xs))
    assert {c.where for c in found.changes if c.of == "value"} == {"same"}
    after = next(c.after for c in found.changes if (c.name, c.of) == ("h", "gradient"))
    assert 0 < after <= 1e-3 * np.sqrt(T * B) * (1 + 1e-12)


def test_nan_and_inf_differ_from_numbers_and_not_from_themselves(xs: np.ndarray) -> None:
    layer, broken = lstm(), xs.copy()
    broken[4, 1] = np.nan
    with np.errstate(all="ignore"):
        a, b, clean = probe(layer, broken), probe(layer, broken), probe(layer, xs)
        assert {c.where for c in compare(a, b).changes if c.of == "value"} == {"same"}
        assert compare(clean, a)["lstm/l0/fwd", "c"].where == "t = 4 to 11"
        assert "t = 4 to 11      nan" in str(compare(clean, a))


def test_what_cannot_be_compared_is_refused(xs: np.ndarray) -> None:
    rec = probe(lstm(), xs)
    with pytest.raises(FlowError, match="12 steps in one recording and 6"):
        compare(rec, probe(lstm(), xs[:6]))
    with pytest.raises(FlowError, match=r"is \[12, 2, 3\].* and \[12, 1, 3\]"):
        compare(rec, probe(lstm(), xs[:, :1]))
    gru = mg.nn.GRU(2, H, dtype=np.float64, mode="tape", generator=np.random.default_rng(0))
    with pytest.raises(FlowError, match="no layer in common"):
        compare(rec, probe(gru, xs))
    with pytest.raises(FlowError, match="got a dict"):
        compare(rec, {"after": rec})  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="compared are"):
        _ = compare(rec, rec)["lstm/l0/fwd", "q"]


def test_the_picture_draws_the_differences_and_shades_the_steps(xs: np.ndarray) -> None:
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    layer = lstm()
    before = probe(layer, xs)
    for given, labels, lines in (
        ({"name": "c", "patch": 0.0, "steps": [3, 7]}, ["c", "h"], 2),
        ({"name": "h", "clip_norm": 1e-3, "steps": [11]}, ["|dL/dh|", "|dL/dc|"], 2),
        ({"name": "h", "scale": 1.0}, [], 0),
    ):
        with intervene(**given):
            found = compare(before, probe(layer, xs))
        figure = mg.flow.plots.compare(found)
        left, right = figure.axes
        assert left.get_title("left") == "How far the gradient reaches"
        assert {line.get_label() for line in right.lines} == set(labels)
        assert len(right.lines) == lines
        shaded = [p.get_x() + 0.5 for p in right.patches]
        assert shaded == list(given.get("steps", range(T)))
        for line in right.lines:
            name, of = line.get_label(), "value"
            if name.startswith("|"):
                name, of = name[5], "gradient"
            change = next(c for c in found.changes if (c.name, c.of) == (name, of))
            shown = np.asarray(line.get_ydata())
            assert np.array_equal(np.isfinite(shown), change.differs)
            assert np.array_equal(shown[change.differs], change.difference[change.differs])
        out = BytesIO()
        figure.savefig(out, format="png")
        assert out.getvalue().startswith(b"\x89PNG")
    with pytest.raises(mg.flow.plots.PlotError, match="got Recording"):
        mg.flow.plots.compare(before)  # type: ignore[arg-type]
