"""The ports in tutorials/ported learn what the originals learn, and are no longer than these."""

from __future__ import annotations

import ast
import importlib.util
import io
import re
import tokenize
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
PORTED = ROOT / "tutorials" / "ported"
PAGE = ROOT / "tools" / "docs" / "source" / "ports.md"

# A port, what makes it quick, and what has to hold of what its main returns.
QUICK: dict[str, tuple[dict[str, Any], Callable[[Any], bool]]] = {
    "names_classifier": (
        {"epochs": 5, "hidden_size": 32},
        lambda accuracy: accuracy > 0.35,  # the largest of the ten countries is below 0.2
    ),
    "time_sequence_prediction": (
        {"steps": 40, "length": 80, "future": 3, "number": 13, "hidden_size": 9},
        lambda errors: errors[0] < 0.05,  # 0.5 is that of always 0
    ),
    "csv_forecast": ({"epochs": 10}, lambda errors: errors[0] < errors[1]),
    "imdb_bidirectional": ({"epochs": 2, "max_features": 1500}, lambda found: found[0] > found[1]),
    "word_language_model": (
        {"emsize": 32, "nhid": 32, "nlayers": 1, "dropout": 0.0, "epochs": 3, "lines": 1500},
        lambda perplexities: perplexities[0] < perplexities[1],
    ),
    "seq2seq_attention": (
        {"epochs": 8, "hidden_size": 64, "days": 800, "learning_rate": 1e-2},
        lambda exact: exact > 0.1,
    ),
}


def load(name: str, folder: Path = PORTED) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"ported_{name}", folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.long
@pytest.mark.parametrize("name", QUICK)
def test_a_port_learns_in_its_quick_form(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options, holds = QUICK[name]
    found = load(name).main(**options)
    assert holds(found), found


def code_lines(text: str) -> int:
    """Lines that are more than a comment, a docstring or nothing."""
    spoken = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    blank = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    lines = {n for t in tokens if t.type not in blank and t.string
             for n in range(t.start[0], t.end[0] + 1)}  # fmt: skip
    return len(lines - spoken)


def test_lines_of_code_are_counted_without_what_is_only_said() -> None:
    assert code_lines('"""Said."""\n\n# said\nx = (\n    1\n)  # said\n') == 3


def test_the_page_counts_the_lines_of_every_port() -> None:
    page = PAGE.read_text(encoding="utf-8")
    counted = {name: int(n) for name, n in re.findall(r"`ported/(\w+)\.py` \| \d+ \| (\d+) ", page)}
    ports = sorted(PORTED.glob("*.py"))
    assert counted == {p.stem: code_lines(p.read_text(encoding="utf-8")) for p in ports}


def test_every_port_is_run_here() -> None:
    assert sorted(QUICK) == sorted(port.stem for port in PORTED.glob("*.py"))


@pytest.mark.long
def test_weights_of_the_originals_load_and_give_the_same_numbers() -> None:
    torch = pytest.importorskip("torch", reason="the originals are PyTorch's")
    words = np.random.default_rng(0).integers(0, 9, (5, 2))
    port = load("word_language_model").RNNModel("LSTM", 9, 4, 4, 2, 0.0, tie_weights=True)
    encoder, rnn = torch.nn.Embedding(9, 4), torch.nn.LSTM(4, 4, 2)
    decoder = torch.nn.Linear(4, 9)
    decoder.weight = encoder.weight
    theirs = torch.nn.ModuleDict({"encoder": encoder, "rnn": rnn, "decoder": decoder})
    port.load_state_dict(theirs.state_dict())
    expected = decoder(rnn(encoder(torch.from_numpy(words)))[0]).detach().numpy()
    np.testing.assert_allclose(port(words)[0].numpy(), expected, atol=1e-6)
    names = load("names_classifier").CharRNN(7, 4, 3)
    theirs = torch.nn.ModuleDict({"rnn": torch.nn.RNN(7, 4), "h2o": torch.nn.Linear(4, 3)})
    names.load_state_dict(theirs.state_dict())
    line = np.eye(7, dtype=np.float32)[[0, 3, 6, 3]][:, None]
    hidden = theirs["rnn"](torch.from_numpy(line))[1][0]
    expected = theirs["h2o"](hidden).log_softmax(1).detach().numpy()
    np.testing.assert_allclose(names(line).numpy(), expected, atol=1e-6)


def test_the_table_of_features_has_the_answers_that_the_script_holds_libraries_to() -> None:
    lines = (PAGE.parent / "features.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line[2:-2].split(" | ")] for line in lines if line[:1] == "|"]
    columns = ("minigrad", "torch", "keras", "equinox", "mygrad", "tinygrad")
    asked = load("features", ROOT / "tools").ASKED
    stated = {
        (library, row[0]): ["✗✓".index(mark) for mark in re.findall("[✓✗]", cell)]
        for row in rows
        for library, cell in zip(columns, row[1:])
    }
    held: dict[tuple[str, str], list[int]] = {}
    for library in columns:
        for question, answer, _ in asked[library]:
            held.setdefault((library, question), []).append(int(answer))
    assert {key: marks for key, marks in stated.items() if marks} == held
