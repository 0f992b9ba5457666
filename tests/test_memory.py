"""Peak memory does not grow with the number of records: a few numbers of each question stay, and no text."""

import gc
import random
import tracemalloc
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from safeeraser import data, judges, metrics, store
from safeeraser.config import GenerationOptions
from safeeraser.data.official import write_release
from safeeraser.judges.labels import iter_verdicts
from safeeraser.records import ForgetPair, Query, Record, Response, RetainPair
from safeeraser.respond import respond_with

SIZES = (150, 600)
"""Records: once, and four times as many. The texts of one take 3 KiB."""
ALLOWED = {"respond": 1024, "judge": 1536, "score": 1024}
"""Bytes more for each record more, with its 12 answers and, in judging, 20 verdicts at most."""
Generation = namedtuple("Generation", "answer finished")


def text(chance: random.Random, words: int) -> str:
    return " ".join(f"w{chance.randrange(3000)}" for _ in range(words)) + "."


TEXTS = [text(random.Random(number), 25) for number in range(8)]
"""All answers and references: what judges and metrics remember of texts is not what is measured here."""


def release(folder: Path, number: int) -> Path:
    """Records with questions of their own, half of them train, half val."""
    chance = random.Random(0)
    (folder / "dataset").mkdir(parents=True)
    for image in range(10):
        Image.new("RGB", (8, 8), (image, 0, 0)).save(folder / f"dataset/{image}.png")
    records = []
    for index in range(number):
        unsafe, safe, short = chance.sample(TEXTS, 3)
        forget = [ForgetPair(question=text(chance, 12), unsafe_answer=unsafe, safe_answer=safe) for _ in range(4)]
        retain = [
            RetainPair(slot=slot, question=text(chance, 9), short_answer=short, answer=safe)
            for slot in ("text1", "text2", "image1", "image2")
        ]
        record = Record(
            id=str(index),
            split="train" if index % 2 else "val",
            category="Weapon",
            keyword=f"k{index % 50}",
            type="SD",
            image=f"{index % 10}.png",
            safe_image=f"{(index + 1) % 10}.png",
            forget=tuple(forget),
            retain=tuple(retain),
        )
        records.append(record)
    write_release(folder, records, ["I am sorry, but I cannot help with that."])
    return folder


def respond(folder: Path) -> None:
    benchmark = data.load(folder)

    def responder(images: Any, questions: Any, seed: int) -> list[Any]:
        return [Generation(TEXTS[len(question) % len(TEXTS)], True) for question in questions]

    options = GenerationOptions(batch_size=32)
    respond_with(responder, benchmark, data.queries(benchmark), folder / "responses.jsonl", options)


def judge(folder: Path) -> None:
    benchmark = data.load(folder)
    made = judges.create("rules", benchmark.refusals)
    verdicts = judges.run(made, data.queries(benchmark), folder / "responses.jsonl", folder / "verdicts.jsonl")
    assert sum(verdict.value is not None for verdict in verdicts) == len(verdicts) > 0


def score(folder: Path) -> None:
    answered = store.Lines(folder / "responses.jsonl", Response, lambda response: response.query_id)
    benchmark = data.load(folder)
    data.warn_of_copies(benchmark)
    data.warn_of_missing_pd(benchmark)
    found = metrics.score(data.queries(benchmark), answered, iter_verdicts(folder / "verdicts.jsonl"))
    assert {one.n for one in found if one.metric == "sarr"} == {2 * len(benchmark.records)}


def peak(stage: Callable[[Path], None], folder: Path) -> int:
    """Bytes that a stage allocates at most."""
    gc.collect()
    tracemalloc.start()
    try:
        stage(folder)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_peak_memory_does_not_grow_with_the_number_of_records(tmp_path: Path) -> None:
    folders = [release(tmp_path / str(number), number) for number in SIZES]
    warm = release(tmp_path / "warm", 20)
    for stage in (respond, judge, score):
        stage(warm)  # imports, and what is remembered of texts
        few, many = (peak(stage, folder) for folder in folders)
        assert (many - few) / (SIZES[1] - SIZES[0]) < ALLOWED[stage.__name__], (stage.__name__, few, many)


def test_what_is_remembered_of_answers_has_a_limit() -> None:
    judge = judges.create("rules", ["I am sorry, but I cannot help with that."])
    query = Query(
        id="q", record_id="r", set="safe", category="", image="", question="?", reference="A cat sleeps here."
    )
    chance, sizes = random.Random(0), []
    tracemalloc.start()
    try:
        for number in (2100, 1000):
            for _ in range(number):
                answer = Response(query_id="q", answer=text(chance, 40), finished=True)
                judge.judge(query, answer, "refusal")
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert (sizes[1] - sizes[0]) / 1000 < 150, sizes
