"""Export: a finished cell -> a folder that plain ``transformers`` or PEFT loads, with a model card."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from safeeraser import cell, model_card, models, store
from safeeraser.errors import UserError
from safeeraser.records import Score


def run(folder: Path, out: Path, kind: str = "merged") -> Path:
    """Write a cell's model as a checkpoint, or its adapter in PEFT's layout, with the card as ``README.md``.

    ``merged``: the adapter is folded into the weights; ``AutoModelForImageTextToText`` and ``AutoProcessor`` load the
    folder. ``adapter``: ``PeftModel.from_pretrained`` puts it on the base model; a sine projector becomes a plain one.

    Args:
        folder: A cell folder, ``runs/NAME/cells/MODEL/METHOD/seed-S``, with ``adapter/`` and ``scores.json``.
        out: Folder to write; must not hold anything yet. It appears whole or not at all.
        kind: ``merged`` or ``adapter``.

    Returns:
        ``out``.

    Raises:
        UserError: If the folder is no finished cell or has no adapter, the base model is not there any more, the kind
            is unknown, or ``out`` holds something.

    Example:
        >>> run(Path("runs/bench/cells/mini-llava/po+pd/seed-0"), Path("export"))  # doctest: +SKIP
        PosixPath('export')
    """
    folder, out = Path(folder), Path(out)
    if kind not in KINDS:
        raise UserError(f"export kind {kind!r} is unknown: give one of {', '.join(KINDS)}")
    spec = _finished(folder)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not an empty folder: choose another --out")
    vlm = models.load(spec.model, folder / "adapter")
    temporary = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    KINDS[kind](vlm, temporary)
    card = model_card.text(spec, _overall(folder), _before(folder), out.resolve().name, kind)
    with store.atomic(temporary / "README.md") as file:
        file.write(card)
    out.parent.mkdir(parents=True, exist_ok=True)
    os.replace(temporary, out)
    return out


def push(folder: Path, repository: str) -> str:
    """Upload an exported folder to the Hugging Face hub, as a private repository if it is new; returns its address.

    Args:
        folder: Folder written by ``run``.
        repository: ``OWNER/NAME``.

    Raises:
        UserError: If there is no token, or the hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    check_push(repository)
    hub = HfApi()
    try:
        address = hub.create_repo(repository, private=True, exist_ok=True)
        hub.upload_folder(repo_id=repository, folder_path=folder, commit_message="Export from safeeraser")
    except (HfHubHTTPError, OSError) as error:
        raise UserError(
            f"--push {repository}: the hub cannot be reached or refuses ({error}); {folder} is whole"
        ) from None
    return str(address)


def check_push(repository: str) -> None:
    """Check what can be checked before anything is written.

    Raises:
        UserError: If the name is no ``OWNER/NAME`` or there is no token.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UserError(f"--push {repository}: {error}") from None
    if repository.count("/") != 1:
        raise UserError(f"--push {repository}: give OWNER/NAME")
    if get_token() is None:
        raise UserError(f"--push {repository}: no token; run 'hf auth login' once, or set HF_TOKEN")


def _finished(folder: Path) -> cell.CellSpec:
    if not (folder / "cell.json").is_file():
        raise UserError(f"{folder} is no cell: give a folder such as runs/bench/cells/mini-llava/po+pd/seed-0")
    spec = store.read_object(folder / "cell.json", cell.CellSpec)
    if not cell.is_done(folder):
        raise UserError(f"{folder} has no scores yet, so that the card would be empty: finish the run first")
    if not (folder / "adapter").is_dir():
        raise UserError(
            f"{folder} has no adapter ({spec.method} changes nothing): export a cell that unlearnt something"
        )
    return spec


def _overall(folder: Path) -> dict[str, Score]:
    return {score.metric: score for score in cell.scores_of(folder).scores if score.category == "all"}


def _before(folder: Path) -> dict[str, Score]:
    """Scores of the vanilla model in the same run, where it was measured."""
    cells = sorted(folder.resolve().parents[1].glob(f"{cell.VANILLA}/seed-*"))
    return _overall(cells[0]) if cells and cell.is_done(cells[0]) else {}


def _merged(vlm: models.VisionLanguageModel, out: Path) -> None:
    models.save(models.merge(vlm), out)


def _adapter(vlm: models.VisionLanguageModel, out: Path) -> None:
    from safeeraser.models import adapters, sine

    sine.straighten(vlm.model)
    adapters.save(vlm, out, {})
    (out / adapters.ORIGIN).unlink()  # ours alone; PEFT reads the rest


KINDS: dict[str, Callable[[models.VisionLanguageModel, Path], None]] = {"merged": _merged, "adapter": _adapter}
