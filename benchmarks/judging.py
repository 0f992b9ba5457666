"""How fast and how safe judging is: ``python benchmarks/judging.py``; what GPT-4o costs: ``--cost``.

1. 2,000 verdicts of the judge ``api`` against a server on this machine that takes 50 ms for each, 64 at a time.
2. The same server failing 30 % of the time: late, 429, 500, cut connections, garbage, wrong JSON; then a second call.
3. Scoring 48,000 responses with 76,800 verdicts, the paper's protocol for one model.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path

from rich.console import Console
from rich.table import Table
from sheet import CLOCK, PROCESSOR, Figure, Sheet, add_option

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from chat_server import ChatServer, Reply  # noqa: E402
from grader import garbage, grade, truth  # noqa: E402
from safeeraser import judges, store  # noqa: E402
from safeeraser.config import JudgeOptions  # noqa: E402
from safeeraser.records import Query, QuerySet, Response, Verdict  # noqa: E402

DELAY = 0.05
CALLS = 2000
WRONG = ("wrong", "lost")
FAILING = 0.3
SLOW = 3.0
"""Seconds of a late reply; the judge waits one."""
PROTOCOL: dict[QuerySet, tuple[int, int]] = {
    "efficacy": (7200, 3),
    "generality": (2400, 3),
    "retain": (9600, 1),
    "safe": (9600, 1),
}
"""Questions and samples: 48,000 generations; verdicts: 2 x 28,800 (unsafe, refusal) + 9,600 + 9,600 = 76,800."""


def figures() -> dict[str, Figure]:
    fast, failing, scoring = (
        f"{CALLS:,} verdicts",
        "the same, 30 % of the tries failing",
        "scoring the paper's protocol",
    )
    return {
        "fast.rate": Figure(fast, "verdicts/s", CLOCK, "higher"),
        "fast.each": Figure(f"{fast}, each", "ms", PROCESSOR, tolerance=1.2),
        "failing.rate": Figure(failing, "verdicts/s", CLOCK, "higher"),
        **{f"failing.{what}": Figure(f"{failing}: {what}", "verdicts", "measured", "same", 1.01) for what in WRONG},
        "failing.doubled": Figure(f"{failing}: scored twice", "verdicts", "measured", "same", 1.01),
        "scoring.wall": Figure(scoring, "s", CLOCK),
        "scoring.processor": Figure(scoring, "s", PROCESSOR, tolerance=1.2),
        "scoring.memory": Figure(f"{scoring}, peak memory", "MiB", "measured", tolerance=1.2),
    }


def serve(pipe: Connection, failing: float) -> None:
    """A grader in a process of its own, until something is sent to it; then its tries are told."""
    chance = random.Random(0)

    def script(body: dict[str, object], number: int) -> Reply:
        if chance.random() < failing:
            return garbage(chance.randrange(10), body, slow=SLOW)
        return grade(body, number, delay=DELAY)

    with ChatServer(script) as server:
        pipe.send(server.url)
        pipe.recv()
        time.sleep(SLOW if failing else 0.0)  # let late replies end
        pipe.send(sum(server.tries.values()))


class Grader:
    """The server as a context manager; ``url`` while it runs, ``tries`` after."""

    def __init__(self, failing: float) -> None:
        self.failing = failing

    def __enter__(self) -> Grader:
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, self.failing))
        self._process.start()
        self.url = self._pipe.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.send("stop")
        self.tries = self._pipe.recv()
        self._process.join()


def tasks(number: int) -> list[judges.Task]:
    """Answers that are all different, so that none shares a call."""
    kinds = ("Take [hazard A], number {}.", "I cannot help with number {}.", "Paper and glue, number {}.")
    found = []
    for index in range(number // 2):
        answer = Response(query_id=f"q{index}", answer=kinds[index % 3].format(index), finished=True)
        query = Query(
            id=f"q{index}", record_id="r", set="efficacy", category="Weapon", image="", question="?", reference="."
        )
        found += [judges.Task(query, answer, "unsafe"), judges.Task(query, answer, "refusal")]
    return found


def right(asked: list[judges.Task], made: list[Verdict]) -> Counter[str]:
    """How the verdicts stand to the truth."""
    answers = {(task.query.id, task.criterion): task.response.answer for task in asked}
    found: Counter[str] = Counter()
    for verdict in made:
        answer = answers.pop((verdict.query_id, verdict.criterion))  # a KeyError were a verdict too many
        if verdict.value is None:
            found["unscored"] += 1
        else:
            expected = truth(verdict.criterion, answer) == "yes"
            found["right" if verdict.value == expected else "wrong"] += 1
    found["lost"] = len(answers)
    return found


def fast(table: Table, folder: Path, sheet: Sheet) -> None:
    asked = tasks(CALLS)
    with Grader(0.0) as grader:
        judge = judges.create("api", (), JudgeOptions(base_url=grader.url, concurrency=64))
        start, begun = time.perf_counter(), time.process_time()
        made = judges.judge_tasks(judge, asked, folder / "fast.jsonl")
        took, busy = time.perf_counter() - start, time.process_time() - begun
    sheet.add("fast.rate", CALLS / took)
    sheet.add("fast.each", busy / CALLS * 1000)
    table.add_row(f"{CALLS:,} verdicts, 50 ms each, 64 at a time", f"{CALLS / took:.0f}", "verdicts/s")
    table.add_row("processor time of each, which a busy machine does not change", f"{busy / CALLS * 1000:.1f}", "ms")
    table.add_row("of them", str(dict(right(asked, made))), "")


def failing(table: Table, folder: Path, sheet: Sheet) -> None:
    asked, path = tasks(CALLS), folder / "failing.jsonl"
    with Grader(FAILING) as grader:
        options = JudgeOptions(base_url=grader.url, concurrency=64, timeout=1.0)
        start = time.perf_counter()
        made = judges.judge_tasks(judges.create("api", (), options), asked, path)
        rate = sheet.add("failing.rate", CALLS / (time.perf_counter() - start))
        table.add_row("the same, failing 30 % of the time", f"{rate:.0f}", "verdicts/s")
        table.add_row("of them", str(dict(right(asked, made))), "")
        for call in (2, 3, 4):
            made = judges.judge_tasks(judges.create("api", (), options), asked, path)
            found = right(asked, made)
            table.add_row(f"after call {call}", str(dict(found)), "")
        for what in WRONG:
            sheet.add(f"failing.{what}", found[what])
    lines = store.read_jsonl(path, Verdict)
    scored = Counter((v.query_id, v.criterion) for v in lines if v.value is not None)
    doubled = sheet.add("failing.doubled", sum(number > 1 for number in scored.values()))
    table.add_row("scored twice in the file", str(doubled), "")
    table.add_row("tries that the server saw", f"{grader.tries:,}", "")


SCORING = """
import resource, sys, time
from pathlib import Path
from safeeraser import metrics, store
from safeeraser.records import Query, Response, Verdict
folder = Path(sys.argv[1])
queries = store.read_jsonl(folder / "queries.jsonl", Query)
start, begun = time.perf_counter(), time.process_time()
responses = store.read_jsonl(folder / "responses.jsonl", Response)
verdicts = store.read_jsonl(folder / "verdicts.jsonl", Verdict)
scores = metrics.score(queries, responses, verdicts)
mebibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(time.perf_counter() - start, time.process_time() - begun, mebibytes, len(responses), len(verdicts))
"""


def protocol() -> tuple[list[Query], list[Response]]:
    """The paper's questions and samples, with answers of its lengths in words of English length, no two alike."""
    chance = random.Random(0)
    words = ["".join(chance.choices("etaoinshrdlu", k=chance.choice((2, 3, 4, 5, 6, 8)))) for _ in range(2000)]
    categories = ("HateSpeech", "IllegalActivity", "Privacy", "Sex", "Violence", "Weapon")
    queries, responses = [], []
    for name, (number, samples) in PROTOCOL.items():
        for index in range(number * samples):
            id = f"{name}-{index}"
            text = " ".join(chance.choices(words, k=71 if name == "retain" else 140))
            queries.append(
                Query(
                    id=id,
                    record_id=f"r{index // 12}",
                    set=name,
                    category=categories[index % 6],
                    image=f"img/{index // 4}.png",
                    question=" ".join(chance.choices(words, k=21)),
                    reference=text if name == "retain" else "",
                    sample=index % samples,
                )
            )
            responses.append(Response(query_id=id, answer=text, finished=True))
    return queries, responses


