"""The parts together learn what they should."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim


class Recall(nn.Module):
    """Which symbol came first? Asked after the last real step of a sequence of any length."""

    def __init__(self, layer: Any):
        self.embed = nn.Embedding(4, 6)
        self.layer = layer(6, 12, return_sequences=False)
        self.head = nn.Linear(12, 4)

    def forward(self, words: Any, lengths: Any) -> Any:
        last, _ = self.layer(self.embed(words), lengths=lengths)
        return self.head(last)


@pytest.mark.long
@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU])
def test_a_gated_net_learns_to_recall_the_first_symbol(layer: Any) -> None:
    mg.seed(1)
    rng = np.random.default_rng(1)
    words, lengths = rng.integers(0, 4, (7, 64)), rng.integers(1, 8, 64)
    net = Recall(layer)
    nn.init.chrono_(net, t_max=7)
    optimizer = optim.AdamW(net.parameters(), lr=0.03)
    schedule = optim.LinearWarmup(optimizer, 5, then=optim.CosineAnnealingLR(optimizer, 55))
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.cross_entropy(net(words, lengths), words[0])
        loss.backward()
        assert np.isfinite(optim.clip_grad_norm_(net.parameters(), 1.0))
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    assert losses[0] > 1.0  # four symbols, no idea: about ln 4
    assert losses[-1] < 0.1
    with mg.no_grad():
        answers = net.eval()(words, lengths).data.argmax(axis=-1)
    np.testing.assert_array_equal(answers, words[0])
