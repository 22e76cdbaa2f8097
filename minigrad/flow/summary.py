"""What `minigrad flow` found: a table, notes, drawings, a page, JSON and CSV."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import explorer, results, tables
from .comparison import Outcome, Settings
from .cuts import Cut
from .drawing import Drawing, draw_network, panel
from .engines import find_engine
from .recording import Recording

EXPLORER = "explorer.html"


def cuts(outcome: Outcome) -> list[tuple[str, str, Cut]]:
    """(row name, when, cut) for every direction, before and after training."""
    found = []
    for when, recording in (("before", outcome.before), ("after", outcome.after)):
        several = len(recording.cuts) > 1
        for cut in recording.cuts:
            arrow = ("<-" if recording[cut.paths[-1]].reverse else "->") if several else ""
            found.append((f"{outcome.cell} {arrow}".strip(), when, cut))
    return found


def table(outcomes: list[Outcome], blocks: str = tables.BLOCKS, summed: bool = False) -> str:
    """A row for each cell, direction and moment; the sparklines are on one scale.

    summed: show the sum over all steps that the loss reads, and not what was judged, which is the
    last output by itself.
    """
    listed = [
        (outcome, name, when, cut.verdict, cut.summed if summed else cut.profile)
        for outcome in outcomes
        for name, when, cut in cuts(outcome)
    ]
    low, high = tables.log_range([profile for *_, profile in listed])
    low = max(low, high - 30)  # beyond that the bars of everything else would look alike
    rows = []
    for outcome, name, when, verdict, profile in listed:
        nearest, farthest = (profile[0], profile[-1]) if profile.size else (math.nan, math.nan)
        ratio = farthest / nearest if nearest else math.nan
        bits = outcome.bits if when == "after" else outcome.bits_before
        seconds = f"{outcome.seconds:.1f} s" if when == "after" else ""
        numbers = [tables.number(x) for x in (nearest, farthest, ratio)]
        bars = tables.sparkline(profile[::-1], low, high, blocks=blocks)
        untrained = when == "before" or not outcome.curve
        kind = f"{verdict.kind} now" if untrained else verdict.kind
        numbers.append(tables.reach(verdict))
        rows.append([name, when, *numbers, kind, f"{bits:.2f}", seconds, bars])
    head = ["cell", "training", "|dL/dS_T|", "|dL/dS_1|", "ratio", "reach", "verdict"]
    head += ["bits/char", "time", f"|dL/dS_t|, t = 1 to T, 1e{round(low)} to 1e{round(high)}"]
    return tables.table(head, rows, right=(2, 3, 4, 5, 7, 8))


def notes(outcomes: list[Outcome], summed: bool = False) -> list[str]:
    """The verdicts' reasons, and what one has to know to read the table."""
    lines = []
    for name, when, cut in (row for outcome in outcomes for row in cuts(outcome)):
        if when == "after":
            lines.append(f"{name}, after training: {cut.verdict}.")
    lines += [
        "S is all that is carried from step to step: h, and c where there is one. Its reach is the "
        "number of steps back after which less than a thousandth of |dL/dS_T| is left.",
        'A verdict before training, "now", is about the gradient of that moment; it does not say '
        "whether the net will learn.",
    ]
    if summed:
        lines.append("Norms are sums over all outputs; verdicts are of the last one by itself.")
    if any(o.cell == "bilstm" for o in outcomes):
        lines.append(
            "bilstm fills a gap: -> reads up to it, <- reads back to it. (Its backward direction "
            "would see the next character.) Its bits are of that task, not the others'."
        )
    return lines


