"""Every option there is: one dataclass per subcommand; a field's docstring is its ``--help``.

The command line, YAML files (``--config``) and Python callers share these classes; an unknown key is an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Protocol = Literal["greedy", "official"]
Preset = Literal["default", "official"]


@dataclass
class LoraOptions:
    """Which weights unlearning may change."""

    rank: int = 32
    """LoRA rank r on every linear layer of the language model."""
    alpha: float = 256.0
    """LoRA alpha; the update is scaled by alpha / rank."""
    dropout: float = 0.05
    """LoRA dropout."""


@dataclass
class UnlearnOptions:
    """How to unlearn. The defaults are the paper's; ``mini-llava`` brings its own budget (see ``unlearn --help``)."""

    preset: Preset = "default"
    """Term weights where the method gives none: 'default' (1 each) or 'official' (the official code's)."""
    lora: LoraOptions = field(default_factory=LoraOptions)
    """LoRA rank, alpha, dropout."""
    learning_rate: float = 1e-4
    """Peak learning rate of the cosine schedule."""
    warmup_ratio: float = 0.06
    """Share of the steps in which the rate rises linearly."""
    epochs: float = 10.0
    """Passes over the training triples; steps, if given, wins."""
    steps: int | None = None
    """Optimizer steps in all."""
    batch_size: int = 16
    """Triples per forward pass on each process."""
    accumulation: int = 1
    """Forward passes per optimizer step."""
    weight_decay: float = 0.01
    """AdamW weight decay."""
    max_grad_norm: float = 1.0
    """Gradient norm at which gradients are clipped."""
    max_length: int = 512
    """Longest sample in tokens after the image; longer answers are cut."""
    ascent_bound: float | None = None
    """Cross-entropy (nats per token) at which gradient ascent on a sample ends; none: unbounded, as in the paper."""
    npo_beta: float = 0.1
    """Inverse temperature of NPO."""
    seed: int = 233
    """Seed of sample order, refusals, dropout and LoRA initialisation."""


@dataclass
class GenerationOptions:
    """How models answer."""

    protocol: Protocol = "greedy"
    """'greedy' (one deterministic answer per question) or 'official' (3 samples per forget question, 1 elsewhere,
    temperature 1.0, top-p 0.9)."""
    max_new_tokens: int = 512
    """Longest answer in tokens."""
    batch_size: int = 8
    """Questions answered at once; the longest go first."""
    seed: int = 0
    """Seed of the sampling; greedy answers do not depend on it."""


@dataclass
class BenchConfig:
    """Run the whole line for every method and seed, then print the table.

    Example:
        safeeraser bench                     # mini-llava on pictogram: vanilla and GA, GD, KL, PO with and without PD
        safeeraser bench --quick             # vanilla, PO, PO+PD only
        safeeraser bench --methods po,po+pd,npo+pd --seeds 0,1,2 --steps 60 --protocol official --out runs/mine
    """

    model: str = "mini-llava"
    """Built-in 'mini-llava', a local folder, or a hub name such as llava-hf/llava-1.5-7b-hf."""
    data: str = "pictogram"
    """Built-in 'pictogram' or a folder in the release layout."""
    methods: str | list[str | dict[str, float]] = "vanilla,ga,ga+pd,gd,gd+pd,kl,kl+pd,po,po+pd"
    """Methods, comma-separated; in YAML also mappings of terms to weights, such as {po: 1, nll: 1, pd: 0.5}."""
    quick: bool = False
    """Only vanilla, po and po+pd."""
    seeds: str | int | list[int] | None = None
    """Seeds, comma-separated; every method runs once per seed. None: the seed of the training options."""
    limit: int | None = None
    """Only this many records of each split, balanced over categories and keywords."""
    questions: int | None = None
    """Only this many questions of each record in each set; training is not affected. None: all four."""
    judge: str = "rules"
    """Judge of the responses."""
    budgets: str | int | list[int] | None = None
    """Instead of the table, the curves over these numbers of optimizer steps, comma-separated."""
    dev: bool = False
    """Choose options honestly: hold a fifth of the train records out, measure on those, never touch val or SARR."""
    jobs: int | None = None
    """Cells run side by side, one thread each; None: one per core."""
    out: str = "runs/bench"
    """Run folder; the same command in the same folder finishes what is missing."""
    training: UnlearnOptions = field(default_factory=UnlearnOptions)
    """The one budget of all methods."""
    generation: GenerationOptions = field(default_factory=GenerationOptions)
    """How the models answer."""


