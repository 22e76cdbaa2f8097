"""The folder that Sphinx reads: what is written by hand here, and what other files already say.

README.md, CHANGELOG.md, the parsers of the command line and the titles of the tutorials are taken
from where they are, so that nothing is said twice. A page asks for a section of the README with a
line of its own:

    <!-- README: Speed -->

and for a script of the repository, folded away, with

    <!-- FILE: tutorials/ported/names_classifier.py -->
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

SOURCE = Path(__file__).resolve().parent / "source"
FROM_README = re.compile(r"^<!-- README: (.+?) -->$", re.MULTILINE)
FROM_FILE = re.compile(r"^<!-- FILE: (.+?) -->$", re.MULTILINE)
TUTORIALS = "<!-- TUTORIALS -->"
HEAD = re.compile(r"You need ([^.]+)\. Time: (\d+) minutes, and (\d+) for the exercises\.")


class StageError(Exception):
    """What a page asks for is not there."""


def stage(root: Path, target: Path) -> list[Path]:
    """Fills `target` and returns the tutorials, in order. Unchanged files keep their times."""
    readme = (root / "README.md").read_text(encoding="utf-8")
    pages = tutorials(root)
    wanted = {target / "tutorials" / f"{page.stem}.ipynb" for page in pages}
    for path in sorted(SOURCE.rglob("*")):
        if not path.is_file() or "__pycache__" in path.parts:
            continue
        copy = target / path.relative_to(SOURCE)
        wanted.add(copy)
        if path.suffix != ".md":
            write_bytes(copy, path.read_bytes())
            continue
        text = path.read_text(encoding="utf-8")
        text = FROM_README.sub(lambda match: section(readme, match[1]), text)
        text = FROM_FILE.sub(lambda match: script(root, match[1]), text)
        write(copy, text.replace(TUTORIALS, table_of_contents(pages)))
    for name, text in {
        "changelog.md": (root / "CHANGELOG.md").read_text(encoding="utf-8"),
        "commandline.md": command_line(),
    }.items():
        write(target / name, text)
        wanted.add(target / name)
    for path in (root / "tutorials" / "pictures").iterdir():
        copy = target / "tutorials" / "pictures" / path.name
        write_bytes(copy, path.read_bytes())
        wanted.add(copy)
    for path in target.rglob("*"):  # of pages that are gone
        if path.is_file() and path not in wanted:
            path.unlink()
    return pages


def tutorials(root: Path) -> list[Path]:
    return sorted((root / "tutorials").glob("[0-9]*.py"))


def chosen(pages: list[Path], numbers: list[str] | None) -> list[Path]:
    """The tutorials of these numbers, or all. Raises StageError for a number that none has."""
    if numbers is None:
        return pages
    known = {page.name[:2]: page for page in pages}
    if unknown := [number for number in numbers if number not in known]:
        raise StageError(f"there is no tutorial {unknown[0]!r}; there are {', '.join(known)}.")
    return [known[number] for number in numbers]


def title(page: Path) -> str:
    """'08 The LSTM, gate by gate': the first heading of a tutorial."""
    found = re.search(r"^# # (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise StageError(f"{page.name} has no title; expected a line '# # NN Its title'.")
    return found[1]


def summary(page: Path) -> str:
    """The first paragraph below the title, without how to run the page, as one line."""
    text = page.read_text(encoding="utf-8").split("\n# # ", 1)[1].split("\n", 1)[1]
    lines: list[str] = []
    for line in text.splitlines()[1:]:
        if not line.startswith("# ") or line.startswith(("# Run it", "# %%", "# $$")):
            break
        lines.append(line[2:])
    return re.sub(r"\s*Run it with .*", "", " ".join(lines))


def head(page: Path) -> tuple[str, int, int]:
    """(what it needs, minutes to read it, minutes of its exercises), as its first cell says."""
    lines = (
        page.read_text(encoding="utf-8").split("\n# # ", 1)[1].split("\n# %%", 1)[0].splitlines()
    )
    found = HEAD.search(" ".join(line.removeprefix("# ") for line in lines))
    if found is None:
        raise StageError(f"{page.name}: expected '{HEAD.pattern}' in its first cell.")
    return found[1], int(found[2]), int(found[3])


def table_of_contents(pages: list[Path]) -> str:
    entries = "\n".join(page.stem for page in pages)
    listed = "\n".join(
        f"[{title(page)}]({page.stem}.ipynb)\n"
        f": {summary(page)} ({{download}}`notebook <{page.stem}.ipynb>`)\n"
        for page in pages
    )
    return f"{listed}\n```{{toctree}}\n:hidden:\n:maxdepth: 1\n\n{entries}\n```\n"


def section(readme: str, heading: str) -> str:
    """What is below '## heading', without the heading."""
    parts = re.split(r"^(#{2,3} .+)$", outside_code(readme), flags=re.MULTILINE)
    for mark, body in zip(parts[1::2], parts[2::2]):
        if mark.lstrip("# ") == heading:
            return body.replace("\0", "#").strip()
    known = ", ".join(mark.lstrip("# ") for mark in parts[1::2])
    raise StageError(f"README.md has no section {heading!r}; it has {known}.")


def script(root: Path, name: str) -> str:
    """A file's text as code that unfolds on a click."""
    code = (root / name).read_text(encoding="utf-8").strip()
    summary = f"<details><summary><code>{name}</code></summary>"
    return f"{summary}\n\n```python\n{code}\n```\n\n</details>"


