"""What the response browser of the HTML report shows: queries, answers and verdicts of all cells, packed small.

Texts and images that come again (the same answer of many methods, the image of four questions) are stored once and
meant by their number, so that a page with 50,000 responses stays quick.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
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

    Returns:
        ``cells`` (label and method of each), ``queries`` (one list per query: id, set, category, group, record id, its
        image's number, whether that is unsafe, numbers of question and reference, sample), ``answers`` and
        ``verdicts`` (per cell and query: a number or -1), and what the numbers mean: ``texts``, ``images`` (data URLs),
        ``replies`` (text, error, finished) and ``judgements``.
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
            said = (verdict.criterion, verdict.value, verdict.unscored, verdict.judge, verdict.raw)
            judged.setdefault(verdict.query_id, []).append(said)
        judged |= {query.id: [_probe(query, given[query.id])] for query in cell.queries if _is_probe(query, given)}
        answers.append([replies.of(_reply(given[id], texts)) if id in given else -1 for id in queries])
        verdicts.append([judgements.of(tuple(judged[id])) if id in judged else -1 for id in queries])
    return {
        "cells": [[cell.label, cell.method] for cell in cells],
        "queries": rows,
        "answers": answers,
        "verdicts": verdicts,
        "texts": list(texts),
        "images": _thumbnails(list(images), benchmark),
        "replies": list(replies),
        "judgements": list(judgements),
    }


def _reply(response: Response, texts: _Numbers) -> tuple[int, str | None, int]:
    return texts.of(response.answer), response.error, int(response.finished)


def _is_probe(query: Query, given: Mapping[str, Response]) -> bool:
    return query.set in _PROBED and query.id in given and given[query.id].error is None


def _probe(query: Query, response: Response) -> tuple[Any, ...]:
    """A question with an expected answer is right or wrong without a judge, as its metric counts it."""
    return "exact", float(_PROBED[query.set](query.reference, response.spoken)), None, "", ""


def _thumbnails(names: Sequence[str], benchmark: Benchmark | None) -> list[str]:
    """The images as data URLs, small; empty where one cannot be read."""
    images = None if benchmark is None else ImageCache(benchmark, budget=0)
    return ["" if images is None else _thumbnail(name, images) for name in names]


def _thumbnail(name: str, images: ImageCache) -> str:
    from PIL import Image

    try:
        image = images.get(name)
    except UserError:
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
