"""Run lmms-eval with one more model type, ``safeeraser``: any checkpoint that plain transformers loads.

A script of its own, for ``python runner.py ARGUMENTS OF LMMS-EVAL``: the interpreter that runs it has lmms-eval, but
perhaps not this package, so nothing of it is imported here. ``--device auto`` is a GPU where there is one.
"""

from __future__ import annotations

import re
import sys
from datetime import datetime
from itertools import groupby, islice
from typing import Any

MODEL_TYPE = "safeeraser"


def checkpoint_class() -> Any:
    """Make the model class, which lmms-eval finds by the name ``__main__.Checkpoint``.

    Prompts are the processor's own chat template, images before the question, as in unlearning. Unlike some of
    lmms-eval's own models it lets every error through: an answer that could not be made is no wrong answer.
    """
    from lmms_eval.api.model import lmms
    from lmms_eval.protocol import ChatMessages
    from tqdm import tqdm
    from transformers import AutoModelForImageTextToText, AutoProcessor

    class Checkpoint(lmms):  # type: ignore[misc]
        """A checkpoint as ``AutoModelForImageTextToText`` loads it."""

        is_simple = False

        def __init__(self, pretrained: str, device: str = "cpu", batch_size: int | str = 1, **unknown: Any) -> None:
            super().__init__()
            if unknown:
                raise ValueError(f"unknown model arguments: {', '.join(unknown)}")
            self.processor = AutoProcessor.from_pretrained(pretrained)
            self.processor.tokenizer.padding_side = "left"
            self.model = AutoModelForImageTextToText.from_pretrained(pretrained, dtype="auto").to(device).eval()
            self.batch_size = int(batch_size)

        def generate_until(self, requests: list[Any]) -> list[str]:
            """Answer in order, in batches of requests that want the same generation and as many images."""
            answers: list[str] = []
            with tqdm(total=len(requests), desc="Model Responding") as progress:
                for (options, _), alike in groupby(map(self._asked, requests), key=lambda asked: asked[0]):
                    while batch := [(messages, pictures) for _, messages, pictures in islice(alike, self.batch_size)]:
                        answers += answer(self.model, self.processor, batch, options)
                        progress.update(len(batch))
            return answers

        def _asked(self, request: Any) -> tuple[tuple[Any, int], Any, list[Any]]:
            """Generation and number of images that a request wants; its messages; its images."""
            _, to_messages, options, document, task, split = request.args
            messages = ChatMessages(messages=to_messages(self.task_dict[task][split][document]))
            pictures, videos, sounds = messages.extract_media()
            if videos or sounds:
                raise ValueError(f"task {task} has videos or sounds; model type {MODEL_TYPE} reads images")
            return (options, len(pictures)), messages.to_hf_messages(), pictures

        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            """Not there: the paper's benchmarks generate."""
            raise NotImplementedError(f"model type {MODEL_TYPE} generates answers; this task compares likelihoods")

        def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
            """Not there: the paper's benchmarks ask once."""
            raise NotImplementedError(f"model type {MODEL_TYPE} answers once; this task has several rounds")

    return Checkpoint


def answer(model: Any, processor: Any, batch: list[tuple[Any, list[Any]]], options: dict[str, Any]) -> list[str]:
    """Answer messages, each with its images, of which all have as many, as ``options`` want it."""
    import torch

    template, tokenizer = processor.chat_template, processor.tokenizer
    named = set(re.findall(r"(?<![.\w])(?:enable_)?thinking\b", str(template)))
    given: dict[str, Any] = dict.fromkeys(named, False)  # for templates that let a model think unless told not to
    if isinstance(template, str) and "strftime_now" in template:
        given["chat_template"] = _on_fixed_day(template)
    texts = [
        processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **given)
        for messages, _ in batch
    ]
    pictures = [[_rgb(picture) for picture in shown] for _, shown in batch]
    inputs = processor(
        text=texts,
        **({"images": pictures} if pictures[0] else {}),
        padding=True,
        add_special_tokens=not (tokenizer.bos_token and texts[0].startswith(tokenizer.bos_token)),
        return_tensors="pt",
    ).to(model.device, model.dtype)
    with torch.inference_mode():
        new = _continue(model, inputs, options, _ends(model, processor, given), tokenizer.pad_token_id)
    said = tokenizer.batch_decode(new, skip_special_tokens=True)
    return [_until(text, options).strip() for text in said]


