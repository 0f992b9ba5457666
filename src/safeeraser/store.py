"""Files: atomic writes, JSON lines that survive a kill, content hashes, the run folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic import BaseModel, ValidationError

from safeeraser.errors import UserError

M = TypeVar("M", bound=BaseModel)


@contextmanager
def atomic(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path`` that takes its place only when the block ends without an error.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "a.txt"
        >>> with atomic(target) as file:
        ...     _ = file.write("whole or not at all")
        >>> target.read_text()
        'whole or not at all'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    with atomic(path) as file:
        json.dump(value, file, indent=2, ensure_ascii=False)
        file.write("\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: If it is missing or is not JSON; the message names file and position.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error})") from None


def write_jsonl(path: Path, items: Iterable[BaseModel]) -> None:
    """Write one JSON object per line, atomically."""
    with atomic(path) as file:
        file.writelines(_line(item) for item in items)


def append_jsonl(path: Path, items: Iterable[BaseModel]) -> None:
    """Append one JSON object per line and make them durable.

    A last line that a kill cut short is removed first; ``read_jsonl`` passes over it too, so that its item is simply
    made again.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _drop_partial_line(path)
    with open(path, "a", encoding="utf-8") as file:
        file.writelines(_line(item) for item in items)
        file.flush()
        os.fsync(file.fileno())


def read_jsonl(path: Path, kind: type[M]) -> list[M]:
    """Read all objects of a JSONL file; a missing file is an empty one, an unfinished last line is passed over.

    Raises:
        UserError: If a finished line is not a ``kind``; the message names file, line and field.
    """
    path = Path(path)
    if not path.exists():
        return []
    items = []
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            try:
                items.append(kind.model_validate_json(line))
            except ValidationError as error:
                first = error.errors()[0]
                field = ".".join(map(str, first["loc"])) or "line"
                raise UserError(
                    f"{path}, line {number}, {field}: {first['msg']}; remove the line to have it made again"
                ) from None
    return items


def _line(item: BaseModel) -> str:
    # ASCII: a half surrogate or a line separator in a model's answer must not break the file
    return json.dumps(item.model_dump(), ensure_ascii=True) + "\n"


def _drop_partial_line(path: Path) -> None:
    if not path.exists() or path.stat().st_size == 0:
        return
    with open(path, "rb+") as file:
        content_end = file.seek(0, os.SEEK_END)
        position = content_end
        while position > 0:
            position -= 1
            file.seek(position)
            if file.read(1) == b"\n":
                position += 1
                break
        if position != content_end:
            file.truncate(position)


def claim(path: Path, made_of: dict[str, Any]) -> None:
    """Write what a result is made of, or check that the result there is made of the same.

    Args:
        path: JSON file beside the result.
        made_of: All that decides the result; JSON-able, possibly nested.

    Raises:
        UserError: If the file says otherwise; the message names what differs.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "cell.json"
        >>> claim(path, {"seed": 0})
        >>> claim(path, {"seed": 0})
    """
    given = json.loads(json.dumps(made_of))
    if not path.exists():
        write_json(path, given)
        return
    changed = differences(read_json(path), given)
    if changed:
        raise UserError(
            f"{path.parent} was made with other options ({'; '.join(changed)}): choose another --out, or remove it"
        )


def differences(there: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Say in which fields, possibly nested, two mappings differ.

    Example:
        >>> differences({"seed": 0, "lora": {"rank": 4}}, {"seed": 0, "lora": {"rank": 8}})
        ['lora.rank: 4 there, 8 now']
    """
    return [f"{key}: {old!r} there, {new!r} now" for key, (old, new) in changes(there, now).items()]


def changes(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ between two nested dicts, with both values (None where there is none).

    Example:
        >>> changes({"a": {"b": 1}, "c": 0}, {"a": {"b": 2}, "c": 0})
        {'a.b': (1, 2)}
    """
    first, second = _flat(one), _flat(other)
    keys = dict.fromkeys([*first, *second])
    return {key: (first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)}


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}{key}.") if isinstance(item, dict) else {prefix + key: item}
    return flat


def stable_hash(*parts: Any, length: int = 16) -> str:
    """Hash JSON-able values to a short hex string that is the same on every machine.

    Example:
        >>> stable_hash("a", 1) == stable_hash("a", 1) != stable_hash("a", 2)
        True
    """
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def hash_files(paths: Iterable[Path]) -> str:
    """Hash the contents of files in the order given (sha256, 16 hex digits)."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(Path(path).read_bytes()).digest())
    return digest.hexdigest()[:16]


def environment() -> dict[str, Any]:
    """Collect what a run was made with: versions, git revision, machine. Never secrets, never environment variables."""
    import platform
    import subprocess
    from importlib import metadata

    packages = ("safeeraser", "torch", "transformers", "peft", "accelerate", "tokenizers", "numpy", "pillow")
    installed = {d.metadata["Name"].lower(): d.version for d in metadata.distributions() if d.metadata["Name"]}
    git = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return {
        "packages": {name: installed[name] for name in packages if name in installed},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "git": git.stdout.strip() or None,
    }
