"""Encoder and decoder: a sequence in, a sequence of another length out.

D. Bahdanau, K. Cho, Y. Bengio, "Neural machine translation by jointly learning to align and
translate", 2015; I. Sutskever, O. Vinyals, Q. Le, 2014, without attention.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from .. import ops
from ..border import plain
from ..compile.scanning import scan
from ..compile.unrolling import computed
from ..errors import ShapeError, describe
from ..tape import no_grad, scope
from ..tape import state as switches
from ..tensors import Tensor
from ..tree import map_leaves
from .cells import LSTMCell, LSTMState
from .layers import Embedding, Linear, linear
from .module import Module
from .recurrent import DEFAULT_MODE
from .rnn import LSTM
from .sampling import Hypothesis, beam_search
from .zoo import AttentionLSTMCell

Array = np.ndarray


class Encoded(NamedTuple):
    """What the decoder reads: a memory (B, S, 2H) with lengths, and its first state."""

    memory: Tensor
    lengths: Array | None
    state: LSTMState


class EncoderDecoder(Module):
    """Symbols (S, B) -> a sequence of symbols: BiLSTM encoder, LSTM decoder with attention.

        memory = BiLSTM(embed(source))                   both directions side by side, (B, S, 2H)
        h_0    = tanh(W [forward's last h, reverse's last h])
        h_t    = LSTM(h_{t-1}, embed(y_{t-1}), context of h_{t-1} over the memory)
        p(y_t) = softmax(W_o h_t + b)

    source_symbols, target_symbols: sizes of the two vocabularies. hidden_size: H. attention:
    "additive", "dot", or None: then h_0 is all the decoder knows of the source.
    tied: W_o is the decoder's embedding, behind a projection to its size (Press and Wolf 2017).
    mode: how its layers run, as in mg.nn.LSTM.

    `model(source, target, lengths)` trains with teacher forcing: target (T, B) begins with the
    begin symbol; logits (T, B, C) are for what comes after each of its symbols.

    >>> model = EncoderDecoder(7, 5, hidden_size=4, embedding_size=3)
    >>> model(np.ones((6, 2), int), np.ones((3, 2), int), [6, 4]).shape
    (3, 2, 5)
    """

    def __init__(
        self,
        source_symbols: int,
        target_symbols: int,
        hidden_size: int,
        embedding_size: int,
        attention: str | None = "additive",
        tied: bool = False,
        mode: str = DEFAULT_MODE,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
    ):
        options: dict[str, Any] = {"dtype": dtype, "generator": generator}
        self.mode, self.attention = mode, attention
        self.embed_source = Embedding(source_symbols, embedding_size, **options)
        self.embed_target = Embedding(target_symbols, embedding_size, **options)
        self.encoder = LSTM(embedding_size, hidden_size, bidirectional=True, mode=mode, **options)
        self.bridge = Linear(2 * hidden_size, hidden_size, **options)
        self.decoder: LSTMCell
        if attention is None:
            self.decoder = LSTMCell(embedding_size, hidden_size, **options)
        else:
            self.decoder = AttentionLSTMCell(
                embedding_size, hidden_size, 2 * hidden_size, score=attention, **options
            )
        self.project = Linear(hidden_size, embedding_size, **options) if tied else None
        self.head = None if tied else Linear(hidden_size, target_symbols, **options)

    def forward(self, source: Any, target: Any, lengths: Any = None) -> Tensor:
        source, target = _symbols("source", source), _symbols("target", target)
        if source.shape[1] != target.shape[1]:
            raise ShapeError(
                f"EncoderDecoder: source is {describe(source)} and target {describe(target)}; "
                f"both are (steps, B), with one B."
            )
        encoded = self.encode(source, lengths)
        hs, _ = self._decode(encoded, target)
        return self.logits(hs)

    def encode(self, source: Any, lengths: Any = None) -> Encoded:
        """Reads the source, (S, B) with lengths (B,)."""
        with scope("encoder"):
            ys, (h_n, _) = self.encoder(
                self.embed_source(_symbols("source", source)), None, lengths
            )
        h = ops.tanh(self.bridge(ops.concatenate([h_n[0], h_n[1]], axis=-1)))
        state = LSTMState(h, self.decoder.zeros(h.shape[0], h.shape[1]))
        if lengths is not None:
            lengths = computed("lengths", [lengths], lambda given: plain(given).copy(), True)
        return Encoded(ops.swapaxes(ys, 0, 1), lengths, state)

    def _decode(self, encoded: Encoded, target: Any, record: Any = None) -> tuple[Tensor, Any]:
        xs = self.embed_target(target)
        with self._attending(encoded), scope("decoder"):
            result = scan(self.decoder, encoded.state, xs, mode=self.mode, record=record)
        return result.ys, result.record

    @contextmanager
    def _attending(self, encoded: Encoded) -> Iterator[None]:
        """The decoder reads this memory; afterwards none, so that the graph of a step ends with it
        and mg.jit can replay it. Who records runs steps again, and needs the memory for it.
        """
        if not isinstance(self.decoder, AttentionLSTMCell):
            yield
            return
        self.decoder.attend(encoded.memory, encoded.lengths)
        try:
            yield
        finally:
            if not switches.listeners:
                self.decoder.attend(None)

    def logits(self, h: Tensor) -> Tensor:
        """(..., H) -> (..., C)."""
        if self.project is not None:
            return linear(self.project(h), self.embed_target.weight)
        assert self.head is not None
        return self.head(h)

    def alignment(self, source: Any, target: Any, lengths: Any = None) -> Array:
        """Where each step of the decoder looked, (T, B, S); rows sum to 1.

        Raises ValueError without attention.
        """
        if self.attention is None:
            raise ValueError("EncoderDecoder: without attention there is no alignment.")
        with no_grad():
            encoded = self.encode(source, lengths)
            _, record = self._decode(encoded, _symbols("target", target), record=["attention"])
        return np.array(record.values["attention"])

    def greedy(
        self, source: Any, begin: int, end: int, lengths: Any = None, max_steps: int = 100
    ) -> list[list[int]]:
        """The most probable symbol at every step, until `end` or max_steps: one list a row."""
        with no_grad():
            encoded = self.encode(source, lengths)
            state, rows = encoded.state, encoded.memory.shape[0]
            symbols, found, open_ = np.full(rows, begin), [], np.ones(rows, dtype=bool)
            with self._attending(encoded):
                for _ in range(max_steps):
                    state, h = self.decoder(state, self.embed_target(symbols))
                    symbols = self.logits(h).numpy().argmax(axis=-1)
                    open_ &= symbols != end
                    if not open_.any():
                        break
                    found.append(np.where(open_, symbols, end))
        written = np.array(found, dtype=np.int64).reshape(-1, rows)
        return [[int(s) for s in column if s != end] for column in written.T]

    def beam(
        self,
        source: Any,
        begin: int,
        end: int,
        lengths: Any = None,
        width: int = 5,
        max_steps: int = 100,
        length_penalty: float = 0.0,
    ) -> list[list[Hypothesis]]:
        """For each row the `width` most probable sequences found by `beam_search`, best first."""
        with no_grad():
            encoded = self.encode(source, lengths)
            return [
                self._search(_row(encoded, b), begin, end, width, max_steps, length_penalty)
                for b in range(encoded.memory.shape[0])
            ]

    def _search(
        self, encoded: Encoded, begin: int, end: int, width: int, max_steps: int, penalty: float
    ) -> list[Hypothesis]:
        def step(state: Any, symbols: Array) -> tuple[Any, Tensor]:
            rows = np.zeros(len(symbols), dtype=np.int64)
            lengths = None if encoded.lengths is None else encoded.lengths[rows]
            with self._attending(Encoded(encoded.memory[rows], lengths, state)):
                state, h = self.decoder(state, self.embed_target(symbols))
            return state, ops.log_softmax(self.logits(h), axis=-1)

        return beam_search(step, encoded.state, begin, end, width, max_steps, penalty)


def _row(encoded: Encoded, b: int) -> Encoded:
    """One row of what was encoded, as a batch of its own."""
    only = np.array([b])
    lengths = None if encoded.lengths is None else encoded.lengths[only]
    return Encoded(encoded.memory[only], lengths, map_leaves(lambda s: s[only], encoded.state))


def _symbols(name: str, given: Any) -> Array:
    array = plain(given)
    if array.ndim != 2 or 0 in array.shape:
        raise ShapeError(
            f"EncoderDecoder: expected {name} of shape (steps, B), got {describe(array)}."
        )
    return array