def outside_code(text: str) -> str:
    """Text with a NUL for every '#' that begins a line of code: a comment is no heading."""
    return re.sub(
        r"^```.*?^```$",
        lambda match: re.sub(r"^#", "\0", match[0], flags=re.MULTILINE),
        text,
        flags=re.DOTALL | re.MULTILINE,
    )


def command_line() -> str:
    """A section for every command, from its parser."""
    from minigrad.cli import build_parser

    parser = build_parser()
    lines = [
        "# Command line",
        "",
        "`pip install -e .` makes the command `minigrad`; `python -m minigrad` is the same. A "
        "wrong argument or a file that cannot be read ends in one line on standard error and exit "
        "status 2.",
        "",
    ]
    for name, command, help_text in subcommands(parser):
        lines += [f"## minigrad {name}", "", *describe(command, help_text), ""]
    return "\n".join(lines)


def subcommands(parser: argparse.ArgumentParser) -> list[tuple[str, argparse.ArgumentParser, str]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            return [(name, sub, helps.get(name, "")) for name, sub in action.choices.items()]
    return []


def describe(parser: argparse.ArgumentParser, help_text: str) -> list[str]:
    formatter = argparse.HelpFormatter(parser.prog, width=88)
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups)
    usage = formatter.format_help().strip().removeprefix("usage: ").replace("\n       ", "\n")
    about = parser.description or help_text
    lines = [plain(about[:1].upper() + about[1:]), "", "```text", usage, "```", ""]
    for group in parser._action_groups:
        for action in group._group_actions:
            if action.help == argparse.SUPPRESS or action.dest in ("help", "command"):
                continue
            lines += [f"`{invocation(action)}`", f": {plain(explained(parser, action))}", ""]
    for name, sub, inner in subcommands(parser):
        lines += [f"### {parser.prog} {name}", "", *describe(sub, inner), ""]
    if parser.epilog:
        lines += ["```text", parser.epilog.strip("\n"), "```", ""]
    return lines


def invocation(action: argparse.Action) -> str:
    """'--cell CELL', as the help has it."""
    formatter = argparse.HelpFormatter("")
    if not action.option_strings:
        name = formatter._get_default_metavar_for_positional(action)
        return formatter._metavar_formatter(action, name)(1)[0]
    value = ""
    if action.nargs != 0:
        name = formatter._get_default_metavar_for_optional(action)
        value = " " + formatter._format_args(action, name)
    return ", ".join(action.option_strings) + value


def explained(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    formatter = argparse.HelpFormatter(parser.prog)
    return formatter._expand_help(action) if action.help else "See above."


def plain(text: str) -> str:
    """Text of a help, with what Markdown would read as markup escaped outside of code."""
    pieces = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(
        piece if piece.startswith("`") else re.sub(r"([\\*_\[\]<>#{}$|])", r"\\\1", piece)
        for piece in pieces
    )


def write(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
