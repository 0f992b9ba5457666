"""How fast and how safe judging is: ``python benchmarks/judging.py``; what GPT-4o costs: ``--cost``.

1. 2,000 verdicts of the judge ``api`` against a server on this machine that takes 50 ms for each, 64 at a time.
2. The same server failing 30 % of the time: late, 429, 500, cut connections, garbage, wrong JSON; then a second call.
3. Scoring 48,000 responses with 76,800 verdicts, the paper's protocol for one model.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path

from measure import CLOCK, PROCESSOR, publish

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from chat_server import ChatServer, Reply  # noqa: E402
from grader import garbage, grade, truth  # noqa: E402

from safeeraser import judges  # noqa: E402
from safeeraser.config import JudgeOptions  # noqa: E402
from safeeraser.core import files  # noqa: E402
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


Rows = dict[str, dict[str, float]]
AGAIN = f"the same, {100 * FAILING:.0f} % of the tries failing"


def fast(folder: Path) -> Rows:
    asked = tasks(CALLS)
    with Grader(0.0) as grader:
        judge = judges.create("api", (), JudgeOptions(base_url=grader.url, concurrency=64))
        start, begun = time.perf_counter(), time.process_time()
        made = judges.judge_tasks(judge, asked, folder / "fast.jsonl")
        took, busy = time.perf_counter() - start, time.process_time() - begun
    print(dict(right(asked, made)), file=sys.stderr)
    each = {f"{CALLS:,} verdicts, each, ms": {PROCESSOR: busy / CALLS * 1000}}
    return {f"{CALLS:,} verdicts, verdicts/s": {CLOCK: CALLS / took}} | each


def failing(folder: Path) -> Rows:
    asked, path = tasks(CALLS), folder / "failing.jsonl"
    with Grader(FAILING) as grader:
        options = JudgeOptions(base_url=grader.url, concurrency=64, timeout=1.0)
        start = time.perf_counter()
        judges.judge_tasks(judges.create("api", (), options), asked, path)
        rows: Rows = {f"{AGAIN}, verdicts/s": {CLOCK: CALLS / (time.perf_counter() - start)}}
        for _ in range(3):
            found = right(asked, judges.judge_tasks(judges.create("api", (), options), asked, path))
            print(dict(found), file=sys.stderr)
    rows |= {f"{AGAIN}: {what}, verdicts": {"measured": found[what]} for what in WRONG}
    lines = files.read_jsonl(path, Verdict)
    scored = Counter((v.query_id, v.criterion) for v in lines if v.value is not None)
    doubled = sum(number > 1 for number in scored.values())
    return rows | {f"{AGAIN}: scored twice, verdicts": {"measured": doubled}}


SCORING = """
import resource, sys, time
from pathlib import Path
from safeeraser import metrics
from safeeraser.core import files
from safeeraser.records import Query, Response, Verdict
folder = Path(sys.argv[1])
queries = files.read_jsonl(folder / "queries.jsonl", Query)
start, begun = time.perf_counter(), time.process_time()
responses = files.read_jsonl(folder / "responses.jsonl", Response)
verdicts = files.read_jsonl(folder / "verdicts.jsonl", Verdict)
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


def scoring(folder: Path) -> Rows:
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
    files.write_jsonl(folder / "queries.jsonl", queries)
    files.write_jsonl(folder / "responses.jsonl", responses)
    files.write_jsonl(folder / "verdicts.jsonl", verdicts)
    done = subprocess.run(
        [sys.executable, "-c", SCORING, str(folder)], capture_output=True, text=True, check=True
    ).stdout.split()
    wall, processor, memory = map(float, done[:3])
    what = "scoring the paper's protocol"
    return {f"{what}, s": {CLOCK: wall, PROCESSOR: processor}, f"{what}, peak memory, MiB": {"measured": memory}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cost", action="store_true", help="say what GPT-4o would cost, and measure nothing")
    os.environ.setdefault("OPENAI_API_KEY", "none")
    if parser.parse_args().cost:
        cost()
        return
    with tempfile.TemporaryDirectory(prefix="safeeraser-judging-") as name:
        rows = fast(Path(name)) | failing(Path(name)) | scoring(Path(name))
    publish({"judging": rows})


if __name__ == "__main__":
    main()
