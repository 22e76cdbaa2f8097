"""What results show of themselves in a notebook: the numbers that they print, and pictures."""

from __future__ import annotations

import base64
import html
import importlib.util
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import explorer_browser
import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.flow import explorer, notebook
from minigrad.flow.prescribing.prescription import Outcome, Prescription, Tried

NEEDED = ("ipykernel", "nbclient", "nbformat", "matplotlib")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
SMALL = 20_000  # characters of HTML, of one object
not_compiled = pytest.mark.rare  # what is shown is the same however it was computed


def probed(cell: str = "LSTM", steps: int = 12, **options: Any) -> mg.flow.Recording:
    rng = np.random.default_rng(0)
    layer = getattr(nn, cell)(2, 3, generator=rng, **options)
    return mg.flow.probe(layer, rng.normal(size=(steps, 2, 2)).astype(np.float32))


@pytest.fixture(scope="module")
def rec() -> mg.flow.Recording:
    return probed()


def parsed(shown: str) -> ElementTree.Element:
    """The HTML of an object, which is XML too; whatever is not escaped fails here."""
    return ElementTree.fromstring(f"<div>{shown}</div>")


def cells(shown: str) -> list[list[str]]:
    return [["".join(cell.itertext()) for cell in row] for row in parsed(shown).iter("tr")]


def words(shown: str) -> str:
    return " ".join("".join(parsed(shown).itertext()).split())


def tallness(image: str) -> list[int]:
    """Of the bars of a picture, in pixels."""
    data = re.search(r'base64,([^"]+)"', image)
    assert data is not None
    svg = base64.b64decode(data[1]).decode()
    assert "<script" not in svg
    return [int(n) for n in re.findall(r"h3v(\d+)z", svg)]


# -- one by one ----------------------------------------------------------------------------------


@not_compiled
def test_a_recording_shows_the_rows_and_the_sentences_of_its_report(rec: Any) -> None:
    shown = rec._repr_html_()
    printed = str(mg.flow.report(rec)).splitlines()
    table, notes = printed[: printed.index("")], printed[printed.index("") + 1 :]
    rows = [" ".join(" ".join(row[:-1]).split()) for row in cells(shown)]
    assert len(rows) == len(table) > 2
    for row, line in zip(rows[1:], table[1:], strict=True):
        assert " ".join(line.split()).startswith(row)
    for note in notes:
        assert " ".join(note.split()) in words(shown)
    assert len(shown) < SMALL


def test_pictures_of_profiles_are_as_tall_as_their_logarithms() -> None:
    profile = np.array([1.0, 1e-1, 0.0, 1e-3, np.nan, 1e-4])
    assert tallness(notebook.bars(profile, -4, 0)) == [20, 16, 6, 2, 20]  # nan in its own path
    assert notebook.bars(profile, -4, 0).count('alt="█▇ ▃!▁"') == 1
    assert tallness(notebook.bars(np.ones(1000), -1, 0)) == [notebook.HIGH] * notebook.BARS
    assert tallness(notebook.bars(np.zeros(0), -1, 0)) == []


@not_compiled
def test_several_recordings_are_named_in_their_rows(rec: Any) -> None:
    shown = mg.flow.report({"<b>one</b>": rec, "two": rec})._repr_html_()
    assert cells(shown)[1][0].startswith("<b>one</b> ")
    assert cells(shown)[-1][0].strip().startswith("two ")


@not_compiled
def test_of_a_recording_of_many_calls_the_first_are_shown_and_the_others_counted() -> None:
    layer = nn.RNN(2, 3, generator=np.random.default_rng(0))
    with mg.flow.record() as rec:
        for _ in range(50):
            layer(mg.tensor(np.ones((4, 1, 2), np.float32)))[0].sum().backward()
    shown = rec._repr_html_()
    assert len(cells(shown)) == 1 + notebook.MOST
    assert re.search(r"and \d+ more rows and lines, which print\(\) shows", words(shown))
    assert len(shown) < 3 * SMALL


@not_compiled
def test_a_recording_that_says_nothing_yet_shows_why() -> None:
    with mg.flow.record() as rec:
        nn.RNN(2, 3)(mg.tensor(np.ones((4, 1, 2), np.float32)))
    assert "no gradient arrived at any of them; call backward()" in words(rec._repr_html_())


@not_compiled
def test_a_layer_shows_its_states_its_verdict_and_its_gates(rec: Any) -> None:
    (layer,) = rec.values()
    shown = layer._repr_html_()
    assert [row[1] for row in cells(shown)] == ["state", "h", "c"]
    assert str(layer.verdict).split(": ", 1)[1].split(";")[0] in words(shown)
    assert "f: 0." in words(shown)
    assert repr(layer) == "<LayerFlow lstm/l0/fwd: h, c at 12 steps>"


