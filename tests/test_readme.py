"""The examples of the README and of the tour run and say what these say they do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parent.parent / "README.md"
TOUR = README.parent / "tools" / "docs" / "source" / "tour.md"


def examples(page: Path = TOUR) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def run(code: str) -> None:
    exec(compile(code, str(README), "exec"), {})


def test_the_example_runs_and_shows_a_vanishing_gradient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = examples(README)[0]
    assert len(code.splitlines()) <= 16
    monkeypatch.chdir(tmp_path)
    run(code)
    shown = capsys.readouterr().out
    for state in "hc":
        assert re.search(rf"^ +lstm/l0/fwd +{state} .* vanishing ", shown, re.MULTILINE)
    assert (tmp_path / "lstm.svg").read_text(encoding="utf-8").count("<svg") == 1


def test_the_page_of_minigrad_runs(capsys: pytest.CaptureFixture[str]) -> None:
    run(examples()[0])
    assert "matmul  x, w" in capsys.readouterr().out


def test_the_cell_of_your_own_runs_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run(examples()[1])
    shown = capsys.readouterr().out
    assert "scan of leakycell: 100 steps of 16 rows" in shown
    assert "gradient of U (32 x 32): one product over 1600 rows" in shown
    assert (tmp_path / "leaky.svg").read_text(encoding="utf-8").count("<svg") == 1


def test_the_jitted_step_is_replayed_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run(examples()[2])
    shown = capsys.readouterr().out
    assert "recorded 2, replayed 3 times" in shown
    assert "BPTT of lstmcell" in shown
    assert (tmp_path / "step.svg").read_text(encoding="utf-8").count("<svg") == 1


@pytest.mark.slow
def test_the_laboratory_runs_and_writes_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run(examples()[3])
    shown = capsys.readouterr().out
    assert "largest Lyapunov exponent -" in shown
    assert "try: mg.nn.init." in shown
    assert "<script" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert (tmp_path / "rolled.svg").read_text(encoding="utf-8").count("<svg") == 1


@pytest.mark.wide
def test_what_the_page_of_symbols_says_of_a_step_and_its_gradient_is_so() -> None:
    page = TOUR.parent / "tutorials" / "symbols.md"
    assert len(examples(page)) == 1
    run(examples(page)[0])


def test_every_file_the_readme_names_exists() -> None:
    text = README.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:minigrad|tests|tools|tutorials|\.ci)/[\w./]*)`", text))
    assert "tests/test_layers.py" in named
    assert [name for name in sorted(named) if not (README.parent / name).exists()] == []
