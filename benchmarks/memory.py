"""How far ``safeeraser plan``'s memory model holds: measured peaks of training steps on the CPU beside what it says.

Each line is a process of its own that builds a random LLaVA, takes three steps of the method with AdamW, as the trainer
does, and reads from the kernel the highest resident memory of steps two and three, less what it had before the model.
Dropout is torch's own, as on a GPU; on a CPU its mask takes four bytes an entry instead of one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, fields

import torch
from measure import publish
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

from safeeraser.bench.estimate import Workload, measure, peak
from safeeraser.config import LoraOptions
from safeeraser.models import VisionLanguageModel, adapters, chat, lean_lora
from safeeraser.objectives import ROWS, parse_method
from safeeraser.unlearn.batch import select

SHAPES = {"100M": (768, 2048, 12, 12, 8000), "300M": (1024, 2816, 20, 16, 16000)}
"""Hidden and intermediate size, layers, heads, vocabulary."""
PATCHES, TEXT, ANSWER, PROMPT = 64, 96, 64, 32
LORA = LoraOptions(rank=32)


@dataclass
class Case:
    """One measurement."""

    shape: str
    method: str
    batch: int
    number_bytes: int
    checkpointing: bool


CASES = [
    Case("100M", "ga", 1, 4, False),
    Case("100M", "po+pd", 1, 4, False),
    Case("100M", "po+pd", 4, 4, False),
    Case("100M", "po+pd", 4, 4, True),
    Case("100M", "kl+pd", 4, 4, False),
    Case("100M", "po+pd", 4, 2, False),
    Case("100M", "kl+pd", 4, 2, True),
    Case("300M", "po+pd", 1, 4, False),
    Case("300M", "po+pd", 4, 4, False),
    Case("300M", "po+pd", 4, 4, True),
    Case("300M", "po+pd", 4, 2, False),
]


def name_of(case: Case) -> str:
    kind = "float32" if case.number_bytes == 4 else "bfloat16"
    return f"{case.shape} {case.method}, {case.batch} triples, {kind}" + (", checkpointing" * case.checkpointing)


def configuration(shape: str) -> LlavaConfig:
    hidden, intermediate, layers, heads, vocabulary = SHAPES[shape]
    vision = CLIPVisionConfig(
        hidden_size=256, intermediate_size=1024, num_hidden_layers=4, num_attention_heads=4, image_size=112
    )
    vision.patch_size = 14
    text = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        vocab_size=vocabulary,
    )
    return LlavaConfig(vision_config=vision, text_config=text, image_token_index=vocabulary - 1)


def work(case: Case) -> Workload:
    method = parse_method(case.method)
    references = len(method.reference_rows) * case.batch
    return Workload(
        rows=len(method.rows) * case.batch,
        reference_rows=references,
        kept_distributions=references if "distribution" in method.needs else 0,
        text=TEXT,
        answer=ANSWER,
        answers_span=ANSWER,
    )


def batch(case: Case, kinds: tuple[str, ...]) -> dict[str, object]:
    rows = len(kinds) * case.batch
    vocabulary = SHAPES[case.shape][-1]
    ids = torch.randint(0, vocabulary - 1, (rows, PATCHES + TEXT))
    ids[:, 1 : 1 + PATCHES] = vocabulary - 1
    mask = torch.ones_like(ids)
    mask[0, -3:] = 0
    labels = torch.full_like(ids, chat.IGNORED)
    labels[:, -ANSWER:] = ids[:, -ANSWER:]
    inputs = {"input_ids": ids, "attention_mask": mask, "pixel_values": torch.randn(rows, 3, 112, 112)}
    role = torch.tensor([ROWS.index(kind) for kind in kinds for _ in range(case.batch)])
    return {"inputs": inputs, "labels": labels.masked_fill(mask == 0, chat.IGNORED), "role": role}


def resident(field: str) -> int:
    """Bytes that the kernel says are (VmRSS) or at most were (VmHWM) in memory."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field))


def steps(case: Case) -> dict[str, int]:
    method = parse_method(case.method)
    before = resident("VmRSS")
    model = random_model(case)
    vlm = adapters.attach(VisionLanguageModel("random", model, None), LORA)
    lean_lora.make_lean(vlm.model)
    vlm.model.train()
    if case.checkpointing:
        vlm.model.gradient_checkpointing_enable({"use_reentrant": False})
    trained = [parameter for parameter in vlm.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    for step in range(3):
        if step == 1:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")  # VmHWM starts again
        whole = batch(case, method.rows)
        with torch.autocast("cpu", torch.bfloat16, enabled=case.number_bytes == 2):
            policy = chat.answer_log_probs(vlm.model, whole["inputs"], whole["labels"])
            reference = None
            if method.reference_rows:
                whole["reference"] = batch(case, method.reference_rows)
                with adapters.reference_mode(vlm.model):
                    reference = chat.answer_log_probs(
                        vlm.model, whole["reference"]["inputs"], whole["reference"]["labels"]
                    )
            samples = {kind: select(kind, whole, policy, reference) for kind in method.rows}
            loss, _ = method.loss(samples)
        del policy, reference, samples
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return {"measured": resident("VmHWM") - before}


def random_model(case: Case) -> torch.nn.Module:
    from transformers import AutoModelForImageTextToText

    dtype = torch.float32 if case.number_bytes == 4 else torch.bfloat16
    return AutoModelForImageTextToText.from_config(configuration(case.shape), dtype=dtype)


def measured(case: Case) -> int:
    """Measure in a fresh process, in which freed memory goes back to the system at once."""
    given = json.dumps({field.name: getattr(case, field.name) for field in fields(case)})
    done = subprocess.run(
        [sys.executable, __file__, "--case", given],
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(json.loads(done.stdout.splitlines()[-1])["measured"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--case")
    case = parser.parse_args().case
    if case:
        torch.nn.functional.silu(torch.randn(64, 64, requires_grad=True)).sum().backward()
        print(json.dumps(steps(Case(**json.loads(case)))))
        return
    rows = {}
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            configuration(case.shape).save_pretrained(folder)
            sizes = measure(folder, LORA, 112, 112)
        dropped = 8 * LORA.dropout
        said = peak(sizes, work(case), "none", case.checkpointing, case.number_bytes, dropped).total / 2**20
        found = measured(case) / 2**20
        rows[name_of(case)] = {"predicted MiB": said, "measured MiB": found, "ratio": said / found}
        print(name_of(case), f"{said / found:.2f}", file=sys.stderr, flush=True)
    publish({"memory": rows})


if __name__ == "__main__":
    main()
