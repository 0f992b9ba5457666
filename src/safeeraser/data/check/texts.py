"""The questions and answers of a benchmark: those in both splits, and those that hold control tokens of models."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

from safeeraser.core.terminal import say
from safeeraser.data.benchmark import Benchmark
from safeeraser.data.release.json import Item, read_items
from safeeraser.data.release.problems import Problem
from safeeraser.records import Frozen, Record, Split

Pair = tuple[str, str]
"""Question and answer, normalised."""
TextSet = Literal["forget", "retain", "decouple"]


def normalised(text: str) -> str:
    r"""A text without differences of case, white space and Unicode normalisation.

    Example:
        >>> normalised("  How is\n it MADE? ")
        'how is it made?'
    """
    return " ".join(unicodedata.normalize("NFC", text.casefold()).split())


def forget_texts(record: Record) -> list[Pair]:
    """Each harmful question with its unsafe answer, normalised."""
    return [(normalised(pair.question), normalised(pair.unsafe_answer)) for pair in record.forget]


TEXTS: dict[TextSet, Callable[[Record], list[Pair]]] = {
    "forget": forget_texts,
    "retain": lambda record: [(normalised(pair.question), normalised(pair.answer)) for pair in record.retain],
    "decouple": lambda record: [
        (normalised(pair.question), normalised(pair.safe_answer))
        for pair in record.forget
        if record.safe_image is not None and pair.safe_answer is not None
    ],
}
"""The question-answer pairs of each set; retain pairs with the long answer, decouple pairs where there is an answer."""


def all_texts(record: Record) -> list[tuple[Pair, ...]]:
    """One key of all that is asked and answered about the record's own image."""
    return [tuple(sorted(forget_texts(record) + TEXTS["retain"](record)))]


CONTROL_TOKEN = re.compile(
    r"<\|[^|<>]{1,60}\|>|<\uff5c[^\uff5c<>]{1,60}\uff5c>"  # Qwen, Llama 3, Phi, GLM, DeepSeek
    r"|</?s>|<(?:unk|pad|bos|eos|mask|BOS_TOKEN|EOS_TOKEN)>|<extra_id_\d+>"  # sentencepiece models
    r"|<(?:image|video|audio|img|IMG_CONTEXT|image_soft_token|fake_token_around_image|global-img)>|</(?:image|img)>"
    r"|<im_(?:start|end|patch|col)>|<row_\d+_col_\d+>|<loc\d{4}>"  # images: LLaVA, Idefics, InternVL, PaliGemma
    r"|<(?:start|end)_of_(?:turn|image|utterance)>|<end_of_utterance>"  # Gemma, SmolVLM
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]|<</?SYS>>"  # Mistral, Llama 2
    r"|\[(?:IMG|IMG_BREAK|IMG_END|CLS|SEP|PAD|MASK|UNK)\]"
)
"""Control tokens of common families. Which of them means something depends on the model; here all are looked for."""
_TEXT_FIELDS = frozenset({"question", "model_response", "sd_response", "Question", "Answer", "Prediction", "answer"})


def control_tokens(text: str) -> list[str]:
    r"""What in a text looks like a control token of a model, each once.

    Example:
        >>> control_tokens("<image>\nTake [hazard A].</s> <b>More</b>")
        ['<image>', '</s>']
    """
    return [*dict.fromkeys(CONTROL_TOKEN.findall(text))]


def control_token_problems(root: Path) -> list[Problem]:
    """Find the texts in the files of a dataset folder that hold what looks like a control token of a model.

    Files that cannot be used as a whole are passed over.
    """
    problems = []
    for name in (*(f"all_{split}.json" for split in get_args(Split)), "probes.json"):
        items = read_items(root / name, []).items if (root / name).is_file() else ()
        for item in items:
            problems += control_tokens_of_item(name, item, _TEXT_FIELDS)
    return problems


def control_tokens_of_item(file: str, item: Item, fields: Collection[str]) -> list[Problem]:
    """A problem for every text of an item, in the fields of these names, that holds what looks like a control token."""
    advice = "this looks like a control token of a model, but is given to models as plain text"
    return [
        Problem(
            file, item.number, place, f"holds {', '.join(map(repr, tokens))}: {advice}; take it out if not meant so"
        )
        for place, tokens in _tokens_in(item.value, "", "", fields)
    ]


def warn_of_control_tokens(benchmark: Benchmark) -> None:
    """Say on standard error how many questions and answers hold what looks like a control token of a model."""
    texts = [
        (record, text)
        for record in benchmark.records
        for pair in (*record.forget, *record.retain)
        for text in pair.model_dump().values()
        if text and CONTROL_TOKEN.search(text)
    ]
    if texts:
        record, text = texts[0]
        say(
            f"warning: {len(texts):,} texts of {benchmark.name} hold what looks like a control token of a model, but "
            f"is given to models as plain text (first: {control_tokens(text)[0]!r} in a {record.split} record about "
            f"{record.image}); see them all: safeeraser data check {benchmark.root}",
            file=sys.stderr,
        )


def _tokens_in(value: Any, field: str, place: str, fields: Collection[str]) -> Iterator[tuple[str, list[str]]]:
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _tokens_in(part, name, f"{place}.{name}".lstrip("."), fields)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _tokens_in(part, field, f"{place}[{index}]", fields)
    elif isinstance(value, str) and field in fields and (tokens := control_tokens(value)):
        yield place, tokens


class TextCount(Frozen):
    """Pairs of one set in val, and how many stand in train: the pair as a whole, and its question alone."""

    set: TextSet
    val_pairs: int
    pairs_in_train: int
    questions_in_train: int


def text_counts(benchmark: Benchmark) -> list[TextCount]:
    """Count the texts of val that stand in train, too."""
    counts = []
    for name, texts in TEXTS.items():
        train = {pair for record in benchmark.split("train") for pair in texts(record)}
        asked = {question for question, _ in train}
        val = [pair for record in benchmark.split("val") for pair in texts(record)]
        pairs, questions = sum(pair in train for pair in val), sum(question in asked for question, _ in val)
        counts.append(TextCount(set=name, val_pairs=len(val), pairs_in_train=pairs, questions_in_train=questions))
    return counts
