"""Spoken digits, and the log-mel spectrum that a recogniser sees of them."""

from __future__ import annotations

import io
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..untrusted import cause, read_bytes
from .external import EXTERNAL, missing
from .sources import DataError

Array = np.ndarray

MOST_SOUND = 256 << 20  # bytes of a recording
FOLDER = Path("/usr/share/asterisk/sounds/en_US_f_Allison/digits")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Recordings:
    """waves: N recordings, float64 (samples,) from -1 to 1. rate: samples a second."""

    waves: tuple[Array, ...]
    labels: Array
    classes: tuple[str, ...]
    rate: int
    source: str
    licence: str

    def __len__(self) -> int:
        return len(self.waves)


def spoken_digits(folder: str | Path | None = None) -> Recordings:
    """Ten recordings: one voice says each digit once, at 8,000 samples a second.

    folder: where 0.wav to 9.wav lie (mono, 16 bit); that of Debian's asterisk-core-sounds-en-wav if
        none is given.
    One voice, one recording of each: a net that tells them apart has learnt these ten recordings.
    Whether it knows digits, no test on them can say; `japanese_vowels` has the variation of speech.

    Raises MissingDataError if the package is not installed, DataError for files of another form.
    """
    source = EXTERNAL["spoken_digits"]
    where = FOLDER if folder is None else Path(folder)
    if not where.is_dir():
        if folder is None:
            raise missing("spoken_digits")
        raise DataError(f"spoken_digits: {where} is no folder; give one with 0.wav to 9.wav.")
    found = [read_wave(where / f"{i}.wav") for i in range(10)]
    if len({rate for _, rate in found}) > 1:
        raise DataError(f"spoken_digits: the recordings in {where} have different sampling rates.")
    return Recordings(
        waves=tuple(samples for samples, _ in found),
        labels=np.arange(10, dtype=np.int64),
        classes=DIGITS,
        rate=found[0][1],
        source=source.package if folder is None else str(where),
        licence=source.licence if folder is None else "that of the files given",
    )


def read_wave(path: Path) -> tuple[Array, int]:
    """(samples float64 (n,) from -1 to 1, samples a second) of a mono 16-bit .wav file."""
    try:
        with wave.open(io.BytesIO(read_bytes(path, MOST_SOUND))) as file:
            form = (file.getnchannels(), file.getsampwidth())
            rate, raw = file.getframerate(), file.readframes(file.getnframes())
    except FileNotFoundError:
        raise DataError(f"sound file {path}: no such file.") from None
    except Exception as error:  # the module raises what its parts do
        raise DataError(f"sound file {path}: this is no .wav file ({cause(error)}).") from None
    if form != (1, 2):
        raise DataError(
            f"sound file {path}: expected one channel of 16 bits, got {form[0]} of {8 * form[1]}."
        )
    if len(raw) % 2 or rate < 1:
        raise DataError(f"sound file {path}: this is no whole .wav file.")
    return np.frombuffer(raw, "<i2") / 32768.0, rate


def log_mel(
    samples: Array, rate: int, bands: int = 20, frame: float = 0.025, shift: float = 0.010
) -> Array:
    """float64 (T, bands): the log of the power in each of `bands` bands, frame by frame.

    The bands are triangles of equal width on the mel scale, m = 2595 log10(1 + f / 700), from 0 to
    half the sampling rate. frame, shift: seconds. A signal shorter than a frame is one frame.

    >>> rate = 8000
    >>> tone = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)
    >>> found = log_mel(tone, rate)
    >>> found.shape, int(found.mean(axis=0).argmax())
    ((98, 20), 9)

    Davis & Mermelstein (1980), IEEE Trans. ASSP 28, 357-366, without the final cosine transform.
    """
    width, step = round(frame * rate), round(shift * rate)
    if width < 2 or step < 1 or bands < 1:
        raise DataError(
            f"log_mel: frames of {frame} s every {shift} s at {rate} samples a second, in {bands} "
            f"bands; each needs at least one sample and band."
        )
    samples = np.pad(samples, (0, max(width - len(samples), 0)))
    starts = np.arange(0, len(samples) - width + 1, step)
    frames = samples[starts[:, None] + np.arange(width)] * np.hanning(width)
    power = np.abs(np.fft.rfft(frames)) ** 2
    return np.log(power @ _triangles(width, rate, bands) + 1e-10)


def _triangles(width: int, rate: int, bands: int) -> Array:
    """float64 (width // 2 + 1, bands): the weight of each frequency in each band."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    hertz = np.fft.rfftfreq(width, 1 / rate)[:, None]
    low, middle, high = corners[:-2], corners[1:-1], corners[2:]
    rising, falling = (hertz - low) / (middle - low), (high - hertz) / (high - middle)
    return np.clip(np.minimum(rising, falling), 0, None)
