"""Options of the judges."""

from __future__ import annotations

from dataclasses import dataclass

from safeeraser.config.options import FilePath, TokenLimit


@dataclass
class JudgeOptions:
    """How a judge that is a model judges; the judge 'rules' needs none of these."""

    model: FilePath[str | None] = None
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
    token_limit: TokenLimit = "max_tokens"
    """What the server calls that limit; one that refuses the first name is sent the second."""
    sees_image: bool = False
    """Show 'api' the image too: whether an answer about a safe image fits it (a model that takes images)."""
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
