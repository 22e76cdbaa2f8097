"""Pictures on the pages: never so small that they cannot be read, and a click opens them.

A drawing that is wider than its page shrinks until its smallest text is 9 pixels high; from there
on it scrolls. Without its script the page's link opens the picture alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from minigrad.flow.engines import least_width

IMAGE = re.compile(r'<img ([^>]*?)src="([^"]*?_images/([^"]+))"([^>]*)>')


def readable(body: str, source: Path, images: Mapping[str, str]) -> str:
    """A page's body with each of its pictures in a link, no narrower than it can be read.

    source: the folder that Sphinx reads. images: where each picture is in it -> its name on the
        site.
    """
    files = {name: source / path for path, name in images.items()}

    def linked(found: re.Match[str]) -> str:
        before, link, name, after = found.groups()
        width = re.search(r'width="(\d+)"', before + after)  # a figure's, at which it can be read
        least = int(width[1]) if width else 0
        if name.endswith(".svg"):
            least = least_width(files[name].read_text(encoding="utf-8"))
        size = f' style="min-width:{least}px"' if least > 400 else ""
        image = f'<img {before}src="{link}"{after.rstrip("/ ")}{size} />'
        return f'<a class="enlarge" href="{link}" title="Enlarge"><span>{image}</span></a>'

    return IMAGE.sub(linked, body)
