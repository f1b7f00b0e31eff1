"""HTML that is escaped by construction: a plain `str` is text, only `Html` is markup, and only `element` makes `Html`.

A page allows itself nothing but its own style and script, by hash, so that even text which slipped through could do
nothing.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Sequence
from importlib import resources

from genai.report.terminal import strip_controls

_VOID = frozenset({"br", "input", "link", "meta"})


class Html(str):
    """Markup. Text that is no `Html` is escaped wherever it meets markup."""

    __slots__ = ()


Child = str | None
"""Text, `Html`, or None for nothing."""


def escape(text: str) -> Html:
    """Any text as markup that shows it; control characters are taken out."""
    return text if isinstance(text, Html) else Html(html.escape(strip_controls(text)))


def join(children: Iterable[Child]) -> Html:
    """The children one after the other."""
    return Html("".join(escape(child) for child in children if child is not None))


def element(tag: str, *children: Child, **attributes: str | float | bool | None) -> Html:
    """An element, e.g. `element("a", "text & more", href="#top", class_="wide", data_x=1)`.

    Args:
        tag: its name.
        children: text is escaped, `Html` is taken as it is, None is left out.
        attributes: a trailing underscore is dropped, others become dashes; True stands alone, False and None are
            left out.
    """
    written = "".join(_attribute(name, value) for name, value in attributes.items() if value not in (None, False))
    return Html(f"<{tag}{written}>" if tag in _VOID else f"<{tag}{written}>{join(children)}</{tag}>")


def page(title: str, *body: Child, parts: Sequence[str] = ()) -> str:
    """A complete page that needs nothing but itself.

    Args:
        title: what the browser's tab says.
        body: the content.
        parts: what it has beside the common style and script: "examples" adds examples.css and examples.js.
    """
    names = ("page", *parts)
    style, script = (Html("".join(_asset(f"{name}.{kind}") for name in names)) for kind in ("css", "js"))
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("link", rel="icon", href="data:,"),
        element("title", title),
        element("style", style),
    )
    document = element("html", head, element("body", *body, element("script", script)), lang="en")
    return f"<!doctype html>\n{document}\n"


def _attribute(name: str, value: str | float | bool | None) -> str:
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(strip_controls(str(value)))}"'


def _asset(name: str) -> Html:
    return Html(resources.files("genai.report").joinpath(name).read_text(encoding="utf-8"))


def _hash(content: str) -> str:
    """Source: Content Security Policy Level 3, section 2.3.1 (hash-source)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
