"""Formulas as MathML, written when the site is built: browsers draw it, no script is needed."""

from __future__ import annotations

import re
from typing import Any


class FormulaError(ValueError):
    """A formula that comes out wrong: better no page than one with a wrong formula."""


def to_mathml(tex: str, block: bool = False) -> str:
    """LaTeX as a <math> element.

    Raises FormulaError where latex2mathml leaves commands or alignment marks in the text.
    """
    from latex2mathml.converter import convert

    tex = re.sub(r"\{aligned\}", "{align*}", tex.strip())  # it knows only the latter, same for us
    tex = re.sub(r"\\mathrel\{\+\}\s*=", r"\\text{ += }", tex)  # one sign, not two with a gap
    try:
        mathml = convert(tex, display="block" if block else "inline")
    except Exception as error:
        raise FormulaError(f"{tex!r}: {type(error).__name__} {error}") from error
    if re.search(r"\\[A-Za-z]|>&<", mathml):
        raise FormulaError(f"{tex!r} has a command that is not known")
    return mathml


def setup(app: Any) -> dict[str, Any]:
    from docutils import nodes
    from sphinx.util import logging

    log = logging.getLogger(__name__)

    def convert(self: Any, node: Any, block: bool) -> None:
        try:
            formula = to_mathml(node.astext(), block)
        except FormulaError as error:
            log.warning("formula: %s", error, location=node)  # an error, as the site is built
            formula = f"<code>{self.encode(node.astext())}</code>"
        self.body.append(f'<div class="formula">{formula}</div>' if block else formula)
        raise nodes.SkipNode

    app.add_html_math_renderer(
        "mathml",
        (lambda self, node: convert(self, node, False), None),
        (lambda self, node: convert(self, node, True), None),
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}
