"""Windows of a series for forecasts, scaled by what the training part alone knows.

data = mg.data.forecasting(mg.data.co2().filled(), past=104, ahead=1)
data.train.xs, data.train.ys                        # (past, N, D), (ahead, N, D), scaled
data.scaler.inverse(predictions)                    # back in the unit of the series
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .series import Series
from .sources import DataError
from .splits import Parts, split_in_time

Array = np.ndarray


@dataclass(frozen=True)
class Scaler:
    """x -> (x - mean) / std, for each column; mean and std float64 (D,).

    `scaler[0]` or `scaler[[0, 2]]` scales these columns alone, as forecasts of them need it.
    Raises DataError for values whose last axis is not D.

    >>> scaler = Scaler.fit(np.array([[1.0], [3.0]]))
    >>> scaler(np.array([[5.0]])).tolist(), scaler.inverse(np.array([[3.0]])).tolist()
    ([[3.0]], [[5.0]])
    """

    mean: Array
    std: Array

    @classmethod
    def fit(cls, values: Array) -> Scaler:
        """Of the rows of `values` (T, D). A column that never changes is only shifted."""
        std = values.std(axis=0)
        return cls(values.mean(axis=0), np.where(std > 0, std, 1.0))

    def __getitem__(self, columns: Any) -> Scaler:
        return Scaler(np.atleast_1d(self.mean[columns]), np.atleast_1d(self.std[columns]))

    def __call__(self, values: Array) -> Array:
        return (self._checked(values) - self.mean) / self.std

    def inverse(self, scaled: Array) -> Array:
        return self._checked(scaled) * self.std + self.mean

    def _checked(self, values: Array) -> Array:
        """NumPy would make D columns of one."""
        columns = len(self.mean)
        if columns > 1 and np.shape(values)[-1:] != (columns,):
            raise DataError(
                f"Scaler: expected values of {columns} columns, (..., {columns}), got "
                f"{np.shape(values)}; for some of them use scaler[columns]."
            )
        return values


@dataclass(frozen=True)
class Windows:
    """xs: (past, N, D), what is known; ys: (ahead, N, D), what follows it. starts: int64 (N,), the
    step in the series at which each window begins: xs is [start, start + past), ys comes after.

    Window i is `windows[i]`, (past, D) and (ahead, D), and `Batches(windows)` takes them as they
    are; there, as in all batches, x is (past, B, D) and y, one target a window, (B, ahead, D).
    """

    xs: Array
    ys: Array
    starts: Array

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, i: int) -> tuple[Array, Array]:
        return self.xs[:, i], self.ys[:, i]


@dataclass(frozen=True)
class Forecasting:
    """Windows of the three parts, and the scaler of the training part."""

    train: Windows
    valid: Windows
    test: Windows
    scaler: Scaler
    parts: Parts


def forecasting(
    series: Series | Array,
    past: int,
    ahead: int = 1,
    shares: Sequence[float] = (0.7, 0.15, 0.15),
    step: int = 1,
    reach_back: bool = False,
    dtype: Any = np.float64,
) -> Forecasting:
    """Every window of `past` steps and the `ahead` steps that follow it, part by part in time.

    series: values (T,) or (T, D), without gaps. step: from one window to the next.
    reach_back: the inputs (never the targets) of a window of the validation or test part may begin
        in the part before it. That leaks nothing, as the past is known when a forecast is made, and
        a short series loses no targets; without it no step of the series is in two parts.

    dtype: of xs and ys, once they are scaled in float64; that of the layers that read them.

    Raises DataError for a gap (NaN, or a masked value) or a part that holds no window.

    >>> data = forecasting(np.arange(100.0), past=10, ahead=2)
    >>> data.train.xs.shape, data.test.ys.shape, data.scaler.mean.tolist()
    ((10, 59, 1), (2, 4, 1), [34.5])
    """
    values = _values(series)
    if past < 1 or ahead < 1 or step < 1:
        raise DataError(
            f"forecasting: past, ahead and step are 1 or more, got {past}, {ahead}, {step}."
        )
    if values.ndim != 2:
        raise DataError(f"forecasting: values are (T,) or (T, D), got {values.shape}.")
    if not np.isfinite(values).all():
        at = int(np.argmin(np.isfinite(values).all(axis=1)))
        raise DataError(
            f"forecasting: the value at step {at} is missing; close gaps first, for example with "
            f"series.filled()."
        )
    parts = split_in_time(len(values), shares)
    if not len(parts.train):
        raise DataError("forecasting: the scaler needs a training part, its share is 0.")
    scaler = Scaler.fit(values[parts.train])
    scaled = scaler(values).astype(dtype)
    train, valid, test = (
        _windows(name, part, scaled, past, ahead, step, reach_back and name != "train")
        for name, part in zip(Parts._fields, parts, strict=True)
    )
    return Forecasting(train, valid, test, scaler, parts)


def _values(series: Series | Array) -> Array:
    """float64 (T, D), NaN where a masked array has no value."""
    values = series.values if isinstance(series, Series) else series
    values = np.ma.filled(np.ma.asarray(values).astype(np.float64), np.nan)
    return values[:, None] if values.ndim == 1 else values


def _windows(
    name: str, part: Array, values: Array, past: int, ahead: int, step: int, reach_back: bool
) -> Windows:
    if not len(part):  # a share of 0
        return Windows(_empty(values, past), _empty(values, ahead), np.zeros(0, np.int64))
    first = max(part[0] - past, 0) if reach_back else part[0]
    starts = np.arange(first, part[-1] + 2 - past - ahead, step)
    if not len(starts):
        raise DataError(
            f"forecasting: the {len(part)} steps of the {name} part hold no window of {past} + "
            f"{ahead}; use a shorter past, a larger share{'' if reach_back else ' or reach_back'}."
        )
    return Windows(
        values[starts + np.arange(past)[:, None]],
        values[starts + past + np.arange(ahead)[:, None]],
        starts.astype(np.int64),
    )


def _empty(values: Array, length: int) -> Array:
    return np.zeros((length, 0, values.shape[1]), values.dtype)


def baselines(series: Series | Array, windows: Windows, season: int) -> dict[str, Array]:
    """Forecasts to beat, float64 (ahead, N, D) each, in the unit of the series.

    "persistence" repeats the last value known; "seasonal" repeats what was one season before (the
    last one known, where `ahead` is longer than a season). Both look only at values before the
    window's targets, but "seasonal" may look further back than its inputs.

    >>> windows = forecasting(np.arange(100.0), past=4).test
    >>> {name: int(ys[0, 0, 0]) for name, ys in baselines(np.arange(100.0), windows, 7).items()}
    {'persistence': 88, 'seasonal': 82}
    """
    values = _values(series)
    ahead, past = len(windows.ys), len(windows.xs)
    now = windows.starts + past  # the first step to forecast
    lag = season * (np.arange(ahead) // season + 1)
    at = now + (np.arange(ahead) - lag)[:, None]
    if len(now) and at.min() < 0:
        raise DataError(
            f"baselines: a season of {season} reaches {-at.min()} steps before the series begins."
        )
    return {"persistence": values[np.broadcast_to(now - 1, at.shape)], "seasonal": values[at]}
