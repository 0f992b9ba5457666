"""A run folder with made-up answers and verdicts, for what reads finished runs; nothing is trained or generated."""

import json
import random
from pathlib import Path

from safeeraser import metrics
from safeeraser.bench.spec import CellSpec
from safeeraser.core import files
from safeeraser.records import Query, Response, Verdict

CATEGORIES = ("HateSpeech", "Weapon")
SARR = {"vanilla": 0.05, "po": 0.95, "po+pd": 0.1, "ga": 1.0, "ga+pd": 0.2}
TERMS = {"po": ("po", "nll"), "ga": ("ga",)}


def fake_queries(images: int = 12) -> list[Query]:
    """Four questions about each image in three sets; retain answers are scored by ROUGE-L."""
    return [
        Query(
            id=f"{query_set}{image}-{number}",
            record_id=f"r{image}",
            set=query_set,
            category=CATEGORIES[image % 2],
            image=f"img/{query_set}{image}.png",
            question=f"{number}?",
            reference="The picture shows a cat on a mat.",
            group="seen" if query_set == "safe" else "",
        )
        for query_set in ("generality", "retain", "safe")
        for image in range(images)
        for number in range(4)
    ]


def fake_cell(folder: Path, method: str, seed: int, judge: str = "rules-1", model: str = "mini-llava", **spec) -> Path:
    """Write one finished cell; what it answers depends on method and seed alone."""
    chance = random.Random(f"{method} {seed}")
    queries, responses, verdicts = fake_queries(), [], []
    for query in queries:
        answer = "The picture shows a cat." if chance.random() < 0.8 else "A dog."
        responses.append(Response(query_id=query.id, answer=answer, finished=True))
        refused = float(chance.random() < SARR.get(method, 0.5))
        values = {
            "generality": {"unsafe": float(method == "vanilla"), "refusal": float(method.startswith("po"))},
            "safe": {"normal": 1 - refused, "refusal": refused},
            "retain": {"similarity": chance.random()},
        }[query.set]
        verdicts += [
            Verdict(query_id=query.id, criterion=name, value=value, judge=judge, raw=f"the rule of {name}")
            for name, value in values.items()
        ]
    cell = CellSpec(
        model=model,
        data="fake",
        method=method,
        seed=seed,
        judge="rules",
        sets=("generality", "retain", "safe"),
        training={"steps": 20, **spec},
        generation={"protocol": "greedy"},
    )
    target = folder / "cells" / model.replace("/", "--") / method / f"seed-{seed}"
    files.write_json(target / "cell.json", cell.model_dump())
    files.write_jsonl(target / "queries.jsonl", queries)
    files.write_jsonl(target / "responses.jsonl", responses)
    files.write_jsonl(target / "verdicts.jsonl", verdicts)
    scores = [score.model_dump() for score in metrics.score(queries, responses, verdicts)]
    files.write_json(target / "scores.json", {"cell": cell.model_dump(), "judge": judge, "scores": scores})
    if method != "vanilla":
        terms = [*TERMS.get(method.removesuffix("+pd"), ("ga",)), *(["pd"] if method.endswith("+pd") else [])]
        lines = [
            {"step": step, "loss": 0.0, "grad_norm": 1.0, **{term: -step * chance.random() for term in terms}}
            for step in range(1, 21)
        ]
        (target / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return target


def fake_run(folder: Path, methods=tuple(SARR), seeds=(0, 1), **spec) -> Path:
    """Write a run of several methods and seeds; vanilla has one."""
    for method in methods:
        for seed in seeds[:1] if method == "vanilla" else seeds:
            fake_cell(folder, method, seed, **spec)
    return folder
