"""Load, merge and save multimodal LLMs, by name or folder, with or without an adapter."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safeeraser.config import Attention, ModelOptions, Quantization
from safeeraser.core import files
from safeeraser.core.errors import UserError
from safeeraser.models import checkpoint
from safeeraser.models.checkpoint import fingerprint, read_config
from safeeraser.models.families import ENCODER_DECODER, check_reads_images, is_encoder_decoder
from safeeraser.models.generation_settings import GENERATION
from safeeraser.records import VANILLA

if TYPE_CHECKING:
    from PIL.Image import Image


PROCESSOR = "processor_config.json"
Gate = Callable[[Sequence[str]], Sequence[str | None]]
"""For each of some questions the answer that is given in the model's place; None: the model is asked."""


@dataclass(frozen=True)
class Preamble:
    """What stands in the chat before every question: a system prompt, and earlier turns, without images."""

    system: str = ""
    turns: tuple[tuple[str, str], ...] = ()
    """Pairs of a question and its answer."""


@dataclass(frozen=True)
class VisionLanguageModel:
    """A model with its processor."""

    name: str
    """What it was loaded by."""
    model: Any
    """The ``transformers`` model, or the PEFT model around it."""
    processor: Any
    """Its ``AutoProcessor``; the tokenizer pads on the left."""
    fingerprint: str = ""
    """Of the base weights, see ``fingerprint``."""
    loading: ModelOptions = field(default_factory=ModelOptions)
    """How it was loaded."""
    method: str = VANILLA
    """How its adapter was unlearnt, merged in or not; "vanilla" without one."""
    thinking: bool = False
    """What the chat template's switch for thinking says, where it has one (``prompts.with_thinking``)."""
    preamble: Preamble = Preamble()
    """What stands before every question, in training and answering."""
    gate: Gate | None = None
    """What answers some questions in its place, such as a guard; None: it answers all."""

    def ask(self, image: Image | str | os.PathLike[str] | None, question: str, max_new_tokens: int = 512) -> str:
        """Ask one question about one image, or without one, greedily.

        Args:
            image: An image, or its file; None: none.
            question: What to ask.
            max_new_tokens: Longest answer in tokens.

        Raises:
            UserError: If the image cannot be read, or the question cannot be encoded.

        Example:
            >>> from PIL import Image
            >>> isinstance(load("mini-llava").ask(Image.new("RGB", (64, 64)), "What is shown?"), str)
            True
        """
        from safeeraser.data.images import decode, to_rgb
        from safeeraser.models.chat import generate

        try:
            shown = decode(Path(image)) if isinstance(image, str | os.PathLike) else image
            picture = None if shown is None else to_rgb(shown)
        except UserError as error:
            raise UserError(f"image {image}: {error}") from None
        (said,) = generate(self, [picture], [question], max_new_tokens)
        if said.error is not None:
            raise UserError(f"question {question!r}: {said.error}")
        return said.answer


def load(
    name_or_path: str,
    adapter: Path | None = None,
    dtype: str = "auto",
    device: str = "auto",
    quantization: Quantization = "none",
    attention: Attention = "auto",
) -> VisionLanguageModel:
    """Load a model, ready to answer (evaluation mode).

    Args:
        name_or_path: A name in ``BUILT_IN``, a local folder in the Hugging Face layout, or a hub name.
        adapter: Adapter folder written by ``adapters.save``; it must have been made on exactly this model.
        dtype: As ``config.ModelOptions``.
        device: As ``config.ModelOptions``.
        quantization: As ``config.ModelOptions``.
        attention: As ``config.ModelOptions``.

    Raises:
        UserError: If there is no such model, it is none that reads images and writes text, it has no chat template, an
            option needs hardware or a package that is missing, or the adapter does not belong to it; the message says
            which.

    Example:
        >>> load("mini-llava").model.config.model_type
        'llava'
    """
    from safeeraser.models import loading

    options = ModelOptions(dtype, device, quantization, attention)
    loading.check(options)
    check_type(name_or_path, read_config(name_or_path))  # before gigabytes are fetched
    folder = checkpoint.find_folder(name_or_path)
    processor = loading.load_processor(name_or_path, folder)
    model = loading.load_model(name_or_path, folder, options)
    vlm = VisionLanguageModel(name_or_path, model, processor, fingerprint(name_or_path), options)
    if adapter is None:
        return vlm
    from safeeraser.models import adapters

    return adapters.load(vlm, Path(adapter))


