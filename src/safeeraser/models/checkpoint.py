"""Files of a checkpoint: where they are, their fingerprint, and weights that are loaded completely or not at all."""

from __future__ import annotations

import hashlib
import logging
import sys
import unicodedata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from safeeraser.core import terminal
from safeeraser.core.errors import UserError
from safeeraser.models.generation_settings import generation_settings, read_object
from safeeraser.models.processes import is_first_process

BUILT_IN = {name: Path(__file__).parent / name.replace("-", "_") for name in ("mini-llava", "smol-llava")}
"""Models that come with the package; a folder without config.json holds what is added to a base model."""
PROCESSOR_FILES = ("*.json", "*.jinja", "*.model", "*.txt")
_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")
_WHOLE_FILE = 2**26
"""Weight files up to this many bytes are hashed whole; of larger ones, evenly spread samples are."""
_SAMPLES, _SAMPLE_BYTES = 256, 2**16
_ADAPTER = "adapter_config.json"
"""An adapter beside the weights, which ``from_pretrained`` would put on them without a word."""
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def find_folder(name_or_path: str, patterns: Sequence[str] = _FILES) -> Path:
    """Find the folder of a checkpoint, fetching its files into the hub's cache if it is a hub name.

    Args:
        name_or_path: A name in ``BUILT_IN``, a folder (``~`` is the home folder), or a hub name.
        patterns: Which files are needed.

    Raises:
        UserError: If there is no such checkpoint, a file is a Git LFS pointer, or an adapter lies beside the weights.

    Example:
        >>> find_folder("mini-llava").name
        'mini_llava'
    """
    if name_or_path in BUILT_IN:
        if (BUILT_IN[name_or_path] / "config.json").is_file():
            return BUILT_IN[name_or_path]
        from safeeraser.models.smol_llava import model as smol_llava

        return smol_llava.find_folder()
    path = _as_on_disk(name_or_path)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UserError(f"model {name_or_path!r}: the folder has no config.json, so it is no Hugging Face model")
        for file in (file for pattern in patterns for file in path.glob(pattern)):
            refuse_lfs_pointer(file)
        return _without_adapter(path, name_or_path)
    known = ", ".join(sorted(BUILT_IN))
    if name_or_path.startswith((".", "/", "~")) or name_or_path.count("/") != 1:
        raise UserError(f"unknown model {name_or_path!r}: give {known}, an existing folder, or a hub name (OWNER/NAME)")
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name_or_path, allow_patterns=list(patterns)))
    except LocalEntryNotFoundError:
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub cannot be reached"
        raise UserError(
            f"model {name_or_path!r} is not in the cache of this machine, and {why}: run 'hf download {name_or_path}' "
            f"where there is a network and copy the folder here, or give {known} or a folder that is here"
        ) from None
    except (OSError, ValueError) as error:
        said = str(error).strip().partition("\n")[0]
        raise UserError(
            f"model {name_or_path!r} cannot be fetched ({type(error).__name__}: {said}); give {known}, an existing "
            "folder, or a hub name"
        ) from None
    return _without_adapter(folder, name_or_path)


def _without_adapter(folder: Path, name: str) -> Path:
    if (folder / _ADAPTER).is_file():
        raise UserError(
            f"model {name!r}: {folder} holds an adapter beside the weights ({_ADAPTER}), which transformers would put "
            "on them: remove adapter_* from a copy of the folder if it is merged into the weights, or else merge it "
            "first (PEFT's merge_and_unload())"
        )
    return folder


def refuse_lfs_pointer(path: Path) -> None:
    """Refuse a file that git left as a pointer because Git LFS was not installed when it cloned.

    Raises:
        UserError: If it is one.
    """
    with open(path, "rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise UserError(
                f"{path} is a Git LFS pointer, not the file itself: install git-lfs and run 'git lfs pull' there"
            )


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

    folder = find_folder(name_or_path, ["config.json", _ADAPTER])
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(f"model {name_or_path!r}: its config.json cannot be used ({error})") from None


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
    folder = find_folder(name_or_path)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise UserError(f"model {name_or_path!r}: {folder} holds no *.safetensors; convert the checkpoint first")
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in weights:
        digest.update(path.name.encode())
        _hash_weights(path, digest)
    return digest.hexdigest()[:16]


def check_whole(name: str) -> None:
    """Raise UserError if weight files were cut short, or lack what the index names; only their headers are read."""
    from safetensors import SafetensorError, safe_open

    folder, held = find_folder(name), set[str]()
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "np") as file:
                held.update(file.keys())
        except SafetensorError as error:
            raise UserError(f"model {name!r} is incomplete: {path.name}: {error}; fetch the file again") from None
    index = folder / "model.safetensors.index.json"
    named = read_object(index).get("weight_map") if index.is_file() else None
    missing = {key: file for key, file in named.items() if key not in held} if isinstance(named, dict) else {}
    if missing:
        lost = ", ".join(sorted(set(map(str, missing.values())))[:3])
        raise UserError(
            f"model {name!r} is incomplete: {len(missing)} of {len(named or ())} weights that {index.name} names are "
            f"missing (in {lost}): fetch these files again"
        )


