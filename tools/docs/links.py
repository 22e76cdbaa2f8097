"""Links that lead nowhere: of the built site, and of the Markdown files read where the code lies.

Addresses of other sites are not asked: a build needs no network. They must be https.
"""

from __future__ import annotations

import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LEADS = {"href", "src", "xlink:href", "poster", "data"}
FILES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "tutorials/README.md")
MARKDOWN = re.compile(r"\]\(([^()\s]+)\)")
BLOCKS = re.compile(r"^( *)(```|~~~).*?^\1\2$|^(?: {4}|\t)[^\n]*$", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`[^`\n]*`")


class Page(HTMLParser):
    """What a page leads to, and what of it can be led to."""

    def __init__(self, path: Path):
        super().__init__()
        self.links: list[tuple[int, str]] = []  # (line, address)
        self.ids: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" or (name == "name" and tag == "a"):
                self.ids.add(value or "")
            elif name in LEADS:
                self.links.append((self.getpos()[0], value or ""))


def of_site(site: Path) -> list[str]:
    """'page.html:12: other.html#part: why it leads nowhere' for each such link of a built site."""
    read = cache(Page)
    templates = site / "_static"  # of the theme, no pages
    return [
        f"{page.relative_to(site)}:{line}: {address}: {why}"
        for page in sorted(site.rglob("*.html"))
        if templates not in page.parents
        for line, address in read(page).links
        if (why := _broken(page, address, site, lambda path: read(path).ids))
    ]


def of_markdown(root: Path) -> list[str]:
    """The same of the Markdown files that are read in the repository."""
    return [
        f"{name}: {address}: {why}"
        for name in FILES
        for address in MARKDOWN.findall(CODE.sub("", _text(root / name)))
        if (why := _broken(root / name, address, root, _headings))
    ]


def _broken(page: Path, address: str, root: Path, ids_of) -> str:
    """Why an address on a page leads nowhere; empty if it does not."""
    parts = urlsplit(address)
    if parts.scheme in ("data", "javascript", "mailto"):
        return ""
    if parts.scheme or parts.netloc:
        return "" if parts.scheme == "https" and "." in parts.netloc else "expected https"
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page.resolve()
    if not target.is_relative_to(root.resolve()):
        return "leads out of the site"
    if not target.exists():
        return "there is no such file"
    fragment = unquote(parts.fragment)
    if target.suffix in (".html", ".md") and fragment and fragment not in ids_of(target):
        return "there is no such place on that page"
    return ""


def _text(path: Path) -> str:
    """Markdown without blocks of code."""
    return BLOCKS.sub("", path.read_text(encoding="utf-8"))


def _headings(path: Path) -> set[str]:
    """The anchors that a Markdown file's headings get: small letters, a hyphen for a space."""
    titles = re.findall(r"^#+ (.+)$", _text(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
