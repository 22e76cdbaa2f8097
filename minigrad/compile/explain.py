"""explain(): what the compiler did with a step, and what ran."""
from __future__ import annotations
from typing import Any


class Explanation:
    def __init__(self, compiled: Any, facts: dict[str, Any]):
        self.compiled, self.facts = compiled, facts

    @property
    def program(self) -> Any:
        return self.compiled.program

    @property
    def source(self) -> str:
        return self.facts["forward"].kernel.text