@not_compiled
def test_a_call_that_no_gradient_reached_is_shown_as_such() -> None:
    layer = nn.RNN(2, 3, generator=np.random.default_rng(0))
    x = mg.tensor(np.ones((4, 1, 2), np.float32))
    with mg.flow.record() as rec:
        layer(x)
        layer(x)[0].sum().backward()
    first = next(iter(rec.values()))
    assert first.forward_only
    assert "forward only" in words(first._repr_html_())
    assert "forward only" in words(rec._repr_html_())


@not_compiled
def test_a_cut_and_a_verdict_show_kind_reason_and_advice(rec: Any) -> None:
    cut = rec.cuts[0]
    for shown in (cut._repr_html_(), cut.verdict._repr_html_()):
        assert cut.verdict.kind in words(shown)
        assert cut.verdict.reason.split(";")[0] in words(shown)
        assert ("try: " in words(shown)) == bool(cut.verdict.advice)
    assert repr(cut).startswith(f"<Cut {cut.name}: {cut.verdict.kind}: ")


def prescription() -> Prescription:
    outcomes = [Outcome(seed, 7.0, 9.0, 30.0, 1.0, 0.5) for seed in range(6)]
    without = [Outcome(seed, 7.0, 7.0, 8.0, 1.0, 0.75) for seed in range(6)]
    tried = [Tried("forget bias", "bias_f += 1  # <f>", outcomes, without)]
    found = Prescription("vanishing: reach 7 steps", 20, [], 10, 6, 5.0, without, tried)
    return found.judged()


def test_a_prescription_shows_its_table_and_what_helped() -> None:
    shown = prescription()._repr_html_()
    assert [row[0] for row in cells(shown)] == ["remedy", "as it is", "forget bias"]
    assert cells(shown)[2][-2] == "6 of 6"
    assert "forget bias helped: the loss is lower in 6 of 6 seeds" in words(shown)
    assert repr(prescription()) == str(prescription())


@not_compiled
def test_names_that_are_markup_stay_text() -> None:
    layer = nn.RNN(2, 3, generator=np.random.default_rng(0))
    layer.scope_name = "<script>alert(1)</script>"
    rec = mg.flow.probe(layer, np.ones((5, 1, 2), np.float32))
    for shown in (rec._repr_html_(), next(iter(rec.values()))._repr_html_()):
        assert "<script" not in shown
        assert "<script>alert(1)</script>" in words(shown)


@not_compiled
def test_a_figure_shows_itself_at_the_size_it_was_made_for(rec: Any) -> None:
    pytest.importorskip("matplotlib")
    picture, shown_at = mg.flow.plots.decay(rec)._repr_png_()
    width, height = (int.from_bytes(picture[i : i + 4], "big") for i in (16, 20))  # of the header
    assert picture.startswith(b"\x89PNG")
    assert (width, height) == (2 * shown_at["width"], 2 * shown_at["height"])
    assert len(picture) < 100_000


def test_every_figure_is_one_that_shows_itself() -> None:
    folder = Path(mg.flow.plots.__file__).parent
    makers = [path.name for path in folder.glob("*.py") if "Figure(" in path.read_text("utf-8")]
    assert makers == [], "let style.figure() make it"


@not_compiled
def test_the_explorer_in_a_frame_is_the_page_that_is_saved(rec: Any, tmp_path: Path) -> None:
    shown = mg.flow.report({"LSTM & co": rec}).explore(text='a "quoted" te')
    frame = shown._repr_html_()
    held = re.search(r'srcdoc="([^"]*)"', frame)
    assert held is not None
    assert html.unescape(held[1]) == shown.html
    path = shown.save(tmp_path / "page.html")
    assert path.read_text("utf-8") == shown.html == explorer.page(
        {"LSTM & co": rec}, text="a \"quoted\" te"
    )  # fmt: skip
    assert 'sandbox="allow-scripts"' in frame  # and not allow-same-origin
    (tmp_path / "thesis.txt").write_text("years", encoding="utf-8")
    with pytest.raises(OSError, match="no explorer page"):
        shown.save(tmp_path / "thesis.txt")


