"""The playground: an image and a question in, the answers of several models side by side, each with its verdict.

``answers`` asks and judges; ``page`` shows it with gradio, an optional extra.
"""

from safeeraser.integrations.playground.answers import Answered, Column, Example, Playground, create

__all__ = ["Answered", "Column", "Example", "Playground", "create"]
