"""The explorer: recordings as one self-contained HTML page that walks BPTT backwards."""

from .build import check_destination, page, to_html
from .network import ExplorerError

__all__ = ["ExplorerError", "check_destination", "page", "to_html"]
