"""The guard in conftest.py sees what a test leaves behind, and blames that test only."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

LEAKS = """
import minigrad as mg
import numpy as np
import pytest

LEFT = []  # keeps entered contexts from being closed by the garbage collector


def enter(context):
    LEFT.append(context)
    context.__enter__()


@pytest.mark.parametrize("what", [
    lambda: enter(mg.no_grad()),
    lambda: enter(mg.scope("lstm")),
    lambda: enter(mg.Tape()),
    lambda: enter(mg.detect_anomaly()),
    lambda: enter(mg.listen(print)),
    lambda: mg.set_num_threads(mg.get_num_threads() + 1),
    lambda: np.seterr(over="raise"),
], ids=["no_grad", "scope", "tape", "anomaly", "listener", "threads", "errstate"])
def test_leaks(what):
    what()


def test_is_clean():
    with mg.no_grad(), mg.scope("gru"):
        pass
"""


def test_every_kind_of_leak_fails_its_test_and_no_other(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_leaks.py").write_text(LEAKS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert "8 passed, 7 errors" in done.stdout, done.stdout
    for name in ("no_grad", "scope", "tape", "anomaly", "listener", "threads", "errstate"):
        assert f"test_leaks[{name}] left global state changed" in done.stdout
