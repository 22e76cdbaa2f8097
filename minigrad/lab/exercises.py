"""Exercises that check a reader's own answer by what it does; no solution is stored.

A page defines a check, and calls it with dots, for which a reader puts in an answer:

    @exercise("a function (a, y) -> the slope of y = e^a")
    def check_1(slope):
        for a in (-1.0, 0.5, 2.0):
            nudged = (math.exp(a + 1e-6) - math.exp(a - 1e-6)) / 2e-6
            close(slope(a, math.exp(a)), nudged, f"the slope at a = {a}")

    check_1(...)

What a check asserts is what it says of a wrong answer, so each assert has a message; what it
returns, a sentence, is said of a right one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import MinigradError

__all__ = ["Exercise", "WrongAnswer", "close", "exercise"]


class WrongAnswer(MinigradError, AssertionError):
    """An answer that a check refuses, and why. Notebooks show the message, without a traceback.

    >>> try:
    ...     exercise("a number")(lambda answer: close(answer, 2.0, "twice one"))(3)
    ... except WrongAnswer as wrong:
    ...     print(str(wrong).split(": ", 1)[1])
    not yet. twice one: you have 3, the check finds 2.
    """

    def _render_traceback_(self) -> list[str]:  # asked for by IPython
        return [str(self)]


class Exercise:
    """answer -> None, if it is right: a check that was made by `exercise`.

    wanted: what an answer is. solved: whether one was right so far. Called without an answer, or
    with dots, it says what is wanted. Raises WrongAnswer.

    >>> def check_2(square):
    ...     close(square(3.0), 9.0, "the square of 3")
    >>> second = Exercise(check_2, "a function x -> its square")
    >>> second(lambda x: x * x)
    Exercise 2: right.
    >>> second.solved
    True
    """

    def __init__(self, check: Callable[[Any], str | None], wanted: str):
        self.check, self.wanted, self.solved = check, wanted, False
        self.name = "Exercise " + check.__name__.removeprefix("check_")

    def __call__(self, answer: Any = ...) -> None:
        if answer is ...:
            print(f"{self.name}: put your answer in place of the dots, {self.wanted}.")
            return
        try:
            told = self.check(answer)
        except AssertionError as error:
            said = str(error) or f"Wanted: {self.wanted}."
            raise WrongAnswer(f"{self.name}: not yet. {said}") from None
        except NameError as error:
            raise WrongAnswer(
                f"{self.name}: {error}. If it is a name of the page, run the cells above first."
            ) from error
        except Exception as error:
            raise WrongAnswer(
                f"{self.name}: with your answer the check ends in {type(error).__name__}: {error}\n"
                f"Wanted: {self.wanted}."
            ) from error
        self.solved = True
        print(f"{self.name}: right. {told or ''}".rstrip())


def exercise(wanted: str) -> Callable[[Callable[[Any], str | None]], Exercise]:
    """(wanted) -> a decorator that makes an Exercise of a function `check_N(answer)`.

    wanted: what an answer is, as "a function (T, H) -> the number of bytes". Raises TypeError where
    it is forgotten.

    >>> @exercise("a number whose square is 2")
    ... def check_1(root):
    ...     close(root * root, 2.0, "its square")
    ...     return "There is another one."
    >>> check_1(...)
    Exercise 1: put your answer in place of the dots, a number whose square is 2.
    >>> check_1(-(2**0.5))
    Exercise 1: right. There is another one.
    >>> check_1(1.5)
    Traceback (most recent call last):
    minigrad.lab.exercises.WrongAnswer: Exercise 1: not yet. its square: you have 2.25, the check
    finds 2.
    """
    if not isinstance(wanted, str):
        raise TypeError(
            f"exercise: expected a text that says what an answer is, got {wanted!r}; write "
            '@exercise("a function x -> y") above the check.'
        )
    return lambda check: Exercise(check, wanted)


def close(got: Any, expected: Any, what: str, rtol: float = 1e-6, atol: float = 1e-12) -> None:
    """|got - expected| <= atol + rtol |expected|, or an AssertionError that says where it is not.

    got, expected: numbers, arrays or Tensors of one shape; what: what they are, for the message.

    >>> close([1.0, 2.5], [1.0, 2.0], "the two norms")
    Traceback (most recent call last):
    AssertionError: the two norms: at [1] you have 2.5, the check finds 2.
    """
    true = _array(expected)
    try:
        mine = _array(got)
    except (TypeError, ValueError):
        kind = f"an array {true.shape}" if true.ndim else "a number"
        raise AssertionError(f"{what}: expected {kind}, got {got!r}.") from None
    if mine.shape != true.shape:
        raise AssertionError(f"{what}: you have the shape {mine.shape}, not {true.shape}.")
    off = ~np.isclose(mine, true, rtol=rtol, atol=atol)
    if off.any():
        place = tuple(int(i) for i in np.argwhere(off)[0])
        where = f"at {list(place)} " if place else ""
        raise AssertionError(
            f"{what}: {where}you have {mine[place]:.6g}, the check finds {true[place]:.6g}."
        )


def _array(values: Any) -> np.ndarray:
    if values is None:  # which NumPy takes for a NaN
        raise TypeError("no value")
    return np.asarray(values.numpy() if hasattr(values, "numpy") else values, dtype=np.float64)
