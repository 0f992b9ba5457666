"""What the response browser of the HTML report shows: queries, answers and verdicts of all cells, packed small.

Texts and images that come again (the same answer of many methods, the image of four questions) are stored once and
meant by their number, so that a page with 50,000 responses stays quick.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from safeeraser.core.errors import UserError
from safeeraser.data import Benchmark
from safeeraser.data.images import ImageCache
from safeeraser.metrics.text_sets import holds_answer
from safeeraser.metrics.utility import answers_exactly
from safeeraser.records import Query, QuerySet, Response, Verdict

UNSAFE_IMAGE: tuple[QuerySet, ...] = ("efficacy", "generality", "retain")
"""Sets that ask about a record's unsafe image, be it a harmless question."""
_PROBED: dict[QuerySet, Callable[[str, str], bool]] = {"specificity": answers_exactly, "knowledge": holds_answer}
THUMBNAIL = 160
"""Longest side of an embedded image in pixels."""


@dataclass(frozen=True)
class BrowserCell:
    """One column of the browser: the answers of one cell and what the judge said of them."""

    label: str
    method: str
    queries: Sequence[Query]
    responses: Sequence[Response]
    verdicts: Sequence[Verdict]


class _Numbers(dict[Any, int]):
    """Numbers for values that come again, in the order in which they first came."""

    def of(self, value: Any) -> int:
        return self.setdefault(value, len(self))


def pack(cells: Sequence[BrowserCell], benchmark: Benchmark | None) -> dict[str, Any]:
    """Pack the queries, answers and verdicts of all cells into one JSON-able value.

    It has ``cells`` (label and method of each), ``queries`` (one list per query: id, set, category, group, record id,
    its image's number, whether that is unsafe, numbers of question and reference, sample), ``answers`` and ``verdicts``
    (per cell and query: a number or -1), and what the numbers mean: ``texts``, ``images`` (data URLs), ``replies``
    (text, error, finished) and ``judgements``.
    """
    texts, images, replies, judgements = _Numbers(), _Numbers(), _Numbers(), _Numbers()
    queries = {query.id: query for cell in cells for query in cell.queries}
    rows = [
        [q.id, q.set, q.category, q.group, q.record_id, images.of(q.image), int(q.set in UNSAFE_IMAGE)]
        + [texts.of(q.question), texts.of(q.reference), q.sample]
        for q in queries.values()
    ]
    answers, verdicts = [], []
    for cell in cells:
        given = {response.query_id: response for response in cell.responses}
        judged: dict[str, list[tuple[Any, ...]]] = {}
        for verdict in cell.verdicts:
            reasons = (verdict.unscored, verdict.judge, verdict.raw)
            judged.setdefault(verdict.query_id, []).append((verdict.criterion, verdict.value, *reasons))
        for query in cell.queries:  # with an expected answer it is right or wrong without a judge, as its metric counts
            if query.set in _PROBED and query.id in given and given[query.id].error is None:
                is_right = _PROBED[query.set](query.reference, given[query.id].spoken)
                judged[query.id] = [("exact", float(is_right), None, "", "")]
        said = [given.get(id) for id in queries]
        answers.append([-1 if r is None else replies.of((texts.of(r.answer), r.error, int(r.finished))) for r in said])
        verdicts.append([judgements.of(tuple(judged[id])) if id in judged else -1 for id in queries])
    shown = None if benchmark is None else ImageCache(benchmark, budget=0)
    return {
        "cells": [[cell.label, cell.method] for cell in cells],
        "queries": rows,
        "answers": answers,
        "verdicts": verdicts,
        "texts": list(texts),
        "images": [_thumbnail(name, shown) for name in images],
        "replies": list(replies),
        "judgements": list(judgements),
    }


def _thumbnail(name: str, images: ImageCache | None) -> str:
    """An image as a data URL, small; empty where it cannot be read."""
    from PIL import Image

    try:
        image = images.get(name) if images is not None else None
    except UserError:
        image = None
    if image is None:
        return ""
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, format="WEBP", quality=75, method=1)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def to_json(packed: dict[str, Any]) -> str:
    r"""Write as JSON that may stand inside a ``<script>`` element: an answer can neither close it nor open another.

    Example:
        >>> to_json({"texts": ["</script><script>alert(1)"]})
        '{"texts":["\\u003c/script\\u003e\\u003cscript\\u003ealert(1)"]}'
    """
    text = json.dumps(packed, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
