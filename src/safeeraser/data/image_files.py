"""The images that records name: which are there, how large, and which cannot be used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safeeraser.data.images import unreadable
from safeeraser.data.paths import Locator
from safeeraser.errors import UserError
from safeeraser.progress import Progress

__all__ = ["ImageFiles"]


class ImageFiles:
    """The size of every image there is, and for the others why there is none.

    Args:
        root: The dataset folder.

    Example:
        >>> files = ImageFiles(Path("."))
        >>> files.find({"image_path": "img/none.png"})
        >>> files.sizes, files.reasons
        ({}, {'img/none.png': "'img/none.png' is missing: there is no such file"})
    """

    def __init__(self, root: Path) -> None:
        """Look for nothing yet."""
        self.sizes: dict[str, int] = {}
        self.reasons: dict[str, str] = {}
        self._root, self._locator = root, Locator(root)

    def find(self, images: Mapping[str, str]) -> None:
        """See that images, here by the name of their field, are there."""
        for relative in images.values():
            if relative not in self.sizes and relative not in self.reasons:
                try:
                    self.sizes[relative] = self._locator.locate(relative)[1]
                except UserError as error:
                    self.reasons[relative] = str(error)

    def look_inside(self, progress: Progress | None) -> None:
        """Decode every image that is there."""
        locator = Locator(self._root)
        paths = {relative: locator.locate(relative)[0] for relative in self.sizes}
        damaged = unreadable([*dict.fromkeys(paths.values())], progress)
        self.reasons |= {
            relative: f"{relative!r} cannot be read: {damaged[path]}"
            for relative, path in paths.items()
            if path in damaged
        }
