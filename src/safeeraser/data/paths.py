"""Where an image path of a record leads: to a file inside the dataset folder, or to the reason why not."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from safeeraser.errors import UserError


def locate(root: str | Path, relative: str) -> tuple[Path, int]:
    """Find an image.

    Args:
        root: The dataset folder.
        relative: Path relative to it, as it stands in a record.

    Returns:
        The file, with links followed, and its size in bytes.

    Raises:
        UserError: If the path leaves the folder (``..``, absolute, or by a link) or leads to no regular file.

    Example:
        >>> locate(".", "../secret.png")
        Traceback (most recent call last):
        safeeraser.errors.UserError: '../secret.png' leaves the dataset folder: only paths inside it are read
    """
    shown = repr(relative if len(relative) <= 200 else relative[:200] + "...")
    folder = os.path.realpath(root)
    try:
        path = os.path.realpath(os.path.join(folder, relative))
        leaves = os.path.isabs(relative) or os.path.commonpath([folder, path]) != folder
        found = None if leaves else os.stat(path)
    except FileNotFoundError:
        raise UserError(f"{shown} is missing: there is no such file") from None
    except (OSError, ValueError) as error:  # too long, a loop of links, a zero byte
        raise UserError(f"{shown} is no path to a file ({getattr(error, 'strerror', None) or error})") from None
    if found is None:
        raise UserError(f"{shown} leaves the dataset folder: only paths inside it are read")
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{shown} is not a file")
    return Path(path), found.st_size
