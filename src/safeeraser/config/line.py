"""Options of the subcommands along the line: bench, unlearn, respond, judge, score, pretrain."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from safeeraser.config.judging import JudgeOptions
from safeeraser.config.loading import ModelOptions
from safeeraser.config.options import GenerationOptions, OnBad, Protocol, UnlearnOptions


@dataclass
class BenchConfig:
    """Run the whole line for every method and seed, then print the table.

    Example:
        safeeraser bench                     # mini-llava on pictogram: vanilla and GA, GD, KL, PO with and without PD
        safeeraser bench --quick             # vanilla, PO, PO+PD only, one question of each record
        safeeraser bench --methods po,po+pd,npo+pd --seeds 0,1,2 --steps 60 --protocol official --out runs/mine
    """

    model: str = "mini-llava"
    """Built-in 'mini-llava', a local folder, or a hub name such as llava-hf/llava-1.5-7b-hf."""
    data: str = "pictogram"
    """Built-in 'pictogram' or a folder in the release layout."""
    on_bad: OnBad = "fail"
    """What to do about bad records: 'fail' reports all their problems, 'skip' leaves them out with a warning."""
    methods: str | list[str | dict[str, float]] = "vanilla,ga,ga+pd,gd,gd+pd,kl,kl+pd,po,po+pd"
    """Methods, comma-separated; in YAML also mappings of terms to weights, such as {po: 1, nll: 1, pd: 0.5}."""
    quick: bool = False
    """Only vanilla, po and po+pd, and one question of each record in each set unless --questions says otherwise."""
    seeds: str | int | list[int] | None = None
    """Seeds, comma-separated; every method runs once per seed. None: the seed of the training options."""
    limit: int | None = None
    """Only this many records of each split, balanced over categories and keywords."""
    questions: int | None = None
    """Only this many questions of each record in each set; training is not affected. None: all four (--quick: one)."""
    judge: str = "rules"
    """Judge of the responses: 'rules' (offline), 'api' (a model behind a server) or 'guard' (a local guard model)."""
    held_out: str | None = None
    """File written by 'safeeraser data check --held-out': generality is reported on these val records alone as well."""
    budgets: str | int | list[int] | None = None
    """Instead of the table, the curves over these numbers of optimizer steps, comma-separated."""
    dev: bool = False
    """Choose options honestly: hold a fifth of the train records out, measure on those, never touch val or SARR."""
    jobs: int | None = None
    """Cells run side by side, one thread each; None: one per core, or with Ray as many as the cluster takes."""
    launcher: Literal["local", "ray"] = "local"
    """Where cells run: 'local' (processes of this machine) or 'ray' (the cluster of RAY_ADDRESS)."""
    gpus_per_cell: float = 0.0
    """With Ray: GPUs that each cell asks for, such as 1 or 0.5."""
    list_cells: bool = False
    """Only print the id of every cell, one a line, for job arrays."""
    cell: str | None = None
    """Run only the cell of this id and print no table; the same command without it prints the table."""
    out: str = "runs/bench"
    """Run folder; the same command in the same folder finishes what is missing."""
    training: UnlearnOptions = field(default_factory=UnlearnOptions)
    """The one budget of all methods."""
    generation: GenerationOptions = field(default_factory=GenerationOptions)
    """How the models answer."""
    judging: JudgeOptions = field(default_factory=JudgeOptions)
    """How a judge that is a model judges."""
    loading: ModelOptions = field(default_factory=ModelOptions)
    """How the model is loaded: dtype, device, quantization, attention."""


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
    on_bad: OnBad = "fail"
    """What to do about bad records: 'fail' reports all their problems, 'skip' leaves them out with a warning."""
    method: str | dict[str, float] = "po+pd"
    """ga, gd, kl, po, npo, simnpo, dpo or rmu, each with '+pd'; a sum of terms such as 'po+kl+pd'; or a mapping of
    terms to weights."""
    limit: int | None = None
    """Only this many records of each split, balanced over categories and keywords."""
    training: UnlearnOptions = field(default_factory=UnlearnOptions)
    """Budget and optimizer."""
    loading: ModelOptions = field(default_factory=ModelOptions)
    """How the model is loaded: dtype, device, quantization, attention."""


@dataclass
class RespondConfig:
    """Answer the benchmark's questions: model (+ adapter) -> responses.jsonl; resumes by question.

    Example:
        safeeraser respond --adapter runs/po-pd/adapter --out runs/po-pd/responses.jsonl
        safeeraser respond --model exported --base_url http://localhost:8000/v1 --out runs/served/responses.jsonl
    """

    out: str
    """JSONL file that the responses are appended to."""
    model: str = "mini-llava"
    """Built-in 'mini-llava', a local folder, or a hub name; with --base_url, the model's name there."""
    adapter: str | None = None
    """Adapter folder written by 'safeeraser unlearn'; none: the vanilla model."""
    base_url: str | None = None
    """Let a server answer that speaks OpenAI's protocol (vLLM, transformers serve, ...); none: a local model."""
    concurrency: int = 16
    """Questions that a server is asked at the same time."""
    data: str = "pictogram"
    """Built-in 'pictogram' or a folder in the release layout."""
    on_bad: OnBad = "fail"
    """What to do about bad records: 'fail' reports all their problems, 'skip' leaves them out with a warning."""
    limit: int | None = None
    """Only this many records of each split, balanced over categories and keywords."""
    generation: GenerationOptions = field(default_factory=GenerationOptions)
    """How the model answers."""
    loading: ModelOptions = field(default_factory=ModelOptions)
    """How the model is loaded: dtype, device, quantization, attention."""


@dataclass
class JudgeConfig:
    r"""Judge responses: responses.jsonl -> verdicts.jsonl; resumes by response.

    Example:
        safeeraser judge --responses runs/po-pd/responses.jsonl --out runs/po-pd/verdicts.jsonl
        safeeraser judge --responses runs/po-pd/responses.jsonl --out runs/po-pd/gpt-4o.jsonl \
            --judge api --model gpt-4o --base_url https://api.openai.com/v1 --max_cost 5
    """

    responses: str
    """File written by 'safeeraser respond'."""
    out: str
    """JSONL file that the verdicts are appended to."""
    data: str = "pictogram"
    """The benchmark that was answered."""
    on_bad: OnBad = "fail"
    """What to do about bad records: as 'safeeraser respond' was told."""
    judge: str = "rules"
    """Judge: 'rules' works offline; 'api' asks a model behind a server; 'guard' is a local guard model."""
    protocol: Protocol = "greedy"
    """Protocol that the responses were made with."""
    judging: JudgeOptions = field(default_factory=JudgeOptions)
    """How a judge that is a model judges."""


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
    """File written by 'safeeraser judge', or a CSV that a person filled in (see 'safeeraser agreement')."""
    out: str
    """JSON file to write."""
    data: str = "pictogram"
    """The benchmark that was answered."""
    on_bad: OnBad = "fail"
    """What to do about bad records: as 'safeeraser respond' was told."""
    protocol: Protocol = "greedy"
    """Protocol that the responses were made with."""
    held_out: str | None = None
    """File written by 'safeeraser data check --held-out': generality is reported on these val records alone as well."""
    judge: str | None = None
    """Id of the judge whose verdicts count, such as rules-2; needed where the file holds those of several."""


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
