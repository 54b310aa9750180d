import re
from html.parser import HTMLParser

import pandas as pd

from tailwise.report.canvas import svg_text
from tailwise.report.figures import confusion_figure
from tailwise.report.html import Column, Picture, ReportContent, Table, render_report, show

HOSTILE = "<script>alert('x')</script>\"&$x_1$"


class _Elements(HTMLParser):
    def __init__(self):
        super().__init__()
        self.elements = []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))


def _page():
    pairs = pd.DataFrame({"gold": [HOSTILE], "predicted": ["b"], "count": [3], "rate": [0.5]})
    return render_report(
        ReportContent(
            title=HOSTILE,
            summary=[HOSTILE],
            facts={HOSTILE: HOSTILE},
            warnings=[HOSTILE],
            tables={
                "per_class": Table(
                    [Column("class", "class"), Column("n", "n", "count")], [{"class": HOSTILE, "n": 1234}]
                )
            },
            pictures={"confusion": Picture(svg_text(confusion_figure(pairs)), HOSTILE)},
            recipe=HOSTILE,
            repeat=[HOSTILE],
            notes=[HOSTILE],
            versions={HOSTILE: HOSTILE},
        )
    )


def test_hostile_text_never_becomes_markup():
    parser = _Elements()
    page = _page()
    parser.feed(page)
    tags = {tag for tag, _ in parser.elements}
    assert "script" not in tags
    assert not [a for _, attributes in parser.elements for a in attributes if a.startswith("on")]
    assert page.count("alert(&#39;x&#39;)") >= 8


def test_page_needs_nothing_from_outside():
    page = _page()
    addresses = set(re.findall(r"""(?:src|href)=["'](?!#)([^"']+)""", page))
    assert addresses == set()
    assert "default-src 'none'" in page


def test_every_link_of_the_page_has_its_target():
    parser = _Elements()
    parser.feed(_page())
    targets = {attributes["id"] for _, attributes in parser.elements if "id" in attributes}
    links = {a["href"][1:] for tag, a in parser.elements if tag == "a" and a.get("href", "").startswith("#")}
    assert links <= targets


def test_pictures_speak_to_screen_readers():
    parser = _Elements()
    parser.feed(_page())
    (svg,) = [a for tag, a in parser.elements if tag == "svg"]
    assert svg["role"] == "img"
    assert svg["aria-label"] == HOSTILE


def test_equal_content_gives_an_equal_page():
    assert _page() == _page()


def test_values_are_shown_in_their_form():
    assert show(1234, "count") == "1,234"
    assert show(0.12345, "score") == "0.123"
    assert show(0.0001, "p") == "< 0.001"
    assert show((0.1, 0.25), "interval") == "0.100 to 0.250"
    assert show(float("nan"), "score") == "–"
