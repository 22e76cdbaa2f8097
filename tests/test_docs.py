"""The documentation site: what it must name, how docstrings become pages, and that it builds."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import explorer_browser
import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "tools" / "docs"
NEEDED = ("sphinx", "myst_nb", "pydata_sphinx_theme", "jupytext", "latex2mathml")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]


def load(name: str) -> ModuleType:
    """A module of tools/docs, which is no package."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


docstrings, execute, mathml = load("docstrings"), load("execute"), load("mathml")
publicnames, stage = load("publicnames"), load("stage")


# -- what the site must name ---------------------------------------------------------------------


@pytest.mark.parametrize("package", publicnames.PACKAGES)
def test_every_public_name_has_an_entry_in_the_reference(package: str) -> None:
    documented = {
        id(getattr(importlib.import_module(full.rsplit(".", 1)[0]), full.rsplit(".", 1)[1], None))
        for full in publicnames.documented()
    }
    module = importlib.import_module(package)
    missing = [
        name
        for name in module.__all__
        if name != "__version__"
        and not isinstance(getattr(module, name), ModuleType)
        and id(getattr(module, name)) not in documented
    ]
    assert missing == [], f"add them to a page in {publicnames.API.relative_to(ROOT)}"


def test_the_reference_names_nothing_that_is_not_there() -> None:
    for full, page in publicnames.documented().items():
        if importlib.util.find_spec(full.rsplit(".", 1)[0]) is None:
            pytest.fail(f"{page.name}: {full}")
        owner = importlib.import_module(full.rsplit(".", 1)[0])
        assert hasattr(owner, full.rsplit(".", 1)[1]), f"{page.name} names {full}"


def test_every_page_of_the_reference_is_in_its_table_of_contents() -> None:
    index = (publicnames.API / "index.md").read_text(encoding="utf-8")
    for page in publicnames.API.glob("*.rst"):
        assert f"\n{page.stem}\n" in index
        assert f"({page.name})" in index


def test_every_tutorial_is_in_the_table_of_contents_in_order_with_its_title() -> None:
    pages = stage.tutorials(ROOT)
    text = stage.table_of_contents(pages)
    tree = text[text.index("{toctree}") :]
    places = [tree.index(page.stem) for page in pages]
    assert places == sorted(places)
    assert "[08 The LSTM, gate by gate](08_the_lstm.ipynb)\n: An LSTM carries two things" in text
    assert "Run it with" not in text


def test_every_command_and_option_is_in_the_command_line_reference() -> None:
    from minigrad.cli import build_parser

    text = stage.command_line()
    for name, parser, _ in stage.subcommands(build_parser()):
        assert f"\n## minigrad {name}\n" in text
        for option in re.findall(r"^  (--[\w-]+)", parser.format_help(), re.MULTILINE):
            assert f"`{option}" in text or f", {option}" in text


def test_a_section_of_the_readme_ends_at_the_next_heading_not_at_a_comment_in_code() -> None:
    readme = "# T\n\n## A\n\n```python\n# no heading\nx\n```\n\n### B\n\nb\n\n## C\n\nc\n"
    assert stage.section(readme, "A") == "```python\n# no heading\nx\n```"
    assert stage.section(readme, "B") == "b"
    assert stage.section(readme, "C") == "c"
    with pytest.raises(stage.StageError, match=r"no section 'D'; it has A, B, C\."):
        stage.section(readme, "D")


def test_what_the_pages_ask_of_the_readme_is_there() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    asked = [
        name
        for page in stage.SOURCE.rglob("*.md")
        for name in stage.FROM_README.findall(page.read_text(encoding="utf-8"))
    ]
    assert "Speed" in asked
    for name in asked:
        assert stage.section(readme, name)


def test_a_page_shows_a_script_of_the_repository_folded_away() -> None:
    shown = stage.FROM_FILE.sub(
        lambda match: stage.script(ROOT, match[1]), "a\n<!-- FILE: tools/size.py -->\nb"
    )
    assert shown.startswith(
        "a\n<details><summary><code>tools/size.py</code></summary>\n\n```python"
    )
    assert "BUDGETS = " in shown
    with pytest.raises(FileNotFoundError):
        stage.script(ROOT, "no/such.py")


