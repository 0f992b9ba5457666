"""Where an image path of a record leads: to a file inside the dataset folder, or to the reason why not."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from safeeraser.errors import UserError


class Locator:
    """Finds the images of a dataset folder; for going through many of them at once, as it follows links only once.

    What it has followed is not looked at again, so that a new one is needed where the folder may have changed.

    Args:
        root: The dataset folder.

    Example:
        >>> Locator(".").locate("../secret.png")
        Traceback (most recent call last):
        safeeraser.errors.UserError: '../secret.png' leaves the dataset folder: only paths inside it are read
    """

    def __init__(self, root: str | Path) -> None:
        """Follow the links of the folder's own path."""
        self._folder = os.path.realpath(root)
        self._directories: dict[str, str] = {}

    def locate(self, relative: str) -> tuple[Path, int]:
        """Find an image; see ``locate``."""
        return _located(self._folder, relative, self._follow)

    def _follow(self, path: str) -> str:
        """The path with links followed: those of its directory once for all the files in it."""
        directory, name = os.path.split(path)
        if name in ("", os.curdir, os.pardir) or os.path.islink(path):
            return os.path.realpath(path)
        if directory not in self._directories:
            self._directories[directory] = os.path.realpath(directory)
        return os.path.join(self._directories[directory], name)


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
    return _located(os.path.realpath(root), relative, os.path.realpath)


def _located(folder: str, relative: str, follow: Callable[[str], str]) -> tuple[Path, int]:
    shown = repr(relative if len(relative) <= 200 else relative[:200] + "...")
    try:
        path = follow(os.path.join(folder, relative))
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
