import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai.report.html import Html, element, escape, join, page
from genai.report.terminal import strip_controls


class Parsed(HTMLParser):
    """What a reader of the markup sees."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data: str) -> None:
        self.text += data


NASTY = st.text() | st.lists(
    st.sampled_from(["<", ">", "&", '"', "'", "/", "script", "--", "]]>", "&lt;", "\x00"])
).map("".join)


@given(NASTY, NASTY)
def test_text_stays_text_wherever_it_stands(text: str, value: str) -> None:
    parsed = Parsed(element("p", text, title=value))
    assert parsed.tags == ["p"]
    assert parsed.text == strip_controls(text)
    assert parsed.attributes == [("title", strip_controls(value))]


def test_markup_is_not_escaped_twice_and_nothing_is_left_out() -> None:
    inner = element("b", "a & b")
    assert element("p", inner, None, "<i>", class_="x y", data_max=3, hidden=True, title=None, lang=False) == (
        '<p class="x y" data-max="3" hidden><b>a &amp; b</b>&lt;i&gt;</p>'
    )
    assert join([inner, "<", None]) == "<b>a &amp; b</b>&lt;"
    assert escape(inner) is inner


def test_a_sum_of_markup_and_text_is_text_again() -> None:
    assert type(Html("<b>") + "<script>") is str


def test_void_elements_have_no_end() -> None:
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'


@pytest.fixture
def markup() -> str:
    return page("<title> & more", element("p", "hello"))


def test_a_page_names_its_title_and_body(markup: str) -> None:
    assert markup.startswith("<!doctype html>\n<html")
    assert "<title>&lt;title&gt; &amp; more</title>" in markup
    assert "<body><p>hello</p>" in markup


def test_a_page_allows_itself_only_its_own_style_and_script(markup: str) -> None:
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', markup)
    assert policy is not None
    assert "default-src 'none'" in policy[1] and "unsafe" not in policy[1]
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", markup, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy[1]


def test_a_page_refers_to_nothing_outside(markup: str) -> None:
    without_names = markup.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"(https?:)?//\w+\.\w|@import|url\(", without_names)
