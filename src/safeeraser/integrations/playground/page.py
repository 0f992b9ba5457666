"""The playground's page, with gradio: loopback only, nothing fetched or sent elsewhere, answers as plain text."""

from __future__ import annotations

import html
import os
from dataclasses import dataclass, field
from typing import Any

from safeeraser.core.errors import UserError
from safeeraser.integrations.playground.answers import Answered, Playground

LOOPBACK = "127.0.0.1"
SHOWN_FIRST = 3
"""Columns that are ticked when the page opens."""
STYLE = """
.veiled img { filter: blur(26px); }
#picture img, #twin img { width: 100%; height: 100%; object-fit: contain; }
.verdict { padding: .5rem .7rem; border-left: 5px solid #b07a00; }
.verdict.good { border-color: #14692f; }
.verdict.bad { border-color: #a11d2b; }
.verdict b { margin-right: .4rem; }
"""
MARKS = {True: ("good", "✓"), False: ("bad", "✗"), None: ("odd", "?")}
"""Class and mark of a verdict that is wanted, unwanted, or cannot be told."""
THUMBNAIL = 96
FONTS = ["system-ui", "sans-serif"]
WARNING = (
    "Content warning: images and answers may be unsafe. Images of examples marked as unsafe are blurred. Answers "
    "are shown as they are, as text."
)
POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self' data: blob:; frame-ancestors 'none'"
)
"""The browser loads nothing from elsewhere, whatever the page or an answer asks for."""


def app(playground: Playground) -> Any:
    """Build the page as a FastAPI application.

    Raises:
        UserError: If gradio is not installed.
    """
    # read when gradio is imported: it would report its use and look for new versions
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError:
        raise UserError("the playground needs gradio: pip install 'safeeraser[playground]'") from None
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    # a page elsewhere cannot pass for this machine by giving its own name this address
    server.add_middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"])

    @server.middleware("http")
    async def guard(request: Any, call_next: Any) -> Any:
        answer = await call_next(request)
        answer.headers["Content-Security-Policy"] = POLICY
        return answer

    theme = gradio.themes.Base(font=FONTS, font_mono=["monospace"])
    return gradio.mount_gradio_app(
        server, _blocks(playground), path="/", css=STYLE, theme=theme, footer_links=[], run_history=False
    )


def _blocks(playground: Playground) -> Any:
    import gradio

    names = [column.name for column in playground.columns]
    choices = [(example.label, example.query.id) for example in playground.examples]
    first = next((one for one in playground.examples if one.query.set == "safe"), None)
    start = _picked(playground, first.query.id if first else None, revealed=False)
    with gradio.Blocks(title="SafeEraser playground", analytics_enabled=False) as blocks:
        gradio.Markdown(f"# SafeEraser playground\n\n{WARNING}")
        picked = gradio.State(start.query_id)
        with gradio.Row():
            picture = gradio.Image(
                start.image, type="pil", label="image", sources=["upload"], elem_id="picture", height=320
            )
            with gradio.Column():
                twin = gradio.Image(
                    start.twin, label=start.twin_label, interactive=False, elem_id="twin", height=240,
                    elem_classes=start.twin_veil,
                )  # fmt: skip
                swap = gradio.Button("Ask about this image instead", elem_id="swap", interactive=start.twin is not None)
            with gradio.Column():
                question = gradio.Textbox(start.question, label="question", lines=3, elem_id="question")
                chosen = gradio.CheckboxGroup(names, value=names[:SHOWN_FIRST], label="models", elem_id="models")
                ask = gradio.Button("Ask", variant="primary", elem_id="ask")
        shown = []
        with gradio.Row():
            for number, name in enumerate(names):
                with gradio.Column(visible=number < SHOWN_FIRST, min_width=240) as column:
                    answer = gradio.Textbox(label=name, lines=6, interactive=False, elem_id=f"answer-{number}")
                    verdict = gradio.HTML(elem_id=f"verdict-{number}")
                shown.append((column, answer, verdict))
        reference = gradio.Textbox(start.reference, label="reference", interactive=False, elem_id="reference")
        example = gradio.Dropdown(choices, value=start.query_id, label="example", elem_id="example")
        reveal = gradio.Checkbox(False, label="show unsafe images", elem_id="reveal")
        thumbnails = gradio.Gallery(
            _thumbnails(playground), label="examples", columns=9, height=240, allow_preview=False, elem_id="thumbnails"
        )
        given = [picked, picture, twin, swap, question, reference, example]
        _connect(playground, given, reveal, thumbnails, chosen, ask, shown)
    return blocks


