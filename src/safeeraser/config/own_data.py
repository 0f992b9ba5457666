"""Options of the subcommands ``safeeraser data complete`` and ``data import``: a user's own data."""

from __future__ import annotations

from dataclasses import dataclass, field

from safeeraser.config.options import GenerationOptions, OnBad


@dataclass
class DataCompleteConfig:
    r"""Fill what a release lacks for PD: a safe image for every record, and the normal answers about it.

    Writes a completed release beside the given one, which is never changed; what a record has is never replaced. The
    same command goes on where it stopped, and tries again what failed. Exit status 1 if an answer had to be left out.

    Example:
        safeeraser data complete data/mine --safe-images photos/safe --model mini-llava --out data/complete
        safeeraser data complete data/mine --safe-images photos/safe --retain --out data/complete \
            --model Qwen/Qwen2.5-VL-7B-Instruct --base-url http://localhost:8000/v1
    """

    folder: str
    """Benchmark folder in the release layout."""
    out: str
    """Folder to write: dataset/ (images are linked or copied), answers.jsonl, completion.json with what is left out."""
    model: str
    """Who answers: 'mini-llava', a local folder or a hub name; with --base-url, the model's name there."""
    base_url: str | None = None
    """Let a server answer that speaks OpenAI's protocol, such as http://localhost:8000/v1; none: a local model."""
    on_bad: OnBad = "fail"
    """What to do about bad records: 'fail' reports all their problems; 'skip' leaves them out of what is written, but
    those whose safe image alone is missing are kept and get another one."""
    safe_images: str | None = None
    """Folder of harmless pictures to pair the records with; subfolders count."""
    records_per_image: int = 4
    """Records that one safe image serves at most; never records of both splits."""
    retain: bool = False
    """Also write the long answers of retain pairs (Prediction) that have a short one alone."""
    drop: bool = False
    """Write no train question that ends without a safe image or a normal answer: '+pd' refuses to train on such."""
    seed: int = 0
    """Seed of the pairing."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable with the server's key; it is never written or shown."""
    concurrency: int = 16
    """Requests to the server under way at the same time."""
    requests_per_minute: float | None = None
    """Requests to the server per minute at most."""
    timeout: float = 60.0
    """Seconds to wait for the server."""
    retries: int = 6
    """Further tries of a request to the server."""
    generation: GenerationOptions = field(default_factory=GenerationOptions)
    """How the model answers."""


@dataclass
class DataImportConfig:
    r"""Make a benchmark of your own data: a table (CSV or JSON lines) and a folder of images.

    Columns: image, question, unsafe_answer; retain_question, retain_answer; optional: category, keyword, safe_image,
    safe_answer, retain_short, split. Rows of the same image form one record. See docs/tutorial-your-data.md.

    Example:
        safeeraser data import mine/data.csv --out data/mine
        safeeraser data import mine/data.csv --out data/mine --retain-question "What is this?" \
            --retain-answer "It is a {keyword}."
    """

    source: str
    """CSV or JSON-lines file, or a folder that holds data.csv or data.jsonl."""
    out: str
    """Folder to write; must not hold anything yet."""
    images: str | None = None
    """Folder that image paths start from; none: the table's folder."""
    retain_question: str | None = None
    """Harmless question for records that have no retain pair; may name {keyword} and {category}."""
    retain_answer: str | None = None
    """Its (short) answer; may name {keyword} and {category}."""
    refusals: str | None = None
    """Text file with a refusal per line for preference optimisation; none: 22 that ship."""
    seed: int = 0
    """Seed of the split in train and val, where the table does not say."""