def load_weights(auto_class: Any, name: str, folder: Path, **arguments: Any) -> Any:
    """Load a ``transformers`` model whose weights are exactly those of the checkpoint.

    Its generation settings are none of the checkpoint's but the end tokens; a line on standard error names the others.

    Args:
        auto_class: Such as ``AutoModelForImageTextToText``.
        name: What the user calls it, for messages.
        folder: Where it lies.
        arguments: More for ``from_pretrained``.

    Raises:
        UserError: If weights are missing, left over or of another shape, or a file cannot be read or needs a package.

    Example:
        >>> from transformers import AutoModelForImageTextToText
        >>> model = load_weights(AutoModelForImageTextToText, "mini-llava", find_folder("mini-llava"))
        >>> model.generation_config.eos_token_id
        [2]
    """
    from safetensors import SafetensorError
    from transformers import GenerationConfig

    end_tokens, ignored = generation_settings(name, folder)
    arguments |= {"trust_remote_code": False, "generation_config": GenerationConfig(eos_token_id=end_tokens or None)}
    try:
        with _without_loading_report(), quiet():
            model, report = auto_class.from_pretrained(
                folder, output_loading_info=True, ignore_mismatched_sizes=True, **arguments
            )
    except (OSError, SafetensorError) as error:
        raise UserError(f"model {name!r} is incomplete: {error}") from None
    except ImportError as error:  # of weights that are stored quantised
        raise UserError(f"model {name!r} needs a package: {str(error).strip()}") from None
    _check_weights(name, model, report)
    for module in model.modules():
        if hasattr(module, "config"):  # false in some older configurations, which the library itself cannot run
            module.config.return_dict = True
    if ignored and is_first_process():
        _say_once(f"model {name!r}: generation settings of the checkpoint are not used: {', '.join(ignored)}")
    return model


def _check_weights(name: str, model: Any, report: Mapping[str, Any]) -> None:
    mismatched = {
        f"{key} is {tuple(given)} instead of {tuple(wanted)}" for key, given, wanted in report["mismatched_keys"]
    }
    problems = [
        f"{len(keys)} {what} ({', '.join(sorted(keys)[:3])}{', ...' if len(keys) > 3 else ''})"
        for what, keys in (
            ("are missing", report["missing_keys"]),
            ("are no part of the model", report["unexpected_keys"]),
            ("have another shape", mismatched),
        )
        if keys
    ]
    if problems:
        raise UserError(
            f"model {name!r}: the weights are not those of a {type(model).__name__}: of its {len(model.state_dict())} "
            f"{'; '.join(problems)}; give a checkpoint written by its save_pretrained (an adapter is merged by "
            "merge_and_unload() first)"
        )


def say_slow(name: str, dtype: Any) -> None:
    """Say, once, that this processor has no instructions for a model's numbers, where it has none."""
    import torch

    kind = str(dtype).removeprefix("torch.")
    has = {"bfloat16": "_is_mkldnn_bf16_supported", "float16": "_is_mkldnn_fp16_supported"}.get(kind)
    # builds without oneDNN have no such question
    ask = getattr(torch.ops.mkldnn, has, None) if has else None
    if ask is not None and not ask() and is_first_process():
        _say_once(
            f"model {name!r} computes in {kind}, for which this processor has no instructions: --loading.dtype float32 "
            "takes a fraction of the time and twice the memory"
        )


@cache
def _say_once(text: str) -> None:
    terminal.say(text, file=sys.stderr)


@contextmanager
def _without_loading_report() -> Iterator[None]:
    """Keep the library from reporting weights that do not fit, as they are refused here."""
    logger = logging.getLogger("transformers.modeling_utils")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = was_disabled


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the library's progress bars and its FutureWarnings inside the block."""
    from transformers.utils import logging

    was_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
            yield
    finally:
        if was_shown:
            logging.enable_progress_bar()


def _as_on_disk(given: str) -> Path:
    """The path as the disk writes it: macOS decomposes letters such as "é" (NFD), others do not (NFC)."""
    try:
        path = Path(given).expanduser()
    except RuntimeError as error:
        raise UserError(f"model {given!r}: {error}") from None
    found = Path(path.anchor)
    for part in path.relative_to(found).parts:
        forms = [part, unicodedata.normalize("NFC", part), unicodedata.normalize("NFD", part)]
        found /= next((form for form in forms if (found / form).exists()), part)
    return found


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
