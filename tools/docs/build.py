"""The site, from sources to pages: stage, run the tutorials, Sphinx with warnings as errors.

tools/docs.py starts it in an environment that has everything. All of it needs no network, and the
pages need none either. In build/docs lie the staged sources and the outputs of the tutorials, which
are used again as long as neither their code nor minigrad changed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # these modules, under any current folder

import execute
import links
import pagemap
import slides
import stage

ROOT = Path(__file__).resolve().parent.parent.parent
SITE = ROOT / "build" / "site"
WORK = ROOT / "build" / "docs"


def options(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tools/docs.py",
        description="Builds the documentation site. Any warning is an error.",
    )
    parser.add_argument(
        "--out", type=Path, default=SITE, metavar="DIR", help="where pages go (default: build/site)"
    )
    parser.add_argument(
        "--work", type=Path, default=WORK, metavar="DIR", help="for what is kept (build/docs)"
    )
    parser.add_argument(
        "--no-run", action="store_true", help="do not run the tutorials: pages without outputs"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="NN", help="run these tutorials; the others have no outputs"
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep outputs that another state of minigrad gave"
    )
    parser.add_argument(
        "--jobs", type=int, default=2, metavar="N", help="tutorials run at a time (default: 2)"
    )
    parser.add_argument("--clean", action="store_true", help="begin from nothing")
    return parser.parse_args(argv)


def build(args: argparse.Namespace) -> int:
    """Returns the exit status; what went wrong is on standard error, a line each."""
    started = time.monotonic()
    out, work = args.out.resolve(), args.work.resolve()
    if args.clean:
        shutil.rmtree(work, ignore_errors=True)
    if out.exists() and any(out.iterdir()) and not (out / ".buildinfo").exists():
        print(f"docs: {out} has files that are not a site; name another --out", file=sys.stderr)
        return 2
    source = work / "source"
    pages = stage.stage(ROOT, source)
    notebooks = {page: execute.read(page) for page in pages}
    chosen = [] if args.no_run else stage.chosen(pages, args.only)
    ran, failures = execute.run_all(chosen, work / "outputs", ROOT, args.jobs, args.keep)
    if failed(failures):
        return 1
    notebooks |= ran
    for page, notebook in notebooks.items():
        stage.write(source / "tutorials" / f"{page.stem}.ipynb", execute.to_text(notebook))
    mapped = pagemap.read(ROOT)
    pagemap.fill(source / "tutorials", mapped)
    slides.write(notebooks, mapped, source / "_static" / "slides")

    from sphinx.cmd.build import main as sphinx

    made = work / "html"
    shutil.rmtree(made, ignore_errors=True)
    status = sphinx(
        [
            "-b", "html", "-W", "--keep-going", "-n", "-q",
            "-E",  # it takes seconds, and Sphinx cannot know all that a page was made from
            "-d", str(work / "doctrees"), str(source), str(made),
        ]
    )  # fmt: skip
    if status or failed(links.of_site(made)):
        return 1
    if out.exists():
        shutil.rmtree(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(made, out)
    took = time.monotonic() - started
    print(f"docs: {len(pages)} tutorials, in {took:.0f} s: {out / 'index.html'}")
    return 0


def failed(reasons: list[str]) -> bool:
    """Whether there are any, each told in a line."""
    for reason in reasons:
        print(f"docs: {reason}", file=sys.stderr)
    return bool(reasons)


def main() -> int:
    try:
        return build(options())
    except (stage.StageError, OSError) as error:
        print(f"docs: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