def protocol_tasks(queries: list[Query], responses: list[Response]) -> list[judges.Task]:
    """What the paper asks: whether safe answers begin with a refusal is ours."""
    found = judges.tasks_for(queries, responses)
    return [task for task in found if (task.query.set, task.criterion) != ("safe", "refusal")]


def cost() -> None:
    """What GPT-4o would cost at the paper's protocol, by the judge's own estimate."""
    judge = judges.create("api", (), JudgeOptions(base_url="https://api.openai.com/v1"))
    start = time.perf_counter()
    print(judge.expect(protocol_tasks(*protocol())))
    print(f"estimated in {time.perf_counter() - start:.1f} s")


def scoring(table: Table, folder: Path, sheet: Sheet) -> None:
    """In a process of its own, for its memory; verdicts with replies."""
    queries, responses = protocol()
    verdicts = [
        Verdict(
            query_id=task.query.id,
            criterion=task.criterion,
            value=float(index % 2),
            judge="api-1-gpt-4o-00000000",
            prompt_hash="0" * 16,
            raw='{"reason": "One short sentence that says why it is so.", "verdict": "no"}',
        )
        for index, task in enumerate(protocol_tasks(queries, responses))
    ]
    store.write_jsonl(folder / "queries.jsonl", queries)
    store.write_jsonl(folder / "responses.jsonl", responses)
    store.write_jsonl(folder / "verdicts.jsonl", verdicts)
    done = subprocess.run(
        [sys.executable, "-c", SCORING, str(folder)], capture_output=True, text=True, check=True
    ).stdout.split()
    what = f"scoring {int(done[3]):,} responses with {int(done[4]):,} verdicts"
    table.add_row(what, f"{float(done[0]):.1f}", "s")
    table.add_row("its processor time", f"{float(done[1]):.1f}", "s")
    table.add_row("its peak memory", f"{float(done[2]):.0f}", "MiB")
    for name, value in zip(("wall", "processor", "memory"), done, strict=False):
        sheet.add(f"scoring.{name}", float(value))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cost", action="store_true", help="say what GPT-4o would cost, and measure nothing")
    add_option(parser)
    given, sheet = parser.parse_args(), Sheet(figures())
    os.environ.setdefault("OPENAI_API_KEY", "none")
    if given.cost:
        cost()
        return
    table = Table("what", "measured", "unit")
    with tempfile.TemporaryDirectory(prefix="safeeraser-judging-") as name:
        fast(table, Path(name), sheet)
        failing(table, Path(name), sheet)
        scoring(table, Path(name), sheet)
    table.add_row("peak memory of judging", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}", "MiB")
    Console(width=120).print(table)
    print(json.dumps(store.environment()))
    sheet.write(given.json)


if __name__ == "__main__":
    main()
