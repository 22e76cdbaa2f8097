"""`minigrad experiment`: what it prints and writes, and what it says to bad input."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from minigrad.cli import main
from minigrad.lab import claims


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> claims.Claim:
    """A claim that takes no time: 2 x seed, of which the paper says that it is even."""

    def measure(settings: Any, seed: int, tell: Any) -> dict[str, Any]:
        tell("measuring")
        seeds = range(seed, seed + settings["seeds"])
        return {"rows": [{"seed": s, "twice": 2 * s} for s in seeds]}

    def judge(data: dict[str, Any]) -> list[claims.Row]:
        even = all(row["twice"] % 2 == 0 for row in data["rows"])
        paper, own = "is even (Euclid -300, section 9.21)", "nothing else"
        return [claims.Row("Twice a seed", paper, f"{data['rows']}", "all are", even, own)]

    def draw(data: dict[str, Any], figure: Any) -> None:
        figure.subplots().plot([row["twice"] for row in data["rows"]])

    claim = claims.Claim(
        name="small",
        title="Twice a number is even",
        sources=(claims.Source("Euclid", -300, "Elements", abstract_only=True),),
        scale="three numbers instead of all.",
        full={"seeds": 3},
        quick={"seeds": 1},
        measure=measure,
        judge=judge,
        draw=draw,
        chart=lambda data, blocks: blocks[-1] * len(data["rows"]),
    )
    monkeypatch.setitem(claims.CLAIMS, "small", claim)
    return claim


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_list_has_every_claim_with_its_title_and_stored_verdict(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["experiment", "--list"]) == 0
    out = capsys.readouterr().out
    for name, claim in claims.CLAIMS.items():
        (line,) = (line for line in out.splitlines() if line.startswith(f"{name} "))
        assert claim.title in line
        assert re.search(r"reproduces?$|in part$", line)


def test_it_prints_the_comparison_and_writes_numbers_and_figure(
    small: claims.Claim, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    assert main(["experiment", "small", "--seed", "5", "--out", "new"]) == 0
    out = capsys.readouterr().out
    assert "Euclid" in out
    assert "only its abstract was read" in out
    assert re.search(r"the paper says +is even", out)
    assert re.search(r"minigrad expects +nothing else", out)
    assert re.search(r"measured here +.*'twice': 10", out)
    assert re.search(r"holds if +all are: yes", out)
    assert "Seeds 5 to 7" in out
    assert "minigrad experiment small --seed 5" in " ".join(out.split())
    assert "Verdict: reproduces (1 of 1 criteria" in out
    assert {path.name for path in (here / "new").iterdir()} == {
        "small.json", "small.csv", "small.svg", "small.png",
    }  # fmt: skip
    stored = json.loads((here / "new" / "small.json").read_text("utf-8"))
    assert stored["seeds"] == [5, 6, 7]
    assert stored["form"] == "full"
    assert stored["verdict"] == "reproduces"
    assert set(stored["versions"]) == {"minigrad", "numpy", "numba", "python"}
    with (here / "new" / "small.csv").open(newline="") as file:
        assert list(csv.DictReader(file))[-1] == {"seed": "7", "twice": "14"}
    assert (here / "new" / "small.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (here / "new" / "small.svg").read_text("utf-8")


def test_quick_runs_the_quick_form_into_the_first_free_folder(
    small: claims.Claim, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("minigrad-small", "minigrad-small-2"):
        assert main(["experiment", "small", "--quick"]) == 0
        stored = json.loads((here / folder / "small.json").read_text("utf-8"))
        assert stored["seeds"] == [0]
        assert stored["command"] == "minigrad experiment small --quick --seed 0"
    assert "quick form" in " ".join(capsys.readouterr().out.split())


def test_without_matplotlib_the_numbers_are_written_and_it_says_how_to_get_it(
    small: claims.Claim,
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["experiment", "small", "--out", "new"]) == 0
    said = capsys.readouterr()
    assert "Verdict: reproduces" in said.out
    assert 'pip install "minigrad-bptt[plot]"' in said.err
    assert {path.name for path in (here / "new").iterdir()} == {"small.json", "small.csv"}


def test_a_drawing_that_fails_does_not_lose_the_numbers(
    small: claims.Claim,
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("matplotlib")

    def broken(data: Any, figure: Any) -> None:
        raise KeyError("marker")

    monkeypatch.setitem(claims.CLAIMS, "small", claims.Claim(**{**vars(small), "draw": broken}))
    assert main(["experiment", "small", "--out", "new"]) == 0
    assert "no figure, drawing it failed: KeyError: 'marker'" in capsys.readouterr().err
    assert {path.name for path in (here / "new").iterdir()} == {"small.json", "small.csv"}


def test_a_claim_that_does_not_hold_is_reported_as_that(
    small: claims.Claim, here: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def odd(settings: Any, seed: int, tell: Any) -> dict[str, Any]:
        return {"rows": [{"seed": seed, "twice": 3}]}

    broken = claims.Claim(**{**vars(small), "measure": odd})
    monkeypatch.setitem(claims.CLAIMS, "small", broken)
    assert main(["experiment", "small", "--quick"]) == 0
    out = capsys.readouterr().out
    assert "all are: NO" in out
    assert "Verdict: does not reproduce (0 of 1" in out


def test_an_existing_folder_is_kept_and_refused_before_anything_runs(
    small: claims.Claim,
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (here / "mine").mkdir()
    (here / "mine" / "notes.txt").write_text("keep")
    monkeypatch.setattr(claims, "run", lambda *args: pytest.fail("it ran"))
    assert main(["experiment", "small", "--out", "mine"]) == 2
    said = capsys.readouterr()
    assert said.err == "minigrad experiment: mine: this folder is not empty; choose a new one.\n"
    assert (here / "mine" / "notes.txt").read_text() == "keep"


def test_an_interrupted_run_writes_nothing(
    small: claims.Claim,
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stopped(data: Any, figure: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(claims.CLAIMS, "small", claims.Claim(**{**vars(small), "draw": stopped}))
    assert main(["experiment", "small", "--out", "new"]) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["choas"], "experiment 'choas' is not known; did you mean 'chaos'? There are chaos, "),
        (["zzz"], "experiment 'zzz' is not known; There are chaos, "),
        ([], "expected NAME; `minigrad experiment --list` shows them."),
        (["chaos", "--stored", "--quick"], "no --quick and no --seed"),
        (["chaos", "--stored", "--seed", "3"], "no --quick and no --seed"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    arguments: list[str], message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["experiment", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert list(here.iterdir()) == []


def test_a_negative_seed_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["experiment", "chaos", "--seed", "-1"])
    assert "must be at least 0, got -1" in capsys.readouterr().err


def test_a_claim_without_a_stored_result_says_what_to_run(
    small: claims.Claim, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["experiment", "small", "--stored"]) == 2
    assert "no stored result; run `minigrad experiment small`" in capsys.readouterr().err


@pytest.mark.parametrize("name", claims.CLAIMS)
def test_the_stored_result_is_shown_without_running_or_writing(
    name: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["experiment", name, "--stored"]) == 0
    out = capsys.readouterr().out
    assert re.search("the paper says|minigrad expects", out)
    assert f"full form: minigrad experiment {name} --seed" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 100
    assert list(here.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", claims.CLAIMS)
def test_the_stored_result_can_be_drawn_again(name: str, here: Path) -> None:
    pytest.importorskip("matplotlib")
    assert main(["experiment", name, "--stored", "--out", "drawn"]) == 0
    written = {path.name for path in (here / "drawn").iterdir()}
    assert written == {f"{name}.{kind}" for kind in ("json", "csv", "svg", "png")}


def test_an_ascii_terminal_gets_ascii_charts(here: Path) -> None:
    for claim in claims.CLAIMS.values():
        claims.text(claim, claims.stored(claim), "_.-:=+*#").encode("ascii")
