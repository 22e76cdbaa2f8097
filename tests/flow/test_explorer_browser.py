"""The explorer in a real browser: the graph, and the walk backwards through time."""

from __future__ import annotations

import numpy as np
import pytest
from explorer_browser import Tab
from explorer_pages import Shown, layer, network

from minigrad.flow import explorer
from minigrad.flow.drawing.colors import Scale

Keys = pytest.importorskip("selenium.webdriver.common.keys", reason="selenium is missing").Keys
pytestmark = pytest.mark.slow


# -- what is shown


def test_every_state_of_every_step_is_a_node_and_what_a_cut_of_several_carries(
    tab: Tab, four: str
) -> None:
    tab.open(four)
    assert tab.count(".node") == 20 + 3 * 20 + 20 + 4 * 41 + 2 * 20
    assert tab.text("h1") == tab.driver.title == "Four cells"
    assert tab.count(".track") == 4


def test_nothing_is_requested_but_the_file_itself(tab: Tab, four: str) -> None:
    tab.open(four)
    tab.press(Keys.SPACE)
    asked = [url for url in tab.requests() if not url.startswith("data:")]
    assert [url.rpartition("/")[2] for url in asked] == ["page.html"]


def test_numbers_in_the_browser_are_those_that_were_recorded(tab: Tab, lstm: str) -> None:
    recorded = network("lstm", steps=9)["lstm/l0/fwd"]
    tab.open(lstm)
    tab.node("LSTM h →, step 4 ").click()
    readouts = [element.text for element in tab.all("#node .readout")]
    labels = [element.text for element in tab.all("#node .strip-head b")]
    found = {label: float(text.split(": ")[1]) for label, text in zip(labels, readouts)}
    for name in ("i", "f", "g", "o", "c", "h"):
        assert found[name] == pytest.approx(recorded.values[name][3, 0, 0], rel=1e-3, abs=1e-3)
    for name in ("h", "c"):
        wanted = recorded.gradients[name][3, 0, 0]
        assert found[f"dL/d{name}, its direction"] == pytest.approx(wanted, rel=2e-3)
    norm = float(tab.find("#node .facts dd span").text)
    assert norm == pytest.approx(recorded.norms["h"][3], rel=1e-3)


def test_colours_of_nodes_are_those_of_the_drawings(tab: Tab, lstm: str) -> None:
    recorded = network("lstm", steps=9)
    (flow,) = recorded.values()
    all_norms = np.concatenate([*flow.norms.values(), np.linalg.norm(recorded.inputs, axis=1)])
    wanted = Scale.around(all_norms).color(flow.norms["h"][2])
    tab.open(lstm)
    tab.slide(0)
    node = '.node[aria-label^="LSTM h →, step 3 "] rect'
    found = tab.js("return document.querySelector(arguments[0]).style.fill", node)
    channels = [int(x) for x in found.removeprefix("rgb(").removesuffix(")").split(",")]
    assert np.abs(np.subtract(channels, list(bytes.fromhex(wanted[1:])))).max() <= 1


# -- the walk


def test_the_slider_lights_what_the_gradient_has_reached(tab: Tab, lstm: str) -> None:
    tab.open(lstm)
    tab.slide(0)
    assert tab.count(".node.lit") == 3 * 9
    tab.slide(9)
    assert tab.count(".node.lit") == 0
    assert "at the loss" in tab.text("#now")
    tab.slide(6)
    assert tab.count(".node.lit") == 3 * 3
    assert tab.text("#now").startswith("step 7 of 9")


def test_play_walks_backwards_from_the_loss_to_the_first_step(tab: Tab, lstm: str) -> None:
    tab.open(lstm)
    assert "at the loss" in tab.text("#now")
    tab.choose("#speed", "40")
    tab.js(
        "window.seen = []; new MutationObserver(() => window.seen.push("
        "document.querySelector('#now strong').textContent))"
        ".observe(document.getElementById('now'), {childList: true})"
    )
    tab.find("#play").click()
    tab.until(lambda: tab.text("#play") == "Play")
    seen = list(dict.fromkeys(tab.js("return window.seen")))
    assert seen == [f"step {t} of 9" for t in range(9, 0, -1)]


