import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from safeeraser.core.errors import UserError
from safeeraser.data import Benchmark, Triple, refusal_for, triples


def test_decouple_pair_is_of_the_same_record_and_question(small: Benchmark) -> None:
    records = {record.id: record for record in small.split("train")}
    made = triples(small.split("train"))
    assert len(made) == 4 * len(records)
    assert len({(triple.record_id, triple.index) for triple in made}) == len(made)
    for triple in made:
        record = records[triple.record_id]
        forget, retain = record.forget[triple.index], record.retain[triple.index]
        assert (triple.image, triple.safe_image) == (record.image, record.safe_image)
        assert (triple.forget_question, triple.unsafe_answer) == (forget.question, forget.unsafe_answer)
        assert (triple.decouple_question, triple.safe_answer) == (forget.question, forget.safe_answer)
        assert (triple.retain_question, triple.retain_answer) == (retain.question, retain.answer)


def test_missing_parts(small: Benchmark) -> None:
    record = small.records[0]
    no_image = record.model_copy(update={"safe_image": None})
    assert [(t.safe_image, t.safe_answer) for t in triples([no_image])] == [(None, None)] * 4
    no_answer = record.model_copy(update={"forget": (record.forget[0].model_copy(update={"safe_answer": None}),)})
    assert [(t.safe_image, t.safe_answer) for t in triples([no_answer])] == [(None, None)]
    two_retain = record.model_copy(update={"retain": record.retain[:2]})
    slots = [t.retain_question for t in triples([two_retain])]
    assert slots == [pair.question for pair in record.retain[:2]] * 2
    with pytest.raises(UserError, match="has no retain pair"):
        triples([record.model_copy(update={"retain": ()})])


def test_refusals_are_seeded_per_sample_and_epoch(small: Benchmark) -> None:
    made = triples(small.split("train"))

    def draw(seed: int, epoch: int, over: list[Triple]) -> dict[tuple[str, int], str]:
        return {(t.record_id, t.index): refusal_for(small.refusals, seed, epoch, t) for t in over}

    assert draw(0, 0, made) == draw(0, 0, made[::-1])
    assert draw(0, 0, made) != draw(0, 1, made) and draw(0, 0, made) != draw(1, 0, made)
    uses = Counter(draw(0, 0, made).values())
    assert set(uses) == set(small.refusals)
    assert max(uses.values()) < 3 * len(made) / len(small.refusals)


def test_no_refusals() -> None:
    triple = Triple("r", 0, "a.png", None, "Q?", "U", "R?", "A", None)
    with pytest.raises(UserError, match=r"prompt\.json"):
        refusal_for([], 0, 0, triple)


def test_planning_a_bench_loads_no_torch(tmp_path: Path) -> None:
    """In a process of its own; a login node lists the cells of thousands of jobs."""
    code = (
        "import sys\n"
        "from safeeraser import config\n"
        "from safeeraser.bench import matrix\n"
        f"cells = matrix.cells(config.BenchConfig(methods='vanilla,po+pd', limit=6, out={str(tmp_path)!r}))\n"
        "print(len(cells), sorted({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2 []\n"
