"""Chat templates, rendered on a fixed day: some write today's date into a prompt, and answers would change with it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

DAY = datetime(2024, 7, 26)
"""What Llama's templates fall back to where they are given no date."""
_TODAY = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")


def render(processor: Any, turns: Sequence[Any], **options: Any) -> str:
    """Render a conversation in the chat template of a processor or a tokenizer.

    Args:
        processor: What has the template.
        turns: The conversation.
        options: More for ``apply_chat_template``, such as variables of the template.

    Example:
        >>> from safeeraser import models
        >>> hello = [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]
        >>> render(models.load("mini-llava").processor, hello, add_generation_prompt=True)
        'USER: Hello ASSISTANT:'
    """
    template = processor.chat_template
    if isinstance(template, dict):  # several, by name
        template = template.get("default")
    if isinstance(template, str) and _TODAY.search(template):
        options["chat_template"] = _TODAY.sub(lambda call: repr(DAY.strftime(call[2])), template)
    return str(processor.apply_chat_template(turns, tokenize=False, **options))
