"""Loading options: load model and processor with them, or refuse with the hardware or package that is missing."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Sequence
from pathlib import Path
from types import FunctionType
from typing import Any, get_args

from safeeraser.config import Attention, ModelOptions, Quantization
from safeeraser.core.errors import UserError
from safeeraser.core.files import read_json
from safeeraser.models.checkpoint import load_weights, read_config, say_slow
from safeeraser.models.processes import processes

_DTYPES = ("auto", "float32", "bfloat16", "float16")
_CLASS_TOKENS = {"clip_vision_model": 1, "siglip_vision_model": 0}
"""Tokens that a vision tower puts before those of the patches, by ``model_type``."""


def load_model(name: str, folder: Path, options: ModelOptions) -> Any:
    """Load the ``transformers`` model, on its device, in evaluation mode.

    Args:
        name: What the user calls it, for messages.
        folder: Where it lies.
        options: How to load it.

    Raises:
        UserError: If an option is unknown or cannot be had here, or the weights are not those of the model.

    Example:
        >>> from safeeraser.models import BUILT_IN
        >>> load_model("mini", BUILT_IN["mini-llava"], ModelOptions()).training
        False
    """
    from transformers import AutoModelForImageTextToText

    from safeeraser.models import on_meta, parts

    device = check(options)
    arguments: dict[str, Any] = {"dtype": options.dtype}
    if options.attention != "auto":
        arguments["attn_implementation"] = options.attention
    if options.attention == "flex_attention":
        # it is compiled, and again for shapes of another kind: the vision tower has no mask that would be worth it
        config = read_config(str(folder))
        text = [key for key in config.sub_configs if getattr(config, key) is config.get_text_config()]
        arguments["attn_implementation"] = dict.fromkeys(text, options.attention)
    if options.quantization != "none":
        kept = parts(on_meta(read_config(str(folder)))).projector
        arguments |= {"quantization_config": quantization_config(kept, options), "device_map": {"": device}}
    try:
        model = load_weights(AutoModelForImageTextToText, name, folder, **arguments)
    except UserError:
        raise
    except ValueError as error:
        if options.attention == "auto":
            raise
        raise UserError(
            f"loading.attention {options.attention!r} cannot be had for model {name!r} ({error}); give 'auto'"
        ) from None
    if device == "cpu" and options.quantization == "none":
        say_slow(name, model.dtype)
    return (model if options.quantization != "none" else model.to(device)).eval()


def load_processor(name: str, folder: Path) -> Any:
    """Load the processor, without its part for videos, which would need torchvision; its tokenizer pads on the left.

    What its files do not say of the image's tokens, the model's configuration does.

    Raises:
        UserError: If a package that it needs is missing, or files, chat template or padding token are.

    Example:
        >>> from safeeraser.models import BUILT_IN
        >>> load_processor("mini", BUILT_IN["mini-llava"]).patch_size
        16
    """
    from transformers import AutoProcessor
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
    from transformers.utils import is_torchvision_available

    config = read_config(str(folder))
    kind = PROCESSOR_MAPPING[type(config)] if type(config) in PROCESSOR_MAPPING else None
    try:
        parts = [] if kind is None else kind.get_attributes()
        # where the part for videos stands elsewhere than last, code may read it
        is_left = "video_processor" in parts and (parts[-1] == "video_processor" or not is_torchvision_available())
        loader = images_only(kind) if is_left else AutoProcessor
        processor = loader.from_pretrained(folder, trust_remote_code=False)
    except AttributeError as error:
        if "video_processor" not in str(error) and "NoneType" not in str(error):
            raise
        raise UserError(f"model {name!r}: its processor needs torchvision, for videos") from None
    except ImportError as error:
        raise UserError(f"model {name!r}: its processor needs a package: {str(error).strip()}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"model {name!r}: its processor is incomplete: {error}") from None
    if not getattr(processor, "chat_template", None):
        raise UserError(f"model {name!r} has no chat template: add chat_template.jinja to {folder}")
    if processor.tokenizer.pad_token_id is None:
        raise UserError(f"model {name!r}: its tokenizer has no padding token; set pad_token in tokenizer_config.json")
    _complete(processor, name, folder, config)
    processor.tokenizer.padding_side = "left"
    for setting in ("truncation", "max_length"):  # with what it was saved with, a processor would cut every prompt
        processor.tokenizer.init_kwargs.pop(setting, None)
    return processor


def _complete(processor: Any, name: str, folder: Path, config: Any) -> None:
    """Give a processor the settings that its files lack, as the number of an image's tokens depends on them."""
    whole, images = (
        read_json(folder / file) if (folder / file).is_file() else {}
        for file in ("processor_config.json", "preprocessor_config.json")
    )
    written = {"": whole, "image_processor": images | (whole.get("image_processor") or {})}
    for key, value in processor_settings(config).items():
        part, _, attribute = key.rpartition(".")
        owner = getattr(processor, part) if part else processor
        if written[part].get(attribute) is not None or not hasattr(owner, attribute):
            continue
        if value is None:
            file = "preprocessor_config.json" if part else "processor_config.json"
            raise UserError(
                f"model {name!r}: {folder / file} has no {attribute!r}, and config.json does not tell it: add it there"
            )
        # sizes have a class of their own in newer versions of the library
        kind = type(getattr(owner, attribute))
        setattr(owner, attribute, kind(**value) if isinstance(value, dict) and kind is not type(None) else value)


