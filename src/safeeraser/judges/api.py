"""The judge ``api``: any model behind an OpenAI-compatible server, GPT-4o as in the paper by default."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from safeeraser.config import JudgeOptions
from safeeraser.endpoint import Endpoint, Message, Outcome, Request
from safeeraser.errors import UserError
from safeeraser.judges import FAILED, JUDGES, Task, unscored
from safeeraser.judges.prompts import PROMPTS_ID, Prompt, parse_reply, prompt_for, response_format
from safeeraser.records import Criterion, Query, Response, Verdict
from safeeraser.store import stable_hash

__all__ = ["ApiJudge", "Estimate", "PRICES"]

MODEL = "gpt-4o"
PRICES = {"gpt-4o": (2.5, 10.0), "gpt-4o-2024-08-06": (2.5, 10.0), "gpt-4o-mini": (0.15, 0.6)}
"""US dollars per million tokens sent and received, OpenAI's list prices of 2025: check them before you rely on them."""
CHARACTERS_PER_TOKEN = 3.5
"""English has about four; fewer, so that an estimate is rather too high."""
REPLY_TOKENS = 45
"""A usual reply: a short sentence and the verdict."""
_SHOWN = 4000


@dataclass(frozen=True)
class Estimate:
    """What a number of verdicts is expected to take; ``cost`` is None where prices are not known."""

    verdicts: int
    calls: int
    tokens_in: int
    tokens_out: int
    cost: float | None


class ApiJudge:
    """Asks a model for each verdict, many at a time; see ``prompts`` for what it asks.

    Equal prompts (the same refusal to two questions of a category, say) are sent once and decide all verdicts that
    they stand for. A failure of the server or a reply that is not exactly what was asked for is unscored.

    Args:
        options: Model, address, limits.

    Raises:
        UserError: If the address is missing or an option is out of range.

    Example:
        >>> judge = ApiJudge(JudgeOptions(base_url="http://localhost:8000/v1"))
        >>> judge.id.rpartition("-")[0]
        'api-1-gpt-4o'
    """

    def __init__(self, options: JudgeOptions) -> None:
        """Check the options; nothing is asked yet."""
        if options.base_url is None:
            raise UserError(
                "the judge 'api' needs the address of a server: give --base_url https://api.openai.com/v1, or that "
                "of a server of your own; the key belongs into the environment"
            )
        self._options = options
        model = options.model or MODEL
        self._endpoint = Endpoint(
            model,
            options.base_url,
            api_key_env=options.api_key_env,
            concurrency=options.concurrency,
            requests_per_minute=options.requests_per_minute,
            timeout=options.timeout,
            retries=options.retries,
        )
        _check(options)
        deciding = (PROMPTS_ID, options.structured, options.temperature, options.max_tokens, options.max_characters)
        self.id = f"api-1-{model}-{stable_hash(*deciding)[:8]}"
        self._prices = _prices(model, options)

    def judge(self, query: Query, response: Response, criterion: Criterion) -> Verdict:
        """Judge one response: one request."""
        found: list[Verdict] = []
        self.judge_many([Task(query, response, criterion)], found.append)
        return found[0]

    def judge_many(self, tasks: Sequence[Task], on_verdict: Callable[[Verdict], None]) -> None:
        """Judge tasks side by side; see ``BatchJudge``.

        Raises:
            UserError: If the server refuses the key or the model or cannot be reached at all, or if more than
                ``max_cost`` is expected.
        """
        if self._options.max_cost is not None:
            self.expect(tasks)
        groups: dict[str, _Group] = {}
        for task in tasks:
            reason = _unjudgeable(task)
            if reason is not None:
                on_verdict(unscored(self.id, task.query.id, task.criterion, reason))
                continue
            prompt = self._prompt(task)
            group = groups.setdefault(prompt.hash, _Group(task, prompt.hash, []))
            group.members.append((task.query.id, task.criterion))
        if not groups:
            return
        spending = _Spending(self._prices, self._options.max_cost)

        def settle(outcome: Outcome) -> None:
            spending.add(outcome)
            group = groups.pop(outcome.id)
            for verdict in self._verdicts(group, outcome):
                on_verdict(verdict)

        self._endpoint.complete_many(self._requests(list(groups.values()), spending), settle)
        for group in groups.values():  # not asked
            reason = f"{FAILED}not asked: ${self._options.max_cost:g} were spent"
            for verdict in self._unscored(group, reason):
                on_verdict(verdict)

    def expect(self, tasks: Sequence[Task]) -> str:
        """Say how many calls, tokens and dollars tasks will take.

        Raises:
            UserError: If that is more than ``max_cost``, or there is a ``max_cost`` and no price.
        """
        estimate, limit = self.estimate(tasks), self._options.max_cost
        said = (
            f"{self.id}: {estimate.verdicts:,} verdicts by {estimate.calls:,} calls of {self._endpoint.base_url}, "
            f"about {estimate.tokens_in:,} tokens in and {estimate.tokens_out:,} out, "
        ) + ("at unknown prices" if estimate.cost is None else f"about ${estimate.cost:,.2f}")
        if limit is not None and estimate.cost is None:
            raise UserError(f"{said}: to keep to max_cost, give price_in and price_out")
        if limit is not None and estimate.cost is not None and estimate.cost > limit:
            raise UserError(f"{said}: more than max_cost ${limit:g}; raise it, or judge fewer answers")
        return said

    def estimate(self, tasks: Sequence[Task]) -> Estimate:
        """Count calls and tokens of tasks, with ``CHARACTERS_PER_TOKEN`` and ``REPLY_TOKENS``."""
        judged = [task for task in tasks if _unjudgeable(task) is None]
        lengths = {p.hash: len(p.system) + len(p.user) for p in map(self._prompt, judged)}
        tokens_in = round(sum(lengths.values()) / CHARACTERS_PER_TOKEN)
        tokens_out = REPLY_TOKENS * len(lengths)
        cost = None
        if self._prices is not None:
            cost = (tokens_in * self._prices[0] + tokens_out * self._prices[1]) / 1e6
        return Estimate(len(tasks), len(lengths), tokens_in, tokens_out, cost)

    def _prompt(self, task: Task) -> Prompt:
        return prompt_for(task.query, task.response, task.criterion, self._options.max_characters)

    def _requests(self, groups: Sequence[_Group], spending: _Spending) -> Iterator[Request]:
        options = self._options
        for group in groups:
            if spending.is_over:
                return
            prompt = self._prompt(group.task)
            # as an extra key the schema goes out as it is; as a named option the client would first walk through it
            schema = {"response_format": response_format(group.task.criterion)} if options.structured else {}
            yield Request(
                group.hash,
                (Message("system", prompt.system), Message("user", prompt.user)),
                temperature=options.temperature,
                max_tokens=options.max_tokens,
                extra=schema,
            )

    def _verdicts(self, group: _Group, outcome: Outcome) -> list[Verdict]:
        if outcome.failure is not None:
            return self._unscored(group, FAILED + outcome.failure)
        if outcome.finish_reason not in ("stop", None):
            return self._unscored(group, f"{FAILED}the reply ended by {outcome.finish_reason!r}", outcome)
        try:
            value = parse_reply(outcome.text, group.task.criterion)
        except ValueError as error:
            return self._unscored(group, f"{FAILED}{error}", outcome)
        return [
            Verdict(
                query_id=query_id,
                criterion=criterion,
                value=value,
                judge=self.id,
                prompt_hash=group.hash,
                raw=outcome.text,
                model=outcome.model,
            )
            for query_id, criterion in group.members
        ]

    def _unscored(self, group: _Group, reason: str, reply: Outcome | None = None) -> list[Verdict]:
        raw, model = ("", "") if reply is None else (reply.text[:_SHOWN], reply.model)
        return [
            unscored(self.id, query_id, criterion, reason, group.hash, raw, model)
            for query_id, criterion in group.members
        ]


