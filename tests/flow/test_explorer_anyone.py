"""The explorer in a real browser, for anyone: keys, names, contrast, themes, phones, paper."""

from __future__ import annotations

import numpy as np
import pytest
from explorer_browser import Tab

Keys = pytest.importorskip("selenium.webdriver.common.keys", reason="selenium is missing").Keys
pytestmark = pytest.mark.slow


# -- anyone, anywhere


def contrast(a: str, b: str) -> float:
    def luminance(color: str) -> float:
        channels = (
            np.array([float(x) for x in color[color.index("(") + 1 : -1].split(",")[:3]]) / 255
        )
        linear = np.where(
            channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        )
        return float(linear @ [0.2126, 0.7152, 0.0722])

    high, low = sorted([luminance(a), luminance(b)], reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_text_has_contrast_in_both_themes(tab: Tab, four: str, dark: bool) -> None:
    tab.emulate(dark=dark)
    tab.open(four)
    color = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    card = tab.js(color, ".card", "backgroundColor")
    for css in ("body", ".hint", ".verdict-line", "label"):
        assert contrast(tab.js(color, css, "color"), card) > 4.5, css
    for chip in (".verdict", ".primary"):
        own = tab.js(color, chip, "color"), tab.js(color, chip, "backgroundColor")
        assert contrast(*own) > 4.5, chip
    tab.choose("#zoom", "58")
    tab.slide(0)
    pairs = tab.js(
        "return [...document.querySelectorAll('.node.lit')].map(n => ["
        "n.querySelector('rect').style.fill, n.querySelector('text').style.fill])"
    )
    assert min(contrast(*pair) for pair in pairs) > 4.5


def test_dark_follows_the_system_and_the_button_stays_chosen(tab: Tab, lstm: str) -> None:
    shade = "return getComputedStyle(document.body).backgroundColor"
    tab.open(lstm)
    light = tab.js(shade)
    tab.emulate(dark=True)
    tab.until(lambda: tab.js(shade) != light)
    dark = tab.js(shade)
    tab.find("#theme").click()
    assert tab.text("#theme") == "Theme: light"
    assert tab.js(shade) == light
    tab.driver.refresh()
    assert tab.text("#theme") == "Theme: light"
    tab.emulate()
    tab.find("#theme").click()
    assert tab.js(shade) == dark


@pytest.mark.parametrize("width", [360, 768])
def test_a_narrow_screen_never_scrolls_sideways(tab: Tab, four: str, width: int) -> None:
    tab.emulate(width=width)
    tab.open(four)
    for button in range(4):
        tab.js("document.querySelectorAll('#cells button')[arguments[0]].click()", button)
        assert tab.js("return document.documentElement.scrollWidth") <= width
    tab.js("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    tab.choose("#zoom", "58")
    assert tab.js("return document.documentElement.scrollWidth") <= width
    inside = "const g = document.getElementById('graph'); return g.scrollWidth > g.clientWidth"
    assert tab.js(inside)


def test_playing_keeps_the_front_in_sight(tab: Tab, lstm: str) -> None:
    tab.emulate(width=360)
    tab.open(lstm)
    tab.choose("#zoom", "58")
    for value in range(8, -1, -1):
        tab.slide(value)
        inside = tab.js(
            "const g = document.getElementById('graph').getBoundingClientRect();"
            "const n = document.querySelector('.node.front, .node.lit').getBoundingClientRect();"
            "return n.left >= g.left && n.right <= g.right + 1"
        )
        assert inside, value


def test_every_control_has_a_name(tab: Tab, four: str) -> None:
    tab.open(four)
    tree = tab.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {"button", "slider", "combobox", "checkbox", "radio", "spinbutton", "textbox", "image"}
    named, unnamed = [], []
    for node in tree:
        if node.get("role", {}).get("value") in roles and not node.get("ignored"):
            name = node.get("name", {}).get("value", "").strip()
            (named if name else unnamed).append([node["role"]["value"], node.get("description")])
    assert len(named) > 200  # nodes of the graph are buttons
    assert unnamed == []


def test_all_is_reached_by_tab_and_focus_is_visible(tab: Tab, four: str) -> None:
    tab.open(four)
    reached, outlines = [], []
    for _ in range(40):
        tab.driver.switch_to.active_element.send_keys(Keys.TAB)
        found = tab.js(
            "const e = document.activeElement; const s = getComputedStyle(e);"
            "const r = e.querySelector(':scope > rect');"
            "const l = e.type === 'radio' ? getComputedStyle(e.nextElementSibling) : s;"
            "return [e.id || e.getAttribute('class') || e.tagName,"
            " r ? getComputedStyle(r).strokeWidth === '4px' : l.outlineStyle !== 'none']"
        )
        if found[0] in ("BODY", "HTML"):
            break
        reached.append(found[0])
        outlines.append(found)
    wanted = [
        "theme",
        "back",
        "play",
        "forth",
        "time",
        "graph",
        "zoom",
        "text-by",
        "tensor",
        "unit",
    ]
    assert [name for name in reached if name in wanted] == wanted
    assert sum("node" in name for name in reached) == 1
    assert [name for name, visible in outlines if not visible] == []


def test_reduced_motion_is_respected(tab: Tab, lstm: str) -> None:
    moving = "return getComputedStyle(document.querySelector('.node rect')).transitionDuration"
    tab.open(lstm)
    assert tab.js(moving) != "0s"
    tab.emulate(still=True)
    tab.open(lstm)
    assert tab.js(moving) == "0s"
    assert tab.find("#speed").get_attribute("value") == "3"


def test_paper_gets_the_light_colours_without_the_controls(tab: Tab, lstm: str) -> None:
    tab.emulate(dark=True)
    tab.open(lstm)
    fill = "return document.querySelector('.node rect').style.fill"
    dark = tab.js(fill)
    tab.js("window.dispatchEvent(new Event('beforeprint'))")
    assert tab.js(fill) != dark
    tab.js("window.dispatchEvent(new Event('afterprint'))")
    assert tab.js(fill) == dark
    printed = tab.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert len(printed["data"]) > 1000
