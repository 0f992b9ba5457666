"""A benchmark of six train records, 24 triples, for tests of training."""

import random
from pathlib import Path

from PIL import Image

from safeeraser.data import Benchmark
from safeeraser.records import ForgetPair, Record, RetainPair

WORDS = "a the picture shows small red axe cup hand made from wood step first then mix heat it is with two".split()


def tiny_benchmark(root: Path) -> Benchmark:
    """Draw texts and images; the same in every call."""
    draw = random.Random(0)

    def text(low: int, high: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(low, high)))

    def record(number: int) -> Record:
        for name in ("img", "SDimg"):
            (root / name).mkdir(exist_ok=True)
            colour = tuple(draw.randrange(256) for _ in range(3))
            Image.new("RGB", (64, 64), colour).save(root / name / f"{number}.png")
        return Record(
            id=f"r{number}",
            split="train",
            category="Weapon",
            keyword="axe",
            type="",
            image=f"img/{number}.png",
            safe_image=f"SDimg/{number}.png",
            forget=tuple(
                ForgetPair(question=text(3, 8), unsafe_answer=text(4, 12), safe_answer=text(2, 9)) for _ in range(4)
            ),
            retain=tuple(
                RetainPair(slot=slot, question=text(3, 5), short_answer=text(1, 2), answer=text(2, 7))
                for slot in ("text1", "text2", "image1", "image2")
            ),
        )

    records = tuple(record(number) for number in range(6))
    return Benchmark("tiny", root, records, ("Sorry, I cannot.", "No.", "I will not help."), (), "f1")