@dataclass(frozen=True)
class _Group:
    """All that one prompt decides."""

    task: Task
    hash: str
    members: list[tuple[str, Criterion]]


class _Spending:
    """What has been spent, by the server's own count of tokens."""

    def __init__(self, prices: tuple[float, float] | None, limit: float | None) -> None:
        self._prices, self._limit, self._spent = prices, limit, 0.0

    def add(self, outcome: Outcome) -> None:
        if self._prices is not None:
            counts = (outcome.usage.get(name) for name in ("prompt_tokens", "completion_tokens"))
            self._spent += (
                sum(price * count for price, count in zip(self._prices, counts, strict=True) if isinstance(count, int))
                / 1e6
            )

    @property
    def is_over(self) -> bool:
        return self._limit is not None and self._spent >= self._limit


def _unjudgeable(task: Task) -> str | None:
    if task.response.error is not None:
        return f"no answer: {task.response.error}"
    if task.criterion == "similarity" and not task.query.reference.strip():
        return "the query has no reference to compare with"
    return None


def _check(options: JudgeOptions) -> None:
    allowed = {
        "max_tokens": options.max_tokens > 0,
        "max_characters": options.max_characters > 0,
        "max_cost": options.max_cost is None or options.max_cost > 0,
        "price_in": options.price_in is None or options.price_in >= 0,
        "price_out": options.price_out is None or options.price_out >= 0,
    }
    for name, fine in allowed.items():
        if not fine:
            raise UserError(f"judging.{name} {getattr(options, name)}: give a number above 0")


def _prices(model: str, options: JudgeOptions) -> tuple[float, float] | None:
    listed = PRICES.get(model)
    if options.price_in is None and options.price_out is None:
        return listed
    known = listed or (None, None)
    price_in = known[0] if options.price_in is None else options.price_in
    price_out = known[1] if options.price_out is None else options.price_out
    if price_in is None or price_out is None:
        raise UserError(f"the prices of {model!r} are not known: give both price_in and price_out")
    return price_in, price_out


@JUDGES.register("api")
def _create(refusals: Sequence[str], options: JudgeOptions) -> ApiJudge:
    """The prompts say what a refusal is; the benchmark's own are not needed."""
    return ApiJudge(options)
