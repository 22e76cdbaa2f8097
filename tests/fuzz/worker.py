"""Reads damaged files in a process of its own, whose memory and time are limited.

    python tests/fuzz/worker.py "KIND;KIND" COUNT [FIRST]

Ends with status 0 if every file was read or refused with an error that is documented; else prints
the kind, the seed and the traceback. A file that takes too much memory ends in a MemoryError where
none is expected, one that takes for ever in SIGXCPU.
"""

from __future__ import annotations

import faulthandler
import random
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz.kinds import KINDS, Kind

MEMORY = 1 << 30  # bytes beyond what the imports took
SECONDS = 0.5  # of CPU a file, on average: a whole one takes some milliseconds


def limit(files: int) -> None:
    import resource  # of POSIX; this file is read everywhere, for its docstrings

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    room = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    used = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    seconds = int(used + 60 + SECONDS * files)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


def damage(name: str, kind: Kind, seed: int, whole: dict[Path, bytes]) -> str:
    """Reads one damaged file; returns what went wrong, or ""."""
    rng = random.Random(f"{name} {seed}")
    path = rng.choice(list(whole))
    path.write_bytes(kind.mutate(rng, whole[path]))
    try:
        kind.read(path)
    except kind.allowed as error:
        if "\n" in str(error):
            return f"{name}, seed {seed}: its error has several lines: {error}"
    except Exception:
        return f"{name}, seed {seed}: {traceback.format_exc()}"
    return ""


def main(names: str, count: int, first: int = 0) -> int:
    faulthandler.enable()
    warnings.simplefilter("ignore")
    chosen = {name: KINDS[name] for name in names.split(";")}
    limit(count * len(chosen))
    failed = 0
    for name, kind in chosen.items():
        with tempfile.TemporaryDirectory() as folder:
            whole = {path: path.read_bytes() for path in kind.make(Path(folder))}
            for seed in range(first, first + count):
                print(f"{name}, seed {seed}", file=sys.stderr)  # where a crash was
                if said := damage(name, kind, seed, whole):
                    failed += 1
                    print(said, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:])))
