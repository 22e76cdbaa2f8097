"""The next value of a series. Many-to-one: a window of the past in, one number out.

    (x_t - x_last, ...) (past, D)  ->  recurrent layer  ->  Linear  ->  change;  x_last + change

The net sees how the past differs from the last value and says what the next one adds to it: it
begins as persistence, and a series that rises (CO2) does not leave the range it was trained in.
Scales come from the training part alone. Beside the usual baselines, persistence and the value one
season before, stands a harder one: a line through the same inputs, fitted by least squares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from .. import data
from ..nn import Linear, Module, huber_loss
from ..tensors import Tensor
from .base import Settings, Task, TaskError, output_size, recurrent

Array = np.ndarray


class Choice(NamedTuple):
    """A series. past: steps in a window. calendar: its season is the year, whose phase is known
    of any date, so it is an input; the cycle of the sun keeps no calendar, and its level counts.
    """

    load: Callable[[], data.Series]
    past: int
    calendar: bool


CHOICES = {
    "sunspots-monthly": Choice(lambda: data.sunspots("month"), past=48, calendar=False),
    "sunspots-yearly": Choice(lambda: data.sunspots("year"), past=33, calendar=False),
    "co2": Choice(lambda: data.co2().filled(), past=26, calendar=True),
}


class ChangeModel(Module):
    """Windows (past, B, D) -> the change after their last step (B, 1)."""

    def __init__(self, settings: Settings, features: int, generator: Any):
        self.recurrent = recurrent(settings, features, generator, return_sequences=False)
        self.head = Linear(output_size(settings), 1, generator=generator)

    def forward(self, xs: Array) -> Tensor:
        return self.head(self.recurrent(xs)[0])


class Forecast(Task):
    """In time: the first 70 % to train, the next 15 % to validate, the last 15 % to test."""

    name, kind = "forecast", "many-to-one"
    title = "sunspots and CO2: the next value, against persistence and the season"
    cells = ("gru", "lstm", "rnn", "bilstm")
    series = tuple(CHOICES)
    epochs, hidden = (40, 10), (32, 32)
    metric, larger_is_better = "mean absolute error", False
    rate = 3e-3

    def __init__(self, settings: Settings, stored: Mapping[str, Any] | None = None):
        super().__init__(settings, stored)
        self.choice = CHOICES[settings.series]
        self.data = self.choice.load()
        self.windows = data.forecasting(
            self.data, self.choice.past, shares=(0.7, 0.15, 0.15), reach_back=True
        )
        train = self.windows.train
        self.scale = float(_changes(train).std())
        self.model = ChangeModel(settings, self.inputs(train).shape[-1], self.generator)
        self.batches = data.Batches(
            list(self.inputs(train).swapaxes(0, 1)),
            (_changes(train) / self.scale).astype(np.float32),
            batch=32,
            seed=settings.seed,
        )

    def inputs(self, windows: data.Windows) -> Array:
        """(past, N, D) float32: the difference from the last value, and the level or the phase."""
        difference = (windows.xs - windows.xs[-1]) / (3 * self.scale)
        if not self.choice.calendar:
            return np.concatenate([difference, windows.xs], axis=-1).astype(np.float32)
        days = (self.data.times - np.datetime64("1970-01-01")).astype("timedelta64[D]")
        phase = 2 * np.pi * days.astype(np.float64) / 365.2425
        seen = phase[windows.starts + np.arange(self.choice.past)[:, None]][..., None]
        parts = [difference, np.sin(seen), np.cos(seen)]
        return np.concatenate(parts, axis=-1).astype(np.float32)

    def loss(self, model: Any, batch: Any, *state: Any) -> Tensor:
        xs, _, changes = batch
        return huber_loss(model(xs), changes)  # a storm on the sun is no reason for a large step

    def validate(self) -> dict[str, float]:
        return self._score(self.windows.valid)

    def test(self) -> dict[str, float]:
        return self._score(self.windows.test)

    def _score(self, windows: data.Windows) -> dict[str, float]:
        predicted, true = self.model(self.inputs(windows)), _changes(windows) / self.scale
        loss = huber_loss(predicted, true.astype(np.float32)).item()
        return {self.metric: self._error(predicted.numpy(), true), "loss": loss}

    def _error(self, predicted: Array, true: Array) -> float:
        """Mean absolute error in the unit of the series, of changes as the net gives them."""
        return float(np.abs(predicted - true).mean() * self.scale * self.windows.scaler.std[0])

    def baselines(self) -> dict[str, float]:
        train, test = self.windows.train, self.windows.test
        true = self.windows.scaler.inverse(test.ys)
        found = data.baselines(self.data, test, self.data.season)
        errors = {name: float(np.abs(values - true).mean()) for name, values in found.items()}
        line = np.linalg.lstsq(self._design(train), _changes(train) / self.scale, rcond=None)[0]
        predicted = self._design(test) @ line
        errors["least squares"] = self._error(predicted, _changes(test) / self.scale)
        return errors

    def _design(self, windows: data.Windows) -> Array:
        """(N, ...): all differences, the last step's level or phase, and 1."""
        xs = self.inputs(windows).astype(np.float64)
        return np.column_stack([xs[:-1, :, 0].T, xs[-1, :, 1:], np.ones(xs.shape[1])])

    def about(self) -> str:
        sizes = [len(w) for w in (self.windows.train, self.windows.valid, self.windows.test)]
        return (
            f"{self.settings.series}, {len(self.data):,} values in {self.data.unit}; windows of "
            f"{self.choice.past}: {sizes[0]:,} to train, {sizes[1]} to validate, {sizes[2]} to "
            f"test, in this order of time."
        )

    def probed(self) -> tuple[Array, None]:
        return self.inputs(self.windows.test)[:, :32], None

    reads = "the last values of the series, at least as many as a window has"

    def read(self, text: str) -> list[str]:
        """The value after those given, for a series whose inputs are values alone."""
        if self.choice.calendar:
            raise TaskError(f"forecast: --text has no dates, which {self.settings.series} needs.")
        try:
            values = np.array([float(word) for word in text.replace(",", " ").split()])
        except ValueError as error:
            raise TaskError(f"forecast: --text is numbers with blanks between ({error}).") from None
        past = self.choice.past
        if len(values) < past or not np.isfinite(values).all():
            raise TaskError(f"forecast: --text has {len(values)} numbers; expected {past} or more.")
        xs = self.windows.scaler(values[-past:, None])[:, None]
        window = data.Windows(xs, xs[-1:], np.zeros(1, np.int64))
        change = float(self.model(self.inputs(window)).numpy()[0, 0]) * self.scale
        unit = self.data.unit
        return [f"{self.windows.scaler.inverse(xs[-1, 0] + change)[0]:.1f} {unit}"]


def _changes(windows: data.Windows) -> Array:
    """(N, 1): what the next value adds to the last, scaled as the windows are."""
    return np.asarray(windows.ys[0] - windows.xs[-1])
