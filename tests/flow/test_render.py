"""Which engine draws, and what happens when there is none."""

from __future__ import annotations

import os
import stat
import sysconfig
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from minigrad.flow import Drawing, NoEngineWarning, RenderError, find_engine
from minigrad.flow.engines import render, save

DOT = "digraph { a -> b }"


def program(path: Path, script: str = "cat > /dev/null; echo drawn") -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A PATH and an environment without any engine; returns the only folder on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.delenv("MINIGRAD_DOT", raising=False)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/bin")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / "environment"))
    return folder


def test_engines_are_looked_for_in_the_documented_order(
    no_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_engine() is None
    later = program(no_engine / "graphviz-pure")
    assert find_engine() == (str(later), "PATH")
    here = program(tmp_path / "environment" / "graphviz-pure")
    assert find_engine() == (str(here), "this environment")
    system = program(no_engine / "dot")
    assert find_engine() == (str(system), "PATH")
    chosen = program(tmp_path / "my-dot")
    monkeypatch.setenv("MINIGRAD_DOT", str(chosen))
    assert find_engine() == (str(chosen), "$MINIGRAD_DOT")


def test_a_wrong_minigrad_dot_is_an_error_and_not_passed_over(
    no_engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(no_engine / "dot")
    monkeypatch.setenv("MINIGRAD_DOT", "no-such-dot")
    with pytest.raises(RenderError, match=r"MINIGRAD_DOT is 'no-such-dot', which is not a program"):
        find_engine()


def test_without_an_engine_the_text_is_written_and_the_cure_is_named(
    no_engine: Path, tmp_path: Path
) -> None:
    with pytest.warns(NoEngineWarning, match="pip install graphviz-pure"):
        written = Drawing(DOT).save(tmp_path / "graph.svg")
    assert written == tmp_path / "graph.gv"
    assert written.read_text() == DOT
    assert not (tmp_path / "graph.svg").exists()
    with pytest.raises(RenderError, match="no Graphviz engine found"):
        Drawing(DOT).svg()


@pytest.mark.parametrize("suffix", [".gv", ".dot"])
def test_text_needs_no_engine(no_engine: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"graph{suffix}"
    assert save(DOT, path) == path
    assert path.read_text() == DOT


def test_a_path_without_a_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RenderError, match=r"name it \.svg, \.png or \.gv"):
        save(DOT, tmp_path / "graph")


def test_an_engine_that_fails_is_quoted_and_leaves_no_file(no_engine: Path, tmp_path: Path) -> None:
    program(no_engine / "dot", "cat > /dev/null; echo 'Error: syntax error in line 1' >&2; exit 1")
    with pytest.raises(RenderError, match="-Tsvg failed: Error: syntax error in line 1"):
        save(DOT, tmp_path / "graph.svg")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bin"]


def test_an_engine_that_writes_nothing_has_failed(no_engine: Path, tmp_path: Path) -> None:
    program(no_engine / "dot", "cat > /dev/null")
    with pytest.raises(RenderError, match="failed: no message"):
        save(DOT, tmp_path / "graph.svg")


def test_an_existing_picture_is_kept_when_drawing_fails(no_engine: Path, tmp_path: Path) -> None:
    path = tmp_path / "graph.svg"
    path.write_text("old")
    program(no_engine / "dot", "cat > /dev/null; exit 1")
    with pytest.raises(RenderError):
        save(DOT, path)
    assert path.read_text() == "old"
    program(no_engine / "dot")
    assert save(DOT, path).read_text() == "drawn\n"


def test_the_engine_that_comes_with_minigrad_draws_svg_and_png(tmp_path: Path) -> None:
    assert find_engine() is not None
    svg = save(DOT, tmp_path / "graph.svg")
    assert ET.parse(svg).getroot().tag.endswith("svg")
    assert save(DOT, tmp_path / "graph.png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_format_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RenderError, match="-Tnonsense failed"):
        save(DOT, tmp_path / "graph.nonsense")


def test_broken_dot_text_is_an_error() -> None:
    with pytest.raises(RenderError, match="failed"):
        render("digraph {")
