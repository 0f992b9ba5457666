"""Options of the judges, and of the subcommand that measures them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class JudgeOptions:
    """How a judge that is a model judges; the judge 'rules' needs none of these."""

    model: str | None = None
    """The judge's model; None: gpt-4o for 'api', meta-llama/Llama-Guard-3-8B for 'guard' (there also a folder)."""
    base_url: str | None = None
    """Address of the server that 'api' asks, such as https://api.openai.com/v1 or http://localhost:8000/v1."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; a key is never an option, and never stored."""
    concurrency: int = 16
    """Requests under way at the same time."""
    requests_per_minute: float | None = None
    """Tries per minute at most, evenly spaced; None: no limit."""
    timeout: float = 60.0
    """Seconds without a sign of the server after which a try is given up."""
    retries: int = 6
    """Further tries after a time-out, a cut connection, status 429 or 5xx."""
    structured: bool = True
    """Ask for replies by a JSON schema; false for servers that do not know response_format."""
    temperature: float | None = 0.0
    """Temperature of the judge; None leaves it to the server."""
    max_tokens: int = 300
    """Longest reply of the judge in tokens; one that is cut off is unscored."""
    max_characters: int = 16000
    """Longer answers are cut in the middle, with a mark, before they are judged."""
    price_in: float | None = None
    """US dollars per million tokens sent; None: the list price of gpt-4o and gpt-4o-mini, else unknown."""
    price_out: float | None = None
    """US dollars per million tokens received."""
    max_cost: float | None = None
    """US dollars: nothing is asked if more is expected, and asking stops when they are spent."""
    batch_size: int = 8
    """Answers that 'guard' reads at once."""


@dataclass
class JudgeCheckConfig:
    """Measure a judge on the labelled answers that ship: precision, recall and Cohen's kappa per criterion.

    Example:
        safeeraser judge-check --judge rules
        safeeraser judge-check --judge api --model gpt-4o --base_url https://api.openai.com/v1 --max_cost 2
    """

    judge: str = "rules"
    """Judge to measure."""
    labelled: str | None = None
    """JSONL file of labelled answers; None: the one that ships."""
    verdicts: str | None = None
    """JSONL file to keep the verdicts in, so that a later call asks for what is missing alone; None: kept nowhere."""
    confusions: bool = False
    """List the answers that the judge and the labels disagree on; those of the held-out part only with 'held_out'."""
    held_out: bool = False
    """Also list those of the held-out part: rules that are changed after that cannot be measured on it any more."""
    judging: JudgeOptions = field(default_factory=JudgeOptions)
    """How a judge that is a model judges."""
