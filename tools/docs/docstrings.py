"""minigrad's docstrings, which are plain text, as reStructuredText.

a paragraph                 stays one; `code` becomes code, and a link if it is a public name
name: what it is            of an argument or attribute, at the start of a line or a sentence:
                            an entry of a list; more of it is indented, or follows
Raises ..., Returns ...     paragraphs of their own
an indented block           after an empty line: equations or code, kept as they are
a doctest                   kept as it is
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Mapping
from itertools import pairwise

NAME = r"\*{0,2}[A-Za-z_]\w*"
ENTRY = re.compile(rf"({NAME}(?:, {NAME})*): (?=\S)")
SENTENCE = re.compile(rf"(?<=[.;] )(?=({NAME}(?:, {NAME})*): \S)")
OWN = re.compile(r"(?:Raises|Returns|Attributes:|Source:) ?")
EMBEDDED = re.compile(r"(?<=\. )(?=Raises [A-Z]\w+Error|Returns )")


def to_rest(
    lines: list[str], names: Collection[str] = (), links: Mapping[str, str] | None = None
) -> list[str]:
    """The lines of a docstring as lines of reST.

    names: arguments and attributes, which have entries. links: what `code` may name -> the full
    name of its entry.

    >>> to_rest(["See `f`:", "", "    y = x*", "", "a: one."], ["a"])
    ['See ``f``:', '', '.. code-block:: none', '', '   y = x*', '', '``a``', '   one.', '']
    """
    result: list[str] = []
    for kind, block in blocks(lines):
        if kind == "doctest":
            result += [*block, ""]
        elif kind == "indented":
            language = "python" if is_python(block) else "none"
            result += [f".. code-block:: {language}", ""]
            result += [f"   {line}" if line else "" for line in block] + [""]
        else:
            for part in parts(block, names):
                result += [*part.rest(links or {}), ""]
    return merged(result)


def blocks(lines: list[str]) -> list[tuple[str, list[str]]]:
    """('text' | 'indented' | 'doctest', its lines without their common indent)."""
    found: list[tuple[str, list[str]]] = []
    after_empty = True
    for line in [line.expandtabs().rstrip() for line in lines]:
        if not line:
            if found and found[-1][0] == "indented":
                found[-1][1].append("")
            after_empty = True
            continue
        kind = found[-1][0] if found else ""
        indented = line.startswith("    ")
        if line.lstrip().startswith(">>>") and (after_empty or kind == "doctest"):
            if after_empty and kind == "doctest":
                found[-1][1].append("")
            if kind != "doctest":
                found.append(("doctest", []))
        elif kind == "doctest" and not after_empty:
            pass
        elif indented and (after_empty or kind == "indented"):
            if kind != "indented":
                found.append(("indented", []))
        elif after_empty or kind != "text":
            found.append(("text", []))
        found[-1][1].append(line)
        after_empty = False
    return [(kind, dedent(block) if kind != "text" else block) for kind, block in found]


def dedent(block: list[str]) -> list[str]:
    while block and not block[-1]:
        block = block[:-1]
    indent = min((len(line) - len(line.lstrip()) for line in block if line), default=0)
    return [line[indent:] for line in block]


def is_python(block: list[str]) -> bool:
    """Whether a block is code, not equations: a statement or a call, no index _t, and it parses."""
    text = "\n".join(block)
    code = re.search(
        r"^(import|from|for|def|class|with|print|return)\b|\w\(|^#", text, re.MULTILINE
    )
    equation = re.search(r"\w_t\b|\^|\w_\{", text)
    if not code or equation:
        return False
    try:
        ast.parse(re.sub(r"^\s*return\b", "pass; ", text, flags=re.MULTILINE))
    except SyntaxError:
        return False
    return True


class Part:
    """A paragraph, or the entry of a name in a list."""

    def __init__(self, text: str, name: str = ""):
        self.text, self.name = text, name

    def rest(self, links: Mapping[str, str]) -> list[str]:
        text = inline(" ".join(self.text.split()), links)
        if not self.name:
            return [safe_start(text)]
        shown = ", ".join(f"``{name}``" for name in self.name.split(", "))
        return [shown, f"   {safe_start(text)}"]


def parts(block: list[str], names: Collection[str]) -> list[Part]:
    """A text block as paragraphs and entries."""
    found: list[Part] = []
    for line in block:
        for piece in pieces(line, names):
            text = piece.strip()
            entry = ENTRY.match(text)
            name = entry[1] if entry and is_entry(entry[1], names) else ""
            if name and entry is not None:
                found.append(Part(text[entry.end() :], name))
            elif not found or OWN.match(text):
                found.append(Part(text))
            else:
                found[-1].text += " " + text
    return found


def pieces(line: str, names: Collection[str]) -> list[str]:
    cuts = [m.start() for m in SENTENCE.finditer(line) if is_entry(m[1], names)]
    cuts += [m.start() for m in EMBEDDED.finditer(line)]
    edges = [0, *sorted(set(cuts)), len(line)]
    return [line[a:b] for a, b in pairwise(edges) if line[a:b].strip()]


def is_entry(name: str, names: Collection[str]) -> bool:
    return all(part.lstrip("*") in names for part in name.split(", "))


def inline(text: str, links: Mapping[str, str]) -> str:
    """Escapes what reST would take for markup, outside of `code`, which becomes ``code``."""
    found = []
    for piece in re.split(r"(`[^`]+`)", text):
        if len(piece) > 2 and piece.startswith("`"):
            code = piece[1:-1].strip()
            target = links.get(code) or links.get(code.removesuffix("()"))
            found.append(f":py:obj:`{code} <{target}>`" if target else f"``{code}``")
        else:
            found.append(re.sub(r"([\\*`|_])", r"\\\1", piece))
    for i in range(1, len(found), 2):  # markup that touches a letter is none: ``scan``s
        found[i] = ("\\ " if re.search(r"[\w)]$", found[i - 1]) else "") + found[i]
        found[i] += "\\ " if re.match(r"[\w(]", found[i + 1]) else ""
    return "".join(found)


def safe_start(text: str) -> str:
    """A paragraph that begins like a list, a field or a directive is still a paragraph."""
    return "\\" + text if re.match(r"(?:[-+•:]|\.\.|\(?\w+[.)] |>>>|#\.|\.\. )", text) else text


def merged(lines: list[str]) -> list[str]:
    """Entries that follow each other are one list: no empty line between them."""
    result: list[str] = []
    for i, line in enumerate(lines):
        if (
            not line
            and result
            and result[-1].startswith("   ")
            and i + 1 < len(lines)
            and re.fullmatch(r"(?:``[^`]+``(?:, )?)+", lines[i + 1])
            and i > 1
            and re.fullmatch(r"(?:``[^`]+``(?:, )?)+", lines[i - 2])
        ):
            continue
        result.append(line)
    return result
