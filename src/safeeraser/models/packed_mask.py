"""The mask of packed rows, and attention under it that computes no score which it hides.

Written out, the mask of a sequence of T tokens is (T, T), and sdpa computes every score of it, most of them to be
hidden: rests of rows do not see each other. ``PackedMask`` goes through a model in place of that mask, and where it
reaches sdpa the shared beginning attends to itself, and every rest to the beginning and itself, in calls of their own.
On a GPU hundreds of small calls take longer than the scores: there, one call attends to each image's rows by itself.
It goes wherever a model takes its mask, into the recomputation of checkpointing as well, and the vision tower, which
gets none, is left alone. FlexAttention reads a mask of its own kind, and leaves out hidden scores by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

_ABOUT = {"__get__", "dim", "size", "numel", "is_floating_point", "is_complex"}
"""What a model, or what wraps it, may ask of the mask: of its attributes, as a method, or of ``torch`` as FSDP does."""


class PackedMask(Tensor):
    """Mask of packed rows, (1, 1, T, T) bool, of ``runs`` (see ``packing.pack``), (pictures, 1 + rows).

    Only sdpa can read it.

    Raises:
        TypeError: If anything else is to be made of it.

    Example:
        >>> mask = PackedMask(torch.tensor([[1, 1, 2]]))  # a token, behind which stand a row's one and another's two
        >>> states = torch.randn(1, 2, 4, 8)
        >>> packed = scaled_dot_product_attention(states, states, states, mask)
        >>> row = states[:, :, [0, 2, 3]]
        >>> apart = scaled_dot_product_attention(row, row, row, is_causal=True)
        >>> mask.shape, torch.allclose(packed[:, :, [0, 2, 3]], apart, atol=1e-6)
        (torch.Size([1, 1, 4, 4]), True)
    """

    runs: list[list[int]]
    """Of each picture: tokens of the shared beginning, and of each rest."""
    seen: dict[tuple[int, int], Tensor]
    """Of each length of beginning and rest: which of these tokens a rest sees, (rest, beginning + rest)."""
    by_image: ByImage | None
    """On a device other than the CPU, where a call takes longer to start than to compute."""

    @staticmethod
    def __new__(cls, runs: Tensor) -> PackedMask:
        """Note the lengths, for which the device is asked once."""
        of_pictures = [[shared, *filter(None, rests)] for shared, *rests in runs.tolist()]
        length = sum(map(sum, of_pictures))
        one = torch.ones((), dtype=torch.bool, device=runs.device)
        mask = one.expand(1, 1, length, length).as_subclass(cls)
        mask.runs = of_pictures
        kinds = {(shared, rest) for shared, *rests in of_pictures for rest in rests}
        mask.seen = {(shared, rest): one.expand(rest, shared + rest).tril(shared) for shared, rest in kinds}
        mask.by_image = None if runs.device.type == "cpu" else ByImage(of_pictures, runs.device)
        return mask

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Attend in parts; answer what is asked of the mask's shape."""
        kwargs = kwargs or {}
        if func is scaled_dot_product_attention:
            return _in_fp32_on_cpu(*args, **kwargs)
        if func.__name__ in _ABOUT:
            with torch._C.DisableTorchFunctionSubclass():
                found = func(*args, **kwargs)
            if not isinstance(found, Tensor):  # .T and the like would be
                return found
        if func is Tensor.to and _stays(*args, **kwargs):  # accelerate's hooks move what every layer is given
            return args[0]
        raise TypeError(f"the mask of packed rows can be read by sdpa alone, and this is {func.__name__}")