@dataclass(frozen=True)
class _Picked:
    """What the page shows of an example: its image and question, and its twin."""

    query_id: str | None = None
    image: Any = None
    veil: list[str] = field(default_factory=list)
    question: str = ""
    reference: str = ""
    twin: Any = None
    twin_label: str = "no twin"
    twin_veil: list[str] = field(default_factory=list)


def _picked(playground: Playground, query_id: str | None, revealed: bool) -> _Picked:
    if query_id is None:
        return _Picked()
    found, image = playground.example(query_id)
    query, veil = found.query, ["veiled"] if found.unsafe and not revealed else []
    other = playground.twins.get(query_id)
    if other is None:
        return _Picked(query_id, image, veil, query.question, query.reference)
    label = f"its twin, the {'unsafe' if other.unsafe else 'safe'} image"
    twin_veil = ["veiled"] if other.unsafe and not revealed else []
    twin = playground.example(other.query.id)[1]
    return _Picked(query_id, image, veil, query.question, query.reference, twin, label, twin_veil)


def _thumbnails(playground: Playground) -> list[tuple[Any, str]]:
    """Small images of the examples; of unsafe ones the browser gets a blurred copy alone."""
    from PIL import ImageFilter

    shown = []
    for example in playground.examples:
        image = playground.example(example.query.id)[1].convert("RGB")
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        shown.append((image.filter(ImageFilter.GaussianBlur(12)) if example.unsafe else image, example.query.category))
    return shown


def _verdict(one: Answered) -> str:
    """A judge's words are text, whatever is in them."""
    name, mark = MARKS[one.wanted]
    return f'<div class="verdict {name}"><b>{mark}</b>{html.escape(one.verdict)}</div>'


def _connect(
    playground: Playground, given: list[Any], reveal: Any, thumbnails: Any, chosen: Any, ask: Any, shown: list[Any]
) -> None:
    import gradio

    names = [column.name for column in playground.columns]
    picked, picture, twin, swap, question, reference, example = given

    def show(query_id: str | None, revealed: bool) -> list[Any]:
        one = _picked(playground, query_id, revealed)
        return [
            one.query_id,
            gradio.update(value=one.image, elem_classes=one.veil),
            gradio.update(value=one.twin, label=one.twin_label, elem_classes=one.twin_veil),
            gradio.update(interactive=one.twin is not None),
            one.question,
            one.reference,
            one.query_id,
        ]

    def choose(revealed: bool, event: Any) -> list[Any]:
        return show(playground.examples[int(event.index)].query.id, revealed)

    # gradio passes the event to what is annotated with its type, which it cannot find by name in this module
    choose.__annotations__["event"] = gradio.SelectData

    def exchange(query_id: str | None, revealed: bool) -> list[Any]:
        other = playground.twins.get(query_id or "")
        shown_now = show(other.query.id if other else query_id, revealed)
        offered = {one.query.id for one in playground.examples}
        return [*shown_now[:-1], shown_now[0] if shown_now[0] in offered else None]

    def veil(query_id: str | None, revealed: bool) -> list[Any]:
        one = _picked(playground, query_id, revealed)
        return [gradio.update(elem_classes=one.veil), gradio.update(elem_classes=one.twin_veil)]

    def answer(query_id: str | None, image: Any, text: str, columns: list[str]) -> list[Any]:
        # what a person did is told on the page; the server's log is for faults
        if image is None:
            raise gradio.Error("there is no image: upload one, or pick an example", print_exception=False)
        found = playground.example(query_id)[0].query if query_id is not None else None
        try:
            said = playground.ask(image, text, columns, found if found and found.question == text else None)
        except UserError as error:
            raise gradio.Error(html.escape(str(error)), print_exception=False) from None
        by_name = {one.name: one for one in said}
        updates: list[Any] = [gradio.update(visible=name in by_name) for name in names]
        updates += [by_name[name].answer if name in by_name else "" for name in names]
        return updates + [_verdict(by_name[name]) if name in by_name else "" for name in names]

    columns, answers, verdicts = (list(parts) for parts in zip(*shown, strict=True))
    example.input(show, [example, reveal], given)
    thumbnails.select(choose, [reveal], given)
    swap.click(exchange, [picked, reveal], given)
    reveal.input(veil, [picked, reveal], [picture, twin])
    own = [picked, twin, swap, reference, example]
    for event in (picture.upload, picture.clear):
        event(lambda: [None, gradio.update(value=None, label="no twin"), gradio.update(interactive=False), "", None],
              None, own)  # fmt: skip
        event(lambda: gradio.update(elem_classes=[]), None, [picture])
    # one question at a time: the models share the machine
    ask.click(answer, [picked, picture, question, chosen], columns + answers + verdicts, concurrency_limit=1)
