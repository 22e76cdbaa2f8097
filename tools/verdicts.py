"""How often `mg.flow.causes` is right, on recurrent nets of which it is known what is wrong.

    python tools/verdicts.py                     the half of the seeds that thresholds were tuned on
    python tools/verdicts.py --held-out          the other half, on which none was set
    python tools/verdicts.py --all --write       both, and the tables into the docs' causes.md
    python tools/verdicts.py --only detached --wrong     some, and each net that is not right

Nets are made from seeds: a cause is planted (or none), in one of ten cells, on a task of mg.lab or
on random numbers, in 1 to 4 layers, padded or not. What is true of each is computed in NumPy or
known by construction (tools/labelled), never asked of what is measured. Precision is the share of
the named causes that are there, recall the share of those there that were named; intervals are
Wilson's at 95 %.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import multiprocessing
import re
import sys
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT)]

PAGE = ROOT / "tools" / "docs" / "source" / "causes.md"
EACH = 10  # nets of each kind in each half


def key(plant: str, seed: int) -> list[int]:
    """What a net is drawn from."""
    return [seed, zlib.crc32(plant.encode())]


def measured(job: tuple[str, int]) -> object:
    """One net: what is true, and what is said."""
    from labelled.labels import first, labels
    from labelled.nets import recorded
    from labelled.plants import PLANTS
    from labelled.scoring import Outcome

    import minigrad as mg

    plant, seed = job
    started = time.perf_counter()
    net = PLANTS[plant](seed, np.random.default_rng(key(plant, seed)))
    true = labels(net, np.random.default_rng([*key(plant, seed), 1]))
    recording = recorded(net)
    found = mg.flow.causes(recording, net.monitor, net.losses)
    s = net.spec
    padded = f" padded to {s.steps}" if s.lengths else ""
    about = (
        f"{plant} {seed}: {s.layers} x {s.cell} of {s.hidden}, {s.task}, {s.rows} rows of "
        f"{s.steps} steps{padded}{', both directions' if s.bidirectional else ''}, {s.dtype}, "
        f"{s.mode}, read {net.read}"
    )
    return Outcome(
        plant, about, true, tuple(dict.fromkeys(c.name for c in found)), first(net),
        tuple(map(str, found)), time.perf_counter() - started,
    )  # fmt: skip


def run(plants: Sequence[str], seeds: Sequence[int], jobs: int) -> list:
    """Outcomes in the order of the plants and seeds."""
    todo = [(plant, seed) for plant in plants for seed in seeds]
    if jobs == 1:
        return [measured(job) for job in todo]
    found = []
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for outcome in pool.imap(measured, todo):
            found.append(outcome)
            print(f"{len(found)} of {len(todo)}", end="\r", file=sys.stderr, flush=True)
    return found


def report(outcomes: list, seeds: str) -> list[str]:
    """The tables, as Markdown."""
    from labelled.scoring import confusion, table

    from minigrad.flow.diagnosing import NAMES

    names = list(NAMES)
    right = sum(not o.missed and not o.false for o in outcomes)
    told = [o for o in outcomes if o.first is not None and "nonfinite" in o.said]
    placed = sum(
        any(f"at t = {o.first[0]}, row {o.first[1]}," in e for e in o.evidence) for o in told
    )
    return [
        f"{len(outcomes)} nets, {seeds}: {right} are diagnosed without a mistake.",
        "",
        *table(outcomes, names),
        "",
        f"Of {len(told)} nets whose first NaN or Inf was named, {placed} had the step and the row "
        f"right.",
        "",
        *confusion(outcomes, names),
    ]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--held-out", action="store_true", help="the seeds never tuned on")
    parser.add_argument("--all", action="store_true", help="both halves")
    parser.add_argument("--each", type=int, default=EACH, help="nets of each kind in each half")
    parser.add_argument("--only", nargs="+", metavar="PLANT", help="kinds whose names contain one")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--wrong", action="store_true", help="each net that is not right")
    parser.add_argument("--write", action="store_true", help="the tables into the docs")
    given = parser.parse_args(argv)
    from labelled.plants import PLANTS

    plants = [p for p in PLANTS if not given.only or any(word in p for word in given.only)]
    halves = {"tuned on": 0, "held out": 1}
    chosen = list(halves) if given.all else ["held out" if given.held_out else "tuned on"]
    started, parts = time.perf_counter(), []
    for half in chosen:
        seeds = range(halves[half], 2 * given.each, 2)
        outcomes = run(plants, seeds, given.jobs)
        told = {"tuned on": "even seeds, on which thresholds were set", "held out":
                "odd seeds, on which no threshold was set"}[half]  # fmt: skip
        parts += [f"## {half.capitalize()}", "", *report(outcomes, told), ""]
        if given.wrong:
            for o in outcomes:
                if o.missed or o.false:
                    parts.append(f"{o.about}\n    missed {o.missed}, false {o.false}")
                    parts += [f"    {line}" for line in o.evidence]
    print("\n".join(parts))
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)
    if given.write:
        text = PAGE.read_text("utf-8")
        new = "<!-- tables -->\n" + "\n".join(parts) + "<!-- end -->"
        PAGE.write_text(re.sub(r"<!-- tables -->.*<!-- end -->", lambda _: new, text, flags=re.S))
    return 0


if __name__ == "__main__":
    sys.exit(main())
