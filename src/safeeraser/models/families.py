"""Parts of a model, found by asking the model: language model, tower, projector, and the layers that get a LoRA.

There is no table of architectures. ``transformers`` says which module decodes text and which encodes images; what has
weights outside both, and is neither head nor embedding, leads from one to the other. ``FAMILIES`` holds the few models
of which that is not true, each with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from safeeraser.core.errors import UserError
from safeeraser.core.registry import Registry


@dataclass(frozen=True)
class Parts:
    """Names of a model's parts, as ``model.named_modules()`` has them."""

    language_model: str
    """Full name of the language model."""
    tower: str
    """Full name of the vision tower; it stays frozen, but for the projector where that is a part of it."""
    projector: tuple[str, ...]
    """Full names of the modules that map image features into the language model; none where an image is words of its
    vocabulary, or an encoder's output that it reads by cross-attention."""
    lora: tuple[str, ...]
    """Full names of the linear layers that get a LoRA: those of the language model but for head and routers."""
    experts: tuple[str, ...] = ()
    """Full names of parameters that hold a matrix for each expert, (experts, in, out) or (experts, out, in)."""

    def pattern(self, names: Iterable[str], more: Collection[str] = ()) -> str:
        """Regular expression that among all names of modules matches ``lora``, and ``more``, alone.

        PEFT cuts long lists of names down to endings, and not always to enough of them.
        """
        wanted = {*self.lora, *more}
        last = "|".join(dict.fromkeys(name.rpartition(".")[2] for name in self.lora))
        escaped = [name.replace(".", r"\.") for name in (*self.lora, *more)]
        by_layer = dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\\.)", lambda _: r"\d+", name) for name in escaped)
        short = self.language_model.replace(".", r"\.") + rf"\..*\.({last})"
        names = list(names)
        for found in (short, "|".join(by_layer)):
            if {name for name in names if re.fullmatch(found, name)} == wanted:
                return found
        return "|".join(escaped)


@dataclass(frozen=True)
class Family:
    """What of an architecture cannot be found by asking; a field that is None is found."""

    reason: str
    language_model: str | None = None
    tower: str | None = None
    projector: Sequence[str] | None = None


FAMILIES: Registry[Family] = Registry("model family")
"""Exceptions by ``config.model_type``."""

for _kind, _row in yaml.safe_load(Path(__file__).with_name("families.yaml").read_text(encoding="utf-8")).items():
    FAMILIES.add(_kind, Family(**_row))

ENCODER_DECODER = "an encoder-decoder, which is not supported: an answer has to follow its prompt in one sequence"
"""Why a type whose parts may be found is neither asked nor trained."""
_OTHER = re.compile(r"audio|speech|sound|video_tower|high_res|vqmodel|generation_|talker|code2wav|action|protein|dit\b")
"""Parts for other modalities, and those that generate images."""
_INSIDE = re.compile(
    r"merger|projector|projection|connector|aligner|adapter|adaptor|downsample|resampler|multi_modal", re.I
)
"""Children of a tower, or of what holds it, that lead out of it, where nothing outside does."""
_ROUTER = re.compile(r"(^|\.)(router(\.\w+)?|gate|shared_expert_gate|expert_gate)$|router$|(^|\.)indexer\.")
"""What chooses experts, or the tokens that sparse attention reads: no gradient passes an indexer's choice."""
_HEAD = re.compile(r"(^|\.)(lm_head|output_projection|predictions\.decoder)$")


def parts(model: Any) -> Parts:
    """Find a model's parts; it may be on the meta device.

    Single parameters outside all parts (the end-of-line embedding of LLaVA-NeXT, the queries of BLIP-2) stay frozen. A
    list of modules is replaced by its members, which alone can be tuned as a whole.

    Args:
        model: A ``transformers`` model without an adapter.

    Raises:
        UserError: If a part is missing, so that the model cannot be trained here; the message says which.

    Example:
        >>> from safeeraser import models
        >>> found = parts(models.on_meta(models.read_config("mini-llava")))
        >>> found.tower, found.projector, len(found.lora)
        ('model.vision_tower', ('model.multi_modal_projector',), 21)
    """
    kind = model.config.model_type
    check_reads_images(kind, model)
    row = FAMILIES.get(kind) if kind in FAMILIES.names() else Family("")
    modules = dict(model.named_modules())
    language_model = row.language_model or _name(model, model.get_decoder())
    tower = row.tower if row.tower in modules else _tower_of(model, language_model)
    if not tower or not language_model or _within(language_model, tower):
        lacking = "vision tower" if not tower else "language model"
        raise UserError(f"model type {kind!r} has no {lacking} of its own, so it cannot be trained here")
    head = _name(model, model.get_output_embeddings())
    known = [name for name in (language_model, tower, head) if name]
    if row.projector is not None:
        projector = tuple(name for name in row.projector if name in modules)
    else:
        projector = tuple(_outside(model, modules, known)) or tuple(_inside(modules, tower))
    needs_none = (row.projector is not None and not row.projector) or is_encoder_decoder(model.config)
    if not projector and not needs_none:
        raise UserError(f"model type {kind!r} has no projector between tower and language model")
    whole = tuple(member for name in projector for member in _members(modules, name))
    linear = _linear(modules, language_model, (tower, *whole, *([head] if head else [])))
    if not linear:
        raise UserError(f"model type {kind!r}: its language model {language_model} has no linear layer for a LoRA")
    return Parts(language_model, tower, whole, linear, tuple(_experts(modules, language_model, (tower, *whole))))