# -- docstrings ----------------------------------------------------------------------------------


def rest(text: str, names: tuple[str, ...] = (), links: dict[str, str] | None = None) -> str:
    return "\n".join(docstrings.to_rest(text.splitlines(), names, links)).strip()


def test_what_rest_would_read_as_markup_is_escaped() -> None:
    assert rest("y = a*b |x| W_ and \\n") == "y = a\\*b \\|x\\| W\\_ and \\\\n"
    assert rest("- 1 is less") == "\\- 1 is less"


def test_code_is_code_and_a_link_if_it_is_public() -> None:
    links = {"mg.scan": "minigrad.scan"}
    assert rest("see `mg.scan`.", links=links) == "see :py:obj:`mg.scan <minigrad.scan>`."
    assert rest("`x`s of `a*b`") == "``x``\\ s of ``a*b``"


def test_arguments_are_a_list_whether_they_begin_a_line_or_a_sentence() -> None:
    text = "x: the input,\n    (T, B). y: the output. Not z: that is text.\nRaises ShapeError."
    assert rest(text, ("x", "y")) == (
        "``x``\n   the input, (T, B).\n``y``\n   the output. Not z: that is text.\n\n"
        "Raises ShapeError."
    )


def test_indented_blocks_are_equations_unless_they_are_code() -> None:
    assert rest("a\n\n    h_t = f(h_{t-1})\n      + 1\n\nb") == (
        "a\n\n.. code-block:: none\n\n   h_t = f(h_{t-1})\n     + 1\n\nb"
    )
    assert rest("a\n\n    for t in range(T):\n        h = f(h)").startswith(
        "a\n\n.. code-block:: python"
    )


def test_the_example_in_the_docstring_of_to_rest_holds() -> None:
    assert doctest.testmod(docstrings).failed == 0


def test_doctests_stay_as_they_are_whatever_follows() -> None:
    text = ">>> f(*x)\n[1, 2]\n\n>>> g_\n3\n\nafter_"
    assert rest(text) == ">>> f(*x)\n[1, 2]\n\n>>> g_\n3\n\nafter\\_"


def test_every_docstring_becomes_rest_that_docutils_takes_without_a_warning() -> None:
    docutils_core = pytest.importorskip("docutils.core")
    for full in publicnames.public():
        module, name = full.rsplit(".", 1)
        doc = getattr(importlib.import_module(module), name).__doc__ or ""
        text = rest("\n".join(cleaned(doc)))
        text = text.replace(".. code-block:: none", "::").replace(".. code-block:: python", "::")
        settings = {"report_level": 2, "halt_level": 2}
        docutils_core.publish_doctree(text, settings_overrides=settings)


def cleaned(doc: str) -> list[str]:
    return inspect.cleandoc(doc).splitlines()


# -- formulas and notebooks ----------------------------------------------------------------------


@pytest.mark.skipif("latex2mathml" in MISSING, reason="latex2mathml is not installed")
def test_formulas_are_mathml_and_one_that_comes_out_wrong_is_refused() -> None:
    aligned = mathml.to_mathml(r"\begin{aligned} a &= b \\ c &= d \end{aligned}", block=True)
    assert aligned.count("<mtr>") == 2
    assert 'display="block"' in aligned
    with pytest.raises(mathml.FormulaError, match="not known"):
        mathml.to_mathml(r"\nosuchcommand x")


def test_every_formula_of_the_tutorials_can_be_written_as_mathml() -> None:
    if "latex2mathml" in MISSING:
        pytest.skip("latex2mathml is not installed")
    formulas = [
        (page.name, found[1] or found[2])
        for page in stage.tutorials(ROOT)
        for found in re.finditer(r"\$\$(.*?)\$\$|\$([^$]+)\$", markdown(page), re.DOTALL)
    ]
    assert len(formulas) > 100
    for _, formula in formulas:
        assert mathml.to_mathml(formula).startswith("<math")


def markdown(page: Path) -> str:
    lines = page.read_text(encoding="utf-8").splitlines()
    return "\n".join(line[2:] for line in lines if line.startswith("# "))


