"""The explorer in a real browser, for anything: planted markup, NaN, zero, one step, odd cells."""

from __future__ import annotations

import json

import numpy as np
import pytest
from explorer_browser import Tab
from explorer_pages import Shown, default_run, layer, network, of_arrays

from minigrad.flow import explorer
from minigrad.flow.explorer import build

Keys = pytest.importorskip("selenium.webdriver.common.keys", reason="selenium is missing").Keys
pytestmark = pytest.mark.slow

PLANT = "</script><img src=x onerror=alert(1)><svg onload=alert(2)>\u2028\u202e\x00\U0001f600"


# -- whatever comes in


def test_planted_markup_is_shown_as_text_and_does_nothing(tab: Tab) -> None:
    planted = {PLANT: {PLANT: Shown({PLANT: layer(PLANT, range(3), [PLANT, "h"], [PLANT + "2"])})}}
    tab.open(explorer.page(planted, title=PLANT, text=dict.fromkeys(range(3), PLANT), notes=PLANT))
    tab.choose("#zoom", "58")
    tab.find("#numbers summary").click()
    tab.until(lambda: tab.count("#table td") > 0)
    tab.js(
        "document.querySelectorAll('.node')[1].dispatchEvent(new Event('click', {bubbles: true}))"
    )
    assert tab.text("#node .node-name").startswith("</script><img src=x onerror=alert(1)>")
    assert tab.count("img, script:not(#data):not(:last-of-type)") == 0
    assert tab.js("return document.scripts.length") == 2
    # The mark that would turn our own words around is taken out of names.
    shown = PLANT.replace("\u202e", "\ufffd")
    assert tab.js("return document.querySelector('h1').textContent") == shown
    assert tab.js("return document.querySelector('main').innerText.includes('\\u202e')") is False
    assert "<img src=x onerror=alert(1)>" in tab.text("#table")
    assert tab.js("return document.documentElement.scrollWidth <= window.innerWidth")


def test_the_policy_blocks_a_script_that_got_in_all_the_same(tab: Tab) -> None:
    broken = explorer.page(network("lstm")).replace(
        "</main>", "<script>document.title = 'taken'</script></main>"
    )
    broken = broken.replace("<h1 ", "<h1 onclick=\"document.title = 'taken'\" ")
    tab.open(broken)
    tab.find("h1").click()
    assert tab.driver.title != "taken"
    blocked = tab.said()
    assert len(blocked) == 2
    assert all("Content Security Policy" in message for message in blocked)


def test_a_plant_is_seen_if_the_data_were_not_escaped(
    tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard above would notice: without escaping, the page does not even start."""
    monkeypatch.setattr(build.pages, "embedded", json.dumps)
    page = explorer.page(network("rnn"), title=PLANT)
    (tab.folder / "bad.html").write_bytes(page.encode("utf-8", "surrogatepass"))
    tab.driver.get((tab.folder / "bad.html").as_uri())
    assert tab.count("img") == 1
    assert tab.js("return document.documentElement.dataset.ready") is None
    assert tab.said() != []


def odd(gradient: np.ndarray, path: str = "rnn/l0/fwd") -> Shown:
    values = {"h": np.zeros_like(gradient)}
    return Shown({path: of_arrays(path, range(len(gradient)), values, {"h": gradient})})


@pytest.mark.parametrize(
    ("recorded", "said"),
    [
        (odd(np.full((4, 1, 3), np.nan)), "broken"),
        (odd(np.array([[[np.inf]], [[1.0]], [[2.0]]])), "broken"),
        (odd(np.zeros((4, 1, 2))), "none"),
        (odd(np.ones((1, 1, 1))), "undecided"),
        (odd(np.geomspace(1e-300, 1.0, 30)[:, None, None]), "vanishing"),
        (odd(np.geomspace(1e30, 1.0, 9)[:, None, None], ""), "exploding"),
    ],
    ids=["nan", "inf", "zero", "one step", "300 decades", "no path"],
)
def test_gradients_of_every_kind_have_a_page(tab: Tab, recorded: Shown, said: str) -> None:
    tab.open(explorer.page({"odd": recorded}))
    assert said in tab.text(".track-head")
    tab.all(".node")[0].click()
    tab.press(Keys.SPACE)
    tab.press(Keys.SPACE)
    for phase in ("0", "1"):
        tab.js(f"document.getElementById('phase-{phase}').click()")
        tab.press(Keys.HOME)
        tab.press(Keys.ARROW_RIGHT)


def test_a_cell_without_gates_text_or_inputs_has_a_page(tab: Tab) -> None:
    rng = np.random.default_rng(0)
    arrays = {"membrane": rng.standard_normal((5, 2, 3)), "trace": rng.standard_normal((5, 2, 1))}
    tab.open(explorer.page({"spiking": Shown({"net": of_arrays("net", range(5), arrays, arrays)})}))
    assert tab.count(".node") == 15
    assert not tab.find("#text-card").is_displayed()
    tab.slide(2)
    assert "step 3 of 5 |dL/dS|" in tab.text("#now")


def test_the_default_run_is_drawn_whole(tab: Tab) -> None:
    text = dict.fromkeys(default_run(1, 1, 1), "Whether 'tis nobler in the mind to suffer\n" * 5)
    page = explorer.page(default_run(), text=text)
    assert len(page.encode()) < 3_000_000
    tab.open(page)
    assert tab.count(".node") == 100 * 5 + 201 * 4 + 2 * 100
    tab.slide(57)
    assert tab.text("#now").startswith("step 58 of 100")


def test_any_script_and_any_character_is_shown(tab: Tab) -> None:
    text = ["שלום", "ع", "👨‍👩‍👧", "é", "\ud83d", "\u202e", "\n", "\t", " ", ""]
    one = layer("rnn/l0/fwd", range(len(text)), units=2)
    tab.open(explorer.page({"שלום": Shown({one.path: one})}, text=text))
    points = "return [...document.querySelectorAll('#text > span')].map(s => Array.from("
    shown = tab.js(points + "s.textContent, c => c.codePointAt(0)))")
    wanted = [*text[:5], "U+202E", "⏎\n", "⇥", " ", ""]
    assert shown == [[ord(c) for c in one] for one in wanted]
    assert tab.find("#text").get_attribute("dir") == "auto"
    assert tab.text(".track-head").startswith("שלום")


@pytest.mark.long
def test_a_long_recording_is_thinned_and_every_character_has_its_colour(tab: Tab) -> None:
    found = Shown()
    one = layer("rnn/l0/fwd", range(9_001), units=2, batch=1, decay=0.999)
    found[one.path] = one
    found.inputs = np.geomspace(1e-9, 1.0, 9_001)[:, None]
    tab.open(explorer.page({"RNN": found}, text="x" * 9_001))
    assert "one step in 2" in tab.text("#subtitle")
    colored = (
        "return [...document.querySelectorAll('#text > span')].filter(s => s.style.color).length"
    )
    assert tab.js(colored) == 0
    tab.slide(0)
    assert tab.js(colored) == 9_001
    tab.slide(9_000 - 10)
    assert tab.count(".node.lit") == 6
    assert 10 <= tab.js(colored) <= 12
    tab.js("document.querySelectorAll('#text > span')[9_000 - 3].click()")
    assert tab.text("#node .node-name").startswith(("RNN h8997 ", "RNN h8999 "))
