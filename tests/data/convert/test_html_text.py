from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai.data.convert.html_text import html_to_text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>One   two\n three</p><p>four</p>", "One two three\n\nfour"),
        ("<h1>Title</h1>text <b>bold</b>, <i>more</i>.", "Title\n\ntext bold, more."),
        ("<ul><li>one<li>two <b>three</b></ul>after", "- one\n- two three\n\nafter"),
        ("<ul><li><p>one</p></li><li><p>two</p></li></ul>", "- one\n\n- two"),
        ("a<br>b<br/>c", "a\nb\nc"),
        ("<pre>def f():\n    return 1\n\nx</pre>", "def f():\n    return 1\n\nx"),
        ("<div>a<div>b</div>c</div>", "a\nb\nc"),
        ("<table><tr><th>k<th>v<tr><td>1<td>2</table>", "k | v\n1 | 2"),
        ("&lt;b&gt; &amp; &eacute;&#8364;", "<b> & é€"),
        ("<script>if (a < b) x()</script>a<style>p{}</style><!-- no --><template>t</template>b", "ab"),
        ("<head><title>T</title></head><body>b</body>", "b"),
        ("<p hidden>no</p><p aria-hidden='true'>no</p><p>yes", "yes"),
        ("<nav>menu</nav><main><header>Head</header>text</main><footer>f</footer>", "Head\ntext"),
        ("<div role='navigation'>menu</div><p>text", "text"),
        ("<nav>all there is</nav>", "all there is"),
        ("<p>a<img src=x><input>b", "ab"),
        ("a</b></p>c", "ac"),
        ("<b>unclosed <i>both", "unclosed both"),
        ("<script>never closed", ""),
        ("", ""),
        ("  \n ", ""),
        ("plain text", "plain text"),
    ],
)
def test_pages(html: str, text: str) -> None:
    assert html_to_text(html) == text


@given(st.text(alphabet="<>/ab&;!-= '\"\npreliult"))
def test_whatever_is_written_gives_text(html: str) -> None:
    text = html_to_text(html)
    assert text == text.strip("\n")
    assert "\n\n\n" not in text or "<pre" in html


def test_deep_nesting_does_not_recurse() -> None:
    assert html_to_text("<div>" * 20_000 + "deep" + "</div>" * 20_000) == "deep"
