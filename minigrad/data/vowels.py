"""JapaneseVowels: who speaks? Real speech features of varying length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .sources import SOURCES, read

Array = np.ndarray


@dataclass(frozen=True)
class Vowels:
    """xs: 640 utterances, float64 (T, 12) each, T = 7 to 29. labels: int64 (640,), the speaker.

    train, test: the indices of the parts as they were published (270 and 370): all nine speak in
    both, the test part was recorded on other occasions. Take validation from `train`.
    """

    xs: tuple[Array, ...]
    labels: Array
    classes: tuple[str, ...]
    train: Array
    test: Array
    unit: str
    source: str
    licence: str

    def __len__(self) -> int:
        return len(self.xs)


def japanese_vowels() -> Vowels:
    """Nine men say /ae/. A frame of 25.6 ms every 6.4 ms gives 12 LPC cepstrum coefficients.

    >>> vowels = japanese_vowels()
    >>> len(vowels), vowels.xs[0].shape, len(vowels.train), len(vowels.test)
    (640, (20, 12), 270, 370)

    Kudo, Toyama & Shimbo (1999), Pattern Recognition Letters 20, 1103-1111.
    """
    body = read("japanese_vowels").split(b"\n", 1)[1].replace(b"train", b"0").replace(b"test", b"1")
    rows = np.array(body.replace(b"\n", b",").rstrip(b",").split(b","), np.int64).reshape(-1, 15)
    part, speaker, utterance = rows[:, :3].T
    starts = np.flatnonzero(np.diff(utterance, prepend=-1))
    # A quotient of two exact numbers is rounded once, as reading the decimals would be.
    frames = rows[:, 3:] / 1_000_000
    source = SOURCES["japanese_vowels"]
    return Vowels(
        xs=tuple(np.split(frames, starts[1:])),
        labels=speaker[starts] - 1,
        classes=tuple(f"speaker {i}" for i in range(1, 10)),
        train=np.flatnonzero(part[starts] == 0),
        test=np.flatnonzero(part[starts] == 1),
        unit="LPC cepstrum coefficients",
        source=source.origin,
        licence=source.licence,
    )
