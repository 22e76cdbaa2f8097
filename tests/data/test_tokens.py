"""Tokens and their numbers: there and back, and nothing from outside the training part."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minigrad.data import DataError, Tokenizer, shakespeare

TEXT = st.text(min_size=1) | st.text("ab'’ _\n.,é1\ufffd", min_size=1)


@given(TEXT)
@example("a  b")
@example(" a ")
@example("'tis o' th' a'b'")
@example("a\ufffdb \ufffd c")
def test_decoding_undoes_encoding(text: str) -> None:
    for unit in ("character", "word"):
        tokenizer = Tokenizer([text], unit)
        ids = tokenizer.encode(text, begin=True, end=True)
        assert tokenizer.decode(ids) == text
        assert ids.dtype == np.int64
        assert ids[0] == tokenizer.begin
        assert ids[-1] == tokenizer.end
        assert ids.max() < len(tokenizer)


@given(TEXT, TEXT)
def test_an_unknown_character_becomes_one_number(known: str, text: str) -> None:
    tokenizer = Tokenizer([known])
    ids = tokenizer.encode(text)
    assert len(ids) == len(text)
    for i, character in zip(ids, text, strict=True):
        assert (i == tokenizer.unknown) == (character not in known)


def test_unknown_words_stand_apart_as_words_do() -> None:
    tokenizer = Tokenizer(["to be, or not"], unit="word")
    assert tokenizer.decode(tokenizer.encode("to see, or hear it")) == "to \ufffd, or \ufffd \ufffd"


def test_a_play_comes_back_word_by_word() -> None:
    play = shakespeare()
    tokenizer = Tokenizer([play], unit="word")
    ids = tokenizer.encode(play)
    assert tokenizer.decode(ids) == play
    assert len(ids) < len(play) / 3


def test_symbols_are_divided_by_blanks() -> None:
    tokenizer = Tokenizer(["R IY1 D", "L EH1 D"], unit="symbol")
    assert len(tokenizer) == 4 + 5
    assert tokenizer.decode(tokenizer.encode("D  IY1\nXX")) == "D IY1 \ufffd"


def test_the_most_frequent_tokens_have_the_first_numbers() -> None:
    tokenizer = Tokenizer(["b", "ab", "bc"])
    assert tokenizer.tokens[4:] == ("b", "a", "c")
    assert Tokenizer(["b", "ab", "bc"], limit=6).tokens[4:] == ("b", "a")
    assert Tokenizer(["b", "ab", "bc"], min_count=2).tokens[4:] == ("b",)


def test_decoding_stops_at_the_end_and_leaves_out_padding() -> None:
    tokenizer = Tokenizer(["ab"])
    assert tokenizer.decode([2, 4, 0, 5, 3, 4, 4]) == "ab"


def test_the_share_of_unknown_tokens_is_counted() -> None:
    tokenizer = Tokenizer(["ab"])
    assert tokenizer.unknown_share(["ab", "xy"]) == 0.5
    assert tokenizer.unknown_share([]) == 0.0
    assert "6 characters: 'a' 'b'" in repr(tokenizer)


@given(TEXT, st.sampled_from(["character", "word", "symbol"]))
def test_a_tokenizer_survives_a_file(text: str, unit: str) -> None:
    if unit == "symbol" and not text.split():
        return
    tokenizer = Tokenizer([text], unit)
    again = Tokenizer.from_json(tokenizer.to_json())
    assert again.tokens == tokenizer.tokens
    assert again.encode(text).tolist() == tokenizer.encode(text).tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(texts=[]), "no token that is to be kept"),
        (dict(texts=["abc"], min_count=2), "no token that is to be kept"),
        (dict(texts=["a"], unit="syllable"), "one of character, word, symbol, got 'syllable'"),
        (dict(texts=["a"], limit=4), "a limit of 4 leaves no place beside the 4 special"),
    ],
)
def test_a_tokenizer_of_nothing_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Tokenizer(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"unit": "word", "tokens": [1]}', '{"unit": "letter", "tokens": ["a"]}',
        '{"unit": "word", "tokens": ["a", "a"]}',
    ],
)  # fmt: skip
def test_a_file_that_is_no_tokenizer_is_refused(text: str) -> None:
    with pytest.raises(DataError, match=r"Tokenizer\.from_json: (this is no JSON|expected)"):
        Tokenizer.from_json(text)


@pytest.mark.parametrize("number", [-1, 5])
def test_a_number_without_a_token_is_refused(number: int) -> None:
    with pytest.raises(DataError, match=f"numbers are 0 to 4, got {number}"):
        Tokenizer(["a"]).decode([number])