def _ends(model: Any, processor: Any, given: dict[str, Any]) -> list[int]:
    """End tokens as in ``safeeraser respond``: the checkpoint's, and what the template puts behind an answer."""
    said = {"user": "QUESTION", "assistant": "ANSWER"}
    turns = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in said.items()]
    rest = processor.apply_chat_template(turns, tokenize=False, **given).rpartition("ANSWER")[2]
    tokenizer, own = processor.tokenizer, model.generation_config.eos_token_id
    special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    behind = [id for id in tokenizer(rest, add_special_tokens=False).input_ids if id in special]
    ends = {*(behind[:1] or [tokenizer.eos_token_id]), *(own if isinstance(own, list) else [own])}
    return sorted(ends - {None})


def _on_fixed_day(template: str) -> str:
    """What ``safeeraser.models.template.render``, which is not at hand here, makes of a template that writes a date."""
    day = datetime(2024, 7, 26)
    call = r"""strftime_now\(\s*(["'])(.*?)\1\s*\)"""
    return re.sub(call, lambda found: repr(day.strftime(found[2])), template)


def _rgb(picture: Any) -> Any:
    """What ``safeeraser.data.images.to_rgb`` makes of an image, which is not at hand here: what a person sees."""
    import numpy as np
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16"):
        return Image.fromarray(np.rint(np.asarray(picture, dtype=np.float64) / 257).astype(np.uint8)).convert("RGB")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer, paper = picture.convert("RGBA"), Image.new("RGB", picture.size, "white")
    paper.paste(layer, mask=layer.getchannel("A"))
    return paper


def _continue(
    model: Any, inputs: dict[str, Any], options: dict[str, Any], end_tokens: list[int], pad_token: int
) -> Any:
    """New tokens for a task's ``generation_kwargs``: greedy unless the task samples.

    Nothing of the checkpoint's own settings counts but its end tokens, as in ``safeeraser respond``.
    """
    from transformers import GenerationConfig

    temperature = options.get("temperature") or 0
    sampling: dict[str, Any] = {"do_sample": False}
    if temperature > 0 and options.get("do_sample", True):
        sampling = {"do_sample": True, "temperature": temperature, "top_p": options.get("top_p"), "top_k": 0}
    settings = GenerationConfig(
        max_new_tokens=options.get("max_new_tokens", 1024),
        num_beams=options.get("num_beams", 1),
        use_cache=True,
        eos_token_id=end_tokens,
        pad_token_id=pad_token,
        **sampling,
    )
    # the library takes what these settings leave open from the model's own
    model.generation_config = GenerationConfig(eos_token_id=settings.eos_token_id)
    return model.generate(**inputs, generation_config=settings)[:, inputs["input_ids"].shape[1] :]


def _until(text: str, options: dict[str, Any]) -> str:
    """Cut an answer where the task says; blank lines, which are the default, are passed over as by other models."""
    stops = options.get("until") or []
    for stop in [stops] if isinstance(stops, str) else stops:
        if stop.strip():
            text = text.split(stop)[0]
    return text


def main() -> None:
    """Register the model type and hand over to lmms-eval's command line."""
    from lmms_eval.__main__ import cli_evaluate
    from lmms_eval.models import MODEL_REGISTRY_V2
    from lmms_eval.models.registry_v2 import ModelManifest

    if "--device" in sys.argv and sys.argv[sys.argv.index("--device") + 1] == "auto":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        sys.argv[sys.argv.index("--device") + 1] = device
        sys.argv = [text.replace("device_map=auto", f"device_map={device}") for text in sys.argv]
    setattr(sys.modules["__main__"], "Checkpoint", checkpoint_class())  # noqa: B010
    MODEL_REGISTRY_V2.register_manifest(ModelManifest(model_id=MODEL_TYPE, chat_class_path="__main__.Checkpoint"))
    cli_evaluate()


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this script: what lies beside it is not to stand in for other modules
    main()
