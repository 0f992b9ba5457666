"""Where an image path of a record leads: to a file inside the dataset folder, or to the reason why not."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from safeeraser.core.errors import UserError

LINKED_FOLDERS = "SAFEERASER_LINKED_FOLDERS"
"""Environment variable: folders, separated as in PATH, that links in a dataset folder may lead to."""


def locate(root: str | Path, relative: str) -> tuple[Path, int]:
    """Find an image.

    Links may lead to any place in the dataset folder, to the folders that ``LINKED_FOLDERS`` names and, from a snapshot
    in the cache of the Hugging Face hub, to its blobs. A name is also found in another Unicode normalisation, as
    systems disagree on how to write "é".

    Args:
        root: The dataset folder.
        relative: Path relative to it, as it stands in a record.

    Returns:
        The file, with links followed, and its size in bytes.

    Raises:
        UserError: If the path leaves the folder (``..``, absolute, or by another link) or leads to no regular file.

    Example:
        >>> locate(".", "../secret.png")
        Traceback (most recent call last):
        safeeraser.core.errors.UserError: '../secret.png' leaves the dataset folder: only paths inside it are read
    """
    folder = os.path.realpath(root)
    shown = repr(relative if len(relative) <= 200 else relative[:200] + "...")
    try:
        path = os.path.realpath(os.path.join(folder, relative))
        if not _is_allowed(folder, relative, path):
            raise UserError(f"{shown} leaves the dataset folder{_way_out(folder, relative)}")
        status = os.stat(path)
    except UserError:
        raise
    except FileNotFoundError:
        respelled = _respelled(folder, relative)
        if respelled is not None:
            return locate(root, respelled)
        link = next(_links(folder, relative), None)
        target = f": {link} is a link to {os.path.realpath(link)}, which is not there" if link else ""
        raise UserError(f"{shown} is missing{target or ': there is no such file'}") from None
    except (OSError, ValueError) as error:  # too long, a loop of links, a zero byte
        raise UserError(f"{shown} is no path to a file ({getattr(error, 'strerror', None) or error})") from None
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{shown} is not a file")
    return Path(path), status.st_size


def _is_allowed(folder: str, relative: str, path: str) -> bool:
    if os.path.isabs(relative):
        return False
    if _is_inside(folder, path):
        return True
    names_parent = os.path.normpath(relative).split(os.sep)[0] == os.pardir
    return not names_parent and any(_is_inside(trusted, path) for trusted in _trusted_folders(folder))


def _is_inside(folder: str, path: str) -> bool:
    return os.path.commonpath([folder, path]) == folder


def _trusted_folders(folder: str) -> Iterator[str]:
    for parent in Path(folder).parents:
        if parent.name == "snapshots":
            yield str(parent.parent / "blobs")
    for named in os.environ.get(LINKED_FOLDERS, "").split(os.pathsep):
        if named:
            yield os.path.realpath(os.path.expanduser(named))


def _way_out(folder: str, relative: str) -> str:
    """Which link leads out of the folder, and what to do where that is meant; in other cases, that it is not."""
    link = None if os.path.isabs(relative) else next(_links(folder, relative), None)
    if link is None:
        return ": only paths inside it are read"
    target = os.path.realpath(link)
    trusted = target if os.path.isdir(target) else os.path.dirname(target)
    return (
        f" by a link: {link} leads to {target}. If that is meant, let links lead there: {LINKED_FOLDERS}={trusted}; or "
        "put copies in place of links: cp -rL"
    )


def _links(folder: str, relative: str) -> Iterator[str]:
    """The links on the way to an image that lead out of the folder, or nowhere."""
    path = folder
    for part in os.path.normpath(relative).split(os.sep):
        path = os.path.join(path, part)
        target = os.path.realpath(path)
        if os.path.islink(path) and not (_is_inside(folder, target) and os.path.exists(target)):
            yield path


def _respelled(folder: str, relative: str) -> str | None:
    """The path as the file system spells it, where that differs by Unicode normalisation alone."""
    spelled = ""
    for part in os.path.normpath(relative).split(os.sep):
        spellings = (part, unicodedata.normalize("NFC", part), unicodedata.normalize("NFD", part))
        paths = [os.path.join(spelled, name) for name in spellings]
        spelling = next((path for path in paths if os.path.lexists(os.path.join(folder, path))), None)
        if spelling is None:
            return None
        spelled = spelling
    return None if spelled == os.path.normpath(relative) else spelled