def test_play_can_run_the_forward_pass_first(tab: Tab, lstm: str) -> None:
    tab.open(lstm)
    tab.choose("#speed", "40")
    tab.find("#forward-first").click()
    tab.js(
        "window.seen = []; new MutationObserver(() => window.seen.push("
        "document.querySelector('#now').innerText))"
        ".observe(document.getElementById('now'), {childList: true})"
    )
    tab.find("#play").click()
    tab.until(lambda: tab.text("#play") == "Play")
    seen = list(dict.fromkeys(" ".join(text.split()[:4]) for text in tab.js("return window.seen")))
    forth = [f"step {t} of 9" for t in range(1, 10)]
    assert [text for text in seen if text.startswith("step")] == forth  # and the same ones back
    assert tab.count(".node.lit") == 27


def test_space_pauses_and_arrows_take_single_steps(tab: Tab, lstm: str) -> None:
    tab.open(lstm)
    tab.choose("#speed", "3")
    tab.press(Keys.SPACE)
    assert tab.text("#play") == "Pause"
    tab.press(Keys.SPACE)
    assert tab.text("#play") == "Play"
    tab.press(Keys.END)
    assert "at the loss" in tab.text("#now")
    tab.press(Keys.ARROW_LEFT)
    tab.press(Keys.ARROW_LEFT)
    assert tab.text("#now").startswith("step 8 of 9")
    tab.press(Keys.ARROW_RIGHT)
    assert tab.text("#now").startswith("step 9 of 9")
    tab.press(Keys.HOME)
    assert tab.text("#now").startswith("step 1 of 9")


def test_the_slider_takes_keys_itself(tab: Tab, lstm: str) -> None:
    tab.open(lstm)
    tab.press(Keys.END, "#time")
    assert "at the loss" in tab.text("#now")
    tab.press(Keys.ARROW_LEFT, "#time")
    assert tab.text("#now").startswith("step 9 of 9")
    assert tab.find("#time").get_attribute("aria-valuetext") == "step 9 of 9"


def test_a_live_region_says_step_and_norm(tab: Tab, lstm: str) -> None:
    (cut,) = network("lstm", steps=9).cuts
    tab.open(lstm)
    tab.slide(4)
    tab.until(lambda: "step 5 of 9" in tab.text("#live"))
    assert tab.text("#live") == f"step 5 of 9: |dL/dS| {cut.profile[4]:.3g}"
    assert tab.find("#live").get_attribute("aria-live") == "polite"


def test_both_directions_of_a_pair_walk_away_from_the_gap(tab: Tab) -> None:
    tab.open(explorer.page({"BiLSTM": network("bilstm", steps=5)}, text="0123456789a"))
    tab.slide(3)  # two steps taken
    lit = tab.js("return [...document.querySelectorAll('.node.lit')].map(n => n.node.t + 1)")
    assert sorted(set(lit)) == [4, 5, 7, 8]
    assert tab.count(".node.none") == 4 * 6  # what no gradient can reach
    assert tab.text(".text .gap") == "L"


def test_in_a_stack_of_pairs_the_lower_one_waits_for_the_upper(tab: Tab) -> None:
    found = Shown()
    for level in (0, 1):
        for side, steps in (("fwd", range(4)), ("rev", range(4)[::-1])):
            one = layer(f"net/l{level}/{side}", steps, units=2)
            found[one.path] = one
    tab.open(explorer.page({"deep": found}))
    assert tab.find("#time").get_attribute("max") == "8"
    tab.slide(4)
    lit = tab.js(
        "return [...document.querySelectorAll('.node.lit')].map(n => n.node.row.layer.path)"
    )
    assert set(lit) == {"net/l1/fwd", "net/l1/rev", "fwd", "rev"}  # and the cuts