def load_merged(name_or_path: str, adapter: Path | Sequence[Path] | None, **options: Any) -> VisionLanguageModel:
    """Load a model with an adapter merged in, as a model of its own, to which new adapters can be attached.

    Its fingerprint is that of model and adapter together, so that an adapter trained on it fits nothing else. A
    quantised model keeps its adapter beside the weights (see ``merge``), and takes no further one.

    Args:
        name_or_path: As for ``load``.
        adapter: As for ``load``, or several, each made on the model with those before it; None: the model as it is.
        options: As for ``load``.

    Raises:
        UserError: As ``load``.

    Example:
        >>> load_merged("mini-llava", None).fingerprint == fingerprint("mini-llava")
        True
    """
    vlm = load(name_or_path, **options)
    for folder in [adapter] if isinstance(adapter, str | Path) else adapter or []:
        from safeeraser.models import adapters

        merged = merge(adapters.load(vlm, Path(folder)))
        vlm = replace(merged, fingerprint=files.stable_hash(vlm.fingerprint, hash_adapter(folder)))
    return vlm


def hash_adapter(folder: Path) -> str:
    """Hash of an adapter's weights.

    Example:
        >>> hash_adapter(Path("nowhere")) == files.hash_files([])
        True
    """
    return files.hash_files(sorted(Path(folder).glob("*.safetensors")))


def save(vlm: VisionLanguageModel, out: Path) -> None:
    """Write a model without an adapter as a checkpoint that plain ``transformers`` loads, with its processor.

    Generation settings are the base model's own, though none of them is used here; so are the files for parts of a
    processor that are not loaded here (videos).

    Args:
        vlm: The model, merged.
        out: Folder to write.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "copy"
        >>> save(load("mini-llava"), folder)
        >>> read_config(str(folder)).model_type
        'llava'
    """
    vlm.model.save_pretrained(out)
    vlm.processor.save_pretrained(out)
    base = checkpoint.find_folder(vlm.name)
    (out / GENERATION).unlink(missing_ok=True)
    for path in (base / GENERATION, *base.glob("*preprocessor_config.json")):
        if path.exists() and not (out / path.name).exists():
            shutil.copyfile(path, out / path.name)
    whole, written = (
        files.read_json(place / PROCESSOR) if (place / PROCESSOR).exists() else {} for place in (base, out)
    )
    if left := {name: part for name, part in whole.items() if name.endswith("_processor") and name not in written}:
        files.write_json(out / PROCESSOR, written | left)


def check_type(name: str, config: Any) -> None:
    """Check that a model is one of those of ``transformers`` that read images with text and write text behind it.

    Raises:
        UserError: If it is not.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as KNOWN

    if config.model_type not in KNOWN:
        raise UserError(
            f"model {name!r} is of the type {config.model_type!r}, which this version of transformers does not list "
            f"among the {len(KNOWN)} that read images and write text (llava, qwen3_vl, gemma3, ...)"
        )
    check_reads_images(config.model_type, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING.get(type(config), None))
    if is_encoder_decoder(config):
        raise UserError(f"model {name!r} is of the type {config.model_type!r}, {ENCODER_DECODER}")


def on_meta(config: Any) -> Any:
    """Build a model in bfloat16 on the meta device, without memory for its weights.

    Example:
        >>> on_meta(read_config("mini-llava")).device.type
        'meta'
    """
    import torch
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)


def check(options: ModelOptions) -> None:
    """Check that this machine has what the loading options need; see ``loading.check``."""
    from safeeraser.models import loading

    if options != ModelOptions():  # the defaults can be had everywhere: no need to load torch for them
        loading.check(options)


def merge(vlm: VisionLanguageModel) -> VisionLanguageModel:
    """Merge a model's adapter into its weights; see ``adapters.merge``."""
    from safeeraser.models import adapters

    return adapters.merge(vlm)
