"""What sharing an image brings in answering, at the paper's proportions: ``python benchmarks/answering.py``.

The model and the texts are those of ``proportions.py``. A batch of questions, 4 about each image as one set of the
benchmark asks, and 8 as ``generality`` and ``retain`` together ask about an image of val; every answer has its full
length. In turn: some of the questions one by one; the batch with the image read for every question; read once, its
keys and values copied to every row; read once and kept once. Then what the benchmark asks about ``--pictures``
images, in the batches that ``respond`` makes of it: 4 short answers about each, of ``retain``, and 8, with
``generality``. One thread, processor time; peak memory is what comes on top of the model.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence
from dataclasses import replace

import torch
from gpu_model import Photos, Texts, build
from measure import Tables, publish
from PIL import Image
from proportions import SMALL, Side

from safeeraser import models
from safeeraser.config import GenerationOptions
from safeeraser.models import chat, prefix
from safeeraser.records import Query
from safeeraser.respond.batches import Prompt, prompt_batches

ALONE = 3
"""Questions, about different images, that are asked one by one as well."""
SLOWEST = 16
"""Tokens of an answer up to which reading the image for every row is measured: the reading is the same for all."""
OF_BENCHMARK = ((4, 16), (8, 64))
"""Questions about each image, and tokens of an answer: of ``retain`` alone, and of ``generality`` as well."""
Row = tuple[Image.Image, str]


def rows(pictures: int, questions: int) -> list[Row]:
    """So many questions about each of so many images, those about one image together."""
    photos, texts = Photos(SMALL.photo), Texts(replace(SMALL, triples=pictures * questions))
    shown = [photos.get(f"{number}.png").copy() for number in range(pictures)]
    return [(shown[number // questions], one.forget_question) for number, one in enumerate(texts.triples)]


def ways(vlm: models.VisionLanguageModel, asked: list[Row], length: int, switched_off: bool) -> dict[str, Side]:
    """Ways of answering the questions, the first of them some one by one; and with one thing after the other off."""

    def together(given: list[Row], way: prefix.Keeping) -> list[chat.Generation]:
        prefix._KNOWN[vlm.model] = way
        return chat.generate(vlm, *map(list, zip(*given, strict=True)), length)

    apart = asked[:: len(asked) // ALONE][:ALONE]
    made = {"one by one": Side(lambda: [together([row], "once")[0] for row in apart])}
    if switched_off and length <= SLOWEST:
        copies = [(image.copy(), question) for image, question in asked]  # other objects: nobody knows they are alike
        made["a batch, the picture read for every row"] = Side(lambda: together(copies, "once"))
    if switched_off:
        made["a batch, read once and kept for every row"] = Side(lambda: together(asked, "by row"))
    return made | {"a batch, read and kept once": Side(lambda: together(asked, "once"))}


def measure(vlm: models.VisionLanguageModel, batch: int, questions: Sequence[int], lengths: Sequence[int]) -> Tables:
    chat.generate(vlm, *map(list, zip(*rows(1, 2), strict=True)), 1)  # what is made once a model is made
    found: dict[str, dict[str, float]] = {}
    for about_one in questions:
        asked = rows(batch // about_one, about_one)
        for length in lengths:
            sides, said = ways(vlm, asked, length, about_one == questions[0]), {}
            for label, side in sides.items():
                gc.collect()  # or a cache that the last one left would be taken for what was there before
                said[label] = side.run()
                print(about_one, length, label, round(side.seconds[-1], 2), round(side.mebibytes), file=sys.stderr)
            found |= figures(f"{length} tokens, {about_one} questions a picture", sides, said)
    return {"answering": found}


def figures(title: str, sides: dict[str, Side], said: dict[str, list[chat.Generation]]) -> dict[str, dict[str, float]]:
    """A row for each side; the first one, ``one by one``, asked some of the questions."""
    alone, found = said["one by one"], {}
    for label, answers in said.items():
        compared = answers if label == "one by one" else answers[:: len(answers) // ALONE][:ALONE]
        found[f"{title}: {label}"] = {
            "answers per processor second": sides[label].rate(len(answers)),
            "times one by one": sides[label].rate(len(answers)) / sides["one by one"].rate(ALONE),
            "peak MiB": sides[label].mebibytes,
            f"of {ALONE} answers differ": sum(a != b for a, b in zip(alone, compared, strict=True)),
        }
    return found


def of_benchmark(vlm: models.VisionLanguageModel, pictures: int, batch: int) -> dict[str, dict[str, float]]:
    """The benchmark's queries about so many images of val, as ``respond`` answers them."""
    prefix._KNOWN[vlm.model] = "once"
    found: dict[str, dict[str, float]] = {}
    for about_one, length in OF_BENCHMARK:
        asked = rows(pictures, about_one)
        queries = [
            Query(
                id=str(number),
                record_id="",
                set="retain" if number % about_one < 4 else "generality",
                category="",
                image=str(number // about_one),
                question=question,
                reference="",
            )
            for number, (_, question) in enumerate(asked)
        ]
        batches = prompt_batches(queries, GenerationOptions(batch_size=batch), by_picture=True)

        def together(asked: list[Row] = asked, batches: list[list[Prompt]] = batches, length: int = length) -> object:
            made: dict[int, chat.Generation] = {}
            for prompts in batches:
                numbers = [int(prompt.queries[0].id) for prompt in prompts]
                given = zip(*(asked[number] for number in numbers), strict=True)
                made |= zip(numbers, chat.generate(vlm, *map(list, given), length), strict=True)
            return [made[number] for number in range(len(asked))]

        sides = {"one by one": ways(vlm, asked, length, False)["one by one"], f"batches of {batch}": Side(together)}
        said = {}
        for label, side in sides.items():
            gc.collect()
            said[label] = side.run()
            print(pictures, about_one, length, label, round(side.seconds[-1], 2), len(batches), file=sys.stderr)
        found |= figures(f"{length} tokens, {about_one} questions about each of {pictures} pictures", sides, said)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64, help="questions at once")
    parser.add_argument("--questions", default="4,8", help="about each image, comma-separated")
    parser.add_argument("--lengths", default="16,64,256", help="tokens of an answer, comma-separated")
    parser.add_argument("--pictures", type=int, default=60, help="that the benchmark's own queries are about")
    given = parser.parse_args()
    torch.set_num_threads(1)
    questions, lengths = ([int(number) for number in each.split(",")] for each in (given.questions, given.lengths))
    vlm = build(SMALL)
    tables = measure(vlm, given.batch, questions, lengths)
    tables["answering"] |= of_benchmark(vlm, given.pictures, given.batch)
    publish(tables)


if __name__ == "__main__":
    main()
