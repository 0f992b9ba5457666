"""Terms against the losses that the peers' own code gives for the same logits (``conformance.json``).

Each row of ``expected`` holds the values of their function, its source with the commit, and by how much they are larger
than ours where the scales differ (DPO). What a factor means for training is in docs/papers.md.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, tensor
from torch.nn.utils.rnn import pad_sequence

from safeeraser.objectives import TERMS, Rows, TokenLogProbs

FILE = json.loads(Path(__file__).with_name("conformance.json").read_text())
PARTS: dict[Rows, str] = {"forget": "answer", "refusal": "refusal", "retain": "answer", "decouple": "answer"}
"""Which part of a sample stands for each kind of rows."""


def log_probs(rows: Rows) -> TokenLogProbs:
    """All samples of the file as one padded batch, in float64."""
    parts = [sample[PARTS[rows]] for sample in FILE["samples"]]

    def padded(name: str) -> Tensor:
        return pad_sequence([tensor(part[name], dtype=torch.float64) for part in parts], batch_first=True)

    tokens = padded("tokens").long()
    mask = torch.arange(tokens.shape[1]) < tensor([[len(part["tokens"])] for part in parts])
    said, reference = padded("logits").log_softmax(-1), padded("reference_logits").log_softmax(-1)
    answers = [of.gather(-1, tokens[..., None])[..., 0] for of in (said, reference)]
    return TokenLogProbs(answers[0], mask, answers[1], said, reference, tokens=tokens)


def ours(name: str, **options: Any) -> Tensor:
    term = TERMS.get(name)
    return term({rows: log_probs(rows) for rows in term.rows}, **options)


@pytest.mark.parametrize("row", [pytest.param(row, id=f"{row['term']}-{row['options']}") for row in FILE["expected"]])
def test_losses_are_those_of_the_peers(row: dict[str, Any]) -> None:
    found = row["factor"] * ours(row["term"], **row["options"])
    assert found.tolist() == pytest.approx(row["values"], rel=1e-9, abs=1e-12)


def test_every_term_that_a_peer_has_is_in_the_file() -> None:
    """RMU reads states and not logits; po and pd are cross-entropies, as nll is."""
    assert {row["term"] for row in FILE["expected"]} == set(TERMS.names()) - {"rmu", "rmu_retain", "po", "pd"}


def test_npo_is_the_peers_over_the_tokens_of_the_answer() -> None:
    lengths = log_probs("forget").mask.sum(-1)
    rows = [row for row in FILE["expected"] if row["term"] == "npo"]
    for row in rows:
        theirs = tensor(row["values"], dtype=torch.float64)
        torch.testing.assert_close(ours("npo", beta=row["options"]["beta"]), theirs / lengths, rtol=1e-9, atol=0)
    assert rows


def test_a_padded_batch_gives_each_sample_the_loss_that_it_has_alone() -> None:
    whole = log_probs("forget")
    for name in ("wga", "satimp", "undial", "ce_u"):
        for i, length in enumerate(whole.mask.sum(-1).tolist()):
            fields = {k: v[i : i + 1, :length] for k, v in vars(whole).items() if v is not None}
            alone = TERMS.get(name)({"forget": TokenLogProbs(**fields)})
            torch.testing.assert_close(alone[0], ours(name)[i], rtol=1e-12, atol=0)
