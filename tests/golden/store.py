"""Reads the stored values of torch; tools/golden_torch.py writes them."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Case(NamedTuple):
    name: str
    options: dict[str, Any]
    arrays: dict[str, np.ndarray]


@functools.cache
def cases(file: str) -> dict[str, Case]:
    """name -> case, of tests/golden/<file>.npz."""
    with np.load(Path(__file__).parent / f"{file}.npz") as stored:
        index, values = json.loads(str(stored["index"])), stored["values"]
    found, at = {}, 0
    for entry in index:
        arrays = {}
        for name, shape in entry["shapes"].items():
            size = math.prod(shape)
            arrays[name] = values[at : at + size].reshape(shape)
            at += size
        found[entry["name"]] = Case(entry["name"], entry["options"], arrays)
    assert at == len(values)
    return found


def gradients(case: Case) -> dict[str, np.ndarray]:
    """input or parameter -> the gradient torch gave it, for loss = sum(loss_weight * output)."""
    return {
        name.removeprefix("grad."): g for name, g in case.arrays.items() if name.startswith("grad.")
    }


def weighted_loss(case: Case, outputs: dict[str, Any]) -> Any:
    """The loss that the stored gradients belong to."""
    terms = [(y * case.arrays[f"loss_weight.{name}"]).sum() for name, y in outputs.items()]
    return sum(terms[1:], start=terms[0])
