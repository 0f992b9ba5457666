"""The judge ``api``: any model behind an OpenAI-compatible server, GPT-4o as in the paper by default."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safeeraser.config import JudgeOptions
from safeeraser.core.errors import UserError
from safeeraser.core.files import stable_hash
from safeeraser.core.reasoning import spoken
from safeeraser.judges import FAILED, JUDGES, BatchJudge, Task, unscored
from safeeraser.judges.prompts import GROUNDED_ID, PROMPTS_ID, Prompt, parse_reply, prompt_for, response_format
from safeeraser.models.replies import Outcome
from safeeraser.models.served import Message, Request, endpoint
from safeeraser.records import Criterion, Query, Verdict

MODEL = "gpt-4o"
PRICES = {"gpt-4o": (2.5, 10.0), "gpt-4o-2024-08-06": (2.5, 10.0), "gpt-4o-mini": (0.15, 0.6)}
"""US dollars per million tokens sent and received, OpenAI's list prices of 2025: check them before you rely on them."""
CHARACTERS_PER_TOKEN = 3.5
"""English has about four; fewer, so that an estimate is rather too high."""
REPLY_TOKENS = 45
"""A usual reply: a short sentence and the verdict."""
IMAGE_TOKENS = 765
"""An image of 1024 x 1024 pixels, as OpenAI counts for gpt-4o."""
_SHOWN = 4000


@dataclass(frozen=True)
class Estimate:
    """What a number of verdicts is expected to take; ``cost`` is None where prices are not known."""

    verdicts: int
    calls: int
    tokens_in: int
    tokens_out: int
    cost: float | None


class ApiJudge(BatchJudge):
    """Asks a model for each verdict, many at a time; see ``prompts`` for what it asks.

    Equal prompts (the same refusal to two questions of a category, say) are sent once and decide all verdicts that
    they stand for. A failure of the server or a reply that is not exactly what was asked for is unscored. The image is
    sent for ``grounded`` alone. ``max_cost`` is for all that one judge is asked, be it in many calls (Inspect).

    Example:
        >>> judge = ApiJudge(JudgeOptions(base_url="http://localhost:8000/v1"))
        >>> judge.id.rpartition("-")[0]
        'api-1-gpt-4o'
    """

    def __init__(self, options: JudgeOptions) -> None:
        if options.base_url is None:
            raise UserError(
                "the judge 'api' needs the address of a server: give --base_url https://api.openai.com/v1, or that "
                "of a server of your own; the key belongs into the environment"
            )
        self._options = options
        model = options.model or MODEL
        self._endpoint = endpoint(options, model)
        _check(options)
        deciding = (PROMPTS_ID, options.structured, options.temperature, options.max_tokens, options.max_characters)
        seen = (GROUNDED_ID,) if options.sees_image else ()
        self.id = f"api-1-{model}-{stable_hash(*deciding, *seen)[:8]}"
        self.sees_image = options.sees_image
        self.image: Callable[[str], Path] | None = None
        self._prices = _prices(model, options)
        self._spent = 0.0

    def knows_picture(self, query: Query) -> bool:
        """Whether it is shown the image."""
        return self.image is not None

    def judge_many(self, tasks: Sequence[Task], on_verdict: Callable[[Verdict], None]) -> None:
        """Judge tasks side by side; see ``BatchJudge``.

        Raises:
            UserError: If the server refuses the key or the model or cannot be reached at all, or if more than
                ``max_cost`` is expected.
        """
        if self._options.max_cost is not None:
            self.expect(tasks)
        groups: dict[str, list[Task]] = {}
        for task in tasks:
            reason = self._unjudgeable(task)
            if reason is None:
                groups.setdefault(self._prompt(task).hash, []).append(task)
            else:
                on_verdict(unscored(self.id, task.query.id, task.criterion, reason))
        if not groups:
            return
        limit = self._options.max_cost

        def requests() -> Iterator[Request]:
            for tasks in list(groups.values()):
                if limit is not None and self._spent >= limit:
                    return
                yield self._request(tasks[0])

        def settle(outcome: Outcome) -> None:
            self._spent += self._cost(outcome.usage)
            group = groups.pop(outcome.id)
            said = self._said(outcome, group[0].criterion)
            for task in group:
                on_verdict(self._verdict(task, outcome.id, **said))

        self._endpoint.complete_many(requests(), settle)
        for hash, group in groups.items():
            for task in group:
                on_verdict(self._verdict(task, hash, unscored=f"{FAILED}not asked: ${limit:g} were spent"))

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
        """Count calls and tokens of tasks, by the constants above."""
        judged = [task for task in tasks if self._unjudgeable(task) is None]
        prompts = {prompt.hash: prompt for prompt in map(self._prompt, judged)}
        lengths = {prompt.hash: len(prompt.system) + len(prompt.user) for prompt in prompts.values()}
        images = sum(prompt.image is not None for prompt in prompts.values())
        tokens_in = round(sum(lengths.values()) / CHARACTERS_PER_TOKEN) + IMAGE_TOKENS * images
        tokens_out = REPLY_TOKENS * len(lengths)
        sent = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out}
        cost = None if self._prices is None else self._cost(sent)
        return Estimate(len(tasks), len(lengths), tokens_in, tokens_out, cost)

    def _prompt(self, task: Task) -> Prompt:
        image = self.image(task.query.image) if self.image and task.criterion == "grounded" else None
        return prompt_for(task.query, task.response, task.criterion, self._options.max_characters, image)

    def _unjudgeable(self, task: Task) -> str | None:
        if task.response.error is not None:
            return f"no answer: {task.response.error}"
        if task.criterion == "similarity" and not task.query.reference.strip():
            return "the query has no reference to compare with"
        if task.criterion == "grounded":
            if self.image is None:
                return "the judge does not see the image (judging.sees_image)"
            try:
                self.image(task.query.image).open("rb").close()
            except (UserError, OSError) as error:
                return f"no image: {error}"
        return None

    def _request(self, task: Task) -> Request:
        options, prompt = self._options, self._prompt(task)
        images = () if prompt.image is None else (prompt.image,)
        return Request(
            prompt.hash,
            (Message("system", prompt.system), Message("user", prompt.user, images)),
            temperature=options.temperature,
            max_tokens=options.max_tokens,
            extra={"response_format": response_format(task.criterion)} if options.structured else {},
        )

    def _said(self, outcome: Outcome, criterion: Criterion) -> dict[str, Any]:
        """What a reply decides of a verdict."""
        if outcome.failure is not None:
            return {"unscored": FAILED + outcome.failure}
        try:
            if not outcome.is_whole:
                raise ValueError("the reply was cut at the token limit")
            value = parse_reply(spoken(outcome.text), criterion)
        except ValueError as error:
            return {"unscored": f"{FAILED}{error}", "raw": outcome.text[:_SHOWN], "model": outcome.model}
        return {"value": value, "raw": outcome.text, "model": outcome.model}

    def _verdict(self, task: Task, prompt_hash: str, **said: Any) -> Verdict:
        fields = {"value": None, "judge": self.id, "prompt_hash": prompt_hash, **said}
        return Verdict(query_id=task.query.id, criterion=task.criterion, **fields)

    def _cost(self, usage: Mapping[str, Any]) -> float:
        """US dollars, by the server's own count of tokens; 0 where prices are not known."""
        counts = (usage.get(name) for name in ("prompt_tokens", "completion_tokens"))
        prices = self._prices or (0.0, 0.0)
        return sum(price * n for price, n in zip(prices, counts, strict=True) if isinstance(n, int)) / 1e6


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