@dataclass
class UnlearnConfig:
    """Unlearn: benchmark + model + method -> adapter.

    Example:
        safeeraser unlearn --model mini-llava --data pictogram --method po+pd --out runs/po-pd
        safeeraser unlearn --method '{po: 1, nll: 1, pd: 0.5}' --training.steps 60 --out runs/half-pd
    """

    out: str
    """Folder for adapter/ and train.jsonl."""
    model: str = "mini-llava"
    """Built-in 'mini-llava', a local folder, or a hub name such as llava-hf/llava-1.5-7b-hf."""
    data: str = "pictogram"
    """Built-in 'pictogram' or a folder in the release layout."""
    method: str | dict[str, float] = "po+pd"
    """ga, gd, kl, po or npo, each with '+pd'; a sum of terms such as 'po+kl+pd'; or a mapping of terms to weights."""
    limit: int | None = None
    """Only this many records of each split, balanced over categories and keywords."""
    training: UnlearnOptions = field(default_factory=UnlearnOptions)
    """Budget and optimizer."""


@dataclass
class RespondConfig:
    """Answer the benchmark's questions: model (+ adapter) -> responses.jsonl; resumes by question.

    Example:
        safeeraser respond --adapter runs/po-pd/adapter --out runs/po-pd/responses.jsonl
    """

    out: str
    """JSONL file that the responses are appended to."""
    model: str = "mini-llava"
    """Built-in 'mini-llava', a local folder, or a hub name."""
    adapter: str | None = None
    """Adapter folder written by 'safeeraser unlearn'; none: the vanilla model."""
    data: str = "pictogram"
    """Built-in 'pictogram' or a folder in the release layout."""
    limit: int | None = None
    """Only this many records of each split, balanced over categories and keywords."""
    generation: GenerationOptions = field(default_factory=GenerationOptions)
    """How the model answers."""


@dataclass
class JudgeConfig:
    """Judge responses: responses.jsonl -> verdicts.jsonl; resumes by response.

    Example:
        safeeraser judge --responses runs/po-pd/responses.jsonl --out runs/po-pd/verdicts.jsonl
    """

    responses: str
    """File written by 'safeeraser respond'."""
    out: str
    """JSONL file that the verdicts are appended to."""
    data: str = "pictogram"
    """The benchmark that was answered."""
    judge: str = "rules"
    """Judge: 'rules' works offline."""
    protocol: Protocol = "greedy"
    """Protocol that the responses were made with."""


@dataclass
class ScoreConfig:
    r"""Score: responses and verdicts -> scores.json, with 95 % intervals, overall and per category.

    Example:
        safeeraser score --responses runs/po-pd/responses.jsonl --verdicts runs/po-pd/verdicts.jsonl \
            --out runs/po-pd/scores.json
    """

    responses: str
    """File written by 'safeeraser respond'."""
    verdicts: str
    """File written by 'safeeraser judge'."""
    out: str
    """JSON file to write."""
    data: str = "pictogram"
    """The benchmark that was answered."""
    protocol: Protocol = "greedy"
    """Protocol that the responses were made with."""


@dataclass
class PretrainConfig:
    """Rebuild MiniLLaVA, the embedded model, from renderings of the embedded benchmark.

    Example:
        safeeraser pretrain --out my-mini && safeeraser bench --model my-mini
    """

    out: str
    """Folder for the checkpoint, in the LLaVA layout."""
    seed: int = 0
    """Seed of renderings, initialisation and sample order."""


@dataclass
class DataBuildConfig:
    """Write an embedded benchmark to a folder, in the release layout.

    Example:
        safeeraser data build pictogram --out data/pictogram
        safeeraser data build pictogram --out data/small --records 240
    """

    name: str
    """Benchmark to build: 'pictogram'."""
    out: str
    """Folder to write; must not hold anything yet."""
    records: int | None = None
    """Records in all (train + val, 3:1), balanced; None: the paper's 2,400."""
    seed: int = 0
    """The same seed writes the same bytes."""
    workers: int | None = None
    """Processes; None: one per core."""


@dataclass
class DataShowConfig:
    """Write a contact sheet of a benchmark as PNG; unsafe images are blurred.

    Example:
        safeeraser data show data/pictogram --out sheet.png
    """

    folder: str
    """Benchmark folder or name."""
    out: str = "contact-sheet.png"
    """PNG file to write."""
    reveal: bool = False
    """Show unsafe images unblurred."""


def recipe_defaults(model: str) -> dict[str, dict[str, object]]:
    """Return the option values that ship for a model ({} if none): its budget and generation limits.

    Example:
        >>> recipe_defaults("mini-llava")["training"]["learning_rate"] > 0
        True
    """
    import yaml

    path = Path(__file__).parent / "recipes" / f"{model}.yaml"
    if "/" in model or not path.is_file():
        return {}
    loaded: dict[str, dict[str, object]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded
