"""Which engine draws, and what happens when there is none."""

from __future__ import annotations

import os
import stat
import struct
import sysconfig
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

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


def size_of(png: Path) -> tuple[int, int]:
    width, height = struct.unpack(">II", png.read_bytes()[16:24])
    return width, height


@pytest.mark.parametrize("dpi", [72, 96, 300])
def test_a_png_has_as_many_dots_as_were_asked_for(tmp_path: Path, dpi: int) -> None:
    inches = float(ET.fromstring(Drawing(DOT).svg()).get("width", "").removesuffix("pt")) / 72
    natural = size_of(Drawing(DOT).save(tmp_path / "a.png", dpi=dpi))
    assert natural[0] == pytest.approx(inches * dpi, abs=2)
    wide = size_of(Drawing(DOT).save(tmp_path / "b.png", dpi=dpi, width=6.5))
    assert wide[0] == pytest.approx(6.5 * dpi, abs=2)
    assert wide[1] / wide[0] == pytest.approx(natural[1] / natural[0], abs=0.03)


@pytest.mark.parametrize("width", [1, 6.5, 40.0])
def test_an_svg_is_as_wide_as_asked_for_and_never_wider_than_its_page(
    tmp_path: Path, width: float
) -> None:
    svg = ET.parse(Drawing(DOT).save(tmp_path / "a.svg", width=width)).getroot()
    assert float(svg.get("width", "").removesuffix("pt")) == pytest.approx(72 * width, abs=1.5)
    assert svg.get("style") == "max-width:100%;height:auto"


@pytest.mark.parametrize(
    ("name", "sizes", "said"),
    [
        ("a.svg", {"dpi": 300}, r"dpi= is for bitmaps such as \.png, and \.svg has no dots"),
        ("a.gv", {"dpi": 300}, "has no dots"),
        ("a.gv", {"width": 3}, r"width= is for pictures, and \.gv is text"),
        ("a.png", {"dpi": 0}, "dpi is a positive number, got 0"),
        ("a.png", {"dpi": float("inf")}, "dpi is a positive number, got inf"),
        ("a.png", {"width": "6in"}, "width is a positive number, got '6in'"),
        ("a.png", {"width": float("nan")}, "width is a positive number, got nan"),
    ],
)
def test_sizes_that_mean_nothing_are_refused(
    tmp_path: Path, name: str, sizes: dict[str, Any], said: str
) -> None:
    with pytest.raises(RenderError, match=said):
        Drawing(DOT).save(tmp_path / name, **sizes)
    assert not list(tmp_path.iterdir())


def test_without_an_engine_the_command_that_is_named_has_the_sizes(
    no_engine: Path, tmp_path: Path
) -> None:
    with pytest.warns(NoEngineWarning, match=r"dot -Tpng '-Gdpi=300' '-Gsize=6.5,10000!' -O"):
        Drawing(DOT).save(tmp_path / "graph.png", dpi=300, width=6.5)
