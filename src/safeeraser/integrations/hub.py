"""Export: a finished cell -> a folder that plain ``transformers`` or PEFT loads, with a model card."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from safeeraser import models
from safeeraser.bench import runs
from safeeraser.core import files, terminal
from safeeraser.core.errors import UserError
from safeeraser.integrations import model_card
from safeeraser.records import VANILLA, Score

LOADED = (".json", ".jinja", ".model", ".safetensors", ".parquet")
"""Files of a repository that are loaded because they are there: left from an earlier push, they join the new ones."""


def run(folder: Path, out: Path, kind: str = "merged", licence: str | None = None) -> Path:
    """Write a cell's model as a checkpoint, or its adapter in PEFT's layout, with the card as ``README.md``.

    ``merged``: the adapter is folded into the weights; ``AutoModelForImageTextToText`` and ``AutoProcessor`` load the
    folder. ``adapter``: ``PeftModel.from_pretrained`` puts it on the base model; a sine projector becomes a plain one.

    Args:
        folder: A cell folder, ``runs/NAME/cells/MODEL/METHOD/seed-S``, with ``adapter/`` and ``scores.json``.
        out: Folder to write, which is returned; must not hold anything yet. It appears whole or not at all.
        kind: ``merged`` or ``adapter``.
        licence: For the card, by the hub's name of it; None: of a built-in model it is known.

    Raises:
        UserError: If the folder is no finished cell or has no adapter, the base model is not there any more, the kind
            is unknown, or ``out`` holds something.
    """
    folder, out = Path(folder), Path(out)
    if kind not in KINDS:
        raise UserError(f"export kind {kind!r} is unknown: give one of {', '.join(KINDS)}")
    cell = _finished(folder)
    with files.atomic_folder(out) as temporary:
        # in the type whose answers were scored; weights that were quantised for them are exported whole
        vlm = models.load(cell.spec.model, cell.adapter, dtype=cell.spec.loading_options().dtype)
        KINDS[kind](vlm, temporary)
        card = model_card.text(cell.spec, _overall(cell), _before(cell), out.resolve().name, kind, licence)
        (temporary / "README.md").write_text(card, encoding="utf-8")
    return out


def push(folder: Path, repository: str, kind: Literal["model", "dataset"] = "model") -> str:
    """Upload an exported folder to the Hugging Face hub, as a private repository if it is new; returns its address.

    Args:
        folder: Folder written by ``run``, or by ``data export --format parquet``.
        repository: ``OWNER/NAME``.
        kind: What the folder is.

    Raises:
        UserError: If there is no token, the hub cannot be reached or refuses, or the repository holds files that would
            be loaded together with these, such as an adapter's beside merged weights.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    check_push(repository)
    hub, ours = HfApi(), {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*")}
    try:
        address = hub.create_repo(repository, repo_type=kind, private=True, exist_ok=True)
        there = set(hub.list_repo_files(repository, repo_type=kind))
        left = sorted(name for name in there - ours if name.endswith(LOADED))
        if not left:
            said = "Export from safeeraser"
            hub.upload_folder(repo_id=repository, repo_type=kind, folder_path=folder, commit_message=said)
    except (HfHubHTTPError, OSError, ValueError) as error:  # ValueError: it checks the card, and finds a fault
        reason = f"the hub cannot be reached or refuses ({error}); {folder} is whole"
        raise UserError(f"--push {repository}: {reason}") from None
    if left:
        raise UserError(
            f"--push {repository}: it holds {', '.join(left[:3])}{', ...' if len(left) > 3 else ''}, which {folder} "
            "does not, and both would be loaded as one: remove them there, or give another name; nothing was uploaded"
        )
    return str(address)


def check_push(repository: str) -> None:
    """Raise UserError, before anything is written, if the name is no ``OWNER/NAME`` or there is no token."""
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


def _finished(folder: Path) -> runs.Cell:
    if not (folder / "cell.json").is_file():
        raise UserError(f"{folder} is no cell: give a folder such as runs/bench/cells/mini-llava/po+pd/seed-0")
    cell = runs.read(folder)
    if not cell.is_done:
        raise UserError(f"{folder} has no scores yet, so that the card would be empty: finish the run first")
    if cell.adapter is None or not cell.adapter.is_dir():
        raise UserError(
            f"{folder} has no adapter ({cell.spec.method} trains nothing): export a cell that unlearnt something"
        )
    return cell


def _overall(cell: runs.Cell) -> dict[str, Score]:
    return {score.metric: score for score in cell.scores().scores if score.category == "all"}


def _before(cell: runs.Cell) -> dict[str, Score]:
    """Scores of the vanilla model in the same run, where it was measured as the cell was."""
    folder = cell.folder.resolve().parents[1] / VANILLA
    if not any(folder.glob("seed-*/scores.json")):
        return {}
    vanilla = runs.find(folder)[0]
    if unlike := vanilla.unlike(cell):
        said = "; ".join(f"{key}: {one}, and {other} here" for key, (one, other) in unlike.items())
        terminal.say(f"{folder} was measured otherwise ({said}): the card leaves it out", file=sys.stderr)
        return {}
    return _overall(vanilla)


def _adapter(vlm: models.VisionLanguageModel, out: Path) -> None:
    from safeeraser.models import adapters, sine

    sine.remove_parametrization(vlm.model)
    adapters.save(vlm, out, {})
    (out / adapters.ORIGIN).unlink()  # ours alone; PEFT reads the rest
    if not model_card.is_hub_name(vlm.name):  # elsewhere a folder of this machine is none, or another one
        config = files.read_json(out / adapters.CONFIG)
        files.write_json(out / adapters.CONFIG, config | {"base_model_name_or_path": None})
    _check_plain(vlm, out)


def _check_plain(vlm: models.VisionLanguageModel, out: Path) -> None:
    """Raise UserError if PEFT by itself reads an adapter as one of other layers; ``vlm`` loses its own."""
    import warnings

    from peft import PeftModel, get_peft_model_state_dict

    from safeeraser.models import adapter_files

    written = adapter_files.read_tensors(out / adapter_files.WEIGHTS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what is missing, which is found here
            found = get_peft_model_state_dict(PeftModel.from_pretrained(vlm.model.unload(), out))
        there = {name: value.cpu().float() for name, value in found.items()}
        lost = [name for name, value in written.items() if name not in there or not value.float().equal(there[name])]
        said = f"{len(lost)} of {len(written)} tensors, such as {lost[0]}, would be lost" if lost else ""
    except (KeyError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
    if said:
        raise UserError(
            f"PEFT takes layers of {vlm.model.config.model_type!r} for those of an older transformers, and would not "
            f"put this adapter on them as it is ({said}): give --kind merged"
        )


KINDS: dict[str, Callable[[models.VisionLanguageModel, Path], None]] = {
    "merged": lambda vlm, out: models.save(models.merge(vlm), out),
    "adapter": _adapter,
}
