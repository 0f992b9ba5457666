"""Option groups that several subcommands share."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from safeeraser.core.errors import UserError

Protocol = Literal["greedy", "official"]
Preset = Literal["default", "official"]
OnBad = Literal["fail", "skip"]
Projector = Literal["full", "lora", "frozen", "sine"]
TokenLimit = Literal["max_tokens", "max_completion_tokens"]
Quantization = Literal["none", "8bit", "4bit"]
Attention = Literal["auto", "eager", "sdpa", "flash_attention_2", "flex_attention"]
GroupBy = Literal["none", "pair", "image"]
Tracker = Literal["none", "tensorboard", "wandb", "trackio"]
T = TypeVar("T")
PATH = "path"
FilePath = Annotated[T, PATH]
"""Type of an option that may name a file or folder, as ``FilePath[str | None]``: ``~`` in it is the home folder."""


@dataclass
class LoraOptions:
    """Which weights unlearning may change."""

    rank: int = 32
    """LoRA rank r on every linear layer of the language model."""
    alpha: float = 256.0
    """LoRA alpha; the update is scaled by alpha / rank."""
    dropout: float = 0.05
    """LoRA dropout."""
    projector: Projector = "full"
    """How the projector is tuned: 'full' (its own weights; 'lora' in place of it where these are over 200M and over 2 %
    of the model), 'lora' (on its linear layers), 'frozen', or 'sine' (SineProject: W + sin(dW), W frozen)."""


@dataclass
class UnlearnOptions:
    """How to unlearn. The defaults are the paper's; ``mini-llava`` brings its own budget (see ``unlearn --help``)."""

    preset: Preset = "default"
    """Term weights where the method gives none: 'default' (1 each) or 'official' (the official code's)."""
    lora: LoraOptions = field(default_factory=LoraOptions)
    """LoRA rank, alpha, dropout, and how the projector is tuned."""
    learning_rate: float = 1e-4
    """Peak learning rate of the cosine schedule."""
    projector_rate: float | None = None
    """That of a projector whose own weights are tuned ('full', 'sine'): LLaVA's mm_projector_lr. None: the same."""
    warmup_ratio: float = 0.06
    """Share of the steps in which the rate rises linearly."""
    epochs: float = 10.0
    """Passes over the training triples; steps, if given, wins."""
    steps: int | None = None
    """Optimizer steps in all."""
    global_batch: int | None = None
    """Triples per optimizer step on all processes together; None: batch_size x accumulation x processes, or 32, the
    paper's, where neither is given."""
    batch_size: int | None = None
    """Triples per forward pass on each process; None: as many of the step's as fit on the GPU (16 without one)."""
    accumulation: int | None = None
    """Forward passes per optimizer step; None: what makes up global_batch. With batch_size it goes before it."""
    weight_decay: float = 0.01
    """AdamW weight decay."""
    max_grad_norm: float = 1.0
    """Gradient norm at which gradients are clipped."""
    max_length: int = 512
    """Longest sample in tokens after the image; longer answers are cut."""
    terms: dict[str, Any] = field(default_factory=dict)
    """Options of terms by name, such as {npo_beta: 0.5}; each may be given as an option of its own."""
    rmu_layer: int | None = None
    """Layer of the language model, from 1, whose states RMU reads; none: a quarter of the depth, rounded up."""
    seed: int = 233
    """Seed of sample order, refusals, dropout and LoRA initialisation."""
    gradient_checkpointing: bool = False
    """Compute activations twice instead of keeping them: less memory, about a third more time, the same adapter."""
    pack: bool = True
    """Run rows about one image as one sequence, the image once, where the model allows it: the same loss and
    gradient in less time; false: row by row."""
    group_by: GroupBy = "none"
    """Order of the triples: 'none' (shuffled), 'pair' or 'image' (two, or all, of those about one image stay
    together, the groups are shuffled), with which more rows of a step share their image."""
    text_forget: float = 0.0
    """Share of the triples whose forget question is trained on without its image, drawn anew in every epoch."""
    pd_noise: float = 0.0
    """Share of the PD questions with words left out, replaced and added, drawn anew in every epoch: so that safe
    images are answered however it is asked."""
    saliency: float | None = None
    """MMUnlearner's gradient mask: forget terms change only weights whose Fisher information on unsafe answers is at
    least this many times that on retain answers; 1: the paper's. None: no mask."""
    cache_reference: bool = False
    """Run the reference model once per sample and keep its log-probabilities; for npo and dpo, not kl, undial, rmu."""
    checkpoint_steps: float = 0.05
    """Optimizer steps between checkpoints; below 1: a share of all steps; 0: none. A killed run goes on from there."""
    stop: str | None = None
    """Stop early, as soon as this holds on held-out train records: such as 'ASR<=2 and RR>=97', in percent. A fifth of
    the train records is then held out of training. None: all steps."""
    stop_every: int = 20
    """Optimizer steps between two checks of stop."""
    stop_questions: int = 48
    """Held-out questions that a check of stop asks of each set, one of a record."""
    tracker: Tracker = "none"
    """Where the log goes beside train.jsonl: 'tensorboard', 'wandb' or 'trackio' (each has to be installed)."""


