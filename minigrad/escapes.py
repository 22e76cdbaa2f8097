"""What may be shown on a terminal: texts, names and errors with control characters escaped.

A terminal obeys what it prints: ESC and the C1 controls move its cursor, rename its window, paste
into its input; bidi controls show a line in another order than it has; a carriage return puts one
text over another. None of that is a text's to decide.
"""

from __future__ import annotations

import re

# C0 but for tab and newline; DEL; C1; marks and overrides of direction; separators of lines;
# invisible operators; interlinear marks; tags; halves of surrogate pairs. The joiners U+200C and
# U+200D stay, without which Persian and Devanagari are spelt wrong.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e0fff\ud800-\udfff]"
)
_BREAKS = re.compile("[\t\n]")


def printable(text: object, lines: bool = False) -> str:
    r"""str(text) with everything that a terminal would obey written as Python writes it.

    lines: the text has lines of its own, so newlines and tabs stay.

    >>> printable("loss\x1b[2J\n")
    'loss\\x1b[2J\\n'
    """
    escaped = _CONTROLS.sub(_escape, str(text))
    return escaped if lines else _BREAKS.sub(_escape, escaped)


def _escape(match: re.Match[str]) -> str:
    return repr(match[0])[1:-1]
