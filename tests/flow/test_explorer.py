"""The explorer's file: what is in it, how large it gets, and that no text can become markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from explorer_pages import Shown, default_run, layer, network, of_arrays
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy

import minigrad as mg
from minigrad.flow import explorer
from minigrad.flow.drawing.colors import STOPS
from minigrad.flow.explorer import ExplorerError, build, data, pack
from minigrad.flow.results import OutputError

NASTY = "</script><img src=x onerror=alert(1)>&\u2028\u2029\x00\ud83d'\"`${1}@@DATA@@"
MEGABYTE = 1_000_000


def contents(page: str) -> dict[str, Any]:
    """The data of a page, as a browser would read them."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(text)


def first_layer(page: str) -> dict[str, Any]:
    (moment,) = contents(page)["networks"][0]["moments"].values()
    return moment["layers"][0]


# -- numbers as text

FLOATS = of_numpy.arrays(
    np.float64, st.integers(1, 20), elements=st.floats(allow_nan=True, allow_infinity=True)
)


@given(FLOATS)
def test_even_codes_are_right_to_half_a_step(x: np.ndarray) -> None:
    packed = pack.linear(x)
    found, finite = pack.unpack(packed), np.isfinite(x)
    np.testing.assert_array_equal(found[~finite], x[~finite])
    if finite.any():
        half_step = (packed["hi"] / 2 - packed["lo"] / 2) / pack.LINEAR_TOP
        largest = np.abs(x[finite]).max()
        assert np.abs(found[finite] / 2 - x[finite] / 2).max() <= half_step + 1e-15 * largest


@given(FLOATS)
def test_logarithmic_codes_keep_sign_zero_and_what_is_not_finite(x: np.ndarray) -> None:
    packed = pack.log(x)
    found = pack.unpack(packed)
    regular = np.isfinite(x) & (x != 0)
    np.testing.assert_array_equal(found[~regular], x[~regular])
    np.testing.assert_array_equal(np.sign(found[regular]), np.sign(x[regular]))
    off = np.abs(np.log10(np.abs(found[regular])) - np.log10(np.abs(x[regular])))
    half_step = (packed["hi"] - packed["lo"]) / (pack.LOG_TOP - 1) / 2
    assert (off <= half_step + 0.31).all()  # a denormal of few bits has neighbours that far away
    normal = off[np.abs(x[regular]) > 1e-300]
    assert (normal <= half_step * 1.001 + 1e-12).all()


def test_a_gradient_over_fifty_decades_is_right_to_two_in_a_thousand() -> None:
    x = np.geomspace(1e-50, 1.0, 4001) * np.resize([1, -1], 4001)
    np.testing.assert_allclose(pack.unpack(pack.log(x)), x, rtol=2e-3)


def test_an_unknown_code_is_refused() -> None:
    with pytest.raises(ValueError, match="expected the code 'linear' or 'log', got 'cubic'"):
        pack.unpack({"code": "cubic", "lo": 0, "hi": 1, "data": ""})


# -- what is in the page


def test_values_and_gradients_come_back_as_they_were_recorded() -> None:
    recorded = layer("lstm/l0/fwd", range(7), ("h", "c"), ("f",), units=3, batch=4)
    found = first_layer(explorer.page(Shown({recorded.path: recorded}), sample=2))
    for name in ("f", "h", "c"):
        packed = found["values"][name]
        assert (packed["n"], packed["of"]) == (3, 3)
        np.testing.assert_allclose(
            pack.unpack(packed).reshape(7, 3), recorded.values[name][:, 2], atol=2e-5
        )
    for name in ("h", "c"):
        gradient = pack.unpack(found["gradients"][name]).reshape(7, 3)
        np.testing.assert_allclose(gradient, recorded.gradients[name][:, 2], rtol=1e-3)
        np.testing.assert_allclose(found["norms"][name], recorded.norms[name], rtol=1e-4)
        np.testing.assert_allclose(found["one"][name], recorded.per_sample[name][:, 2], rtol=1e-4)
    assert found["source"] == {"h": 6, "c": 6}
    assert found["verdicts"]["h"]["kind"] == recorded.verdicts["h"].kind