def check_tracker(tracker: Tracker) -> None:
    """Raise UserError if the tracker's package is not installed."""
    if tracker != "none" and importlib.util.find_spec(tracker) is None:
        raise UserError(
            f"tracker {tracker!r} is not installed: run 'pip install {tracker}', or give --training.tracker none"
        )


GLOBAL_BATCH = 32
"""The paper's: batch 1 x accumulation 16 x 2 processes."""
BATCH_SIZE = 16
"""Of a forward pass where nothing is given and no GPU's memory known."""


@dataclass(frozen=True)
class StepBatch:
    """How the triples of an optimizer step are spread."""

    batch_size: int
    accumulation: int
    processes: int

    @property
    def global_batch(self) -> int:
        """Triples of a step."""
        return self.batch_size * self.accumulation * self.processes


def step_batch(options: UnlearnOptions, processes: int = 1, fits: int | None = None) -> StepBatch:
    """Spread the triples of an optimizer step over processes and forward passes.

    Args:
        options: ``global_batch``, ``batch_size``, ``accumulation``; the last two go before the first.
        processes: That share a step.
        fits: Triples that fit through the model at once, where ``batch_size`` is not given.

    Raises:
        UserError: If ``global_batch`` cannot be made up of whole forward passes.

    Example:
        >>> step_batch(UnlearnOptions(), processes=2, fits=5)
        StepBatch(batch_size=4, accumulation=4, processes=2)
        >>> step_batch(UnlearnOptions(global_batch=32, batch_size=1)).accumulation
        32
        >>> step_batch(UnlearnOptions(batch_size=4)).global_batch
        4
    """
    wanted, batch, accumulation = options.global_batch, options.batch_size, options.accumulation
    if not _is_shared_out(options):
        return StepBatch(BATCH_SIZE if batch is None else batch, accumulation or 1, processes)
    wanted = GLOBAL_BATCH if wanted is None else wanted
    of_process, rest = divmod(wanted, processes * (accumulation or 1) * (batch or 1))
    if rest or of_process < 1:
        given = {"processes": processes, "batch_size": batch, "accumulation": accumulation}
        factors = " x ".join(f"{value} {name}" for name, value in given.items() if value)
        raise UserError(
            f"training.global_batch: {wanted} triples are not a whole number of passes of {factors}: give a multiple "
            f"of {processes * (accumulation or 1) * (batch or 1)}"
        )
    if batch:
        return StepBatch(batch, of_process, processes)
    if accumulation:
        return StepBatch(of_process, accumulation, processes)
    most = max(1, BATCH_SIZE if fits is None else fits)
    batch = next(size for size in range(min(most, of_process), 0, -1) if of_process % size == 0)
    return StepBatch(batch, of_process // batch, processes)


def batch_values(options: UnlearnOptions) -> dict[str, int | None]:
    """What of the batch decides the numbers, as files of runs hold it; where both parts are given, only these.

    Example:
        >>> batch_values(UnlearnOptions(batch_size=4)), batch_values(UnlearnOptions())
        ({'batch_size': 4, 'accumulation': 1}, {'batch_size': None, 'accumulation': None, 'global_batch': 32})
    """
    wanted, batch, accumulation = options.global_batch, options.batch_size, options.accumulation
    if not _is_shared_out(options):
        whole = BATCH_SIZE if batch is None else batch
        return {"batch_size": whole, "accumulation": 1 if accumulation is None else accumulation}
    wanted = GLOBAL_BATCH if wanted is None else wanted
    return {"batch_size": batch, "accumulation": accumulation, "global_batch": wanted}


def training_values(options: UnlearnOptions) -> dict[str, Any]:
    """Training options as files of runs hold them; those that came later only where they are not as all was before.

    Example:
        >>> training_values(UnlearnOptions(group_by="image")).keys() - training_values(UnlearnOptions()).keys()
        {'group_by'}
    """
    values = asdict(options)
    del values["global_batch"]
    if options.stop is None:
        del values["stop"], values["stop_every"], values["stop_questions"]
    later: dict[str, Any] = {"pack": True, "group_by": "none", "text_forget": 0.0, "pd_noise": 0.0}
    later |= {"saliency": None, "projector_rate": None}
    return {name: value for name, value in values.items() if value != later.get(name, ...)} | batch_values(options)


def _is_shared_out(options: UnlearnOptions) -> bool:
    """Whether the triples of a step are a given number, whatever their parts are; else the parts make up the step."""
    missing = [options.batch_size, options.accumulation].count(None)
    return missing == 2 or (missing == 1 and options.global_batch is not None)


class Sampling(NamedTuple):
    """How answers are drawn under a protocol; every question but a forget question has one sample."""

    samples: int
    """Of each forget question."""
    temperature: float
    top_p: float


_PROTOCOLS: dict[str, Sampling] = {"greedy": Sampling(1, 0.0, 1.0), "official": Sampling(3, 1.0, 0.9)}


def sampling(protocol: str) -> Sampling:
    """How answers are drawn under a protocol (official: SafeEraser, arXiv 2502.12520).

    Example:
        >>> sampling("official")
        Sampling(samples=3, temperature=1.0, top_p=0.9)
    """
    if protocol not in _PROTOCOLS:
        raise UserError(f"unknown protocol {protocol!r}: available: {', '.join(sorted(_PROTOCOLS))}")
    return _PROTOCOLS[protocol]


@dataclass
class ModelOptions:
    """How a model is loaded; what hardware or packages do not allow is refused, never replaced by something else."""

    dtype: str = "auto"
    """'auto' (the checkpoint's own), 'float32', 'bfloat16' or 'float16'."""
    device: str = "auto"
    """'auto' (the GPU if there is one), 'cpu', 'cuda', 'cuda:1', ..."""
    quantization: Quantization = "none"
    """'8bit' or '4bit': the frozen weights but for projector and head, with bitsandbytes; meant for a CUDA GPU."""
    attention: Attention = "auto"
    """Implementation: 'auto' (the library's choice), 'eager', 'sdpa', 'flash_attention_2' or 'flex_attention'."""


@dataclass
class GenerationOptions:
    """How models answer."""

    protocol: Protocol = "greedy"
    """'greedy' (one deterministic answer per question) or 'official' (3 samples per forget question, 1 elsewhere,
    temperature 1.0, top-p 0.9)."""
    max_new_tokens: int = 512
    """Longest answer in tokens."""
    batch_size: int = 8
    """Questions answered at once; the longest go first."""
    seed: int = 0
    """Seed of the sampling; greedy answers do not depend on it."""
    thinking: bool = False
    """Let a model think before it answers, where its chat template has a switch for that: the trace is judged apart
    from the answer. It counts as new tokens: raise max_new_tokens. false: the template is told not to."""


def generation_values(options: GenerationOptions) -> dict[str, Any]:
    """Generation options as files of runs hold them: thinking, which came later, only where it is on.

    Example:
        >>> "thinking" in generation_values(GenerationOptions())
        False
    """
    return {name: value for name, value in asdict(options).items() if name != "thinking" or value}


def deciding_values(options: GenerationOptions) -> dict[str, Any]:
    """Those of them that decide what a model is asked: neither how many at once, nor with which seed.

    Example:
        >>> deciding_values(GenerationOptions(thinking=True))
        {'protocol': 'greedy', 'max_new_tokens': 512, 'thinking': True}
    """
    return {name: value for name, value in generation_values(options).items() if name not in ("batch_size", "seed")}