def test_what_notebooks_need_is_not_imported_with_minigrad() -> None:
    code = (
        "import sys, minigrad; "
        "print({'minigrad.flow.explorer', 'matplotlib', 'IPython'}"
        " & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# -- all in one notebook -------------------------------------------------------------------------

SETUP = """
import sys
import numpy as np
import minigrad as mg
rng = np.random.default_rng(0)
lstm = mg.nn.LSTM(2, 3, generator=rng)
with mg.flow.record() as rec:
    lstm(mg.tensor(rng.normal(size=(12, 2, 2)).astype(np.float32)))[0][-1].sum().backward()
"""
SHOWN = {  # code -> what a notebook shows of it
    "rec": "text/html",
    "mg.flow.report({'LSTM': rec})": "text/html",
    "rec['lstm/l0/fwd']": "text/html",
    "rec.cuts[0]": "text/html",
    "rec.verdict": "text/html",
    "mg.flow.plots.decay(rec)": "image/png",
    "mg.flow.plots.heatmap(rec['lstm/l0/fwd'])": "image/png",
    "mg.flow.report(rec).explore()": "text/html",
    "mg.flow.draw(rec)": "image/svg+xml",
    "mg.flow.draw(mg.nn.LSTMCell(2, 3))": "image/svg+xml",
}


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """code -> its outputs, of a notebook that a kernel of its own has executed."""
    if MISSING:
        pytest.skip(f"not installed: {', '.join(MISSING)}")
    if mg.flow.find_engine() is None:
        pytest.skip("no Graphviz engine")
    import nbformat
    from jupyter_client import AsyncKernelManager
    from nbclient import NotebookClient

    folder = tmp_path_factory.mktemp("notebook")
    new = nbformat.v4.new_code_cell
    no_pyplot = "assert 'matplotlib.pyplot' not in sys.modules"
    book = nbformat.v4.new_notebook(cells=[new(code) for code in (SETUP, *SHOWN, no_pyplot)])
    manager = AsyncKernelManager(kernel_name="python3")
    if os.name == "posix":  # sockets in a folder of this user, no port that others could reach
        manager.transport, manager.ip = "ipc", f"{folder}/socket"
    client = NotebookClient(book, km=manager, timeout=120)
    client.execute(cleanup_kc=True, env=os.environ | {"NUMBA_DISABLE_JIT": "1"})
    return {cell.source: cell.outputs for cell in book.cells[1:-1]}


def test_every_object_is_shown_once_and_small(executed: dict[str, Any]) -> None:
    for code, kind in SHOWN.items():
        (output,) = executed[code]  # nothing on stderr, and no traceback of a formatter
        assert output.output_type == "execute_result", code
        assert set(output.data) == {kind, "text/plain"}, code
        size = sum(map(len, output.data.values()))
        assert size < (400_000 if "explore" in code else 100_000), code


def test_pictures_have_a_size_on_the_page(executed: dict[str, Any]) -> None:
    (output,) = executed["mg.flow.plots.decay(rec)"]
    assert base64.b64decode(output.data["image/png"]).startswith(b"\x89PNG")
    assert output.metadata["image/png"] == {"width": 512, "height": 304}


@pytest.mark.browser
@pytest.mark.skipif(bool(explorer_browser.missing()), reason=explorer_browser.missing() or "there")
def test_the_notebook_as_a_page_shows_the_explorer_and_asks_nothing_of_the_network(
    executed: dict[str, Any], tmp_path: Path
) -> None:
    driver = explorer_browser.start(tmp_path / "profile")
    try:
        driver.get_log("performance")
        tab = explorer_browser.Tab(driver, tmp_path)
        tab.emulate()
        page = tmp_path / "notebook.html"
        page.write_text("".join(as_html(outputs[0]) for outputs in executed.values()), "utf-8")
        driver.get(page.as_uri())
        assert tab.count("img") > 5
        wide = "[...document.images].every(i => i.complete && i.naturalWidth > 0)"
        assert tab.js(f"return {wide}")
        driver.switch_to.frame(tab.find("iframe"))
        tab.until(lambda: tab.js("return document.documentElement.dataset.ready === 'true'"))
        assert tab.count(".node") > 12
        tab.find("#play").click()
        driver.switch_to.default_content()
        asked = [url.partition(":")[0] for url in tab.requests()]
        assert set(asked) <= {"file", "data", "about", "chrome"}
        assert [entry for entry in tab.said() if "Error" in entry] == []
    finally:
        driver.quit()


def as_html(output: Any) -> str:
    """As a page shows it: HTML and SVG as they are, pictures as images."""
    data = output.data
    if "image/png" in data:
        return f'<img src="data:image/png;base64,{data["image/png"]}" width="512">'
    return data.get("text/html") or data["image/svg+xml"]
