"""``dpo`` against TRL's trainer, run live on a small random model: ``make test-trl``."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("trl", reason="needs trl, which requirements.lock does not pin: make test-trl")

from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer

from safeeraser.objectives import TERMS, TokenLogProbs

WORDS = ["<pad>", "</s>", *"abcdefgh"]
PAIRS = [
    {"prompt": "a b", "chosen": " c d e", "rejected": " f g"},
    {"prompt": "a c", "chosen": " h", "rejected": " f a b d"},
]


def small_model(seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(WORDS), initializer_range=1.0, pad_token_id=0, eos_token_id=1, **shape)
    return LlamaForCausalLM(config).eval()


def small_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>")


def said(model: LlamaForCausalLM, batch: dict[str, Tensor]) -> Tensor:
    """Log-probability of each token but the first, ``(2, L - 1)``, chosen and rejected."""
    ids = batch["input_ids"]
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=batch["attention_mask"]).logits[:, :-1]
    return logits.float().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_dpo_is_the_sigmoid_loss_of_trl(beta: float, tmp_path: Path) -> None:
    policy, reference = small_model(0), small_model(1)
    options: dict[str, Any] = {"report_to": [], "use_cpu": True, "bf16": False, "gradient_checkpointing": False}
    trainer = DPOTrainer(
        small_model(0),
        ref_model=small_model(1),
        args=DPOConfig(str(tmp_path), beta=beta, per_device_train_batch_size=1, **options),
        train_dataset=Dataset.from_list(PAIRS),
        processing_class=small_tokenizer(),
    )
    trainer.model.eval()  # no dropout
    losses = []
    for row in trainer.train_dataset:
        batch = trainer.data_collator([row])
        theirs = trainer.compute_loss(trainer.model, dict(batch)).item()
        mask = batch["completion_mask"][:, 1:].bool()
        answer, before = said(policy, batch), said(reference, batch)
        chosen, rejected = (TokenLogProbs(answer[i : i + 1], mask[i : i + 1], before[i : i + 1]) for i in (0, 1))
        assert TERMS.get("dpo")({"refusal": chosen, "forget": rejected}, beta=beta).item() == pytest.approx(theirs)
        losses.append(theirs)
    assert losses[0] != pytest.approx(losses[1], rel=1e-2)
