"""The READMEs and licence files of minigrad/data, written from minigrad/data/sources.py."""

from __future__ import annotations

import hashlib

from minigrad.data.external import EXTERNAL
from minigrad.data.sources import SOURCES, Source

CC_BY = "https://creativecommons.org/licenses/by/4.0/"

README = """\
# {file}

{title}: {size:,} characters in {lines:,} lines{packed}.

- **Origin:** {origin}.
- **Licence:** {licence}. {evidence}
- **Read from:** {members} in `{package}` from PyPI
  (sha256 `{package_sha256}`).
- **Changed:** {changed}
- **sha256 of the content:** `{digest}`{how}
- **Rebuild:** `python tools/data_rebuild.py {name}`
- **Load:** `minigrad.data.{loader}`

Written by tools/data_rebuild.py from minigrad/data/sources.py.
"""

OVERVIEW = """\
# Data

Small real data sets, and what turns them into batches. Those in the first table ship with the
package ({total:,} kB together); each has a folder here with its licence, its origin, its SHA-256
and how to rebuild it. A loader checks the SHA-256 whenever it reads.

{carried}

Those in the second table are read from a package that you install: `pip install
"minigrad-bptt[data]"`, unless the table says something else.

{external}

Both tables are written by `python tools/data_rebuild.py` from minigrad/data/sources.py and
minigrad/data/external.py, and a test compares them.
"""


def readme(name: str, source: Source, content: bytes) -> str:
    file = source.file.name
    packed = file.endswith(".gz")
    return README.format(
        **{k: getattr(source, k) for k in source.__dataclass_fields__ if k != "members"},
        members=", ".join(f"`{m}`" for m in source.members),
        name=name,
        file=file,
        size=len(content),
        lines=content.count(b"\n"),
        packed=" (after decompression)" if packed else "",
        how=f" (`gzip -dc {file} | sha256sum`)" if packed else "",
        digest=hashlib.sha256(content).hexdigest(),
    )


def licence_text(source: Source, package_licence: str) -> str:
    if source.licence == "public domain":
        return f"Public domain. {source.evidence}\n"
    project = source.package.split("==")[0]
    return (
        f"{source.origin}.\n\nLicensed under the Creative Commons Attribution 4.0 International "
        f"licence (CC BY 4.0):\n{CC_BY}\n\nChanges: {source.changed}\n\n"
        f"The copy was read from {project}, whose own licence is:\n\n{package_licence}"
    )


def overview() -> str:
    total = sum(source.size for source in SOURCES.values())
    return OVERVIEW.format(total=round(total / 1000), carried=carried(), external=external())


def carried() -> str:
    rows = ["| loader | what | kB | licence | origin | from |", "|---|---|---:|---|---|---|"]
    for source in SOURCES.values():
        size = f"{source.size / 1000:,.0f}"
        link = f"[{source.licence}]({source.path.split('/')[0]}/LICENSE)"
        rows.append(
            f"| `{source.loader}` | {source.title} | {size} | {link} | {source.origin} "
            f"| `{source.package}` |"
        )
    return "\n".join(rows)


def external() -> str:
    rows = ["| loader | what | licence of the data | install |", "|---|---|---|---|"]
    rows += [
        f"| `{e.loader}` | {e.title} | {e.licence} | `{e.install}` |" for e in EXTERNAL.values()
    ]
    return "\n".join(rows)
