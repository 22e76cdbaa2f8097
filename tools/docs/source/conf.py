"""Settings of Sphinx. It reads the folder that stage.py fills, not this one."""

import contextlib
import inspect
import re
from pathlib import Path

import docstrings  # of tools/docs, which build.py has put on the path
import pictures
import publicnames

import minigrad

project = "minigrad"
author = "The minigrad authors"
copyright = "The minigrad authors, MIT licence"
version = release = minigrad.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "mathml"]
exclude_patterns = ["**/.ipynb_checkpoints"]
nitpick_ignore_regex = [(r"py:(class|data|exc)", r".*")]  # types in signatures; roles are checked
show_warning_types = True
smartquotes = False  # "write" and --resume are code, quoted or not

myst_enable_extensions = ["dollarmath", "deflist", "colon_fence", "attrs_inline"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # execute.py has run them
nb_ipywidgets_js: dict = {}  # its default comes from a CDN
nb_merge_streams = True
nb_mime_priority_overrides = [("html", "image/svg+xml", 1)]

autodoc_class_signature = "mixed"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 76
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"

html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_title = "minigrad"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["enlarge.js"]
html_copy_source = False
html_show_sourcelink = False
html_show_search_summary = False  # it fetches pages, which browsers refuse from a file
html_show_sphinx = False
html_sidebars = {"*": []}  # a page at the top has nothing beside it
html_theme_options = {
    "logo": {"text": "minigrad"},
    "navbar_end": ["theme-switcher"],
    "navbar_persistent": ["search-button"],
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "header_links_before_dropdown": 6,
    "show_prev_next": True,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_context = {"default_mode": "auto"}

LINKS = publicnames.links()


def argument_names(obj: object) -> set[str]:
    """What a docstring may have entries for."""
    names = set(getattr(obj, "__annotations__", {}) or {})
    with contextlib.suppress(TypeError, ValueError):
        names |= set(inspect.signature(obj).parameters)
    if inspect.isclass(obj):
        if hasattr(obj, "forward"):  # of a layer, described by the class
            names |= set(inspect.signature(obj.forward).parameters) - {"self"}
        for base in obj.__mro__[:-1]:
            names |= set(inspect.get_annotations(base))
            names |= {name for name in vars(base) if not name.startswith("_")}
    return names


def process(app, what, name, obj, options, lines):
    lines[:] = docstrings.to_rest(lines, argument_names(obj), LINKS)


def skip(app, what, name, obj, skip, options):
    doc = getattr(obj, "__doc__", None) or ""
    return True if doc.startswith("Alias for field number") or not doc else None


def signature(app, what, name, obj, options, text, returns):
    """Types without the path of their module, and without Any, which says nothing."""

    def short(part):
        part = part and re.sub(r"~?\b(?:minigrad|collections|typing|numpy)\.(?:\w+\.)*", "", part)
        return part and re.sub(r"(?<=\w): Any(?=,|\)| =)", "", part)

    return short(text), short(returns)


def pictured(app, pagename, templatename, context, doctree):
    if "body" in context:
        context["body"] = pictures.readable(context["body"], Path(app.srcdir), app.builder.images)


def setup(app):
    app.connect("html-page-context", pictured)
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-skip-member", skip)
    app.connect("autodoc-process-signature", signature)
