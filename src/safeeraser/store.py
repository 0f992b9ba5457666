"""Files: atomic writes, JSON lines that survive a kill, content hashes, the run folder."""

from __future__ import annotations

import hashlib
import json
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic import BaseModel, ValidationError

from safeeraser.errors import UserError
from safeeraser.lookup import Lookup

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
    # half a character, which a served model's answer or a file's name may hold, is written as its escape
    encoding, errors = (None, None) if "b" in mode else ("utf-8", "backslashreplace")
    try:
        with _naming(path), open(temporary, mode, encoding=encoding, errors=errors) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what writers that were killed have left in ``folder``; for one that is alone in it.

    Example:
        >>> sweep(Path("runs/demo/report"))
    """
    for temporary in Path(folder).glob(".*.tmp"):
        if temporary.is_file():
            temporary.unlink(missing_ok=True)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let an error of writing say which file: the system names the one that cannot be opened, and no full disk."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


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
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, a number of 5,000 digits, endless brackets
        raise UserError(f"{path}: not valid JSON ({error})") from None


def write_jsonl(path: Path, items: Iterable[BaseModel]) -> None:
    """Write one JSON object per line, atomically."""
    with atomic(path) as file:
        file.writelines(_line(item) for item in items)


def append_jsonl(path: Path, items: Iterable[BaseModel]) -> None:
    """Append one JSON object per line and make them durable.

    A last line that a kill cut short is removed first; ``read_jsonl`` passes over it too, so that its item is simply
    made again. The folder must be there: one that was removed while its stage ran is not made anew for a part.
    """
    path = Path(path)
    _drop_partial_line(path)
    with _naming(path), open(path, "a", encoding="utf-8") as file:
        file.writelines(_line(item) for item in items)
        file.flush()
        os.fsync(file.fileno())


def read_jsonl(path: Path, kind: type[M]) -> list[M]:
    """Read all objects of a JSONL file; see ``iter_jsonl``."""
    return list(iter_jsonl(path, kind))


def iter_jsonl(path: Path, kind: type[M]) -> Iterator[M]:
    """Read the objects of a JSONL file one by one; a missing file is an empty one, an unfinished last line is none.

    Raises:
        UserError: If a finished line is not a ``kind``; the message names file, line and field.
    """
    return (item for _, item in _placed(Path(path), kind))


def _placed(path: Path, kind: type[M]) -> Iterator[tuple[int, M]]:
    """Where each line begins, in bytes, and what it holds."""
    if not path.exists():
        return
    start = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            try:
                yield start, _parsed(line, kind)
            except (ValueError, RecursionError) as error:
                raise _refusal(f"{path}, line {number}", "remove the line to have it made again", error) from None
            start += len(line)


class Lines(Mapping[str, M]):
    """The objects of a JSONL file by a key, read from the file when asked for: what is kept is where each line begins.

    Of two with the same key the later one counts.

    Args:
        path: The file, which must not change; a missing one is empty.
        kind: What its lines are.
        key: Gives an object's key.

    Raises:
        UserError: As ``iter_jsonl``.

    Example:
        >>> from safeeraser.records import Response
        >>> len(Lines(Path("nowhere.jsonl"), Response, lambda response: response.query_id))
        0
    """

    def __init__(self, path: Path, kind: type[M], key: Callable[[M], str]) -> None:
        """Go through the file once."""
        self._path, self._kind, self._key = Path(path), kind, key
        self._starts = Lookup(int, ((key(item), start) for start, item in _placed(self._path, kind)))
        self._file = open(self._path, "rb", buffering=0) if len(self._starts) else None
        if self._file:
            weakref.finalize(self, self._file.close)

    def __getitem__(self, key: str) -> M:
        """Read one object."""
        start = self._starts.get(key)
        if start is None or self._file is None:
            raise KeyError(key)
        line, more = b"", b" "
        while more and b"\n" not in more:
            more = os.pread(self._file.fileno(), 2**12, start + len(line))
            line += more
        return _parsed(line.partition(b"\n")[0], self._kind)

    def __contains__(self, key: object) -> bool:
        """Whether there is an object with this key; nothing is read."""
        return isinstance(key, str) and key in self._starts

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys, for which the file is read once more."""
        return iter(dict.fromkeys(map(self._key, iter_jsonl(self._path, self._kind))))

    def __len__(self) -> int:
        """Count the keys."""
        return len(self._starts)


def read_object(path: Path, kind: type[M]) -> M:
    """Read a JSON file that holds one ``kind``.

    Raises:
        UserError: If it is missing or something else; the message names file and field.
    """
    value = read_json(path)
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise _refusal(str(path), "put the file back as it was written, or remove its folder", error) from None


def _parsed(line: bytes, kind: type[M]) -> M:
    if b"\\ud" in line.lower():  # halves of characters, which pydantic's own parser takes for an error
        return kind.model_validate(json.loads(line.decode("utf-8")))
    return kind.model_validate_json(line)


def _refusal(where: str, advice: str, error: Exception) -> UserError:
    """What is wrong with an object; a field that nobody knows is the work of a newer version, and no damage."""
    if not isinstance(error, ValidationError):
        return UserError(f"{where}: not valid JSON ({error}); {advice}")
    problems = error.errors(include_url=False, include_input=False)
    first = next((one for one in problems if one["type"] != "extra_forbidden"), problems[0])
    field = ".".join(map(str, first["loc"])) or "line"
    if first["type"] == "extra_forbidden":
        from safeeraser import __version__

        return UserError(
            f"{where}: the field {field!r} is unknown to safeeraser {__version__}, so that a newer version must have "
            "written it: upgrade, or choose another folder"
        )
    return UserError(f"{where}, {field}: {first['msg']}; {advice}")


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
        UserError: If the file says otherwise, or nothing; the message names what differs.

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
    there = read_json(path)
    if not isinstance(there, dict):
        raise UserError(f"{path}: not a JSON object, so it does not say what {path.parent} is made of; remove it")
    changed = differences(there, given)
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
        one = hashlib.sha256()
        with open(path, "rb") as file:
            while part := file.read(2**16):
                one.update(part)
        digest.update(one.digest())
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
