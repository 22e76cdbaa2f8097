"""The explorer in a real browser: one node, one unit, one character, looked at closely."""

from __future__ import annotations

import numpy as np
import pytest
from explorer_browser import Tab
from explorer_pages import network

from minigrad.flow import explorer

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is missing")
ActionChains, Keys = webdriver.ActionChains, webdriver.Keys
pytestmark = pytest.mark.slow


# -- looking closely


def test_a_click_pins_a_node_and_escape_lets_it_go(tab: Tab, four: str) -> None:
    tab.open(four)
    tab.node("LSTM c →, step 7 ").click()
    assert tab.find(".node.pinned").get_attribute("aria-pressed") == "true"
    assert tab.text("#node .node-name").startswith("LSTM c7 step 7 of 20")
    tab.slide(15)
    assert tab.text("#node .node-name").startswith("LSTM c7 step 7 of 20")
    tab.press(Keys.ESCAPE)
    assert tab.count(".node.pinned") == 0


def test_hovering_shows_a_node_and_leaving_shows_the_walk_again(tab: Tab, lstm: str) -> None:
    tab.open(lstm)
    move = ActionChains(tab.driver, duration=0)
    move.move_to_element(tab.node("LSTM h →, step 3 ")).perform()
    assert tab.text("#node .node-name").startswith("LSTM h3 step 3 of 9, hovered · x is a")
    move.move_to_element(tab.find("h1")).perform()
    assert "where the walk is" in tab.text("#node .node-name")


def test_arrow_keys_go_from_node_to_node_and_enter_pins(tab: Tab, lstm: str) -> None:
    tab.open(lstm)
    tab.slide(0)
    tab.js("document.querySelector('.node[tabindex=\"0\"]').focus()")
    for key in (*(2 * [Keys.ARROW_RIGHT]), *(2 * [Keys.ARROW_DOWN]), Keys.ENTER):
        tab.driver.switch_to.active_element.send_keys(key)
    label = tab.driver.switch_to.active_element.get_attribute("aria-label")
    assert label.startswith("LSTM c →, step 3 of 9: |dL/dc|")
    assert tab.text("#node .node-name").startswith("LSTM c3")
    assert tab.count('.node[tabindex="0"]') == 1


def test_training_switches_all_numbers(tab: Tab, four: str) -> None:
    tab.open(four)
    tab.slide(0)
    trained = tab.node("LSTM h →, step 1 ").get_attribute("aria-label")
    tab.find('label[for="moment-0"]').click()
    before = tab.node("LSTM h →, step 1 ").get_attribute("aria-label")
    assert float(before.split()[-1]) < float(trained.split()[-1]) / 100


def test_a_cell_is_chosen_and_shown_alone(tab: Tab, four: str) -> None:
    tab.open(four)
    tab.all("#cells button")[2].click()
    assert tab.text("#node .node-name").startswith("GRU")
    tab.find("#alone").click()
    assert tab.count(".track") == 1
    assert tab.text(".track-head").startswith("GRU")


def test_characters_are_coloured_by_their_gradient_or_by_one_unit(tab: Tab, lstm: str) -> None:
    colors = (
        "return [...document.querySelectorAll('#text > span')].map(s => s.style.backgroundColor)"
    )
    tab.open(lstm)
    tab.slide(0)
    by_input = tab.js(colors)
    assert len(set(by_input)) == 9
    tab.slide(7)
    assert [bool(color) for color in tab.js(colors)] == [False] * 7 + [True] * 2
    tab.choose("#text-by", "value:h")
    by_unit = tab.js(colors)
    assert all(by_unit)
    tab.choose("#tensor", "value:f")
    assert tab.js(colors) != by_unit
    assert "Unit 1 of f" in tab.text("#text-hint")
    tab.js(
        "arguments[0].value = 4; arguments[0].dispatchEvent(new Event('input'))", tab.find("#unit")
    )
    assert "Unit 4 of f" in tab.text("#text-hint")
    assert all(
        ": " in readout.text and "unit 4" in readout.text for readout in tab.all("#node .readout")
    )


