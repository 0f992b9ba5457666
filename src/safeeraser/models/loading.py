"""Load model and processor with the options given, or say which hardware or package is missing."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from safeeraser.config import Attention, ModelOptions, Quantization
from safeeraser.errors import UserError
from safeeraser.models.families import Family

_DTYPES = ("auto", "float32", "bfloat16", "float16")


def load_model(name: str, folder: Path, family: Family, options: ModelOptions) -> Any:
    """Load the ``transformers`` model, on its device, in evaluation mode.

    Args:
        name: What the user calls it, for messages.
        folder: Where it lies.
        family: Its family.
        options: How to load it.

    Raises:
        UserError: If an option is unknown or cannot be had here, or the folder lacks weights.

    Example:
        >>> folder = Path(__file__).parent / "mini_llava"
        >>> load_model("mini", folder, FAMILIES.get("llava"), ModelOptions()).training  # doctest: +SKIP
        False
    """
    from transformers import AutoModelForImageTextToText

    device = check(options)
    arguments: dict[str, Any] = {"dtype": options.dtype, "trust_remote_code": False}
    if options.attention != "auto":
        arguments["attn_implementation"] = options.attention
    if options.quantization != "none":
        arguments |= {"quantization_config": quantization_config(family, options), "device_map": {"": device}}
    try:
        model = AutoModelForImageTextToText.from_pretrained(folder, **arguments)
    except OSError as error:
        raise UserError(f"model {name!r} is incomplete: {error}") from None
    except (ValueError, ImportError) as error:
        if options.attention == "auto":
            raise
        raise UserError(
            f"loading.attention {options.attention!r} cannot be had for model {name!r} ({error}); give 'auto'"
        ) from None
    return (model if options.quantization != "none" else model.to(device)).eval()


def load_processor(name: str, folder: Path, family: Family) -> Any:
    """Load the processor; its tokenizer pads on the left.

    Raises:
        UserError: If a package that it needs is missing, or files, chat template or padding token are.

    Example:
        >>> load_processor("mini", Path(__file__).parent / "mini_llava", FAMILIES.get("llava"))  # doctest: +SKIP
    """
    import transformers

    lacking = [package for package in family.packages if importlib.util.find_spec(package) is None]
    if lacking:
        raise UserError(f"model {name!r} needs {', '.join(lacking)}: pip install {' '.join(lacking)}")
    kind = family.image_processor
    loader = transformers.AutoProcessor if kind is None else images_only(getattr(transformers, kind))
    try:
        processor = loader.from_pretrained(folder, trust_remote_code=False)
    except OSError as error:
        raise UserError(f"model {name!r} is incomplete: {error}") from None
    if not getattr(processor, "chat_template", None):
        raise UserError(f"model {name!r} has no chat template: add chat_template.jinja to {folder}")
    if processor.tokenizer.pad_token_id is None:
        raise UserError(f"model {name!r}: its tokenizer has no padding token; set pad_token in tokenizer_config.json")
    processor.tokenizer.padding_side = "left"
    return processor


def images_only(processor_class: Any) -> Any:
    """Make a processor class that loads and works without its video part, which would need torchvision.

    Args:
        processor_class: A class of ``transformers`` with the parts image_processor, tokenizer and video_processor.

    Example:
        >>> from transformers import Qwen2_5_VLProcessor
        >>> images_only(Qwen2_5_VLProcessor).get_attributes()
        ['image_processor', 'tokenizer']
    """
    from transformers import ProcessorMixin

    # the library reads from this signature which parts there are and which settings of the checkpoint to pass
    def initialise(
        self: Any,
        image_processor: Any = None,
        tokenizer: Any = None,
        image_seq_len: int | None = None,
        chat_template: str | None = None,
    ) -> None:
        settings = {"chat_template": chat_template} | (
            {} if image_seq_len is None else {"image_seq_len": image_seq_len}
        )
        processor_class.__init__(self, image_processor, tokenizer, None, **settings)

    # the same name, as it is written beside a saved processor; SmolVLM's own template function asks the video part
    changes = {"__init__": initialise, "apply_chat_template": ProcessorMixin.apply_chat_template}
    return type(processor_class.__name__, (processor_class,), changes)


def check(options: ModelOptions) -> str:
    """Check that the options can be had on this machine; return the device.

    Raises:
        UserError: If an option is unknown, or its hardware or package is missing; the message says what to do.

    Example:
        >>> check(ModelOptions(device="cpu"))
        'cpu'
    """
    import torch

    if options.dtype not in _DTYPES:
        raise UserError(f"loading.dtype {options.dtype!r} is unknown: give {', '.join(map(repr, _DTYPES))}")
    for field, value, known in (
        ("quantization", options.quantization, get_args(Quantization)),
        ("attention", options.attention, get_args(Attention)),
    ):
        if value not in known:
            raise UserError(f"loading.{field} {value!r} is unknown: give {', '.join(map(repr, known))}")
    device = _device(options.device)
    on_cuda = device.startswith("cuda")
    if options.dtype == "bfloat16" and on_cuda and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError(
            f"loading.dtype 'bfloat16': {torch.cuda.get_device_name(device)} cannot compute in it (Ampere or newer "
            "can); give 'float16' or 'float32'"
        )
    if options.quantization != "none":
        kinds = _quantising_devices()
        wanted = "" if device.split(":")[0] in kinds else f"a device of the kind {' or '.join(sorted(kinds))}"
        _require("quantization", options.quantization, "bitsandbytes", wanted)
    if options.attention == "flash_attention_2":
        _require("attention", options.attention, "flash_attn", "" if on_cuda else "a CUDA GPU")
        if options.dtype not in ("bfloat16", "float16"):
            raise UserError("loading.attention 'flash_attention_2' needs --dtype bfloat16 or float16")
    return device


def quantization_config(family: Family, options: ModelOptions) -> Any:
    """Quantise all linear layers but the projector, which is trained as a whole, and the head.

    8 bit is LLM.int8; 4 bit is NF4 with double quantisation, as in QLoRA (arXiv 2305.14314), computing in bfloat16
    unless a dtype is given.

    Example:
        >>> quantization_config(FAMILIES.get("llava"), ModelOptions(quantization="8bit"))  # doctest: +SKIP
    """
    import torch
    from transformers import BitsAndBytesConfig

    skipped = [family.projector, "lm_head"]
    if options.quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if options.dtype == "auto" else getattr(torch, options.dtype),
        llm_int8_skip_modules=skipped,
    )


def _device(given: str) -> str:
    import torch

    if given == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(given)
    except RuntimeError:
        raise UserError(f"loading.device {given!r} is unknown: give 'auto', 'cpu', 'cuda' or 'cuda:NUMBER'") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"loading.device {given!r}: there are {torch.cuda.device_count()} CUDA GPUs here; give 'auto' or 'cpu', or "
            "run where there is one (nvidia-smi lists them) with a CUDA build of torch"
        )
    return given


def _quantising_devices() -> set[str]:
    """Kinds of devices that the installed bitsandbytes knows; older ones know CUDA alone."""
    if importlib.util.find_spec("bitsandbytes") is None:
        return {"cuda", "cpu"}
    import bitsandbytes

    return set(getattr(bitsandbytes, "supported_torch_devices", {"cuda"}))


def _require(field: str, value: str, package: str, device: str) -> None:
    """Refuse an option whose package is missing or that needs another device, naming both where both are."""
    missing = []
    if importlib.util.find_spec(package) is None:
        missing.append(f"the package {package} (pip install {package.replace('_', '-')})")
    if device:
        missing.append(f"{device} (this run is on another)")
    if missing:
        raise UserError(f"loading.{field} {value!r} needs {' and '.join(missing)}; or leave the option out")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from drawing bars of its own and from warning of its future while models are loaded."""
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
