"""What ships is what the registry says, the READMEs say the same, and a damaged file is refused."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from minigrad import data
from minigrad.data import EXTERNAL, SOURCES, DataError, sources

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tools/data_readme.py"""
    monkeypatch.syspath_prepend(str(TOOLS))
    module = importlib.import_module("data_readme")
    monkeypatch.delitem(sys.modules, "data_readme")
    return module


@pytest.mark.parametrize("name", SOURCES)
def test_each_file_has_the_content_that_the_registry_names(name: str) -> None:
    source = SOURCES[name]
    raw = source.file.read_bytes()
    content = gzip.decompress(raw) if source.path.endswith(".gz") else raw
    assert hashlib.sha256(content).hexdigest() == source.sha256
    assert sources.read(name) == content
    assert source.size == len(raw)


@pytest.mark.parametrize("name", SOURCES)
def test_each_folder_says_licence_origin_hash_and_how_to_rebuild(
    name: str, tool: ModuleType
) -> None:
    source = SOURCES[name]
    readme = (source.file.parent / "README.md").read_text("utf-8")
    assert readme == tool.readme(name, source, sources.read(name))
    for said in (source.licence, source.origin, source.sha256, source.package_sha256, name):
        assert said in readme
    licence = (source.file.parent / "LICENSE").read_text("utf-8")
    assert "ublic domain" in licence or ("creativecommons.org" in licence and "BSD" in licence)


def test_the_tables_in_the_readme_are_those_of_the_registry(tool: ModuleType) -> None:
    readme = (sources.FOLDER / "README.md").read_text("utf-8")
    assert readme == tool.overview()
    for entry in (*SOURCES.values(), *EXTERNAL.values()):
        assert f"`{entry.loader}`" in readme


def test_every_loader_in_the_tables_exists() -> None:
    for entry in (*SOURCES.values(), *EXTERNAL.values()):
        loader = re.match(r"\w+", entry.loader)
        assert loader is not None
        assert callable(getattr(data, loader[0]))


def test_every_folder_of_files_is_in_the_registry() -> None:
    folders = {p.name for p in sources.FOLDER.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert folders == {source.file.parent.name for source in SOURCES.values()}


def test_all_files_together_are_under_two_megabytes() -> None:
    files = [p for p in sources.FOLDER.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    assert sum(p.stat().st_size for p in files) < 2_000_000


@pytest.fixture
def spoil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Puts other bytes in the place of a data set's file."""

    def put(name: str, raw: bytes | None) -> None:
        monkeypatch.setattr(sources, "FOLDER", tmp_path)
        path = tmp_path / SOURCES[name].path
        path.parent.mkdir()
        if raw is not None:
            path.write_bytes(raw)

    return put


@pytest.mark.parametrize("name", ["sunspots", "digits"])
def test_a_file_that_is_gone_is_named(name: str, spoil) -> None:  # type: ignore[no-untyped-def]
    spoil(name, None)
    with pytest.raises(DataError, match=r"is missing; install minigrad-bptt again"):
        getattr(data, name)()


def test_a_changed_digit_is_noticed(spoil) -> None:  # type: ignore[no-untyped-def]
    raw = SOURCES["sunspots"].file.read_bytes()
    spoil("sunspots", raw.replace(b"1957,190.2", b"1957,190.3"))
    with pytest.raises(DataError, match=r"is damaged: its content has sha256 \w+, expected 74b8"):
        data.sunspots()


def test_line_ends_that_git_rewrote_are_no_damage(spoil) -> None:  # type: ignore[no-untyped-def]
    raw = SOURCES["sunspots"].file.read_bytes()
    spoil("sunspots", raw.replace(b"\n", b"\r\n"))
    assert sources.read("sunspots") == raw


@pytest.mark.parametrize("keep", [0, 5, 20_000])
def test_a_truncated_archive_is_refused(keep: int, spoil) -> None:  # type: ignore[no-untyped-def]
    spoil("digits", SOURCES["digits"].file.read_bytes()[:keep])
    with pytest.raises(DataError, match="is damaged"):
        data.digits()


def test_bytes_changed_inside_an_archive_are_noticed(spoil) -> None:  # type: ignore[no-untyped-def]
    raw = bytearray(SOURCES["digits"].file.read_bytes())
    raw[20_000] ^= 0xFF
    spoil("digits", bytes(raw))
    with pytest.raises(DataError, match="is damaged"):
        data.digits()


def test_an_unknown_data_set_is_refused_with_those_there_are() -> None:
    with pytest.raises(DataError, match=r"'moon': there is none; there are shakespeare, names"):
        sources.read("moon")


def test_the_rebuild_script_turns_members_into_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))
    convert = importlib.import_module("data_convert").convert
    lists = {"f": b"MARY  2.629  2.629  1\nLEE 0.1 2.7 2\n", "m": b"LEE 0.3 0.3 1\n"}
    assert convert("names", lists) == b"name,female,male\nLEE,0.1,0.3\nMARY,2.629,\n"
    table = b"Year Jan Feb\n-----\n1749 58.0 62.6\n\n1750 73.3\nNote: 1\n"
    assert (
        convert("sunspots_monthly", {"m": table})
        == b"month,sunspots\n1749-01,58.0\n1749-02,62.6\n1750-01,73.3\n"
    )
    assert convert("co2", {"m": b"date,co2\n19580329,316.1\n19580510,\n"}).split() == [
        b"date,ppm", b"1958-03-29,316.1", b"1958-05-10,",
    ]  # fmt: skip
    speech = b"# notes\n@data\n" + b":".join([b"1.5,-0.000001"] * 12) + b":7\n"
    rows = convert("japanese_vowels", {"train": speech, "test": speech}).split(b"\n")
    assert rows[1] == b"train,7,0" + b",1500000" * 12
    assert rows[4] == b"test,7,1" + b",-1" * 12
    with pytest.raises(SystemExit, match="more than six decimals"):
        convert("japanese_vowels", {"a": b"@data\n0.0000001:1\n", "b": b"@data\n"})


def test_a_source_cannot_be_changed_by_mistake() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SOURCES["co2"].licence = "mine"  # type: ignore[misc]