@pytest.mark.parametrize("cell", [mg.nn.RNN, mg.nn.LSTM, mg.nn.GRU])
def test_a_probed_layer_is_shown_with_gates_gradients_and_inputs(cell: Any) -> None:
    net = cell(3, 5, dtype=np.float64, generator=np.random.default_rng(0))
    xs = mg.tensor(np.random.default_rng(1).standard_normal((8, 2, 3)), requires_grad=True)
    recorded = mg.flow.probe(net, xs)
    page = explorer.page(recorded, text="minigrad")
    found = first_layer(page)
    (flow,) = recorded.values()
    assert set(found["values"]) == set(flow.values)
    gradient = pack.unpack(found["gradients"]["h"]).reshape(8, 5)
    np.testing.assert_allclose(gradient, flow.gradients["h"][:, 0], rtol=2e-3)
    shown = contents(page)["networks"][0]
    assert shown["text"] == {str(t): c for t, c in enumerate("minigrad")}
    norms = shown["moments"][""]["inputs"]["norms"]
    np.testing.assert_allclose(norms, np.linalg.norm(recorded.inputs, axis=1), rtol=1e-4)


def test_a_loop_written_by_hand_is_shown_without_what_nobody_knows() -> None:
    w, h = mg.tensor(np.eye(2), requires_grad=True), mg.tensor([[1.0, 2.0]])
    with mg.flow.record() as recorded:
        for t in range(4):
            with mg.scope(f"t={t}"):
                h = mg.tap("h", h @ w)
        h.sum().backward()
    page = explorer.page(recorded)
    assert contents(page)["networks"][0]["name"] == "network"
    assert contents(page)["networks"][0]["moments"][""]["inputs"] is None
    found = first_layer(page)
    assert found["norms"]["h"] == [1.4142] * 4
    np.testing.assert_array_equal(pack.unpack(found["gradients"]["h"]), 1.0)


def test_a_cell_with_states_of_other_names_is_shown(rng: np.random.Generator) -> None:
    arrays = {"membrane": rng.standard_normal((3, 1, 1))}
    recorded = of_arrays("", range(3), arrays, arrays)
    found = first_layer(explorer.page({"spiking": Shown({"": recorded})}))
    assert list(found["norms"]) == list(found["gradients"]) == ["membrane"]


def test_a_cell_that_carries_more_than_h_and_c_is_shown_from_its_loss_on() -> None:
    net = mg.nn.Recurrent(lambda size: mg.nn.SLSTMCell(size, 4, dtype=np.float64), 3)
    with mg.flow.record() as recorded:
        net(np.random.default_rng(1).standard_normal((8, 2, 3)))[0][5].sum().backward()
    (cut,) = contents(explorer.page(recorded))["networks"][0]["moments"][""]["cuts"]
    assert cut["steps"] == [5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.0])
def test_numbers_that_json_has_no_word_for_are_no_obstacle(bad: float) -> None:
    gradient = np.full((3, 1, 2), bad)
    recorded = of_arrays("rnn/l0/fwd", range(3), {"h": gradient}, {"h": gradient})
    page = explorer.page(Shown({recorded.path: recorded}))
    found = first_layer(page)
    np.testing.assert_array_equal(pack.unpack(found["gradients"]["h"]), bad)
    np.testing.assert_array_equal(np.array(found["norms"]["h"], float), abs(bad))


def test_one_step_of_one_unit_is_shown() -> None:
    recorded = layer("rnn/l0/fwd", [0], units=1, batch=1)
    found = first_layer(explorer.page(Shown({recorded.path: recorded})))
    assert found["steps"] == [0]
    assert found["verdicts"]["h"]["kind"] == "undecided"


def test_colours_are_those_of_the_drawings() -> None:
    assert contents(explorer.page(network("rnn")))["ramps"]["light"]["stops"] == list(STOPS)


def test_the_dark_ramp_gets_lighter_all_the_way() -> None:
    def lightness(color: str) -> float:
        return float(np.dot([int(color[i : i + 2], 16) for i in (1, 3, 5)], [0.30, 0.59, 0.11]))

    light = [lightness(stop) for stop in data.DARK_STOPS]
    assert light == sorted(light)
    assert min(np.diff(light)) > 15


