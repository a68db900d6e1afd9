"""HTML as a tree of elements, so that all text is escaped."""

from __future__ import annotations

from typing import TypeAlias
from xml.etree.ElementTree import Element, tostring

__all__ = ["Child", "document", "element"]

Child: TypeAlias = "Element | str"

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:"  # a browser makes no request, whatever it finds
)


def element(tag: str, *children: Child, **attributes: str | float) -> Element:
    """Return an element; `class_` stands for `class`, and other underscores for hyphens."""
    made = Element(tag, {name.rstrip("_").replace("_", "-"): _text(one) for name, one in attributes.items()})
    for child in children:
        if isinstance(child, Element):
            made.append(child)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + _text(child)
        else:
            made.text = (made.text or "") + _text(child)
    return made


def _text(value: str | float) -> str:
    """Return a value as text; numbers with as many digits as a drawing needs; no control characters."""
    if not isinstance(value, str):
        return f"{value:.6g}"
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in value)


def document(title: str, style: str, *body: Child) -> str:
    """Return a page that needs nothing but itself."""
    page = element(
        "html",
        element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("link", rel="icon", href="data:,"),
            element("title", title),
            element("style", style),
        ),
        element("body", *body),
        lang="en",
    )
    return f"<!DOCTYPE html>\n{tostring(page, encoding='unicode', method='html')}\n"
