import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_families import TINY_BUILDERS
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from safeeraser import models
from safeeraser.config import LoraOptions
from safeeraser.core import files
from safeeraser.core.errors import UserError
from safeeraser.models import VisionLanguageModel, adapters, chat

OPTIONS = LoraOptions(rank=4, alpha=16.0, dropout=0.5)
SINE = replace(OPTIONS, projector="sine")


def batch(vlm: VisionLanguageModel) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    images = [Image.new("RGB", (32, 32), "red"), Image.new("RGB", (48, 32), "blue")]
    return chat.encode_samples(vlm, images, ["What is shown?", "Is it a cat?"], ["A cat.", "No, a mat."], 200)


def distribution(vlm: VisionLanguageModel) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat(chat.answer_log_probs(vlm.model, *batch(vlm)).logits).log_softmax(-1)


def disturb(vlm: VisionLanguageModel) -> None:
    """Move every trainable weight."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in vlm.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)


@pytest.fixture(params=sorted(TINY_BUILDERS))
def folder(request: pytest.FixtureRequest, tiny_folders: dict[str, Path]) -> Path:
    return tiny_folders[request.param]


@cache
def projector_of(folder: Path) -> str:
    """Its name; each of these families has one."""
    (projector,) = models.parts(models.on_meta(models.read_config(str(folder)))).projector
    return projector


@pytest.fixture(params=[OPTIONS, SINE], ids=lambda options: options.projector)
def adapted(request: pytest.FixtureRequest, folder: Path) -> VisionLanguageModel:
    torch.manual_seed(0)
    vlm = adapters.attach(models.load(str(folder)), request.param)
    disturb(vlm)
    vlm.model.eval()
    return vlm


@pytest.mark.parametrize("options", [OPTIONS, SINE], ids=lambda options: options.projector)
def test_a_fresh_adapter_changes_nothing(folder, options):
    base = distribution(models.load(str(folder)))
    vlm = adapters.attach(models.load(str(folder)), options)
    assert torch.equal(distribution(vlm), base)


def test_lora_and_projector_are_trainable_and_nothing_else(folder):
    """LoRA on every linear layer of the language model and no other; the tower is frozen but for a projector in it."""
    vlm = adapters.attach(models.load(str(folder)), OPTIONS)
    base = models.load(str(folder)).model
    found = models.parts(base)
    (projector,) = found.projector
    trainable = {name.removeprefix("base_model.model.") for name, p in vlm.model.named_parameters() if p.requires_grad}
    with_lora = {re.sub(r"\.lora_[AB]\..*", "", name) for name in trainable if ".lora_" in name}
    language_model = base.get_submodule(found.language_model)
    linears = {n for n, m in language_model.named_modules() if isinstance(m, torch.nn.Linear)}
    assert linears and with_lora == {f"{found.language_model}.{name}" for name in linears}
    assert {name for name in trainable if ".lora_" not in name} == {
        f"{projector}.modules_to_save.default.{name}" for name, _ in base.get_submodule(projector).named_parameters()
    }
    tower = vlm.model.base_model.model.get_submodule(found.tower)
    assert not any(p.requires_grad for name, p in tower.named_parameters() if "modules_to_save" not in name)
    assert any("modules_to_save" in name for name, _ in tower.named_parameters()) == projector.startswith(found.tower)
    parts = {found.language_model, projector, found.tower, "lm_head"}
    loose = [name for name, _ in base.named_parameters() if not name.startswith(tuple(parts))]
    assert all(name == "model.image_newline" for name in loose), "a part of the model that no row of the table names"


def test_the_reference_is_exactly_the_base(folder, adapted):
    base = distribution(models.load(str(folder)))
    assert not torch.allclose(distribution(adapted), base)
    adapted.model.train()  # with dropout .5 any training mode left on would show
    with adapters.reference_mode(adapted.model):
        assert torch.equal(distribution(adapted), base)
        assert not torch.is_grad_enabled()
    assert adapted.model.training and torch.is_grad_enabled()


def test_a_reference_between_forward_and_backward_does_not_change_gradients(adapted):
    def gradients(with_reference: bool) -> dict[str, torch.Tensor]:
        adapted.model.zero_grad()
        loss = -chat.answer_log_probs(adapted.model, *batch(adapted)).answer.sum()
        if with_reference:
            with adapters.reference_mode(adapted.model):
                chat.answer_log_probs(adapted.model, *batch(adapted))
        loss.backward()
        return {n: p.grad.clone() for n, p in adapted.model.named_parameters() if p.grad is not None}

    plain, referenced = gradients(False), gradients(True)
    trainable = {name for name, p in adapted.model.named_parameters() if p.requires_grad}
    assert plain.keys() == referenced.keys() == trainable
    assert all(torch.equal(plain[name], referenced[name]) for name in plain)


def test_what_is_frozen_beside_the_language_model_never_trains(tiny_llava):
    """A tower with dropout or batch norms (FastVLM's) would answer otherwise, and these would move unsaved."""
    vlm = adapters.attach(models.load(str(tiny_llava)), replace(OPTIONS, dropout=0.0))
    parts = models.parts(vlm.model.get_base_model())
    tower, projector, decoder = (
        vlm.model.get_base_model().get_submodule(name) for name in (parts.tower, *parts.projector, parts.language_model)
    )
    for module in tower.modules():
        if hasattr(module, "dropout"):
            module.dropout = 0.5
    expected = distribution(vlm)
    vlm.model.train()
    assert torch.equal(distribution(vlm), expected)
    assert (tower.training, projector.training, decoder.training) == (False, True, True)


def test_an_error_in_the_block_puts_the_adapter_back_on(adapted):
    before = distribution(adapted)
    with pytest.raises(KeyboardInterrupt), adapters.reference_mode(adapted.model):
        raise KeyboardInterrupt
    assert torch.equal(distribution(adapted), before)


def test_saved_and_loaded_it_is_the_same(folder, adapted, tmp_path):
    adapters.save(adapted, tmp_path / "a", {"method": "po+pd"})
    loaded = models.load(str(folder), tmp_path / "a")
    assert torch.equal(distribution(loaded), distribution(adapted))
    origin = files.read_json(tmp_path / "a" / adapters.ORIGIN)
    assert origin == {
        "base": str(folder),
        "fingerprint": models.fingerprint(str(folder)),
        "projector": adapters.projector(adapted),
        "info": {"method": "po+pd"},
    }


def test_saving_twice_writes_the_same_bytes(adapted, tmp_path):
    for name in ("a", "b"):
        adapters.save(adapted, tmp_path / name, {})
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted([adapters.WEIGHTS, adapters.CONFIG, adapters.ORIGIN])
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)


