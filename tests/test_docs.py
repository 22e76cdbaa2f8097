"""The documentation site: what it must name, how docstrings become pages, and that it builds."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import inspect
import os
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


docstrings, execute, links = load("docstrings"), load("execute"), load("links")
mathml, publicnames, stage = load("mathml"), load("publicnames"), load("stage")


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


def test_the_head_of_a_page_says_which_earlier_pages_it_needs_and_how_long_it_takes() -> None:
    for page in stage.tutorials(ROOT):
        needs, minutes, more = stage.head(page)
        assert all(number < page.name[:2] for number in re.findall(r"\d\d", needs)), page.name
        assert minutes % 5 == more % 5 == 0
        text = page.read_text(encoding="utf-8").split("# ## Exercises\n")[0]
        code = [line for line in text.splitlines() if line and not line.startswith("#")]
        words = len(text.split()) - len(" ".join(code).split())
        needed = 2 * (words / 130 + len(code) / 12)  # slowly, and each line of code looked at
        assert needed / 2 < minutes < 2 * needed, f"{page.name}: {needed:.0f} minutes"


def test_every_command_and_option_is_in_the_command_line_reference() -> None:
    from minigrad.cli import build_parser

    text = stage.command_line()
    for name, parser, _ in stage.subcommands(build_parser()):
        assert f"\n## minigrad {name}\n" in text
        for option in re.findall(r"^  (--[\w-]+)", parser.format_help(), re.MULTILINE):
            assert f"`{option}" in text or f", {option}" in text


def test_links_between_the_files_that_are_read_in_the_repository_lead_somewhere() -> None:
    assert links.of_markdown(ROOT) == []


def test_a_link_that_leads_nowhere_is_named_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h1 id="top">A</h1><a href="b.html#there">b</a> <a href="#top">up</a>\n'
        '<a href="b.html#gone">b</a><img src="c.png"><a href="https://a.org/x">x</a>\n'
        '<a href="../d.html">d</a><a href="http://a.org">h</a><a href="mailto:a@b.org">m</a>',
        encoding="utf-8",
    )
    (tmp_path / "b.html").write_text('<a name="there"></a>', encoding="utf-8")
    assert links.of_site(tmp_path) == [
        "a.html:2: b.html#gone: there is no such place on that page",
        "a.html:2: c.png: there is no such file",
        "a.html:3: ../d.html: leads out of the site",
        "a.html:3: http://a.org: expected https",
    ]


def test_a_heading_is_found_by_the_anchor_that_its_words_give(tmp_path: Path) -> None:
    for name in links.FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("# My `LSTM`, v. 2\n", encoding="utf-8")
    text = "[a](CHANGELOG.md#my-lstm-v-2) [b](#none)\n\n    [c](code.md)\n\n`[d](e.md)`\n"
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    assert links.of_markdown(tmp_path) == ["README.md: #none: there is no such place on that page"]


def test_tutorials_are_chosen_by_number() -> None:
    pages = stage.tutorials(ROOT)
    assert stage.chosen(pages, None) == pages
    assert [page.name[:2] for page in stage.chosen(pages, ["05", "01"])] == ["05", "01"]
    with pytest.raises(stage.StageError, match=r"no tutorial '99'; there are 01, 02, "):
        stage.chosen(pages, ["05", "99"])


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
    code = "print('a' * 3)\nfrom IPython.display import SVG, display\ndisplay(SVG('<svg/>'))\n"
    page.write_text(f"# %% [markdown]\n# # 20 T\n\n# %%\n{code}", encoding="utf-8")
    notebook = execute.read(page)
    assert execute.run(notebook, page.name) == ""
    outputs = notebook.cells[1].outputs
    assert outputs[0].text == "aaa\n"
    assert outputs[-1].data["image/svg+xml"] == "<svg/>"
    page.write_text("# %%\n1 / 0\n", encoding="utf-8")
    failure = execute.run(execute.read(page), page.name)
    assert failure.startswith("20_page.py: ")
    assert failure.endswith("ZeroDivisionError: division by zero")
    assert "\x1b" not in failure


def test_a_head_without_needs_or_minutes_is_refused_by_name(tmp_path: Path) -> None:
    page = tmp_path / "20_page.py"
    page.write_text("# %% [markdown]\n# # 20 T\n#\n# You need\n# tutorial 07. Time: 5 minutes.\n")
    with pytest.raises(stage.StageError, match=r"20_page\.py: expected 'You need"):
        stage.head(page)
    page.write_text(page.read_text().replace("es.\n", "es, and 10 for\n# the exercises.\n\n# %%\n"))
    assert stage.head(page) == ("tutorial 07", 5, 10)


@pytest.mark.skipif("jupytext" in MISSING, reason="jupytext is not installed")
def test_checks_and_solutions_are_folded_on_the_page_and_in_the_notebook(tmp_path: Path) -> None:
    page = tmp_path / "20_page.py"
    page.write_text(
        "# %% [markdown]\n# # 20 T\n\n# %% Check 1\n1\n\n# %%\n2\n\n# %% Solution 12\n"
        "3\n\n# %% Solution\n4\n",
        encoding="utf-8",
    )
    _, check, answer, solution, other = execute.read(page).cells
    for cell, title in ((check, "Check 1"), (solution, "Solution 12")):
        assert cell.metadata["tags"] == ["hide-cell"]
        assert cell.metadata["jupyter"] == {"source_hidden": True, "outputs_hidden": True}
        assert cell.metadata["mystnb"]["code_prompt_show"] == title
    assert "tags" not in answer.metadata
    assert "tags" not in other.metadata


def test_pieces_of_a_stream_are_put_together() -> None:
    class Output(dict):  # type: ignore[type-arg]
        __getattr__ = dict.__getitem__
        __setattr__ = dict.__setitem__

    pieces = [Output(output_type="stream", name="stdout", text=text) for text in ("a", "b")]
    error = Output(output_type="stream", name="stderr", text="c")
    assert [o.text for o in execute.joined([*pieces, error])] == ["ab", "c"]


def test_pictures_have_the_name_they_are_saved_under_as_their_text() -> None:
    code = 'mg.flow.show(draw(x), "a.svg")\nshow(\n    f(y, title="b"),\n    "c.png",\n)'
    assert execute.SHOWN.findall(code) == ["a.svg", "c.png"]


def test_a_drawing_is_never_so_narrow_that_it_cannot_be_read_and_a_click_opens_it(
    tmp_path: Path,
) -> None:
    svg = '<svg width="1500pt" viewBox="0 0 1500 9"><text font-size="9"/></svg>'
    (tmp_path / "made.svg").write_text(svg, encoding="utf-8")
    body = '<p><img alt="A net" src="../_images/x1.svg" /></p><img src="other.png" />'
    found = load("pictures").readable(body, tmp_path, {"made.svg": "x1.svg"})
    assert '<a class="enlarge" href="../_images/x1.svg"' in found
    assert 'style="min-width:1500px"' in found
    assert found.endswith('<img src="other.png" />')


def test_no_page_keeps_its_pictures_from_those_who_read_it_as_a_notebook() -> None:
    hidden = re.compile(r"""\.save(?:fig)?\(\s*["'][^"']+\.(?:svg|png|html)["']|\.to_html\(""")
    for page in stage.tutorials(ROOT):
        assert hidden.findall(page.read_text(encoding="utf-8")) == [], f"{page.name}: mg.flow.show"


# -- all of it -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one that $MINIGRAD_SITE names, as CI has built it; else one that is built here."""
    if built := os.environ.get("MINIGRAD_SITE"):
        return Path(built)
    folder = tmp_path_factory.mktemp("docs")
    command = [sys.executable, str(TOOLS / "build.py"), "--no-run"]
    folders = ["--out", str(folder / "site"), "--work", str(folder / "work")]
    done = subprocess.run([*command, *folders], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


def pages_of(site: Path) -> list[Path]:
    static = site / "_static"  # templates of the theme, no pages
    return [page for page in sorted(site.rglob("*.html")) if static not in page.parents]


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (extra: docs)")
def test_the_site_builds_without_warnings_and_asks_nothing_of_the_network(site: Path) -> None:
    pages = pages_of(site)
    assert {"scan.html", "08_the_lstm.html", "commandline.html"} <= {page.name for page in pages}
    loaded = re.compile(r"""<(?:script|img|link|iframe)[^>]*(?:src|href)=["'](?:https?:)?//""")
    for page in pages:
        assert loaded.findall(page.read_text(encoding="utf-8")) == [], page.name


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (extra: docs)")
def test_every_notebook_of_the_site_is_a_valid_one_that_shows_no_syntax_of_sphinx(
    site: Path,
) -> None:
    import nbformat

    notebooks = sorted((site / "_downloads").rglob("*.ipynb"))
    assert len(notebooks) == len(stage.tutorials(ROOT))
    for path in notebooks:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert notebook.metadata.kernelspec.name == "python3"
        text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
        assert re.findall(r"\{\w+\}`|^:::|^```\{", text, re.MULTILINE) == [], path.name


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (extra: docs)")
def test_every_page_can_be_read_in_a_browser_and_is_found_by_search(
    site: Path, tmp_path: Path
) -> None:
    """From its file, at 1280 and 390 pixels, light and dark."""
    if why := explorer_browser.missing():
        pytest.skip(why)
    driver = explorer_browser.start(tmp_path)
    pages = pages_of(site)
    try:
        tab = explorer_browser.Tab(driver, site)
        driver.get("about:blank")
        driver.get_log("performance")
        for number, page in enumerate(pages):
            for width, dark in ((1280, number % 2 == 0), (390, number % 2 == 1)):
                tab.emulate(width, dark=dark)
                driver.get(page.as_uri())
                theme = tab.js("return document.documentElement.dataset.theme")
                assert theme == ("dark" if dark else "light"), page.name
                wide = tab.js("return document.documentElement.scrollWidth - innerWidth")
                assert wide <= 0, (page.name, width)
                assert tab.js(PALE) == [], (page.name, theme)
        tab.js("document.querySelector('article p, article h1').style.color = '#bbb'")
        tab.js("document.querySelector('article').style.background = '#fff'")
        assert tab.js(PALE) != []  # it sees what is pale
        driver.get((site / "search.html").as_uri() + "?q=vanishing")
        tab.until(lambda: tab.js("return document.querySelectorAll('ul.search li').length") > 3)
        asked = tab.requests()
        assert len(asked) > len(pages)
        assert [url for url in asked if not url.startswith(("file:", "data:", "chrome:"))] == []
        assert [e for e in driver.get_log("browser") if e["level"] == "SEVERE"] == []
    finally:
        driver.quit()


PALE = """  // text of an article whose contrast with what is behind it is below 3 (WCAG 2, 1.4.3)
const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= 0.03928 ? v / 12.92
    : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const parts = c => (c.match(/[\\d.]+/g) || []).map(Number);
const behind = e => { for (; e; e = e.parentElement) {
    const c = parts(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] === 1) return c.slice(0, 3); } return [255, 255, 255]; };
const found = new Set();
const texts = 'article :is(p, li, dt, dd, td, th, h1, h2, h3, pre span, code)';
for (const e of document.querySelectorAll(texts)) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    if (e.closest('svg, .cell_output')) continue;
    const a = light(parts(getComputedStyle(e).color).slice(0, 3)), b = light(behind(e));
    if ((Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 3)
        found.add(`${e.className}: ${e.textContent.slice(0, 40)}`);
}
return [...found].slice(0, 5);
"""


def test_a_folder_that_is_no_site_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years", encoding="utf-8")
    command = [sys.executable, str(TOOLS / "build.py"), "--no-run", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "has files that are not a site" in done.stderr
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "years"