def test_several_recordings_share_one_scale() -> None:
    shown = contents(
        explorer.page({"a": network("rnn", decay=0.1), "b": network("gru", decay=0.9)})
    )
    assert shown["scale"]["low"] < -6
    assert [n["name"] for n in shown["networks"]] == ["a", "b"]


# -- size


def test_the_default_run_takes_less_than_three_megabytes() -> None:
    text = dict.fromkeys(default_run(1, 1, 1), "To be, or not to be: that is the question. " * 5)
    page = explorer.page(default_run(), text=text)
    assert len(page.encode()) < 3 * MEGABYTE
    assert contents(page)["thinned"] == {"steps": 1, "units": 0}


@pytest.mark.parametrize(("steps", "units"), [(20_001, 3), (301, 1024)])
def test_a_larger_run_is_thinned_and_the_page_knows(steps: int, units: int) -> None:
    recorded = layer("lstm/l0/fwd", range(steps), ("h", "c"), ("f",), units, batch=1, decay=0.999)
    page = explorer.page(Shown({recorded.path: recorded}))
    assert len(page.encode()) < 3.5 * MEGABYTE
    found, thinned = first_layer(page), contents(page)["thinned"]
    assert (thinned["steps"] > 1, thinned["units"] > 0) == (steps > 6000, units > 512)
    assert found["count"] == steps
    kept = np.array(found["index"])
    assert kept[0] == 0
    assert kept[-1] == steps - 1
    np.testing.assert_allclose(
        np.array(found["norms"]["h"], float), recorded.norms["h"][kept], rtol=1e-4
    )
    packed = found["values"]["f"]
    chosen = packed.get("units", list(range(units)))
    assert len(chosen) == packed["n"] <= units
    np.testing.assert_allclose(
        pack.unpack(packed).reshape(len(kept), -1),
        recorded.values["f"][np.ix_(kept, [0], chosen)][:, 0],
        atol=2e-5,
    )


def test_thinning_keeps_the_step_where_the_loss_enters() -> None:
    recorded = layer("rnn/l0/fwd", range(13_000), units=1, batch=1, source=7_001, decay=0.99)
    found = first_layer(explorer.page(Shown({recorded.path: recorded})))
    assert 7_001 in found["index"]
    assert found["source"]["h"] == 7_001


# -- text stays text


def test_no_text_can_end_the_element_that_holds_the_data() -> None:
    recorded = {NASTY: {NASTY: Shown({NASTY: layer(NASTY, range(3), [NASTY])})}}
    page = explorer.page(recorded, title=NASTY, text=dict.fromkeys(range(3), NASTY), notes=NASTY)
    assert page.count("</script>") == 2
    assert "<img" not in page
    body = page[page.index('id="data">') :]
    assert "\u2028" not in body
    assert "&" not in body[: body.index("</script>")]
    shown = contents(page)
    assert shown["title"] == NASTY
    (found,) = shown["networks"]
    assert found["name"] == NASTY
    assert found["text"]["2"] == NASTY
    assert found["moments"][NASTY]["note"] == NASTY
    assert found["moments"][NASTY]["layers"][0]["path"] == NASTY
    page.encode("utf-8")


def test_the_title_is_escaped_for_readers_without_scripts() -> None:
    head = explorer.page(network("rnn"), title='<b>"R&D"</b>').split("</head>")[0]
    assert "<title>&lt;b&gt;&quot;R&amp;D&quot;&lt;/b&gt;</title>" in head