def test_merged_it_answers_the_same(adapted):
    expected = distribution(adapted)
    merged = models.merge(adapted)
    torch.testing.assert_close(distribution(merged), expected, atol=1e-4, rtol=1e-4)
    assert not [name for name, _ in merged.model.named_parameters() if "lora" in name]
    assert models.merge(merged) is merged


def projector_weights(vlm: VisionLanguageModel) -> dict[str, torch.Tensor]:
    """Of the tuned copy, as its layers see them, norms included."""
    (wrapper,) = [m for name, m in vlm.model.named_modules() if name.endswith(projector_of(Path(vlm.name)))]
    found = {}
    for index, module in enumerate(wrapper.modules_to_save["default"].modules()):
        if isinstance(module, ParametrizationList):
            continue
        names = [name for name, _ in module.named_parameters(recurse=False)]
        names += list(module.parametrizations) if is_parametrized(module) else []
        found |= {f"{index}.{name}": getattr(module, name) for name in names}
    return found


def test_sine_trains_the_angle_alone_and_bounds_the_update(folder):
    """W + sin(dW): dW is trainable and W is not; sin(pi/6) = 0.5, and no weight ever moves by more than 1."""
    vlm = adapters.attach(models.load(str(folder)), SINE)
    before = {name: value.detach().clone() for name, value in projector_weights(vlm).items()}
    deltas = {n: p for n, p in vlm.model.named_parameters() if p.requires_grad and ".lora_" not in n}
    assert len(deltas) == len(before) and all(n.endswith(".original") for n in deltas)
    assert all((p == 0).all() for p in deltas.values())
    with torch.no_grad():
        for parameter in deltas.values():
            parameter.fill_(torch.pi / 6)
    for name, value in projector_weights(vlm).items():
        torch.testing.assert_close(value, before[name] + 0.5)
    with torch.no_grad():
        for parameter in deltas.values():
            parameter.uniform_(-100, 100)
    for name, value in projector_weights(vlm).items():
        assert (value - before[name]).abs().max() <= 1 + 1e-6


def test_merged_sine_is_a_plain_projector(folder):
    vlm = adapters.attach(models.load(str(folder)), SINE)
    disturb(vlm)
    expected = {name: value.detach().clone() for name, value in projector_weights(vlm).items()}
    merged = models.merge(vlm).model
    plain = dict(merged.get_submodule(projector_of(folder)).named_parameters())
    assert (
        plain.keys()
        == dict(models.load(str(folder)).model.get_submodule(projector_of(folder)).named_parameters()).keys()
    )
    assert {v.sum().item() for v in plain.values()} == {v.sum().item() for v in expected.values()}


def test_adapters_written_before_there_was_a_choice_are_full(folder, tmp_path):
    vlm = adapters.attach(models.load(str(folder)), OPTIONS)
    adapters.save(vlm, tmp_path, {})
    origin = files.read_json(tmp_path / adapters.ORIGIN)
    del origin["projector"]
    files.write_json(tmp_path / adapters.ORIGIN, origin)
    assert adapters.projector(models.load(str(folder), tmp_path)) == "full"


def test_an_unknown_projector_is_refused_with_what_there_is(folder):
    with pytest.raises(UserError, match="projector 'cosine' is unknown: give one of full, lora, frozen, sine"):
        adapters.attach(models.load(str(folder)), replace(OPTIONS, projector="cosine"))


