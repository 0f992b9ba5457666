"""The playground's page, with gradio: loopback only, nothing fetched or sent elsewhere, answers as plain text."""

from __future__ import annotations

import os
from typing import Any

from safeeraser.errors import UserError
from safeeraser.playground.answers import Playground

LOOPBACK = "127.0.0.1"
SHOWN_FIRST = 3
"""Columns that are ticked when the page opens."""
STYLE = """
.veiled img { filter: blur(14px); }
#picture img { width: 100%; height: 100%; object-fit: contain; }
"""
FONTS = ["system-ui", "sans-serif"]
WARNING = (
    "Content warning: pictures and answers may be unsafe. Pictures of examples marked as unsafe are blurred. Answers "
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
    with gradio.Blocks(title="SafeEraser playground", analytics_enabled=False) as blocks:
        gradio.Markdown(f"# SafeEraser playground\n\n{WARNING}")
        picked = gradio.State(None)
        with gradio.Row():
            with gradio.Column():
                picture = gradio.Image(type="pil", label="picture", sources=["upload"], elem_id="picture", height=320)
                reveal = gradio.Checkbox(False, label="show unsafe pictures", elem_id="reveal")
            with gradio.Column():
                example = gradio.Dropdown(choices, value=None, label="example", elem_id="example")
                question = gradio.Textbox(label="question", lines=3, elem_id="question")
                chosen = gradio.CheckboxGroup(names, value=names[:SHOWN_FIRST], label="models", elem_id="models")
                ask = gradio.Button("Ask", variant="primary", elem_id="ask")
        shown = []
        with gradio.Row():
            for number, name in enumerate(names):
                with gradio.Column(visible=number < SHOWN_FIRST, min_width=240) as column:
                    answer = gradio.Textbox(label=name, lines=6, interactive=False, elem_id=f"answer-{number}")
                    verdict = gradio.Textbox(label="judge", lines=2, interactive=False, elem_id=f"verdict-{number}")
                shown.append((column, answer, verdict))
        _connect(playground, picked, picture, reveal, example, question, chosen, ask, shown)
    return blocks


def _connect(
    playground: Playground,
    picked: Any,
    picture: Any,
    reveal: Any,
    example: Any,
    question: Any,
    chosen: Any,
    ask: Any,
    shown: list[tuple[Any, Any, Any]],
) -> None:
    import gradio

    names = [column.name for column in playground.columns]

    def veil(query_id: str | None, revealed: bool) -> list[str]:
        unsafe = query_id is not None and playground.example(query_id)[0].unsafe
        return ["veiled"] if unsafe and not revealed else []

    def pick(query_id: str | None, revealed: bool) -> tuple[Any, ...]:
        if query_id is None:
            return None, gradio.update(), gradio.update()
        found, image = playground.example(query_id)
        return query_id, gradio.update(value=image, elem_classes=veil(query_id, revealed)), found.query.question

    def answer(query_id: str | None, image: Any, text: str, columns: list[str]) -> list[Any]:
        if image is None:
            raise gradio.Error("there is no picture: upload one, or pick an example")
        found = playground.example(query_id)[0].query if query_id is not None else None
        try:
            given = playground.ask(image, text, columns, found if found and found.question == text else None)
        except UserError as error:
            raise gradio.Error(str(error)) from None
        by_name = {one.name: one for one in given}
        updates: list[Any] = [gradio.update(visible=name in by_name) for name in names]
        updates += [by_name[name].answer if name in by_name else "" for name in names]
        return updates + [by_name[name].verdict if name in by_name else "" for name in names]

    columns, answers, verdicts = (list(parts) for parts in zip(*shown, strict=True))
    example.input(pick, [example, reveal], [picked, picture, question])
    reveal.input(lambda q, r: gradio.update(elem_classes=veil(q, r)), [picked, reveal], [picture])
    for own in (picture.upload, picture.clear):
        own(lambda: (None, gradio.update(elem_classes=[]), None), None, [picked, picture, example])
    # one question at a time: the models share the machine
    ask.click(answer, [picked, picture, question, chosen], columns + answers + verdicts, concurrency_limit=1)
