"""A check says of a right answer that it is right, and of any other what is wrong with it."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad.lab.exercises import Exercise, WrongAnswer, close, exercise


@exercise("a function n -> the sum of 1 to n")
def check_7(total):
    for n in (0, 1, 5):
        close(total(n), sum(range(n + 1)), f"the sum up to {n}")
    return "Gauss knew it at school."


@pytest.fixture
def fresh() -> Exercise:
    return Exercise(check_7.check, check_7.wanted)


def test_dots_in_place_of_an_answer_say_what_is_wanted(fresh, capsys):
    for call in (lambda: fresh(...), fresh):
        call()
        said = capsys.readouterr().out
        assert said == (
            "Exercise 7: put your answer in place of the dots, a function n -> the sum of 1 to n.\n"
        )
    assert not fresh.solved


def test_a_right_answer_is_told_so_as_often_as_it_is_given(fresh, capsys):
    for _ in range(2):
        fresh(lambda n: n * (n + 1) // 2)
        assert capsys.readouterr().out == "Exercise 7: right. Gauss knew it at school.\n"
    assert fresh.solved


def test_nothing_is_said_of_a_right_answer_where_a_check_returns_nothing(capsys):
    Exercise(lambda answer: None, "anything")(1)
    assert capsys.readouterr().out.endswith(": right.\n")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda n: n, r"not yet\. the sum up to 5: you have 5, the check finds 15\.$"),
        (lambda n: None, r"not yet\. the sum up to 0: expected a number, got None\.$"),
        (lambda n: [n], r"you have the shape \(1,\), not \(\)\.$"),
        (lambda n: n * here, r"name 'here' is not defined\. .* run the cells above first\.$"),  # noqa: F821
        (15, r"ends in TypeError: 'int' object is not callable\nWanted: a function n -> the sum"),
        (lambda n: 1 // 0, "ends in ZeroDivisionError: "),
        (None, "ends in TypeError: 'NoneType' object is not callable"),
    ],
)
def test_a_wrong_answer_is_refused_with_the_reason(fresh, answer, said):
    with pytest.raises(WrongAnswer, match=r"^Exercise 7: .*" + said) as refused:
        fresh(answer)
    assert not fresh.solved
    assert refused.value._render_traceback_() == [str(refused.value)]


def test_an_assert_without_a_message_says_what_is_wanted():
    def check_1(answer):
        if answer <= 0:
            raise AssertionError

    with pytest.raises(WrongAnswer, match=r"^Exercise 1: not yet\. Wanted: a number above 0\.$"):
        Exercise(check_1, "a number above 0")(-1)


def test_a_check_that_does_not_say_what_is_wanted_is_refused():
    with pytest.raises(TypeError, match=r'expected a text .* write @exercise\("a function x -> y"'):

        @exercise
        def check_1(answer): ...


def test_ctrl_c_is_no_answer(fresh):
    def interrupted(n):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fresh(interrupted)


def test_close_takes_numbers_arrays_and_tensors_of_any_size():
    for shape in ((), (0,), (1,), (3, 5)):
        values = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
        close(mg.tensor(values, requires_grad=True), values * (1 + 1e-8), "values")
        close(values.tolist(), mg.tensor(values), "values")


@pytest.mark.parametrize(
    ("got", "expected", "said"),
    [
        (1.1, 1.0, r"^x: you have 1\.1, the check finds 1\.$"),
        (np.nan, 1.0, r"^x: you have nan, the check finds 1\.$"),
        ([[1, 2], [3, 5]], [[1, 2], [3, 4]], r"^x: at \[1, 1\] you have 5, the check finds 4\.$"),
        ([1, 2, 3], [1, 2], r"^x: you have the shape \(3,\), not \(2,\)\.$"),
        ("half", 0.5, r"^x: expected a number, got 'half'\.$"),
        ([[1], [2, 3]], [1.0], r"^x: expected an array \(1,\), got \[\[1\], \[2, 3\]\]\.$"),
    ],
)
def test_close_says_where_values_differ(got, expected, said):
    with pytest.raises(AssertionError, match=said):
        close(got, expected, "x")