def _name(model: Any, wanted: Any) -> str:
    """Full name of a module; empty for the model itself and for none."""
    return next((name for name, module in model.named_modules() if module is wanted), "")


def _tower_of(model: Any, language_model: str) -> str:
    """Full name of what encodes images; of an encoder-decoder that is the encoder, or a part of it."""
    found = model.get_encoder(modality="image")
    if is_encoder_decoder(model.config):
        if found is model or _within(language_model, _name(model, found)):
            found = model.get_encoder()
        found = found.get_encoder(modality="image")
    return _name(model, found)


def check_reads_images(kind: str, model: Any) -> None:
    """Raise UserError if a model, or its class, says that it takes videos and no images.

    Example:
        >>> check_reads_images("llava", None)
    """
    reads = getattr(model, "input_modalities", ())
    if "video" in reads and "image" not in reads:
        raise UserError(f"model type {kind!r} has no input for images (video only), so it cannot be used here")


def is_encoder_decoder(config: Any) -> bool:
    """Whether an answer is written in a sequence of its own, and not behind the prompt.

    Example:
        >>> from safeeraser import models
        >>> is_encoder_decoder(models.read_config("mini-llava"))
        False
    """
    return bool(config.is_encoder_decoder or config.get_text_config().is_encoder_decoder)


def _within(name: str, part: str) -> bool:
    return name == part or name.startswith(part + ".")


def _outside(model: Any, modules: dict[str, Any], known: list[str]) -> Iterator[str]:
    """Top modules with weights outside the known parts, in their order."""
    from torch import nn

    tops = {
        ".".join(name.split(".")[: 2 if name.startswith("model.") else 1]): None
        for name, _ in model.named_parameters()
        if not any(_within(name, part) for part in known)
    }
    for top in tops:
        module = modules.get(top)  # None: a single parameter
        contains = any(_within(part, top) for part in known)
        if module is not None and not contains and not isinstance(module, nn.Embedding) and not _OTHER.search(top):
            yield top


def _inside(modules: dict[str, Any], tower: str) -> Iterator[str]:
    """Children of the tower that lead out of it, or else such that stand beside it (in T5Gemma 2's encoder)."""
    for owner in (tower, tower.rpartition(".")[0]):
        found = [
            f"{owner}.{name}"
            for name, module in modules[owner].named_children()
            if _INSIDE.search(name) and any(True for _ in module.parameters())
        ]
        if found:
            yield from found
            return


def _members(modules: dict[str, Any], name: str) -> Iterator[str]:
    from torch import nn

    if not isinstance(modules[name], nn.ModuleList | nn.ModuleDict):
        yield name
        return
    for child, _ in modules[name].named_children():
        yield from _members(modules, f"{name}.{child}")


def _linear(modules: dict[str, Any], language_model: str, others: tuple[str, ...]) -> tuple[str, ...]:
    from torch import nn

    return tuple(
        name
        for name, module in modules.items()
        if isinstance(module, nn.Linear)
        and _within(name, language_model)
        and not any(_within(name, other) for other in others)
        and not _ROUTER.search(name)
        and not _HEAD.search(name)
        and "Router" not in type(module).__name__
    )


def _experts(modules: dict[str, Any], language_model: str, others: tuple[str, ...]) -> Iterator[str]:
    for name, parameter in modules[language_model].named_parameters():
        full = f"{language_model}.{name}"
        if parameter.dim() == 3 and "experts" in name and not any(_within(full, other) for other in others):
            yield full


def untrained(model: Any, language_model: Any) -> Iterator[Any]:
    """The largest parts outside the language model of whose weights none is trained."""
    for child in model.children():
        trained = [parameter.requires_grad for parameter in child.parameters()]
        if any(trained) and child is not language_model:
            yield from untrained(child, language_model)
        elif trained and child is not language_model:
            yield child