def test_an_adapter_of_other_weights_is_refused(adapted, tiny_other_weights, tmp_path):
    adapters.save(adapted, tmp_path / "a", {})
    with pytest.raises(UserError, match="with other weights than .*other"):
        models.load(str(tiny_other_weights), tmp_path / "a")


@pytest.mark.parametrize("problem", ["missing", "foreign", "shape"])
def test_tensors_that_do_not_fit_are_refused(problem, folder, adapted, tmp_path):
    adapters.save(adapted, tmp_path, {})
    tensors = load_file(tmp_path / adapters.WEIGHTS)
    name = sorted(tensors)[0]
    if problem == "missing":
        del tensors[name]
        reason = f"{re.escape(name)} is missing"
    elif problem == "foreign":
        tensors["base_model.model.lm_head.lora_A.weight"] = torch.zeros(4, 32)
        reason = r"base_model.model.lm_head.lora_A.weight is not part of the model"
    else:
        tensors[name] = torch.zeros(3, 3)
        reason = rf"{re.escape(name)} has shape \(3, 3\) instead of"
    save_file(tensors, tmp_path / adapters.WEIGHTS)
    with pytest.raises(UserError, match=reason):
        models.load(str(folder), tmp_path)


@pytest.mark.parametrize("name", [adapters.WEIGHTS, adapters.CONFIG, adapters.ORIGIN])
def test_a_missing_file_is_named(name, folder, adapted, tmp_path):
    adapters.save(adapted, tmp_path, {})
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing"):
        models.load(str(folder), tmp_path)


@pytest.mark.parametrize("name", [adapters.WEIGHTS, adapters.CONFIG, adapters.ORIGIN])
def test_a_git_lfs_pointer_is_named_as_one(name, tiny_llava, tmp_path):
    adapters.save(adapters.attach(models.load(str(tiny_llava)), OPTIONS), tmp_path, {})
    (tmp_path / name).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 14\n")
    with pytest.raises(UserError, match=f"{name} is a Git LFS pointer"):
        models.load(str(tiny_llava), tmp_path)


def test_names_without_peft_s_prefix_are_refused(folder, adapted, tmp_path):
    adapters.save(adapted, tmp_path, {})
    tensors = load_file(tmp_path / adapters.WEIGHTS)
    save_file(
        {name.removeprefix("base_model.model."): value for name, value in tensors.items()}, tmp_path / adapters.WEIGHTS
    )
    with pytest.raises(UserError, match=r"base_model.model.*is missing; .* more; unlearn again"):
        models.load(str(folder), tmp_path)


def test_truncated_weights_are_refused(folder, adapted, tmp_path):
    adapters.save(adapted, tmp_path, {})
    weights = tmp_path / adapters.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(UserError, match="cannot be read"):
        models.load(str(folder), tmp_path)


def test_a_configuration_that_is_no_lora_is_refused(folder, adapted, tmp_path):
    adapters.save(adapted, tmp_path, {})
    files.write_json(tmp_path / adapters.CONFIG, {"rank_of_something": 3})
    with pytest.raises(UserError, match="no LoRA configuration"):
        models.load(str(folder), tmp_path)


def test_two_adapters_at_once_are_refused(adapted):
    with pytest.raises(UserError, match="has an adapter already"):
        adapters.attach(adapted, OPTIONS)


@pytest.mark.parametrize("change", [{"rank": 0}, {"alpha": 0.0}, {"dropout": 1.0}])
def test_options_out_of_range_are_refused(change, folder):
    with pytest.raises(UserError, match="rank must be at least 1"):
        adapters.attach(models.load(str(folder)), replace(OPTIONS, **change))


@pytest.mark.parametrize("kind", ["lora", "frozen"])
def test_a_projector_by_lora_or_frozen_is_saved_loaded_and_merged_like_the_others(kind, tiny_llava, tmp_path):
    vlm = adapters.attach(models.load(str(tiny_llava)), replace(OPTIONS, projector=kind))
    trained = [name for name, p in vlm.model.named_parameters() if p.requires_grad and projector_of(tiny_llava) in name]
    assert len(trained) == (4 if kind == "lora" else 0) and all(".lora_" in name for name in trained)
    disturb(vlm)
    vlm.model.eval()
    adapters.save(vlm, tmp_path, {})
    loaded = models.load(str(tiny_llava), tmp_path)
    assert adapters.projector(vlm) == adapters.projector(loaded) == kind
    assert torch.equal(distribution(loaded), distribution(vlm))
    torch.testing.assert_close(distribution(models.merge(loaded)), distribution(vlm), atol=1e-4, rtol=1e-4)


def test_a_projector_over_both_limits_gets_a_lora_and_a_line_names_its_size(tiny_llava, monkeypatch, capsys):
    monkeypatch.setattr(adapters, "LARGEST_PROJECTOR", 1000)
    assert adapters.projector(adapters.attach(models.load(str(tiny_llava)), OPTIONS)) == "lora"
    assert "a LoRA on the projector, as training its 0M weights" in capsys.readouterr().err
    monkeypatch.setattr(adapters, "LARGEST_SHARE", 0.5)
    assert adapters.projector(adapters.attach(models.load(str(tiny_llava)), OPTIONS)) == "full"
