"""How the study's report looks: report.md as Markdown shows it, report.html in a browser."""

import json
import re

import pytest
from browser import start_browser
from markdown_it import MarkdownIt
from matplotlib.text import Text

from hyperfit_eval.reproduce import drawing
from hyperfit_eval.reproduce.report import plain_markdown, write_report
from hyperfit_eval.reproduce.section import Figure, Row, Section, Table
from hyperfit_eval.scores.score import Score

HOSTILE = "- 1. <img src=x onerror=alert(1)> *a* _b_ `c` | [d](e) $f$ # g & h"
MASS = Score("top_1_mass", 52.2, "%", "top_1_mass|avg:all-tokens|N:60", 51.1, 53.5, n=60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    with drawing.figure(root / "steps" / "table3" / "mass.png", 3.0, 2.0) as axes:
        axes.plot([0, 1], [0, 1])
        drawing.name_points(axes, [(0.5, 0.5, "middle"), (0.52, 0.5, "beside it")])
    wide = {f"column_{i}": f"column number {i}" for i in range(12)}
    piece = {"text": " the cat", "repeated": 2, "copied": 7, "source": [3, 0], "passage": "…was [the cat] there…"}
    plain = {"text": HOSTILE, "repeated": 0, "copied": 0, "source": None, "passage": ""}
    sides = [{"label": "base", "pieces": [plain, piece]}, {"label": "hyperfitted", "pieces": [plain]}]
    sections = [
        Section(
            "table3", "Sharpened predictions", "Section 5, Table 3", ["Found by `hyperfit x` <b>."],
            [
                Table({"top_1_mass": "top-1 mass, %"}, [Row("base", {"top_1_mass": MASS}, "base")], paper="table3"),
                Table(wide, [Row("a rather long label of a row", dict.fromkeys(wide, MASS))], "A wide table."),
            ],
            [Figure("mass.png", "Mass by token.")],
        ),
        Section(
            "figure1", "Continuations side by side", "Figure 1", [],
            examples=[{"kind": "continuations", "label": "one", "context": HOSTILE, "sides": sides}],
        ),
    ]  # fmt: skip
    folders = [(section, root / "steps" / "table3") for section in sections]
    write_report(root, folders, {"table7": "no data"}, {"model": "little <model>"})
    return root


def test_markdown_shows_text_as_it_is(folder):
    text = (folder / "report.md").read_text()
    page = MarkdownIt("commonmark").enable("table").render(text)
    assert "<img src" not in page.replace('<img src="steps/table3/mass.png" alt="Mass by token." />', "")
    escaped = "- 1. &lt;img src=x onerror=alert(1)&gt; *a* _b_ `c` | [d](e) $f$ # g &amp; h"
    assert f"<blockquote>\n<p>{escaped}</p>\n</blockquote>" in page
    assert f"<td>{escaped}<ins><b> the cat</b></ins></td>" in page
    assert text.startswith("# Hyperfitting little \\<model>\n\n## What agrees with the paper")
    assert "| MMLU drops by a few points at most | Table 7 | **cannot be told** | Not measured: no data. |" in text
    for anchor in re.findall(r"\]\(#([^)]+)\)", text):
        assert f'<a id="{anchor}"></a>' in text
    assert plain_markdown("12. of\nMay") == "12\\. of May"


def test_names_of_close_points_do_not_meet(tmp_path):
    points = [(10.0 + i, 5.0 + i % 2, f"name {i} of a point") for i in range(8)]
    with drawing.figure(tmp_path / "names.png") as axes:
        axes.set_xlim(0, 30)
        axes.set_ylim(0, 10)
        drawing.name_points(axes, points)
        renderer = axes.figure.canvas.get_renderer()
        for label in axes.texts:
            label.update_positions(renderer)
        boxes = [Text.get_window_extent(label, renderer) for label in axes.texts]
        assert len(boxes) == 8
        assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


def test_the_papers_numbers_stand_as_printed(folder):
    assert "| paper: Llama 3.1 (8B), base | 48.4 |" in (folder / "report.md").read_text()
    assert '<th scope="row">paper: DeepSeek (7B), base</th><td>49.1</td>' in (folder / "report.html").read_text()


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_the_page_in_a_browser(folder, width, dark):
    """Nothing is asked of the network, nothing is wider than the screen, and every link leads somewhere."""
    driver = start_browser(**{"goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}})
    try:
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        driver.get((folder / "report.html").as_uri())
        events = [json.loads(line["message"])["message"] for line in driver.get_log("performance")]
        asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        assert asked and all(url.startswith(("file:", "data:")) for url in asked)
        assert driver.get_log("browser") == []

        def of(script):
            return driver.execute_script(f"return {script}")

        assert of("document.documentElement.scrollWidth") <= width
        assert of("[...document.images].every(i => i.alt && i.naturalWidth)")
        assert of("[...document.querySelectorAll('a')].every(a => document.getElementById(a.hash.slice(1)))")
        light = of("getComputedStyle(document.body).backgroundColor") == "rgb(253, 253, 252)"
        assert light != dark
        copied = driver.find_element("css selector", ".sides .copied")
        assert copied.get_attribute("title") == "7 tokens in a row, from training block 3: …was [the cat] there…"
        assert "r2" in copied.get_attribute("class")
        assert driver.find_element("tag name", "code").text == "hyperfit x"
    finally:
        driver.quit()
