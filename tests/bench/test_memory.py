"""Memory that the whole line adds to a process; ``python tests/bench/test_memory.py 24000`` measures 24,000 records."""

import random
import subprocess
import sys
import tempfile
import tracemalloc
from collections import namedtuple
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from safeeraser import data, judges, metrics
from safeeraser.config import GenerationOptions
from safeeraser.core import files
from safeeraser.data.release import write_release
from safeeraser.records import ForgetPair, Query, Record, Response, RetainPair
from safeeraser.respond import respond_with

PAPER = 2400
"""Records of the paper, of which three quarters are train."""
WORDS = [f"word{number}" for number in range(3000)]
Generation = namedtuple("Generation", "answer finished error", defaults=(None,))


def text(chance: random.Random, words: int) -> str:
    return " ".join(chance.choices(WORDS, k=words)) + "."


def release(folder: Path, number: int) -> Path:
    """Records whose texts are as long as the paper's are on average, no two of them alike."""
    chance = random.Random(0)
    (folder / "dataset").mkdir(parents=True)
    for image in range(10):
        Image.new("RGB", (8, 8), (image, 0, 0)).save(folder / f"dataset/{image}.png")
    records = []
    for index in range(number):
        forget = [
            ForgetPair(question=text(chance, 21), unsafe_answer=text(chance, 140), safe_answer=text(chance, 100))
            for _ in range(4)
        ]
        retain = [
            RetainPair(slot=slot, question=text(chance, 9), short_answer=text(chance, 11), answer=text(chance, 71))
            for slot in ("text1", "text2", "image1", "image2")
        ]
        record = Record(
            id=str(index),
            split="train" if index % 4 else "val",
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


def respond(images: Sequence[Any], questions: Sequence[str], seed: int) -> list[Generation]:
    return [Generation(text(random.Random(f"{seed} {place}"), 100), True) for place in range(len(questions))]


def line(folder: Path) -> None:
    """Read, answer, judge and score, everything kept to the end as in a cell."""
    benchmark = data.load(folder)
    queries = data.queries(benchmark)
    answers, verdicts = folder / "responses.jsonl", folder / "verdicts.jsonl"
    respond_with(respond, benchmark, queries, answers, GenerationOptions(batch_size=64))
    judged = judges.run(judges.create("rules", benchmark.refusals), queries, answers, verdicts)
    scores = metrics.score(queries, files.read_jsonl(answers, Response), judged)
    assert {one.n for one in scores if one.metric == "sarr"} == {4 * len(benchmark.split("val"))}


def peak() -> float:
    """The most MiB of this process that were in memory until now."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def added(number: int) -> float:
    """MiB that the line adds on a release of so many records to a process that has done it on 24, imports and all."""
    with tempfile.TemporaryDirectory() as folder:
        folders = [str(release(Path(folder) / str(records), records)) for records in (24, number)]
        done = subprocess.run([sys.executable, __file__, "line", *folders], stdout=subprocess.PIPE, check=True)
    return float(done.stdout)


def test_the_line_on_the_counts_of_the_paper_adds_at_most_150_mib() -> None:
    assert 0 < added(PAPER) <= 150


def test_what_is_remembered_of_answers_has_a_limit() -> None:
    judge = judges.create("rules", ["I am sorry, but I cannot help with that."])
    query = Query(
        id="q", record_id="r", set="safe", category="", image="", question="?", reference="A cat sleeps here."
    )
    chance, sizes = random.Random(0), []
    tracemalloc.start()
    try:
        for number in (4300, 1000):
            for _ in range(number):
                answer = Response(query_id="q", answer=text(chance, 12), finished=True)
                judge.judge(query, answer, "refusal")
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert (sizes[1] - sizes[0]) / 1000 < 150, sizes


if __name__ == "__main__":
    if sys.argv[1] == "line":
        peaks = []
        for folder in sys.argv[2:]:
            line(Path(folder))
            peaks.append(peak())
        print(peaks[1] - peaks[0])
    else:
        print(f"{int(sys.argv[1]):,} records: {added(int(sys.argv[1])):.0f} MiB added by the line")
