"""What a command prints: no text of a file, a name or an error commands the terminal."""

from __future__ import annotations

import ast
import io
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad.cli import main
from minigrad.escapes import printable
from minigrad.flow.tables import table
from minigrad.lab import sweep
from minigrad.lab.sweep.progress import CLEAR, Progress
from minigrad.train import checkpoint

CLI = Path(mg.__file__).parent / "cli"
CLEAR_SCREEN, TITLE, OVERRIDE = "\x1b[2J", "\x1b]0;mine\x07", "\u202etxt.exe"
EVIL = f"{CLEAR_SCREEN}{TITLE}{OVERRIDE}\x9b31m\r\x08\x7f\u2066\u2028"


def commands(text: str) -> list[str]:
    """Everything in a text that a terminal would obey, by what Unicode says of it."""
    harmless = "\n\t\u200c\u200d\xad"  # the joiners and the soft hyphen are letters' own
    kinds = ("Cc", "Cf", "Cs", "Zl", "Zp")
    visible = ("ARABIC", "SYRIAC", "KAITHI")  # signs over numbers, which have a shape
    return [
        c for c in text
        if unicodedata.category(c) in kinds and c not in harmless
        and not unicodedata.name(c, "").startswith(visible)
    ]  # fmt: skip


def test_no_character_that_a_terminal_obeys_is_left() -> None:
    every = "".join(map(chr, range(0x20000))) + "".join(map(chr, range(0xE0000, 0xE1000)))
    left = commands(printable(every))
    allowed = {c for c in left if ord(c) > 0x10000 and "TAG" not in unicodedata.name(c, "")}
    assert set(left) <= allowed  # shorthand and music have formats of their own, all of one glyph
    assert printable("\x1b[31m\n\t") == r"\x1b[31m\n\t"
    assert printable("a\nb\tc", lines=True) == "a\nb\tc"


@pytest.mark.parametrize("text", ["", "plain", "äöü ± ▁▂█", "می‌خواهم", "क्‍ष", "日本", "🙂"])
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert printable(text) == text


def test_commands_print_with_say_alone() -> None:
    """So that what is printed goes through one place. Progress has a stream and its own bar."""
    for path in sorted(CLI.glob("*.py")):
        if path.name in ("output.py", "progress.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called != "print", f"{path.name}:{node.lineno}: use say"
                assert not called.endswith(("stdout.write", "stderr.write")), path.name


def test_a_table_stays_a_table_whatever_its_cells_hold() -> None:
    text = table(("a", "b"), [(EVIL, "1"), ("x\ny", "2")])
    assert not commands(text)
    assert len(text.splitlines()) == 3
    assert len({len(line) for line in text.splitlines()}) == 1


def sweep_of(folder: Path, **row: object) -> Path:
    """A finished sweep of one run, which somebody else has written."""
    folder.mkdir()
    toml = f'function = "os.path:basename"\n[grid]\ntext = [{json.dumps(EVIL)}]\nn = [1]\n'
    toml = toml.replace("\x7f", "\\u007f").replace("\x9b", "\\u009b")  # JSON lets them stand
    (folder / "sweep.toml").write_text(toml, encoding="utf-8")
    (run,) = sweep.read(folder / "sweep.toml").runs()
    stored = {"key": run.key, "status": "ok", "parameters": run.parameters, "results": {}} | row
    (folder / "results.jsonl").write_text(json.dumps(stored) + "\n")
    return folder


def test_a_sweep_of_somebody_else_shows_its_escapes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = sweep_of(tmp_path / "a", status="failed", error=EVIL, results={EVIL: 1.0})
    assert main(["sweep", "--show", str(folder)]) == 1
    assert main(["sweep", str(folder / "sweep.toml"), "--out", str(folder), "--dry-run"]) == 0
    said = capsys.readouterr()
    assert not commands(said.out + said.err)
    assert r"\x1b[2J" in said.out
    assert r"\x1b[2J" in said.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("sweep", f"{EVIL}.toml"),
        ("sweep", "--show", EVIL),
        ("train", EVIL),
        (EVIL,),
        ("flow", "--text", EVIL),
        ("flow", "--cells", EVIL),
        ("flow", f"--{EVIL}"),
        ("eval", "vowels", EVIL),
    ],
)
def test_an_error_about_a_name_shows_its_escapes_in_one_line(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(arguments)
    except SystemExit as end:
        status = int(end.code or 0)
    said = capsys.readouterr()
    assert status == 2
    assert not commands(said.out + said.err)
    assert len(said.err.splitlines()) == 1


def test_an_error_about_what_a_file_holds_shows_its_escapes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkpoint.save(
        tmp_path / "model.ckpt",
        {"task": EVIL, "settings": {}, "model": {}, "extra": {}, "result": {}},
    )
    assert main(["eval", "vowels", str(path)]) == 2
    (tmp_path / "run.json").write_text(json.dumps({"task": EVIL, "settings": {EVIL: 1}}))
    assert main(["train", "vowels", "--resume", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert not commands(said.err)
    assert len(said.err.splitlines()) == 2


def test_progress_sends_its_own_escapes_and_nobody_elses() -> None:
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    progress = Progress(2, stream=stream)
    progress.finished(EVIL, None, f"loss {EVIL}", running=1)
    progress.finished(EVIL, f"E: {EVIL}", "", running=0)
    assert not commands(stream.getvalue().replace(CLEAR, ""))


def test_a_report_of_names_from_a_file_shows_their_escapes(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    layer = mg.nn.Linear(1, 1, dtype=np.float64)
    with mg.flow.Monitor(layer, path, every=1) as monitor:
        with monitor.step():
            layer(np.ones((1, 1))).sum().backward()
        monitor.log(loss=float("nan"))
    escaped = json.dumps(EVIL)[1:-1]
    path.write_text(path.read_text().replace("weight", escaped).replace("loss", escaped))
    text = path.read_text().replace(f'"{escaped}":0', '"weight":0')
    path.write_text(text.replace(f'"bad_{escaped}s"', '"bad_weights"'))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        for stored in line.get("parameters", {}).values() if line["record"] == "step" else ():
            if EVIL in stored:
                stored["weight"] = stored.pop(EVIL)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = mg.flow.read_monitor(path).report()
    assert r"\x1b[2J" in report
    assert not commands(report)
