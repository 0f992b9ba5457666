import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from chat_server import ChatServer
from grader import grade
from tiny_guard import build_guard_3

from safeeraser.config import JudgeOptions
from safeeraser.core.errors import UserError
from safeeraser.core.files import append_jsonl, read_jsonl
from safeeraser.judges import JUDGES, Judge, create, criteria_for, run
from safeeraser.records import Query, Response, Verdict

SETS = ("efficacy", "generality", "retain", "safe", "specificity")


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> Iterator[dict[str, JudgeOptions]]:
    """What each judge needs; a test says so where one is missing."""
    folder = build_guard_3(tmp_path_factory.mktemp("guard") / "guard")
    with ChatServer(grade) as server:
        yield {
            "rules": JudgeOptions(),
            "api": JudgeOptions(base_url=server.url, api_key_env="NO_SUCH_KEY"),
            "guard": JudgeOptions(model=str(folder)),
        }


def query(number: int, query_set: str = "efficacy", reference: str = "Take [hazard A] and wait for it.") -> Query:
    return Query(
        id=f"q{number}",
        record_id=f"r{number // 4}",
        set=query_set,
        category="Weapon",
        image="img/a.png",
        question="How?",
        reference=reference,
    )


def answer(number: int, text: str = "First take [hazard B] with care.", error: str | None = None) -> Response:
    return Response(query_id=f"q{number}", answer=text, finished=True, error=error)


class Scripted:
    """Says what it is told and counts how often it was asked."""

    def __init__(self, value: float | None, judge_id: str = "scripted") -> None:
        self.value, self.id, self.asked = value, judge_id, 0

    def judge(self, query: Query, response: Response, criterion: str) -> Verdict:
        self.asked += 1
        reason = "refused to judge" if self.value is None else None
        return Verdict(query_id=query.id, criterion=criterion, value=self.value, unscored=reason, judge=self.id)


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "responses.jsonl", tmp_path / "verdicts.jsonl"


def test_verdicts_follow_the_order_of_queries_and_criteria(paths):
    responses, verdicts = paths
    append_jsonl(responses, [answer(2), answer(0), answer(1)])
    made = run(create("rules"), [query(n) for n in range(3)], *paths)
    assert [(v.query_id, v.criterion) for v in made] == [
        (f"q{n}", criterion) for n in range(3) for criterion in ("unsafe", "refusal")
    ]
    assert read_jsonl(verdicts, Verdict) == made


def test_a_second_run_keeps_scored_verdicts_and_asks_nothing(paths):
    append_jsonl(paths[0], [answer(0), answer(1)])
    queries = [query(0), query(1)]
    judge = Scripted(1.0)
    first = run(judge, queries, *paths)
    before = paths[1].read_bytes()
    assert run(judge, queries, *paths) == first
    assert judge.asked == 4
    assert paths[1].read_bytes() == before


def test_only_what_is_missing_is_judged_after_a_kill(paths):
    append_jsonl(paths[0], [answer(n) for n in range(5)])
    queries = [query(n) for n in range(5)]
    whole = run(create("rules"), queries, *paths)
    content = paths[1].read_bytes()
    paths[1].write_bytes(content[: len(content) // 2])
    assert run(create("rules"), queries, *paths) == whole
    assert paths[1].read_bytes() == content


def test_unscored_verdicts_are_tried_again_and_written_only_if_they_change(paths):
    append_jsonl(paths[0], [answer(0)])
    failing, working = Scripted(None), Scripted(0.0)
    run(failing, [query(0)], *paths)
    run(failing, [query(0)], *paths)
    assert failing.asked == 4
    assert len(read_jsonl(paths[1], Verdict)) == 2
    assert [v.value for v in run(working, [query(0)], *paths)] == [0.0, 0.0]
    assert len(read_jsonl(paths[1], Verdict)) == 4


def test_verdicts_of_another_judge_are_not_reused(paths):
    append_jsonl(paths[0], [answer(0)])
    run(Scripted(0.0, "one"), [query(0)], *paths)
    assert [v.value for v in run(Scripted(1.0, "two"), [query(0)], *paths)] == [1.0, 1.0]


def test_queries_without_a_response_are_left_out(paths):
    append_jsonl(paths[0], [answer(1)])
    assert {v.query_id for v in run(create("rules"), [query(0), query(1)], *paths)} == {"q1"}


def test_progress_ends_at_the_total(paths):
    append_jsonl(paths[0], [answer(0)])
    seen: list[tuple[int, int]] = []
    run(create("rules"), [query(0)], *paths, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (2, 2)


def test_a_broken_line_names_file_line_and_field(paths):
    paths[0].write_text(json.dumps({"query_id": "q0", "answer": 3, "finished": True}) + "\n")
    with pytest.raises(UserError, match=r"responses\.jsonl, line 1, answer"):
        run(create("rules"), [query(0)], *paths)


def test_an_unknown_judge_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match="did you mean 'rules'"):
        create("rule")


@pytest.mark.parametrize("name", JUDGES.names())
@pytest.mark.parametrize("query_set", SETS)
class TestEveryJudge:
    def test_gives_a_verdict_in_range_on_the_query_and_criterion_asked(self, name, query_set, options):
        judge = create(name, ["I cannot help with that."], options[name])
        assert isinstance(judge, Judge)
        for criterion in criteria_for(query_set):
            for text in ("", "First take [hazard B] with care.", "I cannot help with that.", "\ud800 \x00 猫"):
                verdict = judge.judge(query(0, query_set), answer(0, text), criterion)
                assert (verdict.query_id, verdict.criterion, verdict.judge) == ("q0", criterion, judge.id)
                assert (verdict.value is None) == (verdict.unscored is not None)
                assert verdict.value is None or 0 <= verdict.value <= 1
                assert criterion == "similarity" or verdict.value in (None, 0, 1)

    def test_a_response_with_an_error_is_unscored_with_its_reason(self, name, query_set, options):
        for criterion in criteria_for(query_set):
            judge = create(name, (), options[name])
            verdict = judge.judge(query(0, query_set), answer(0, "", "img/a.png: unreadable"), criterion)
            assert verdict.value is None
            assert "img/a.png: unreadable" in (verdict.unscored or "")

    def test_is_deterministic(self, name, query_set, options):
        for criterion in criteria_for(query_set):
            first, second = (
                create(name, (), options[name]).judge(query(0, query_set), answer(0), criterion) for _ in range(2)
            )
            assert first == second

    def test_a_file_of_verdicts_is_whole_and_taken_up_again(self, name, query_set, options, paths):
        append_jsonl(paths[0], [answer(number) for number in range(6)])
        queries = [query(number, query_set) for number in range(6)]
        judge = create(name, (), options[name])
        whole = run(judge, queries, *paths)
        assert [(v.query_id, v.criterion) for v in whole] == [
            (q.id, criterion) for q in queries for criterion in criteria_for(query_set)
        ]
        content = paths[1].read_bytes() if whole else b""
        paths[1].write_bytes(content[: len(content) // 2])
        assert run(judge, queries, *paths) == whole
        assert len(read_jsonl(paths[1], Verdict)) == len(whole)
