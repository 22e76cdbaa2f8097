"""Which arrays of a file of Keras belong to which layer of its structure."""

from __future__ import annotations

import re
from typing import Any

from .base import Array, ConversionError
from .keras_recurrent import RECURRENT


class Weights:
    """Hands out the arrays of the layers, in the order of the structure.

    read: the names in the file of those that were handed out.
    """

    def __init__(
        self, layers: dict[str, list[Array]], by_name: bool, prefix: str = "", read: Any = None
    ):
        self.layers, self.by_name, self.prefix = layers, by_name, prefix
        self.used: dict[str, int] = {}
        self.read: set[str] = set() if read is None else read

    def name(self, cls: str, name: str) -> str:
        """What the file calls a layer: call it once for each, in order."""
        if self.by_name:
            return name
        base = snake_case(cls)
        self.used[base] = n = self.used.get(base, -1) + 1
        return f"{self.prefix}{base}_{n}" if n else f"{self.prefix}{base}"

    def of(self, key: str) -> list[Array]:
        self.read.add(key)
        return self.layers.get(key, [])

    def inside(self, key: str) -> Weights:
        """Those of a model that is a layer."""
        if self.by_name:
            return Row(self.of(key))
        return Weights(self.layers, False, f"{key}/", self.read)


class Row(Weights):
    """Keras 2 has the arrays of a nested model in one row."""

    def __init__(self, arrays: list[Array]):
        super().__init__({}, True)
        self.row = list(arrays)

    def inside(self, key: str) -> Weights:
        return self

    def take(self, what: str, cls: str, config: dict[str, Any]) -> list[Array]:
        n = _count(cls, config)
        if n is None or config.get("trainable") is False:
            raise ConversionError(
                f"{what} is frozen, or a {cls}, inside a nested model of an .h5 file, where the "
                f"order of weights is another; save the model as .keras."
            )
        taken, self.row = self.row[:n], self.row[n:]
        return taken


def _count(cls: str, config: dict[str, Any]) -> int | None:
    """How many arrays a layer has; None if some are not trained and so come last."""
    if cls in ("Bidirectional", "TimeDistributed"):
        inner = config["layer"]
        n = _count(inner["class_name"], inner["config"])
        return n if n is None or cls == "TimeDistributed" else 2 * n
    if cls == "BatchNormalization":
        return None
    if cls == "LayerNormalization":
        return bool(config.get("scale", True)) + bool(config.get("center", True))
    if cls == "Embedding":
        return 1
    if cls == "RNN":
        config = config["cell"]["config"]
    if cls in RECURRENT:
        return 2 + bool(config.get("use_bias", True))
    return 1 + bool(config.get("use_bias", True)) if cls == "Dense" else 0


def snake_case(name: str) -> str:
    """'SimpleRNN' -> 'simple_rnn', as Keras 3 names layers in files.

    >>> snake_case("TimeDistributed"), snake_case("LSTM")
    ('time_distributed', 'lstm')
    """
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
