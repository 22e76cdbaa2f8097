"""The text that ships, files that cannot be read, vocabularies and windows."""

from __future__ import annotations

import hashlib
import re
import runpy
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad import data
from minigrad.data import DataError, Vocabulary


def test_the_play_is_the_one_that_its_readme_describes() -> None:
    folder = resources.files("minigrad.data") / "shakespeare"
    readme = (folder / "README.md").read_text("utf-8")
    digest = hashlib.sha256((folder / "hamlet.txt").read_bytes()).hexdigest()
    assert digest in readme
    assert f"{len(data.shakespeare()):,}" in readme
    assert "public domain" in readme


def test_the_play_is_plain_text() -> None:
    text = data.shakespeare()
    assert text.startswith("Hamlet\n\nACT I\n")
    assert "To be, or not to be: that is the question:" in text
    assert text.isascii()
    assert not re.search(r"[*_#\\\r\t]| \n", text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "it is empty"),
        (b" \n\n ", "it is empty"),
        (b"caf\xe9", r"not UTF-8 \(byte 0xe9 at position 3\)"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        data.read_text(path)


def test_a_folder_is_no_text_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="this is a folder"):
        data.read_text(tmp_path)


def test_line_ends_and_byte_order_marks_are_normalised(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree")
    assert data.read_text(path) == "one\ntwo\nthree"


@given(st.text(min_size=1))
def test_decoding_undoes_encoding(text: str) -> None:
    vocabulary = Vocabulary(text)
    ids = vocabulary.encode(text)
    assert vocabulary.decode(ids) == text
    assert len(vocabulary) == len(set(text))
    assert ids.dtype == np.int64
    assert ids.max() < len(vocabulary)


def test_an_unknown_character_is_refused_with_its_place() -> None:
    with pytest.raises(DataError, match=r"'x' at position 2 is not among the 2 symbols"):
        Vocabulary("ab").encode("abxa")


def test_a_limited_vocabulary_keeps_the_most_frequent_and_shares_the_rest() -> None:
    vocabulary = Vocabulary("aaaabbbccd", limit=3)
    assert set(vocabulary.symbols) == {"a", "b", "\ufffd"}
    assert vocabulary.decode(vocabulary.encode("abcdz")) == "ab\ufffd\ufffd\ufffd"
    assert len(Vocabulary("abc", limit=3)) == 3


def test_an_empty_vocabulary_is_refused() -> None:
    with pytest.raises(DataError, match="at least one character"):
        Vocabulary("")


@pytest.mark.parametrize("length", [1, 2, 7, 20])
@pytest.mark.parametrize("batch", [1, 3])
def test_windows_are_stretches_of_the_text(
    length: int, batch: int, rng: np.random.Generator
) -> None:
    ids = np.arange(20)
    for cut in (data.windows(ids, length, batch, rng), data.spaced_windows(ids, length, batch)):
        assert cut.shape == (length, batch)
        assert (np.diff(cut, axis=0) == 1).all()


def test_random_windows_reach_both_ends_of_the_text(rng: np.random.Generator) -> None:
    cut = data.windows(np.arange(10), 8, 200, rng)
    assert set(cut[0]) == {0, 1, 2}


def test_spaced_windows_go_from_the_first_to_the_last() -> None:
    assert data.spaced_windows(np.arange(11), 3, 5)[0].tolist() == [0, 2, 4, 6, 8]


def test_a_text_shorter_than_a_window_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(DataError, match="3 characters hold no stretch of 4"):
        data.windows(np.arange(3), 4, 1, rng)


def test_the_end_of_the_text_is_held_out() -> None:
    train, held = data.split(np.arange(50))
    assert train.tolist() == list(range(45))
    assert held.tolist() == list(range(45, 50))


def test_the_rebuild_script_turns_markdown_into_the_plain_form() -> None:
    path = Path(__file__).resolve().parents[2] / "tools" / "data_shakespeare.py"
    plain = runpy.run_path(str(path))["plain"]
    markdown = (
        "# Play\n\n### SCENE I. A castle.\n\n_Enter A and\nB_\n\n**A & B**  \nO,'\\-- all!  \n"
        "_\\[Aside]_  \nWell.\n\n**ROSENCRANTZ: & GUILDENSTERN:**  \nMy lord.\n"
    )
    assert plain(markdown) == (
        "Play\n\nSCENE I. A castle.\n\n[Enter A and\nB]\n\nA & B:\nO,'-- all!\n"
        "[Aside]\nWell.\n\nROSENCRANTZ & GUILDENSTERN:\nMy lord.\n"
    )
    with pytest.raises(SystemExit, match="changed its form"):
        plain("a * b")