def test_the_policy_allows_what_is_in_the_file_and_nothing_else() -> None:
    page = explorer.page(network("rnn"))
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert "unsafe" not in policy
    assert "http" not in policy
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.S)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)
    for rule, text in (("style-src", style), ("script-src", script)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert page.index("Content-Security-Policy") < page.index("<style>")


def test_the_page_asks_for_nothing_from_outside() -> None:
    page = explorer.page(network("lstm"))
    links = set(re.findall(r"https?://[^\s\"'<>]+", page))
    assert links == {"http://www.w3.org/2000/svg"}  # the name of SVG's elements, never fetched
    assert not re.search(r"\b(src|srcset|action)=|url\(|@import|fetch\(|XMLHttp|WebSocket", page)


def test_the_scripts_never_write_markup() -> None:
    for file in resources.files(explorer).iterdir():
        if file.name.endswith(".js"):
            source = file.read_text("utf-8")
            assert not re.search(
                r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", source
            )
            assert not re.search(r"setAttribute\(\"style\"|style: ", source), file.name


def test_every_script_is_on_the_page() -> None:
    stems = {f.name[:-3] for f in resources.files(explorer).iterdir() if f.name.endswith(".js")}
    assert stems == set(build.SCRIPTS)


# -- the file


def test_the_file_is_replaced_if_it_is_a_page_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "flow.html"
    assert explorer.to_html(network("rnn"), path, title="one") == path
    explorer.to_html(network("rnn"), str(path), title="two")
    assert contents(path.read_text("utf-8"))["title"] == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["flow.html"]


def test_another_file_is_replaced_on_request_only(tmp_path: Path) -> None:
    path = tmp_path / "thesis.html"
    path.write_text("<!doctype html> ten years of work")
    with pytest.raises(OutputError, match=r"thesis.html: this file is no explorer page; .*replace"):
        explorer.to_html(network("rnn"), path)
    assert path.read_text() == "<!doctype html> ten years of work"
    explorer.to_html(network("rnn"), path, replace=True)
    assert build.MARK in path.read_text("utf-8")


def test_a_write_that_fails_leaves_the_earlier_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = explorer.to_html(network("rnn"), tmp_path / "flow.html", title="one")
    before = path.read_bytes()

    def disk_full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("minigrad.flow.engines.os.replace", disk_full)
    with pytest.raises(OutputError, match=r"cannot write here .No space left"):
        explorer.to_html(network("rnn"), path, title="two")
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_place_without_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"there is no folder .*missing; make it first"):
        explorer.to_html(network("rnn"), tmp_path / "missing" / "flow.html")
    with pytest.raises(OutputError, match="this is a folder; name a file in it"):
        explorer.to_html(network("rnn"), tmp_path)


@pytest.mark.parametrize(
    ("recordings", "said"),
    [
        ({}, "expected a Recording, or a dictionary of them by name, got an empty dict"),
        (7, "expected a Recording, or a dictionary of them by name, got int 7"),
        ({"lstm": 7}, "'lstm' is no Recording, but int 7"),
        ({"lstm": {}}, "'lstm' is no Recording, but an empty dict"),
        ({"lstm": {"before": 7}}, "'lstm', 'before' is no Recording, but int 7"),
    ],
)
def test_what_is_no_recording_is_refused(recordings: Any, said: str) -> None:
    with pytest.raises(ExplorerError, match=said):
        explorer.page(recordings)


def test_a_text_of_the_wrong_type_and_a_sample_out_of_range_are_refused() -> None:
    with pytest.raises(ExplorerError, match=r"text is a str, a dictionary t -> str, .* got int 3"):
        explorer.page(network("rnn"), text=3)
    with pytest.raises(ExplorerError, match=r"sample from 0 to 1 \(the batch has 2\), got 2"):
        explorer.page(network("rnn"), sample=2)


def test_a_recording_without_a_gradient_says_what_is_missing(tmp_path: Path) -> None:
    rnn = mg.nn.RNN(2, 3, generator=np.random.default_rng(0))
    with mg.flow.record() as recorded:
        rnn(np.ones((4, 1, 2), np.float32))
    with pytest.raises(mg.flow.FlowError, match="call backward"):
        explorer.to_html(recorded, tmp_path / "flow.html")
    assert list(tmp_path.iterdir()) == []


def test_the_report_of_a_recording_writes_the_page(tmp_path: Path) -> None:
    gru = mg.nn.GRU(2, 3, generator=np.random.default_rng(0))
    recorded = mg.flow.probe(gru, np.ones((4, 1, 2), np.float32))
    path = mg.flow.report(recorded).to_html(tmp_path / "flow.html", title="mine", text="abcd")
    shown = contents(path.read_text("utf-8"))
    assert (shown["title"], shown["networks"][0]["name"]) == ("mine", "gru")
