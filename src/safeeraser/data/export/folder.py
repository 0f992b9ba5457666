"""An output folder that is there whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safeeraser.errors import UserError


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Give a new folder to fill, which takes the place of ``out`` when the block ends without an error.

    Raises:
        UserError: If ``out`` exists and is not an empty folder.

    Example:
        >>> out = Path(tempfile.mkdtemp()) / "new"
        >>> with whole_folder(out) as folder:
        ...     _ = (folder / "a.txt").write_text("whole or not at all")
        >>> [path.name for path in out.iterdir()]
        ['a.txt']
    """
    out = Path(out).absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not an empty folder: remove it or choose another --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    workspace = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        (workspace / "new").mkdir()
        yield workspace / "new"
        os.replace(workspace / "new", out)
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
