"""The page "What do I do when ...": its code runs, and prints what the page says it prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "tools" / "docs" / "source" / "questions.md"
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:^```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
MARK = "-- next --"


def blocks(text: str) -> list[tuple[str, str]]:
    """(code, what it prints), in the order of the page."""
    return [(code, printed or "") for code, printed in BLOCK.findall(text)]


def outputs(text: str, folder: Path) -> list[str]:
    """What each block prints. One process, without JIT: seconds instead of minutes of compiling."""
    script = f"\nprint({MARK!r})\n".join(code for code, _ in blocks(text))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True, text=True, cwd=folder, env=environment, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split(f"{MARK}\n")


@pytest.mark.slow
@pytest.mark.long
def test_the_code_of_every_answer_prints_what_the_page_says(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    said = [printed.rstrip("\n") for _, printed in blocks(text)]
    assert [out.rstrip("\n") for out in outputs(text, tmp_path)] == said


def test_every_answer_has_code_or_a_command() -> None:
    answers = PAGE.read_text(encoding="utf-8").split("\n## ")[1:]
    assert len(answers) >= 15
    for answer in answers:
        assert answer.splitlines()[0].startswith("... ")
        assert answer.splitlines()[0].endswith("?")
        assert "```python" in answer or "`minigrad " in answer


def test_a_wrong_output_is_seen(tmp_path: Path) -> None:
    text = "```python\nprint(1 + 1)\n```\n```text\n3\n```\n\n```python\nx = 1\n```\n"
    assert blocks(text) == [("print(1 + 1)\n", "3\n"), ("x = 1\n", "")]
    assert outputs(text, tmp_path) == ["2\n", ""]
