"""The model card of an exported cell: what it is made of, its scores with intervals, what it is for and what not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safeeraser import objectives
from safeeraser.bench.spec import CellSpec
from safeeraser.config import ModelOptions
from safeeraser.data.hub import SCHEME
from safeeraser.metrics import specificity
from safeeraser.models import BUILT_IN
from safeeraser.records import Score
from safeeraser.report.table import HELD_OUT_COLUMNS, as_percent, headings

LOADING = {
    "merged": """from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("PATH")
processor = AutoProcessor.from_pretrained("PATH")""",
    "adapter": """from peft import PeftModel
from transformers import AutoModelForImageTextToText, AutoProcessor

BASE
model = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(baseDTYPE), "PATH")
processor = AutoProcessor.from_pretrained(base)""",
}
READING = """`eff`: forget questions that were trained on; `gen`: others. SARR: share of safe images with a
harmful question that got no normal answer."""
SERVING = """
Served with an OpenAI-compatible interface:

    transformers serve PATH
"""
USE = """Research on unlearning, over-forgetting and their measurement: to reproduce and compare. It is no safety
mechanism for a product."""
LIMITS = """- Unlearning makes unsafe answers rarer; it does not prove them gone. Other wording, other images, further
  training or an attack may bring them back.
- It may refuse or garble answers to harmless questions: see SARR above, the share of safe images on which it did.
- The scores hold for the data, the judge and the protocol named above, and for nothing else.
- What the base model gets wrong, this one gets wrong too."""
EMBEDDED = """- The data are the embedded benchmark `pictogram`: pictograms and empty placeholders instead of unsafe
  content. They show how a method behaves and say nothing about how safe a real model is."""


def text(
    spec: CellSpec,
    scores: Mapping[str, Score],
    before: Mapping[str, Score],
    name: str,
    kind: str,
    licence: str | None = None,
) -> str:
    """The card as Markdown, with the metadata that the Hugging Face hub reads in front.

    ``scores`` are overall, by metric; ``before`` those of the model before unlearning, empty if they were not measured.
    The ``licence`` is as the hub names it; None: that of a built-in model.
    """
    sections = [
        f"---\n{_metadata(spec, scores, name, kind, licence)}\n---\n\n# {name}",
        f"`{_shown(spec.model)}` after safety unlearning with **{_method(spec)}** (SafeEraser, arXiv 2502.12520), as "
        + ("a merged checkpoint." if kind == "merged" else "a LoRA adapter with a tuned projector."),
        "## Method\n\n" + _made_of(spec),
        f"## Data\n\n`{_shown(spec.data)}` (fingerprint `{spec.data_fingerprint}`), its train split"
        + (f", {spec.limit} records of each split" if spec.limit else "")
        + (", less the fifth held out for choosing options" if spec.dev else "")
        + (", less the fifth held out for stopping early" if spec.training.get("stop") else "")
        + ".",
        "## Scores\n\n" + _scores(spec, scores, before),
        f"## Intended use\n\n{USE}",
        "## Limits\n\n" + "\n".join([LIMITS, *([EMBEDDED] if spec.data == "pictogram" else [])]),
        "## Use\n\n```python\n" + _filled(LOADING[kind], spec, name) + "\n```",
    ]
    if kind == "merged":
        sections[-1] += "\n" + _filled(SERVING, spec, name).rstrip()
    return "\n\n".join(sections) + "\n"


def _titles(spec: CellSpec, scores: Mapping[str, Score]) -> dict[str, str]:
    """The metrics of a card with their headings; those of public benchmarks come last."""
    return (
        headings([spec.judge])
        | HELD_OUT_COLUMNS
        | {metric: specificity.heading(metric) for metric in specificity.in_order(scores)}
    )


def _method(spec: CellSpec) -> str:
    return objectives.parse_method(spec.method, spec.training_options().preset).name


def _metadata(spec: CellSpec, scores: Mapping[str, Score], name: str, kind: str, licence: str | None) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    titles, task, data_name = _titles(spec, scores), "image-text-to-text", _shown(spec.data)
    results = [
        EvalResult(task, data_name, data_name, metric, round(score.value, 4), metric_name=titles[metric])
        for metric, score in scores.items()
        if metric in titles and score.value is not None
    ]
    data = spec.data.removeprefix(SCHEME)
    card = ModelCardData(
        license=licence or ("apache-2.0" if spec.model in BUILT_IN else None),
        datasets=[data.partition("@")[0]] if spec.data.startswith(SCHEME) else None,
        metrics=[result.metric_type for result in results] or None,
        base_model=spec.model if is_hub_name(spec.model) else None,
        library_name="transformers" if kind == "merged" else "peft",
        pipeline_tag=task,
        tags=["machine-unlearning", "safety", "safeeraser", f"safeeraser:{_method(spec)}"],
        model_name=name,
        eval_results=results or None,
    )
    return str(card.to_yaml())


def _made_of(spec: CellSpec) -> str:
    options = spec.training_options()
    terms = objectives.parse_method(spec.method, options.preset).terms
    lines = ["| term | weight | rows | what |", "|---|---:|---|---|"]
    for term, weight in terms:
        what = (term.function.__doc__ or "").split("\n")[0].rstrip(".")
        lines.append(f"| `{term.name}` | {weight:g} | {', '.join(term.rows)} | {what} |")
    base = f"Base model: `{_shown(spec.model)}` (fingerprint `{spec.model_fingerprint}`). Seed {spec.seed}. Options:"
    lines += ["", base, "", "```json", json.dumps(spec.training, indent=2, sort_keys=True), "```"]
    return "\n".join(lines)


def _scores(spec: CellSpec, scores: Mapping[str, Score], before: Mapping[str, Score]) -> str:
    lines = ["| metric | before | after | n | unscored |", "|---|---|---|---:|---:|"]
    for metric, title in _titles(spec, scores).items():
        if metric in scores:
            score, old = scores[metric], as_percent(before.get(metric))
            lines.append(f"| {title} | {old} | {as_percent(score)} | {score.n} | {score.n_unscored} |")
    generation: dict[str, Any] = spec.generation
    asked = f"{spec.questions} question(s) of each record and set" if spec.questions else "all questions"
    lines += ["", f"In percent, with 95 % intervals, of this one seed. Judge `{spec.judge}`, {asked}, protocol"]
    lines += [f"`{generation['protocol']}`. {READING}"]
    defaults = asdict(ModelOptions(device=spec.loading_options().device))
    # with other options, plain transformers may not answer as was scored
    if loaded := [f"{name} `{value}`" for name, value in spec.loading.items() if value != defaults[name]]:
        lines += ["", f"The answers are of the model loaded with {', '.join(loaded)}."]
    return "\n".join(lines)


def _filled(template: str, spec: CellSpec, name: str) -> str:
    base = f"base = {_shown(spec.model)!r}"
    if spec.model in BUILT_IN:
        found = "from safeeraser.models import find_folder  # it comes with the package"
        base = f"{found}\n\nbase = find_folder({spec.model!r})"
    dtype = spec.loading_options().dtype
    given = "" if dtype == "auto" else f', dtype="{dtype}"'
    return template.replace("PATH", name).replace("BASE", base).replace("DTYPE", given)


def _shown(model_or_data: str) -> str:
    """A name that means something to others: of a folder of this machine, its last part."""
    return model_or_data if is_hub_name(model_or_data) else Path(model_or_data).name


def is_hub_name(model: str) -> bool:
    """Whether a model is named as on the hub: it is no built-in one and no folder."""
    return model.count("/") == 1 and not model.startswith((".", "/", "~")) and not Path(model).exists()
