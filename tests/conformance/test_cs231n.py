"""Stanford CS231n, assignment 3: vanilla RNN, LSTM (gates i f o g) and a whole captioning loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conformance.cs231n import captioning_loss, layer_cases, layer_values, loss_cases
from conformance.stored import needs_stored
from modes import each_mode

pytestmark = needs_stored


def named(cases: list[Any]) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in cases]


@each_mode
@pytest.mark.parametrize("case", named(layer_cases()))
def test_layer_gives_the_published_values(case: Any, mode: str) -> None:
    found = layer_values(case, mode)
    for name, expected in case["expected"].items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=1e-7, err_msg=name)


@each_mode
@pytest.mark.parametrize("case", named(loss_cases()))
def test_captioning_loss_is_the_published_one(case: Any, mode: str) -> None:
    loss = captioning_loss(case, mode)
    np.testing.assert_allclose(loss, case["expected"]["loss"], rtol=1e-10)