def test_characters_are_coloured_by_the_gradient_of_their_own_sequence(tab: Tab) -> None:
    """Of two sequences the other one has the larger gradients, the other way round."""
    recorded = network("rnn", steps=5)
    rising = np.geomspace(1e-4, 1e-2, 5)
    recorded.inputs = np.stack([rising, 1e3 * rising[::-1]], axis=1)
    tab.open(explorer.page({"RNN": recorded}, text="abcde"))
    tab.slide(0)
    greens = tab.js(
        "return [...document.querySelectorAll('#text > span')]"
        ".map(s => Number(s.style.backgroundColor.match(/\\d+/g)[1]))"
    )
    assert greens == sorted(greens, reverse=True)  # the ramp loses green as it gets warmer
    tab.node("RNN h →, step 5 ").click()
    assert "|dL/dx| of sequence 1 0.01" in tab.text("#node .facts")


def test_a_unit_is_read_by_hovering_and_chosen_by_a_click(tab: Tab, lstm: str) -> None:
    recorded = network("lstm", steps=9)["lstm/l0/fwd"]
    tab.open(lstm)
    tab.all("#text > span")[2].click()
    strips = {strip.text.split()[0]: strip for strip in tab.all("#node .strip")}
    canvas = strips["f"].find_element("css selector", "canvas")
    last = ActionChains(tab.driver, duration=0)
    last.move_to_element_with_offset(canvas, int(canvas.size["width"] * 0.45), 0).perform()
    readout = strips["f"].find_element("css selector", ".readout").text
    assert readout.startswith("unit 5: ")
    wanted = recorded.values["f"][2, 0, 4]
    assert float(readout.split()[-1]) == pytest.approx(wanted, rel=1e-3)
    last.click().perform()
    assert "Unit 5 of f" in tab.text("#text-hint")
    assert tab.find("#unit").get_attribute("value") == "5"


def test_the_heat_map_of_a_gradient_has_its_full_range_at_every_step(tab: Tab, lstm: str) -> None:
    """From the loss to eight steps before, though the gradient is 60 times smaller there."""
    recorded = network("lstm", steps=9)["lstm/l0/fwd"].gradients["h"][:, 0]
    tab.open(lstm)
    tab.choose("#tensor", "gradient:h")
    pixels = tab.js(
        "const c = document.querySelector('.map canvas'); return Array.from("
        "c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
    )
    colors = np.reshape(pixels, (5, 9, 4))[..., :3].transpose(1, 0, 2)  # step, unit, channel
    ends = {1: [0xB8, 0x50, 0x2F], -1: [0x2B, 0x6A, 0x9E]}
    for step, largest in enumerate(np.abs(recorded).argmax(axis=1)):
        wanted = ends[int(np.sign(recorded[step, largest]))]
        assert colors[step, largest].tolist() == wanted


def test_a_click_on_a_character_pins_its_step(tab: Tab, lstm: str) -> None:
    tab.open(lstm)
    tab.all("#text > span")[3].click()
    assert tab.text("#node .node-name").startswith("LSTM S4")


def test_the_decay_is_drawn_with_fit_and_verdict(tab: Tab, lstm: str) -> None:
    tab.open(lstm)
    assert tab.count(".plot .fit") == 1
    assert "per step back" in tab.text("#verdicts")
    tab.slide(4)
    done, ahead = (tab.find(f".plot .{name}").get_attribute("d") for name in ("done", "ahead"))
    assert done.count("L") == 4
    assert ahead.count("L") == 8


def test_a_table_has_the_numbers_of_the_graph(tab: Tab, lstm: str) -> None:
    recorded = network("lstm", steps=9)["lstm/l0/fwd"]
    tab.open(lstm)
    assert tab.count("#table td") == 0
    tab.find("#numbers summary").click()
    tab.until(lambda: tab.count("#table tbody tr") == 9)
    heads = [head.text for head in tab.all("#table thead th")]
    assert heads == ["step", "|dL/dS|", "|dL/dh|", "|dL/dc|", "|dL/dx| of sequence 1", "x"]
    cells = tab.text("#table tbody tr").split()
    assert cells[0] == "1"
    assert float(cells[2]) == pytest.approx(recorded.norms["h"][0], rel=1e-2)
    assert cells[5] == "g"
