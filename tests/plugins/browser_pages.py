"""A real Chromium that opens pages from files, and tells all they did unasked."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_ON_CI = os.environ.get("CI") == "true"
sync_api = (importlib.import_module if _ON_CI else pytest.importorskip)("playwright.sync_api")

CONTRAST = """
selectors => {
  const channel = c => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const background = node => {
    for (; node; node = node.parentElement) {
      const found = numbers(getComputedStyle(node).backgroundColor);
      if (found.length === 3) return found;
    }
  };
  return selectors.map(selector => {
    const node = document.querySelector(selector);
    const style = getComputedStyle(node);
    const ink = numbers(node.closest("svg") ? style.fill : style.color);
    const pair = [luminance(ink), luminance(background(node))].sort((a, b) => b - a);
    return [selector, (pair[0] + 0.05) / (pair[1] + 0.05)];
  });
}
"""
"""Contrast ratio of each selector's text. Source: WCAG 2.2, relative luminance and success criterion 1.4.3."""


@contextmanager
def launched() -> Iterator[sync_api.Browser]:
    """The browser, until the block is left."""
    flags = [
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--no-sandbox",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        yield browser
        browser.close()


class Opened:
    """A page, and all it did unasked."""

    def __init__(self, browser: sync_api.Browser, path: Path, **settings: object) -> None:
        self.context = browser.new_context(**settings)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
