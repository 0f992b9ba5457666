import torch
from transformers import DynamicCache, LlamaConfig

from safeeraser.models.cache import RoomyLayer, roomy_cache

CONFIG = LlamaConfig(num_hidden_layers=2, num_attention_heads=2, hidden_size=8)


def step(generator: torch.Generator, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    keys, values = torch.randn(2, 3, 2, length, 4, generator=generator)
    return keys, values


def test_it_holds_what_the_plain_cache_holds_beyond_its_first_room():
    generator = torch.Generator().manual_seed(0)
    plain, roomy = DynamicCache(config=CONFIG), roomy_cache(CONFIG)
    for length in [7, *[1] * 140]:
        for layer in range(2):
            keys, values = step(generator, length)
            expected, found = plain.update(keys, values, layer), roomy.update(keys, values, layer)
            assert torch.equal(expected[0], found[0]) and torch.equal(expected[1], found[1])
    assert roomy.get_seq_length() == plain.get_seq_length() == 147


def test_keys_and_values_put_in_from_outside_are_kept():
    generator = torch.Generator().manual_seed(0)
    layer = RoomyLayer()
    layer.update(*step(generator, 5))
    kept_keys, kept_values = layer.keys[[2, 0]].clone(), layer.values[[2, 0]].clone()
    layer.batch_select_indices(torch.tensor([2, 0]))
    keys, values = (states[:2] for states in step(generator, 1))
    found = layer.update(keys, values)
    assert torch.equal(found[0], torch.cat([kept_keys, keys], 2))
    assert torch.equal(found[1], torch.cat([kept_values, values], 2))


def test_after_a_reset_it_is_empty():
    layer = RoomyLayer()
    layer.update(*step(torch.Generator().manual_seed(0), 5))
    layer.reset()
    keys, values = step(torch.Generator().manual_seed(1), 2)
    assert torch.equal(layer.update(keys, values)[0], keys)


def test_layers_with_a_window_stay_as_they_are():
    config = LlamaConfig(
        num_hidden_layers=2, num_attention_heads=2, hidden_size=8, sliding_window=4,
        layer_types=["sliding_attention", "full_attention"],
    )  # fmt: skip
    assert [type(layer).__name__ for layer in roomy_cache(config).layers] == ["DynamicSlidingWindowLayer", "RoomyLayer"]
