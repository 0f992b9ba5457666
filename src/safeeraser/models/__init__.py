"""Models: any Hugging Face multimodal LLM of a known family, by name or folder, with or without an adapter."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safeeraser.config import Attention, ModelOptions, Quantization
from safeeraser.errors import UserError
from safeeraser.models.families import FAMILIES, Family

__all__ = [
    "BUILT_IN",
    "FAMILIES",
    "Family",
    "VisionLanguageModel",
    "check",
    "fingerprint",
    "load",
    "load_merged",
    "merge",
    "on_meta",
    "read_config",
    "save",
]

BUILT_IN = {"mini-llava": Path(__file__).parent / "mini_llava"}
"""Models whose weights come with the package."""

_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model")
_WHOLE_FILE = 2**26
"""Weight files up to this many bytes are hashed whole; of larger ones, evenly spread samples are."""
_SAMPLES, _SAMPLE_BYTES = 256, 2**16


@dataclass(frozen=True)
class VisionLanguageModel:
    """A model with what is needed to talk to it."""

    name: str
    """What it was loaded by."""
    model: Any
    """The ``transformers`` model, or the PEFT model around it."""
    processor: Any
    """Its ``AutoProcessor``; the tokenizer pads on the left."""
    family: Family
    fingerprint: str = ""
    """Of the base weights, see ``fingerprint``."""


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
        UserError: If there is no such model, its family is unknown, it has no chat template, an option needs hardware
            or a package that is missing, or the adapter does not belong to it; the message says which.

    Example:
        >>> load("mini-llava").model.config.model_type
        'llava'
    """
    from safeeraser.models import loading

    options = ModelOptions(dtype, device, quantization, attention)
    loading.check(options)
    family = FAMILIES.get(read_config(name_or_path).model_type)  # before gigabytes are fetched
    folder = _folder(name_or_path)
    processor = loading.load_processor(name_or_path, folder, family)
    model = loading.load_model(name_or_path, folder, family, options)
    vlm = VisionLanguageModel(name_or_path, model, processor, family, fingerprint(name_or_path))
    if adapter is None:
        return vlm
    from safeeraser.models import adapters

    return adapters.load(vlm, Path(adapter))


def load_merged(name_or_path: str, adapter: Path | None, **options: Any) -> VisionLanguageModel:
    """Load a model with an adapter folded in, as a model of its own, which new adapters can be made on.

    Its fingerprint is that of model and adapter together, so that an adapter made on it fits nothing else. A quantised
    model keeps its adapter beside the weights (see ``merge``).

    Args:
        name_or_path: As for ``load``.
        adapter: As for ``load``; None: the model as it is.
        options: As for ``load``.

    Raises:
        UserError: As ``load``.

    Example:
        >>> load_merged("mini-llava", None).fingerprint == fingerprint("mini-llava")
        True
    """
    from safeeraser import store

    vlm = merge(load(name_or_path, adapter, **options))
    if adapter is None:
        return vlm
    weights = store.hash_files(sorted(Path(adapter).glob("*.safetensors")))
    return replace(vlm, fingerprint=store.stable_hash(vlm.fingerprint, weights))


def save(vlm: VisionLanguageModel, out: Path) -> None:
    """Write a model without an adapter as a checkpoint that plain ``transformers`` loads, with its processor.

    Files of the base model for the parts of a processor that are not loaded here (videos) are copied.

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
    for path in _folder(vlm.name).glob("*preprocessor_config.json"):
        if not (out / path.name).exists():
            shutil.copyfile(path, out / path.name)


def read_config(name_or_path: str) -> Any:
    """Read a model's configuration, without its weights.

    Args:
        name_or_path: As for ``load``.

    Raises:
        UserError: If there is no such model or ``transformers`` does not know its architecture.

    Example:
        >>> read_config("mini-llava").model_type
        'llava'
    """
    from transformers import AutoConfig

    folder = _folder(name_or_path, ["config.json"])
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(f"model {name_or_path!r}: its config.json cannot be used ({error})") from None


def on_meta(config: Any) -> Any:
    """Build a model of a configuration in bfloat16 without memory for its weights.

    Example:
        >>> on_meta(read_config("mini-llava")).device.type
        'meta'
    """
    import torch
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)


def check(options: ModelOptions) -> None:
    """Check that loading options can be had on this machine; see ``loading.check``."""
    from safeeraser.models import loading

    loading.check(options)


def merge(vlm: VisionLanguageModel) -> VisionLanguageModel:
    """Fold a model's adapter into its weights; see ``adapters.merge``."""
    from safeeraser.models import adapters

    return adapters.merge(vlm)


def fingerprint(name_or_path: str) -> str:
    """Hash a model's configuration and weights without loading it.

    Weight files over 64 MiB are hashed by their size, their header and samples spread over the whole file.

    Args:
        name_or_path: As for ``load``.

    Raises:
        UserError: If there is no such model, or it has no ``*.safetensors``.

    Example:
        >>> fingerprint("mini-llava") == fingerprint("mini-llava")
        True
    """
    folder = _folder(name_or_path)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise UserError(f"model {name_or_path!r}: {folder} holds no *.safetensors; convert the checkpoint first")
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in weights:
        digest.update(path.name.encode())
        _hash_weights(path, digest)
    return digest.hexdigest()[:16]


def _hash_weights(path: Path, digest: Any) -> None:
    size = path.stat().st_size
    digest.update(str(size).encode())
    with open(path, "rb") as file:
        if size <= _WHOLE_FILE:
            digest.update(file.read())
            return
        digest.update(file.read(int.from_bytes(file.read(8), "little")))
        for index in range(_SAMPLES):
            file.seek((size - _SAMPLE_BYTES) * index // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))


def _folder(name_or_path: str, files: Sequence[str] = _FILES) -> Path:
    """Find the folder of a model, fetching ``files`` into the hub's cache if it is a hub name."""
    if name_or_path in BUILT_IN:
        return BUILT_IN[name_or_path]
    path = Path(name_or_path)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UserError(f"model {name_or_path!r}: the folder has no config.json, so it is no Hugging Face model")
        return path
    known = ", ".join(sorted(BUILT_IN))
    if name_or_path.startswith((".", "/", "~")) or name_or_path.count("/") != 1:
        raise UserError(f"unknown model {name_or_path!r}: give {known}, an existing folder, or a hub name (OWNER/NAME)")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name_or_path, allow_patterns=list(files)))
    except (OSError, ValueError) as error:
        raise UserError(
            f"model {name_or_path!r} cannot be fetched ({type(error).__name__}: {error}); give {known}, an existing "
            "folder, or a hub name"
        ) from None