def _in_fp32_on_cpu(query: Tensor, key: Tensor, value: Tensor, *args: Any, **options: Any) -> Tensor:
    """``_attend``; its many small gradients take a CPU seven times as long in bfloat16, with AMX even."""
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return _attend(query, key, value, *args, **options)
    with torch.autocast("cpu", enabled=False):
        return _attend(query.float(), key.float(), value.float(), *args, **options).to(query.dtype)


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: PackedMask,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **options: Any,
) -> Tensor:
    """Of (1, heads, T, width) each."""
    options |= {"dropout_p": dropout_p}
    if attn_mask.by_image is not None:
        return attn_mask.by_image.attend(query, key, value, **options)
    # split, not sliced: the gradient of a slice is as large as what it was taken of
    sizes = [size for runs in attn_mask.runs for size in runs]
    parts = zip(*(torch.split(states, sizes, 2) for states in (query, key, value)), strict=True)
    found = []
    for shared, *rests in attn_mask.runs:
        (query, key, value), *others = (next(parts) for _ in range(1 + len(rests)))
        if shared:
            found.append(scaled_dot_product_attention(query, key, value, is_causal=True, **options))
        attend = partial(_rests, [attn_mask.seen[shared, rest] for rest in rests], options)
        # made again for the gradient, or the beginning's keys and values would be kept once for every rest; all states
        # are arguments of their own, as those inside of others would outlive a layer that is checkpointed itself
        states = key, value, *chain.from_iterable(others)
        found += checkpoint(attend, *states, use_reentrant=False, preserve_rng_state=dropout_p > 0)
    return torch.cat(found, 2)


class ByImage:
    """Attention to each image's rows by itself, padded to the longest, in one call."""

    def __init__(self, of_images: Sequence[Sequence[int]], device: Any) -> None:
        """Note the places.

        Args:
            of_images: Of each image: tokens of the shared beginning, and of each rest.
            device: Where it attends.
        """
        # number of each token's run in its image; padding sees itself and the beginning, or its row would hold no score
        numbers = [torch.repeat_interleave(torch.tensor(runs)) for runs in of_images]
        run = pad_sequence(numbers, batch_first=True, padding_value=-1)
        number, length = run.shape
        seen = (run[:, None] == run[:, :, None]) | (run[:, None] == 0)
        self.mask = seen.tril()[:, None].to(device)
        """(images, 1, longest, longest) bool."""
        is_token = run.flatten() >= 0
        self.taken = (is_token.cumsum(0) - 1).to(device)
        """(images * longest,) the place in T of each; of padding, that of the token before it."""
        self.kept = is_token.nonzero()[:, 0].to(device)
        """(T,) where each token stands among these."""
        self.shape = number, length

    def attend(self, query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        """Of (1, heads, T, width) each."""
        # (images, heads, longest, width)
        query, key, value = (self._padded(states[0]).transpose(0, 1) for states in (query, key, value))
        found = scaled_dot_product_attention(query, key, value, self.mask, **options)
        return found.transpose(0, 1).flatten(1, 2).index_select(1, self.kept)[None]

    def _padded(self, states: Tensor) -> Tensor:
        return states.index_select(1, self.taken).view(len(states), *self.shape, -1)


def _rests(masks: Sequence[Tensor], options: Mapping[str, Any], *states: Tensor) -> list[Tensor]:
    """Attention of rests, given keys and values of the beginning, and queries, keys and values of each rest."""
    first, others = states[:2], states[2:]
    found = []
    for mask, query, *own in zip(masks, others[::3], others[1::3], others[2::3], strict=True):
        key, value = (torch.cat(both, 2) for both in zip(first, own, strict=True))
        found.append(scaled_dot_product_attention(query, key, value, mask, **options))
    return found


def _stays(mask: PackedMask, *args: Any, **kwargs: Any) -> bool:
    """Whether ``to`` changes nothing."""
    probe = torch.empty((), dtype=torch.bool, device=mask.device)
    return probe.to(*args, **kwargs) is probe


def block_mask(runs: Tensor) -> BlockMask:
    """Mask of packed rows for FlexAttention, (1, 1, T, T), which leaves out blocks of 128 x 128 that are all hidden.

    Args:
        runs: Of ``packing.pack``, (pictures, 1 + rows).

    Example:
        >>> block_mask(torch.tensor([[1, 1, 2]])).shape
        (1, 1, 4, 4)
    """
    from torch.nn.attention.flex_attention import create_block_mask

    run = torch.arange(runs.numel(), device=runs.device).repeat_interleave(runs.flatten())
    beginning = run - run % runs.shape[1]

    def seen(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & ((run[key] == run[query]) | (run[key] == beginning[query]))

    return create_block_mask(seen, None, None, len(run), len(run), device=runs.device)