def save(
    folder: Path,
    outcomes: list[Outcome],
    settings: Settings,
    about: Mapping[str, Any],
    html: bool = True,
) -> list[str]:
    """Writes drawings, JSON, CSV and the explorer into the folder; returns the names of the files.

    about: what else the JSON is to say, such as versions and the text. html: whether to write
    explorer.html, all of it to look at step by step.
    """
    drawings = {o.cell: draw_outcome(o, settings) for o in outcomes}
    if len(outcomes) > 1:
        drawings["comparison"] = draw_comparison(outcomes, settings)
    suffix = "svg" if find_engine() else "gv"
    written = [d.save(folder / f"{stem}.{suffix}").name for stem, d in drawings.items()]
    found = {**about, "settings": asdict(settings), "cells": {o.cell: to_dict(o) for o in outcomes}}
    (folder / results.MARK).write_text(results.to_json(found), "utf-8")
    head = ("cell", "training", "layer", "state", "t", "lag", "norm")
    (folder / "flow.csv").write_text(results.to_csv(head, list(norms(outcomes))), "utf-8")
    written += [results.MARK, "flow.csv"]
    if html:
        written.append(explore(folder / EXPLORER, outcomes, settings).name)
    return written


def explore(path: Path, outcomes: list[Outcome], settings: Settings) -> Path:
    """All cells before and after training, as one page; see flow/explorer."""
    moments = {_name(outcome): _moments(outcome, settings) for outcome in outcomes}
    return explorer.to_html(
        {
            cell: {when: recording for when, recording, _ in shown}
            for cell, shown in moments.items()
        },
        path,
        title=_title(settings).capitalize(),
        text={_name(outcome): outcome.context for outcome in outcomes},
        notes={
            cell: {when: f"{bits:.2f} bits per character" for when, _, bits in shown}
            for cell, shown in moments.items()
        },
        summed=settings.every,
    )


def to_dict(outcome: Outcome) -> dict[str, Any]:
    """Everything that was found about one cell."""
    return {
        "bits_per_character": {"before": outcome.bits_before, "after": outcome.bits},
        "seconds": outcome.seconds,
        "parameters": outcome.parameters,
        "training_bits": outcome.curve,
        "before": outcome.before.to_dict(),
        "after": outcome.after.to_dict(),
    }


def norms(outcomes: list[Outcome]) -> Iterator[tuple[Any, ...]]:
    """(cell, training, layer, state, t, lag, norm): t counts from 1, the lag from where the loss
    is.

    What was judged, |dL/dS| of each cut, has the cut's name for a layer and the state "S". The lag
    is empty for steps that the loss does not depend on.
    """
    for outcome in outcomes:
        for when, recording in (("before", outcome.before), ("after", outcome.after)):
            for cut in recording.cuts:
                for lag, (t, norm) in enumerate(zip(tables.times(cut, recording), cut.profile)):
                    yield outcome.cell, when, cut.name, "S", int(t) + 1, lag, float(norm)
            for layer in recording.values():
                for state, values in layer.norms.items():
                    source = tables.entry_of_loss(values)
                    for i, (t, norm) in enumerate(zip(layer.steps, values, strict=True)):
                        back = source - i if i <= source else ""
                        yield outcome.cell, when, layer.path, state, int(t) + 1, back, float(norm)


def draw_outcome(outcome: Outcome, settings: Settings) -> Drawing:
    """A cell before and after training, on one scale."""
    panels = []
    for when, recording, bits in _moments(outcome, settings):
        note = f"{bits:.2f} bits per character"
        panels.append(panel(when, recording, note, outcome.context, settings.every))
    return draw_network(panels, f"{_name(outcome)}: {_title(settings)}")


def draw_comparison(outcomes: list[Outcome], settings: Settings) -> Drawing:
    """All cells after training, on one scale."""
    panels = []
    for outcome in outcomes:
        note = f"{outcome.bits:.2f} bits per character"
        panels.append(panel(_name(outcome), outcome.after, note, summed=settings.every))
    return draw_network(panels, f"After {settings.updates} updates: {_title(settings)}")


def _moments(outcome: Outcome, settings: Settings) -> list[tuple[str, Recording, float]]:
    """(when, recording, bits per character)."""
    return [
        ("before training", outcome.before, outcome.bits_before),
        (f"after {settings.updates} updates", outcome.after, outcome.bits),
    ]


def _name(outcome: Outcome) -> str:
    return "BiLSTM" if outcome.cell == "bilstm" else outcome.cell.upper()


def _title(settings: Settings) -> str:
    where = "at every step" if settings.every else f"{settings.steps} steps away"
    return f"what a loss {where} sends back through time"
