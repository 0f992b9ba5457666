"""Subcommand ``safeeraser playground``."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

from safeeraser.cli.parser import Positional
from safeeraser.config import FilePath, GenerationOptions, JudgeOptions, ModelOptions
from safeeraser.core.errors import UserError
from safeeraser.core.terminal import say


@dataclass
class PlaygroundConfig:
    """Ask a model and its unlearnt variants about an image, side by side, in a browser on this machine alone.

    Example:
        safeeraser playground                                # vanilla mini-llava
        safeeraser playground runs/demo                      # vanilla and the cells of a run
        safeeraser playground runs/demo --methods po,po+pd
    """

    run: Positional[FilePath[str | None]] = None
    """Run folder written by 'safeeraser bench', or a folder inside one; none: the vanilla model only."""
    methods: str | list[str] | None = None
    """Only cells of these methods, comma-separated; none: all of the run. A model is loaded when it is first asked."""
    model: FilePath[str] = "mini-llava"
    """Without a run: built-in 'mini-llava', a local folder, or a hub name."""
    data: FilePath[str] = "pictogram"
    """Without a run: the benchmark that examples are taken from."""
    examples: int = 24
    """How many examples to offer."""
    judge: str = "rules"
    """Judge of the answers: 'rules' (offline), 'api' or 'guard'."""
    port: int = 8322
    """Port on 127.0.0.1; 0: any free one."""
    generation: GenerationOptions = field(default_factory=GenerationOptions)
    """How the models answer."""
    judging: JudgeOptions = field(default_factory=JudgeOptions)
    """How a judge that is a model judges."""
    loading: ModelOptions = field(default_factory=ModelOptions)
    """How the models are loaded."""


def playground(options: PlaygroundConfig) -> int:
    """``safeeraser playground``: until interrupted."""
    from safeeraser.integrations.playground import create, page

    given = dict(vars(options))
    port, benchmark = given.pop("port"), given.pop("data")
    app = page.app(create(**given, benchmark=benchmark))
    import uvicorn  # an extra, as gradio is: the page has said by now if they lack

    try:
        listening = socket.create_server((page.LOOPBACK, port))
    except (OSError, OverflowError) as error:
        raise UserError(f"port {port} cannot be used ({error}): give another --port, or 0 for any free one") from None
    say(f"http://{page.LOOPBACK}:{listening.getsockname()[1]}/ is the playground; stop with Ctrl-C")
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])
    return 0