def processor_settings(config: Any) -> dict[str, Any]:
    """Settings of a processor (``image_processor.NAME``: of that part) that follow from the model's configuration.

    None: a setting that should, but does not.

    Example:
        >>> processor_settings(read_config("mini-llava"))["num_additional_image_tokens"]
        1
    """
    vision = getattr(config, "vision_config", None)
    settings: dict[str, Any] = {}

    def take(setting: str, owner: Any, field: str) -> None:
        if getattr(owner, field, None) is not None:
            settings[setting] = getattr(owner, field)

    if hasattr(config, "vision_feature_select_strategy"):  # LLaVA and what follows it
        take("patch_size", vision, "patch_size")
        take("vision_feature_select_strategy", config, "vision_feature_select_strategy")
        settings["num_additional_image_tokens"] = _CLASS_TOKENS.get(getattr(vision, "model_type", ""))
    take("image_processor.image_grid_pinpoints", config, "image_grid_pinpoints")
    if hasattr(vision, "spatial_merge_size"):  # Qwen2-VL and what follows it
        take("image_processor.patch_size", vision, "patch_size")
        take("image_processor.merge_size", vision, "spatial_merge_size")
        take("image_processor.temporal_patch_size", vision, "temporal_patch_size")
    if vision is not None and hasattr(vision, "max_num_tiles"):  # Mllama
        take("image_processor.max_image_tiles", vision, "max_num_tiles")
        settings["image_processor.size"] = {"height": vision.image_size, "width": vision.image_size}
    if vision is not None and hasattr(config, "scale_factor") and hasattr(vision, "image_size"):  # Idefics3
        settings["image_seq_len"] = int((vision.image_size // vision.patch_size) ** 2 / config.scale_factor**2)
    return settings


def images_only(processor_class: Any) -> Any:
    """Derive a processor class without the part for videos, which would need torchvision.

    Example:
        >>> from transformers import Qwen2_5_VLProcessor
        >>> images_only(Qwen2_5_VLProcessor).get_attributes()
        ['image_processor', 'tokenizer']
    """
    from transformers import ProcessorMixin

    names = processor_class.get_attributes()

    class WithoutVideos(ProcessorMixin):  # type: ignore[misc]
        """What ``processor_class`` takes for its parent: drops the part for videos, given by place or by name."""

        video_processor = None

        def __init__(self, *parts: Any, **named: Any) -> None:
            named.pop("video_processor", None)
            kept = (part for name, part in zip(names, parts, strict=False) if name != "video_processor")
            super().__init__(*kept, **named)

        @classmethod
        def _get_arguments_from_pretrained(cls, *given: Any, **named: Any) -> list[Any]:
            made: list[Any] = super()._get_arguments_from_pretrained(*given, **named)
            return [None if name == "video_processor" else made.pop(0) for name in names]

    left = [name for name in names if name != "video_processor"]
    # the same with a default for every part, as SmolVLM's has none; the library reads names of arguments from its code
    given = processor_class.__init__
    parameters = [parameter.default for parameter in inspect.signature(given).parameters.values()]
    defaults = tuple(None if default is inspect.Parameter.empty else default for default in parameters)
    defaults = defaults[1 : given.__code__.co_argcount]
    initialise = FunctionType(given.__code__, given.__globals__, given.__name__, defaults, given.__closure__)
    # the same name, as it is written beside a saved processor; SmolVLM's own template function asks the video part
    changes = {
        "__init__": initialise,
        "get_attributes": classmethod(lambda cls: left),
        "apply_chat_template": ProcessorMixin.apply_chat_template,
    }
    return type(processor_class.__name__, (processor_class, WithoutVideos), changes)


def check(options: ModelOptions) -> str:
    """Check that this machine has what the options need; return the device.

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
    package = {"flash_attention_2": "flash_attn", "flex_attention": "torch"}.get(options.attention)
    if package is not None:
        # torch has no gradient of FlexAttention on a CPU; each of several processes moves its model to its GPU
        moves = processes() > 1 and torch.cuda.is_available()
        _require("attention", options.attention, package, "" if on_cuda or moves else "a CUDA GPU")
    if options.attention == "flash_attention_2":
        if options.dtype not in ("bfloat16", "float16"):
            raise UserError("loading.attention 'flash_attention_2' needs --dtype bfloat16 or float16")
    return device


def quantization_config(projector: Sequence[str], options: ModelOptions) -> Any:
    """Configuration that quantises all linear layers but the projector, which is trained as a whole, and the head.

    8 bit is LLM.int8; 4 bit is NF4 with double quantisation, as in QLoRA (arXiv 2305.14314), computing in bfloat16
    unless a dtype is given.

    Example:
        >>> quantization_config(["model.connector"], ModelOptions(quantization="8bit")).llm_int8_skip_modules
        ['model.connector', 'lm_head']
    """
    import torch
    from transformers import BitsAndBytesConfig

    skipped = [*projector, "lm_head"]
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
    """Device types that the installed bitsandbytes supports; older versions support CUDA alone."""
    if importlib.util.find_spec("bitsandbytes") is None:
        return {"cuda", "cpu"}
    import bitsandbytes

    return set(getattr(bitsandbytes, "supported_torch_devices", {"cuda"}))


def _require(field: str, value: str, package: str, device: str) -> None:
    """Refuse an option whose package or device is missing, naming both where both are."""
    missing = []
    if importlib.util.find_spec(package) is None:
        missing.append(f"the package {package} (pip install {package.replace('_', '-')})")
    if device:
        missing.append(f"{device} (this run is on another)")
    if missing:
        raise UserError(f"loading.{field} {value!r} needs {' and '.join(missing)}; or leave the option out")
