"""Series in time: sunspots, carbon dioxide, temperatures, weather.

    series = mg.data.co2()
    series.values, series.times, series.unit            # float64 (T,), datetime64 (T,), "ppm"
    series.filled()                                     # gaps closed with the last value before

What cuts them into windows for a forecast is minigrad/data/forecasts.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .sources import SOURCES, DataError, read_table

Array = np.ndarray


@dataclass(frozen=True)
class Series:
    """values: float64 (T,), or (T, D) with one column for each name in `columns`; NaN where nothing
    was measured. times: datetime64 (T,), or 0, 1, ... where none are known. season: after how many
    steps the series comes back to about the same value, for a seasonal baseline.
    """

    name: str
    values: Array
    times: Array
    unit: str
    season: int
    source: str
    licence: str
    columns: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        shape = ", ".join(map(str, self.values.shape))
        return (
            f"Series({self.name}: [{shape}]{self.unit and f' in {self.unit}'}, {self.times[0]} to "
            f"{self.times[-1]}, season {self.season})"
        )

    @property
    def missing(self) -> Array:
        """bool (T,): where at least one value was not measured."""
        gaps = np.isnan(self.values)
        return gaps if gaps.ndim == 1 else gaps.any(axis=1)

    def filled(self) -> Series:
        """The series with each gap closed by the last value before it.

        Interpolation would look at the value after the gap, which a forecast does not know yet.
        Raises DataError if the series begins with a gap.
        """
        known = ~np.isnan(self.values)
        if not known[0].all():
            raise DataError(f"{self.name}.filled: the first value is missing; cut it off.")
        steps = np.arange(len(self)).reshape(-1, *[1] * (self.values.ndim - 1))
        last = np.maximum.accumulate(np.where(known, steps, 0), axis=0)
        return replace(self, values=np.take_along_axis(self.values, last, axis=0))


def sunspots(every: str = "year") -> Series:
    """The sunspot number of each year 1700-2008, (309,), or of each month 1749-2009, (3126,).

    every: "year" or "month". The cycle takes 11 years or so, and no two are alike.

    >>> sunspots()
    Series(sunspots: [309] in sunspots, 1700 to 2008, season 11)
    >>> sunspots("month").values[:3]
    array([58. , 62.6, 70. ])
    """
    if every not in ("year", "month"):
        raise DataError(f"sunspots: every is 'year' or 'month', got {every!r}.")
    if every == "year":
        return _series("sunspots", "sunspots", season=11)
    return _series("sunspots_monthly", "sunspots", season=132)


def co2() -> Series:
    """Parts per million of CO2 over Mauna Loa, weekly from 1958 to 2001, (2284,); 59 are missing.

    A yearly wave on a rising trend. The values of the test part lie above all of the training part.

    >>> series = co2()
    >>> series, int(series.missing.sum())
    (Series(co2: [2284] in ppm, 1958-03-29 to 2001-12-29, season 52), 59)
    """
    return _series("co2", "ppm", season=52)


def temperatures() -> Series:
    """Degrees Fahrenheit in Seattle, hourly, stamped 2010, (8759,): a daily wave on a yearly one.

    The source calls them temperatures of 2010. They are as smooth as a mean over many years, so a
    simple model forecasts them well: `weather()` has the noise of real days. The hour that begins
    summer time, 2010-03-14T03, is not there.

    >>> temperatures()
    Series(temperatures: [8759] in °F, 2010-01-01T00 to 2010-12-31T23, season 24)
    """
    return _series("temperatures", "°F", season=24)


def weather() -> Series:
    """Four measurements of each day in Seattle, 2012 to 2015, (1461, 4).

    Columns: precipitation (mm), temp_max and temp_min (°C), wind (m/s).

    >>> series = weather()
    >>> series.columns, series.values[1].tolist()
    (('precipitation', 'temp_max', 'temp_min', 'wind'), [10.9, 10.6, 2.8, 4.5])
    """
    return _series("weather", "mm, °C, °C, m/s", season=365, columns=4)


def _series(name: str, unit: str, season: int, columns: int = 1) -> Series:
    header, rows = read_table(name)
    values = np.array([[float(v or "nan") for v in row[1 : columns + 1]] for row in rows])
    return Series(
        name=name,
        values=values if columns > 1 else values[:, 0],
        times=np.array([row[0] for row in rows], dtype="datetime64"),
        unit=unit,
        season=season,
        source=SOURCES[name].origin,
        licence=SOURCES[name].licence,
        columns=tuple(header[1 : columns + 1]) if columns > 1 else (),
    )
