"""Reads the values that others computed and that lie beside the project, never inside it.

Their README says what each file can and cannot see. Where the folder is missing, there are no
cases, and `needs_stored` says why the tests are skipped.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "conformance"

needs_stored = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no data in {FOLDER}")


@functools.cache
def read(name: str) -> Any:
    """The JSON document, or {}."""
    path = FOLDER / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
