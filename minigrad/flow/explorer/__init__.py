"""The explorer: recordings as one self-contained HTML page that walks BPTT backwards."""

from .build import Explorer, check_destination, page, to_html
from .network import ExplorerError

__all__ = ["Explorer", "ExplorerError", "check_destination", "page", "to_html"]
