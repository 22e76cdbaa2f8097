"""The four kinds of recurrent net on real data, each task in a module that reads top to bottom."""

from ..errors import suggest
from .base import Settings, Task, TaskError
from .captions import Captions
from .characters import Characters
from .dates import Dates
from .digits import Digits
from .forecast import Forecast
from .graphemes import Graphemes
from .languages import Languages
from .names import Names
from .speech import Speech
from .vowels import Vowels

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (
        Digits,
        Captions,
        Names,
        Vowels,
        Languages,
        Forecast,
        Characters,
        Graphemes,
        Dates,
        Speech,
    )
}


def find(name: str) -> type[Task]:
    """The task of this name. Raises TaskError that says which there are.

    >>> find("vowels").kind
    'many-to-one'
    """
    if name not in TASKS:
        hint = suggest(name, TASKS)
        raise TaskError(f"there is no task {name!r}; {hint}Tasks: {', '.join(TASKS)}.")
    return TASKS[name]


__all__ = ["TASKS", "Settings", "Task", "TaskError", "find"]
