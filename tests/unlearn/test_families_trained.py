"""Every family unlearns: three steps of GA (in bfloat16) and of PO+PD move what they should and nothing else."""

import re

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_families import TINY_BUILDERS

from safeeraser import models
from safeeraser.config import LoraOptions, ModelOptions, UnlearnOptions
from safeeraser.data import Benchmark
from safeeraser.models import chat
from safeeraser.objectives import parse_method
from safeeraser.records import ForgetPair, Record, RetainPair
from safeeraser.unlearn.stage import run

OPTIONS = UnlearnOptions(
    steps=3, learning_rate=1e-2, batch_size=2, warmup_ratio=0.0, lora=LoraOptions(rank=4, alpha=8.0), seed=7
)
SIZES = [(32, 40), (64, 64), (90, 30)]
SLOTS = ("text1", "text2", "image1", "image2")


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    """Three records whose images differ in size."""
    root = tmp_path_factory.mktemp("benchmark")
    for number, size in enumerate(SIZES):
        Image.new("RGB", size, "red").save(root / f"{number}.png")
        Image.new("RGB", size, "blue").save(root / f"safe{number}.png")
    forget = tuple(ForgetPair(question=q, unsafe_answer="Take [hazard A].", safe_answer="It is a cup.") for q in SLOTS)
    retain = tuple(RetainPair(slot=s, question="What?", short_answer="A cup.", answer="A red cup.") for s in SLOTS)
    common = {"split": "train", "category": "Weapon", "keyword": "axe", "type": "", "forget": forget, "retain": retain}
    records = [
        Record(id=f"r{number}", image=f"{number}.png", safe_image=f"safe{number}.png", **common) for number in range(3)
    ]
    return Benchmark("tiny", root, tuple(records), ("Sorry, I cannot.", "No."), (), "f1")


@pytest.mark.parametrize("method", ["ga", "po+pd"])
@pytest.mark.parametrize("name", sorted(TINY_BUILDERS))
def test_three_steps_move_what_they_should(name, method, tiny_folders, benchmark, tmp_path):
    folder = str(tiny_folders[name])
    loading = ModelOptions(dtype="bfloat16" if method == "ga" else "float32")
    adapter = run(folder, benchmark, parse_method(method), OPTIONS, tmp_path, lambda *_: None, loading)
    moved = [
        bool(t.abs().max() > 0)
        for key, t in load_file(adapter / "adapter_model.safetensors").items()
        if "lora_B" in key
    ]
    assert moved and all(moved)
    vanilla = models.load(folder, dtype=loading.dtype)
    trained = models.load(folder, adapter, dtype=loading.dtype)
    base = dict(vanilla.model.named_parameters())
    frozen = {
        re.sub(r"base_model\.model\.|\.base_layer|\.original_module", "", key): parameter
        for key, parameter in trained.model.named_parameters()
    }
    assert base.keys() <= frozen.keys()
    assert all(torch.equal(frozen[key], parameter) for key, parameter in base.items())
    projector = {k: p for k, p in trained.model.named_parameters() if "modules_to_save" in k}
    assert projector
    for key, parameter in projector.items():
        original = base[re.sub(r"base_model\.model\.|\.modules_to_save\.default", "", key)]
        assert not torch.equal(parameter, original), key
    sample = [Image.new("RGB", SIZES[0], "red")], ["text1"], ["Take [hazard A]."]
    with torch.no_grad():
        before, after = (
            chat.answer_log_probs(vlm.model, *chat.encode_samples(vlm, *sample, 200)).answer.sum()
            for vlm in (vanilla, trained)
        )
    assert after != before
    if method == "ga":
        assert after < before
