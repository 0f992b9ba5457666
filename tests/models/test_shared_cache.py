"""Attention that reads a shared beginning once gives what attention over each row's whole keys gives."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import DynamicCache

from safeeraser.models.shared_cache import SharedCache, attend

HEADS, KEY_HEADS, WIDTH, LENGTH = 4, 2, 8, 5
OF_ROW = [0, 1, 0, 2, 0, 3, 1]
SEEN = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 0, 0, 0, 0]]).bool()
MODULE = SimpleNamespace(num_key_value_groups=HEADS // KEY_HEADS, is_causal=True)


class Both:
    """A shared cache beside plain tensors in which every row has everything."""

    def __init__(self, seen: torch.Tensor = SEEN) -> None:
        self.noise = torch.Generator().manual_seed(0)
        read = DynamicCache()
        first = [self.states(4, KEY_HEADS, LENGTH), self.states(4, KEY_HEADS, LENGTH)]
        read.update(*first, 0)
        self.of_row = torch.tensor(OF_ROW)
        self.cache = SharedCache(read, self.of_row, seen)
        self.keys, self.values = (states[self.of_row] for states in first)
        self.shown = seen[self.of_row]

    def states(self, *sizes: int) -> torch.Tensor:
        return 3 * torch.randn(*sizes, WIDTH, generator=self.noise)

    def step(self, shown: torch.Tensor, masked: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """Attention of new tokens, some of which are padding, ours and over all keys."""
        rows, new = shown.shape
        query, *own = (
            self.states(rows, HEADS, new),
            self.states(rows, KEY_HEADS, new),
            self.states(rows, KEY_HEADS, new),
        )
        self.keys, self.values = (torch.cat(pair, 2) for pair in zip((self.keys, self.values), own, strict=True))
        self.shown = torch.cat([self.shown, shown], 1)
        total = self.shown.shape[1]
        mask = self.shown[:, None, None] & torch.ones(new, total).bool().tril(total - new)
        keys, values = (states.repeat_interleave(HEADS // KEY_HEADS, 1) for states in (self.keys, self.values))
        expected = scaled_dot_product_attention(query, keys, values, mask, scale=0.3).transpose(1, 2)
        length, offset = self.cache.get_mask_sizes(new, 0)
        assert (length, offset) == (total - LENGTH, LENGTH)
        found, _ = attend(
            MODULE, query, *self.cache.update(*own, 0), mask[..., offset:] if masked else None, scaling=0.3
        )
        assert self.cache.get_seq_length() == total
        return found, expected

    def keep(self, rows: list[int]) -> None:
        self.cache.batch_select_indices(torch.tensor(rows))
        self.keys, self.values, self.shown = self.keys[rows], self.values[rows], self.shown[rows]


def test_it_is_that_over_whole_rows_while_rows_leave():
    """Padding behind beginnings and before the rest, several heads to a key's, pictures whose rows have all left."""
    both = Both()
    padded = torch.arange(3) >= torch.tensor([0, 2, 1, 0, 0, 1, 2])[:, None]
    found, expected = both.step(padded)
    torch.testing.assert_close(found[padded], expected[padded])
    for rows in ([0, 1, 2, 3, 4, 5, 6], [1, 2, 4, 6], [1, 2, 3], [2]):
        both.keep(rows)
        for _ in range(2):
            torch.testing.assert_close(*both.step(torch.ones(len(rows), 1).bool()))
    (layer,) = both.cache.layers
    assert layer.first_keys.shape[0] == 1  # of four beginnings the three that no row goes on from are gone


@pytest.mark.parametrize("new", [1, 3])
def test_without_a_mask_a_token_sees_itself_and_those_before(new):
    both = Both(torch.ones_like(SEEN))
    torch.testing.assert_close(*both.step(torch.ones(len(OF_ROW), new).bool(), masked=False))


def test_a_beginning_lies_there_once():
    both = Both()
    both.step(torch.ones(len(OF_ROW), 1).bool())
    (layer,) = both.cache.layers
    assert layer.first_keys.shape == (4, KEY_HEADS, WIDTH, LENGTH)
    assert layer.keys.shape == (len(OF_ROW), KEY_HEADS, 1, WIDTH)


def test_attention_that_does_not_know_of_it_is_noticed():
    """Before the second token: the keys of the first have not come to ``attend``."""
    cache = Both().cache
    new = torch.zeros(len(OF_ROW), KEY_HEADS, 1, WIDTH)
    cache.update(new, new, 0)
    with pytest.raises(RuntimeError, match="does not read the beginning"):
        cache.update(new, new, 0)


@pytest.mark.parametrize(
    "more", [{"softcap": 30.0}, {"sliding_window": 4}, {"s_aux": torch.ones(HEADS)}, {"dropout": 0.1}]
)
def test_what_it_does_not_know_is_refused(more):
    cache = Both().cache
    new = torch.zeros(len(OF_ROW), KEY_HEADS, 1, WIDTH)
    with pytest.raises(RuntimeError, match="behind a shared beginning"):
        attend(MODULE, torch.zeros(len(OF_ROW), HEADS, 1, WIDTH), *cache.update(new, new, 0), None, **more)
