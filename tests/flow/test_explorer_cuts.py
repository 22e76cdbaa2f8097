"""The explorer in a real browser: what was judged comes first; long sequences, narrow screens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from explorer_browser import Tab
from explorer_pages import Shown, layer, network

from minigrad.flow import explorer
from minigrad.flow.cuts import Depth

Keys = pytest.importorskip("selenium.webdriver.common.keys", reason="selenium is missing").Keys
pytestmark = pytest.mark.slow

IN_SIGHT = """
    const [box, one] = ['#graph', arguments[0]].map(s => document.querySelector(s));
    const [a, b] = [box, one].map(e => e.getBoundingClientRect());
    return b.left >= a.left && b.right <= a.right + 1"""


def read_at_many_steps() -> Shown:
    found = network("lstm", steps=9)
    found.summed = 100.0
    return found


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_opens_at_the_loss_with_all_of_the_way_in_outline(tab: Tab, width: int) -> None:
    tab.emulate(width=width)
    tab.open(explorer.page({"LSTM": network("lstm", steps=150)}, text="x" * 150))
    assert tab.text("#now").startswith("at the loss")
    assert tab.js(IN_SIGHT, ".loss")
    assert tab.js(IN_SIGHT, ".node.source")
    assert tab.count(".node.lit") == 0
    outlines = tab.js(
        "return [...document.querySelectorAll('.node.unlit rect')]"
        ".map(r => r.style.getPropertyValue('--ahead'))"
    )
    assert len(set(outlines)) > 20
    assert all(outlines)
    lines = tab.js(
        "return [...document.querySelectorAll('#text > span')].map(s => s.style.boxShadow)"
    )
    assert all(lines)


def test_a_fitted_line_that_leaves_the_axes_keeps_its_slope_and_is_cut_off_there(
    tab: Tab,
) -> None:
    (cut,) = network("rnn", steps=40).cuts
    fit = replace(cut.judged.fit, rate=1e-3, intercept=5.0)  # from above the curve to far below it
    shown = network("rnn", steps=40)
    shown.judged = replace(cut.judged, fit=fit)
    tab.open(explorer.page({"RNN": shown}))
    ends = tab.js(
        "const f = document.querySelector('.plot .fit');"
        "return ['x1', 'y1', 'x2', 'y2'].map(a => Number(f.getAttribute(a)))"
    )
    axes = tab.js(
        "return [...document.querySelectorAll('.plot > .grid')]"
        ".map(g => Number(g.getAttribute('y1')))"
    )
    powers = tab.js(
        "return [...document.querySelectorAll('.plot > text')].map(t => t.textContent)"
        ".filter(t => t.startsWith('10'))"
    )
    plain = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    first, last = (int(powers[i][2:].translate(plain)) for i in (0, -1))
    decade = (axes[-1] - axes[0]) / (first - last)
    fall = (ends[3] - ends[1]) / decade  # from the loss to the farthest lag, downwards
    assert fall == pytest.approx(-39 * np.log10(fit.rate), rel=1e-3)
    assert ends[1] < axes[0]
    assert ends[3] > axes[-1] + 100
    frame = "return getComputedStyle(document.querySelector('.plot .fit').ownerSVGElement).overflow"
    assert tab.js(frame) == "hidden"
    box = "return document.querySelector('.plot .fit').ownerSVGElement.getAttribute('height')"
    assert float(tab.js(box)) < axes[-1] - axes[0] + 10


def test_on_a_narrow_screen_the_player_and_the_graph_come_first_and_stay(
    tab: Tab, four: str
) -> None:
    tab.emulate(width=390)
    tab.open(four)
    place = (
        "return ['#stage', '#play', '#graph', '.options', '#node'].map(s => {"
        "const r = document.querySelector(s).getBoundingClientRect(); return [r.top, r.bottom]; })"
    )
    stage, play, graph, options, node = tab.js(place)
    assert play[0] < graph[0] < options[0] < node[0]
    assert stage[1] - stage[0] < 450  # of 900
    assert tab.count(".track") == 1  # the selected network alone
    tab.js("window.scrollTo(0, document.documentElement.scrollHeight)")
    tab.until(lambda: tab.js(place)[0][0] == pytest.approx(0, abs=2))
    stage, play, graph, *_ = tab.js(place)
    assert play[0] >= 0
    assert graph[1] <= stage[1] <= 450
    tab.find("#numbers summary").send_keys(Keys.ENTER)  # what has the focus is not behind it
    top = "return document.querySelector('#numbers summary').getBoundingClientRect().top"
    assert tab.js(top) >= stage[1] - 1


def test_of_2000_steps_the_columns_in_sight_have_nodes_and_all_can_be_reached(tab: Tab) -> None:
    shown = network("lstm", steps=2000, units=3, decay=0.995)
    tab.open(explorer.page({"LSTM": shown}, text="x" * 2000))
    assert tab.count(".node") < 3 * 480
    for step in (2000, 1400, 1, 700):
        tab.slide(step - 1)
        assert tab.text("#now").startswith(f"step {step} of 2000")
        front = tab.node(f"LSTM S →, step {step} ")
        assert "lit" in front.get_attribute("class")
        norm = float(front.get_attribute("aria-label").split()[-1])
        assert norm == pytest.approx(shown.cuts[0].profile[2000 - step], rel=0.06)
    tab.js("document.getElementById('graph').scrollLeft = 1e9")
    tab.until(lambda: tab.count('.node[aria-label^="LSTM S →, step 2000 "]') == 1)
    tab.choose("#zoom", "all")
    fits = "const g = document.getElementById('graph'); return g.scrollWidth <= g.clientWidth"
    assert tab.js(fits)
    assert 300 < tab.count(".node") < 3 * 1000
    steps = tab.js("return [...document.querySelectorAll('.node')].map(n => n.node.t)")
    assert max(steps) == 1999
    assert min(steps) < 5
    speeds = tab.js("return [...document.getElementById('speed').options].map(o => o.textContent)")
    assert speeds[-1] == "all in 10 s"


def test_a_loss_read_at_many_steps_has_a_switch_to_the_sum(tab: Tab) -> None:
    shown = read_at_many_steps()
    tab.open(explorer.page({"LSTM": shown}))
    tab.slide(4)
    (cut,) = shown.cuts

    def said() -> float:
        return float(tab.text("#now .number").split()[-1])

    assert said() == pytest.approx(cut.profile[4], rel=0.01)
    assert tab.find("#paths-box").is_displayed()
    tab.find('label[for="reading-1"]').click()
    assert said() == pytest.approx(cut.summed[4], rel=0.01)
    assert tab.count(".plot .fit") == 0  # the fit is of what was judged
    assert not tab.find("#paths-box").is_displayed()
    tab.find('label[for="reading-0"]').click()
    assert said() == pytest.approx(cut.profile[4], rel=0.01)
    tab.open(explorer.page({"LSTM": shown}, summed=True))
    tab.slide(4)
    assert said() == pytest.approx(cut.summed[4], rel=0.01)
    tab.open(explorer.page({"LSTM": network("lstm", steps=9)}))
    assert not tab.find("#readings").is_displayed()


def test_shares_of_states_and_layers_are_those_of_the_cut(tab: Tab) -> None:
    found = Shown()
    for level, decay in enumerate((0.9, 0.8)):
        one = layer(f"net/l{level}/fwd", range(8), ("h", "c"), decay=decay, seed=level)
        found[one.path] = one
    (cut,) = found.cuts
    tab.open(explorer.page({"deep": found}))
    tab.slide(2)
    lag = 5
    wanted = [f"{100 * share:.0f} %" for share in cut.shares[lag]]
    assert tab.text("#now").startswith("step 3 of 8 |dL/dS|")
    texts = [element.text for element in tab.all("#paths svg text")]
    assert texts[::2] == ["l0 h", "l0 c", "l1 h", "l1 c"]
    assert texts[1::2] == wanted
    facts = tab.text("#node .facts")
    for name, share in zip(texts[::2], wanted):
        assert f"by {name} {share}" in facts


def test_the_verdict_of_the_cut_comes_first_and_each_layer_is_beneath(tab: Tab) -> None:
    found = network("lstm", steps=9)
    found.depth = [Depth("lstm/l1", "lstm/l0", 1.0, 1e-6)]
    (cut,) = found.cuts
    tab.open(explorer.page({"LSTM": found}))
    first = tab.find("#verdicts .verdict-line").text
    assert first.startswith(f"LSTM {cut.verdict.kind}")
    assert cut.verdict.reason in first
    assert "lost in depth, between layer 1 and layer 0" in tab.text("#verdicts")
    assert "lost in depth" in tab.text(".track-head")
    assert "before training it does not say whether the net will learn" in tab.text("#beneath")
    assert not tab.find(".own table").is_displayed()
    tab.find(".own summary").click()
    rows = [row.text for row in tab.all(".own tbody tr")]
    assert [row.split()[:2] for row in rows] == [["lstm/l0/fwd", "h"], ["lstm/l0/fwd", "c"]]
