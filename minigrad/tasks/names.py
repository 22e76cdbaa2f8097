"""Names that nobody bears yet. One-to-many: female or male in, a name out, letter by letter.

    label  ->  Embedding  ->  tanh  ->  h_0
    <begin> m a r y    ->  recurrent layer  ->  Linear  ->  m a r y <end>

The label is all that comes in from outside: it is the first state. Then every letter that is drawn
is the next step's input, until the net writes <end>. Measured are bits per letter (the end counts
as one) on names it has not seen, beside what counting letters, pairs and triples gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import data, ops
from ..nn import Embedding, cross_entropy
from ..tensors import Tensor
from .base import TWO_SIDED, Settings, Task, TaskError, first_state
from .ngrams import NGram
from .writing import IGNORED, SymbolModel, following, write

Array = np.ndarray
LONGEST = 20


class NameModel(SymbolModel):
    """Letters, after a state that `begin` makes of a label."""

    def __init__(self, settings: Settings, symbols: int, generator: Any):
        self.labels = Embedding(2, settings.hidden, generator=generator)
        super().__init__(settings, symbols, 16, generator)

    def begin(self, labels: Array) -> Any:
        return first_state(self.recurrent, ops.tanh(self.labels(labels)))


class Names(Task):
    """At random, with the same mix in each: 80 % to train, 10 % to validate, 10 % to test."""

    name, kind = "names", "one-to-many"
    title = "first names: female or male in, a new name out"
    cells = ("gru", "lstm", "rnn")
    not_offered = {"bilstm": TWO_SIDED}
    epochs, hidden = (30, 12), (96, 64)
    metric, unit, larger_is_better = "bits per letter", "bits", False
    samples, reads = True, "how the name begins"
    rate = 3e-3
    patience = 6

    def __init__(self, settings: Settings, stored: Mapping[str, Any] | None = None):
        super().__init__(settings, stored)
        self.data = found = data.names()
        self.parts = data.split_at_random(len(found), seed=0, labels=found.labels)
        self.tokenizer = data.Tokenizer(found.names)
        self.ids = [self.tokenizer.encode(n, begin=True, end=True) for n in found.names]
        self.model = NameModel(settings, len(self.tokenizer), self.generator)
        self.batches = data.Batches(
            [self.ids[i] for i in self.parts.train],
            found.labels[self.parts.train],
            batch=64,
            seed=settings.seed,
            pool=8,
        )

    def loss(self, model: Any, batch: Any, *state: Any) -> Tensor:
        ids, lengths, labels = batch
        logits, _ = model(ids[:-1], model.begin(labels))
        return cross_entropy(logits, following(ids, lengths), IGNORED)

    def validate(self) -> dict[str, float]:
        return self._score(self.parts.valid)

    def test(self) -> dict[str, float]:
        return self._score(self.parts.test)

    def _score(self, items: Array) -> dict[str, float]:
        ids, lengths = data.pad([self.ids[i] for i in items])
        loss = self.loss(self.model, (ids, lengths, self.data.labels[items])).item()
        return {self.metric: loss / np.log(2), "loss": loss}

    def baselines(self) -> dict[str, float]:
        train, test = ([self.ids[i] for i in part] for part in (self.parts.train, self.parts.test))
        counted = {"letters": 1, "pairs": 2, "triples": 3}
        return {
            f"counting {what}": NGram(train, n, len(self.tokenizer), skip=1).bits(test)
            for what, n in counted.items()
        }

    def about(self) -> str:
        sizes = [f"{len(part):,}" for part in self.parts]
        return f"{sizes[0]} names to train, {sizes[1]} to validate, {sizes[2]} to test."

    def probed(self) -> tuple[Any, Array]:
        longest = sorted(self.parts.test, key=lambda i: -len(self.ids[i]))[:32]
        ids, lengths = data.pad([self.ids[i] for i in longest])
        return self.model.embed(ids), lengths  # type: ignore[attr-defined]

    def sample(
        self,
        count: int,
        temperature: float,
        top_k: int | None,
        generator: np.random.Generator,
        begin: str = "",
    ) -> list[str]:
        """Female and male names in turn; those that some person bears are marked with *."""
        begin = begin.lower()
        ids = self.tokenizer.encode(begin, begin=True)
        if (ids == self.tokenizer.unknown).any():
            raise TaskError("names: --text is letters from a to z, as the names of this list are.")
        labels = np.arange(count) % 2
        state = self.model.begin(labels)  # type: ignore[attr-defined]
        if len(ids) > 1:
            _, state = self.model(np.repeat(ids[:-1, None], count, axis=1), state)
        rows = write(
            self.model, state, np.full(count, ids[-1]), LONGEST, self.tokenizer.end,
            temperature, top_k, generator,
        )  # fmt: skip
        names = [begin + self.tokenizer.decode(row) for row in rows]
        known = set(self.data.names)
        return [
            f"{self.data.classes[label]:<7}{name}{' *' if name in known else ''}"
            for label, name in zip(labels, names, strict=True)
        ]

    def read(self, text: str) -> list[str]:
        return self.sample(10, 0.8, None, np.random.default_rng(0), text)

    def examples(self) -> list[str]:
        found = self.sample(10, 0.8, None, np.random.default_rng(0))
        return ["Ten samples (* is a name of the list):", *found]
