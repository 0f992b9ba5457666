"""A figure inside the HTML page: in the colours of its theme, with links and texts on its marks, and no scripts."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from safeeraser.core.errors import UserError
from safeeraser.report.figures import style

_TAGS = {"svg", "g", "path", "use", "clipPath", "rect", "image", "a", "defs", "title"}
_ATTRIBUTES = {
    *("id", "d", "style", "transform", "viewBox", "x", "y", "width", "height", "href", "clip-path", "clip-rule"),
    *("fill-rule", "preserveAspectRatio", "version"),
}
_THEME = {
    style.INK: "var(--ink)",
    style.QUIET: "var(--soft)",
    style.FAINT: "var(--line)",
    "#ffffff": "var(--card)",
    style.WITHOUT_PD: "var(--without)",
    style.WITH_PD: "var(--with)",
}
SHRUNK = 0.75
"""How far a figure may shrink in a narrow window."""
GROWN = 1.5
"""How far it may grow in a wide one."""
_PAGE = "../index.html"


def inline(figure: Path, label: str) -> str:
    """Read an SVG that ``style.save`` wrote as markup for the page; a screen reader calls it ``label``.

    Elements and attributes that matplotlib does not draw with are left out, with all that is in them.
    """
    try:
        root = ElementTree.parse(figure).getroot()
    except ElementTree.ParseError as error:
        raise UserError(f"{figure}: not SVG ({error}); remove the file and write the report again") from None
    _clean(root, figure.stem)
    root.attrib |= {"role": "group", "aria-label": label}
    width = root.attrib.pop("width", "").removesuffix("pt")
    root.attrib.pop("height", None)
    if width:  # smaller, its text could not be read: a narrow screen scrolls it
        root.set("style", f"min-width: {SHRUNK * float(width):.0f}pt; max-width: {GROWN * float(width):.0f}pt")
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _clean(element: ElementTree.Element, prefix: str) -> None:
    element.tag = _local(element.tag)
    kept = {_local(name): value for name, value in element.attrib.items() if _local(name) in _ATTRIBUTES}
    element.attrib = {name: _value(name, value, prefix) for name, value in kept.items()}
    if not element.get("href", "#").startswith(("#", "data:image/png;")):
        del element.attrib["href"]
    for child in [child for child in element if _local(child.tag) not in _TAGS]:
        element.remove(child)
    for child in element:
        _clean(child, prefix)
    said = element.find("title")
    if said is not None:  # the page shows it at once, and for the keyboard too
        element.remove(said)
        for link in element.iter("a"):
            link.attrib |= {"data-tip": said.text or "", "aria-label": said.text or ""}


def _value(name: str, value: str, prefix: str) -> str:
    """Ids are made unique in the page, and links to the page become links in it."""
    if name == "id":
        return f"{prefix}-{value}"
    if name == "href":
        return value.removeprefix(_PAGE) if value.startswith(_PAGE) else value.replace("#", f"#{prefix}-", 1)
    if name == "clip-path":
        return value.replace("url(#", f"url(#{prefix}-")
    if name == "style":
        for colour, themed in _THEME.items():
            value = value.replace(colour.lower(), themed)
    return value


def _local(name: object) -> str:
    return str(name).rpartition("}")[2]
