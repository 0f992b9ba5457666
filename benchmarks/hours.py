"""How far the hours of ``safeeraser plan`` hold on a CPU: one core, MiniLLaVA and a random LLaVA of 100M parameters.

``python benchmarks/hours.py``. What is said rests on ``plan``'s own counts (its assumed tokens a word included) over
what a large product of matrices reaches on the core, times one share, and one time a layer and pass, for both models,
which differ fifty-fold in size.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import torch
from measure import own_options, publish
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from safeeraser import data, objectives, unlearn
from safeeraser.bench import estimate
from safeeraser.config import UnlearnOptions
from safeeraser.models.mini_llava.model import SPECIAL_TOKENS, build_processor

SHARE, PASS_SECONDS = 0.8, 0.03
"""Of the product's rate that training reaches, and what a layer takes in a pass beside it: fitted to these two models,
as plan's for GPUs are to an H100."""
METHODS = ("po+pd", "kl+pd")
WARM_UP = 2
"""Steps before the clock starts."""
SIDE = 1024
SHAPE = {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12}


def random_model(folder: str) -> None:
    """A LLaVA of 100M random weights with MiniLLaVA's processor."""
    processor = build_processor()
    pad, start, end, image = processor.tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS))
    text = LlamaConfig(
        **SHAPE, vocab_size=len(processor.tokenizer), pad_token_id=pad, bos_token_id=start, eos_token_id=end
    )
    tower = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 4}
    vision = CLIPVisionConfig(**tower, image_size=64, patch_size=16)
    given = {"image_token_index": image, "image_seq_length": 16, "vision_feature_layer": -1}
    torch.manual_seed(0)
    LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text, **given)).save_pretrained(folder)
    processor.save_pretrained(folder)


def product() -> float:
    """Operations a second of the processor in one large product; the best of ten."""
    a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    taken = []
    for _ in range(10):
        start = time.process_time()
        a @ b
        taken.append(time.process_time() - start)
    return 2 * SIDE**3 / min(taken)


def trained(model: str, benchmark: data.Benchmark, method: str, options: UnlearnOptions) -> float:
    """Triples a second of the processor, after the first steps."""
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        said = lambda step, total, parts: times.append(time.process_time())  # noqa: E731
        unlearn.run(model, benchmark, objectives.parse_method(method), options, Path(folder) / "out", said)
    return (len(times) - 1 - WARM_UP) * (options.batch_size or 1) / (times[-1] - times[WARM_UP])


def said(model: str, benchmark: data.Benchmark, method: str, options: UnlearnOptions, rate: float) -> float:
    """Triples a second that ``plan`` would say of a card of that rate."""
    wanted, triples = objectives.parse_method(method), data.triples(benchmark.split("train"))
    sizes, batch = estimate.measure(model, options.lora, 64, 64), options.batch_size or 1
    policy, reference = (
        estimate.passes_of(kinds, triples, benchmark.refusals, sizes, options, batch)
        for kinds in (wanted.rows, wanted.reference_rows)
    )
    rates = estimate.Rates("this core", SHARE * rate, pass_seconds=PASS_SECONDS)
    return 1 / rates.training_seconds(sizes, 1, policy, reference)


def main() -> None:
    torch.set_num_threads(1)
    benchmark = data.load("pictogram", 240)
    small = own_options("mini-llava", steps=20, checkpoint_steps=0)
    large = UnlearnOptions(batch_size=4, accumulation=1, steps=5, learning_rate=1e-7, checkpoint_steps=0)
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        random_model(folder)
        for name, model, options in (("MiniLLaVA", "mini-llava", small), ("100M, random", folder, large)):
            for method in METHODS:
                # the core is shared: what it does changes from minute to minute
                before, found, after = product(), trained(model, benchmark, method, options), product()
                rate = (before + after) / 2
                planned = said(model, benchmark, method, options, rate)
                rows[f"{name}, {method}"] = {
                    "planned, triples/s": planned,
                    "measured, triples/s": found,
                    "ratio": planned / found,
                    "one large product, GFLOP/s": rate / 1e9,
                }
                print(rows, file=sys.stderr, flush=True)
    publish({"hours": rows})


if __name__ == "__main__":
    main()