def test_a_page_without_a_title_is_refused_by_name(tmp_path: Path) -> None:
    page = tmp_path / "20_untitled.py"
    page.write_text("# %% [markdown]\n# text\n", encoding="utf-8")
    with pytest.raises(stage.StageError, match=r"20_untitled\.py has no title"):
        stage.title(page)


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (extra: docs)")
def test_a_page_is_run_its_picture_shown_and_its_failure_told(tmp_path: Path) -> None:
    page = tmp_path / "20_page.py"
    code = "print('a' * 3)\nopen('a.svg', 'w').write('<svg/>')  # .save(\"a.svg\")\n"
    page.write_text(f"# %% [markdown]\n# # 20 T\n\n# %%\n{code}", encoding="utf-8")
    notebook = execute.read(page)
    assert execute.run(notebook, page.name) == ""
    outputs = notebook.cells[1].outputs
    assert outputs[0].text == "aaa\n"
    assert outputs[-1].data == {"image/svg+xml": "<svg/>"}
    page.write_text("# %%\n1 / 0\n", encoding="utf-8")
    failure = execute.run(execute.read(page), page.name)
    assert failure.startswith("20_page.py: ")
    assert failure.endswith("ZeroDivisionError: division by zero")
    assert "\x1b" not in failure


def test_pieces_of_a_stream_are_put_together() -> None:
    class Output(dict):  # type: ignore[type-arg]
        __getattr__ = dict.__getitem__
        __setattr__ = dict.__setitem__

    pieces = [Output(output_type="stream", name="stdout", text=text) for text in ("a", "b")]
    error = Output(output_type="stream", name="stderr", text="c")
    assert [o.text for o in execute.joined([*pieces, error])] == ["ab", "c"]


def test_saved_pictures_are_found_by_their_plain_names() -> None:
    code = 'draw(x).save("a.svg"); fig.savefig(\'b.png\'); f.save("/tmp/c.svg"); m.save("m.npz")'
    assert execute.SAVED.findall(code) == ["a.svg", "b.png"]


# -- all of it -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (extra: docs)")
def test_the_site_builds_without_warnings_and_asks_nothing_of_the_network(tmp_path: Path) -> None:
    command = [sys.executable, str(TOOLS / "build.py"), "--no-run"]
    folders = ["--out", str(tmp_path / "site"), "--work", str(tmp_path / "work")]
    done = subprocess.run([*command, *folders], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    static = tmp_path / "site" / "_static"  # templates of the theme, no pages
    pages = [p for p in (tmp_path / "site").rglob("*.html") if static not in p.parents]
    assert {"scan.html", "08_the_lstm.html", "commandline.html"} <= {page.name for page in pages}
    loaded = re.compile(r"""<(?:script|img|link|iframe)[^>]*(?:src|href)=["'](?:https?:)?//""")
    for page in pages:
        assert loaded.findall(page.read_text(encoding="utf-8")) == [], page.name
    look(tmp_path / "site", pages, tmp_path / "profile")


def look(site: Path, pages: list[Path], profile: Path) -> None:
    """Every page in a browser, if there is one: from its file, on a phone, half of them dark."""
    if explorer_browser.missing():
        return
    driver = explorer_browser.start(profile)
    try:
        tab = explorer_browser.Tab(driver, site)
        driver.get("about:blank")
        driver.get_log("performance")
        for number, page in enumerate(pages):
            tab.emulate(390, dark=number % 2 == 1)
            driver.get(page.as_uri())
            assert tab.js("return document.documentElement.scrollWidth - innerWidth") <= 0, (
                page.name
            )
        driver.get((site / "search.html").as_uri() + "?q=vanishing")
        tab.until(lambda: tab.js("return document.querySelectorAll('ul.search li').length") > 3)
        events = [json.loads(e["message"])["message"] for e in driver.get_log("performance")]
        asked = [
            e["params"]["request"]["url"]
            for e in events
            if e["method"] == "Network.requestWillBeSent"
        ]
        assert len(asked) > len(pages)
        assert [url for url in asked if not url.startswith(("file:", "data:", "chrome:"))] == []
        assert [e for e in driver.get_log("browser") if e["level"] == "SEVERE"] == []
    finally:
        driver.quit()


def test_a_folder_that_is_no_site_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years", encoding="utf-8")
    command = [sys.executable, str(TOOLS / "build.py"), "--no-run", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "has files that are not a site" in done.stderr
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "years"
