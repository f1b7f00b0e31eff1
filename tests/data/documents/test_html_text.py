from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai.data.documents.html_text import html_to_document, html_to_text


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


@pytest.mark.parametrize(
    ("html", "headings"),
    [
        ("<h1>One</h1><p>text</p><h2>Two <i>and</i> more</h2>text", [(1, "One"), (2, "Two and more")]),
        ("text<h3>a<br>b</h3>", [(3, "a b")]),
        ("<h1><div>in a block</div></h1><p>text", [(1, "in a block")]),
        ("<h1>never closed<p>text<h2>next</h2>", [(1, "never closed"), (2, "next")]),
        ("<h1></h1><p>text</p><h2> </h2>", []),
        ("<h1><img src=x></h1>text", []),
        ("<ul><li><h4>item</h4></ul>", [(4, "item")]),
        ("<nav><h2>menu</h2></nav><h1>page</h1>", [(1, "page")]),
        ("<h6>last", [(6, "last")]),
        ("<h2>Scope<a class='x headerlink' href='#scope'>¶</a></h2>text", [(2, "Scope")]),
        ("<pre>a\n\n\nb</pre><h2>after code</h2>x", [(2, "after code")]),
    ],
)
def test_headings(html: str, headings: list[tuple[int, str]]) -> None:
    document = html_to_document(html)
    assert [(section.level, section.title) for section in document.sections] == headings
    for section in document.sections:
        first_word = section.title.split()[0]
        assert document.text[section.start :].removeprefix("- ").startswith(first_word)


@given(st.lists(st.sampled_from(["<h1>", "</h1>", "<h2>", "</h2>", "<p>", "</p>", "<li>", "a", " b ", "<br>", "\n"])))
def test_headings_begin_lines_of_the_text(parts: list[str]) -> None:
    document = html_to_document("".join(parts))
    starts = [section.start for section in document.sections]
    assert starts == sorted(set(starts))
    assert all(start == 0 or document.text[start - 1] == "\n" for start in starts)
    assert all(section.title for section in document.sections)
    assert html_to_text("".join(parts)) == document.text
