"""Files: atomic writes, JSON lines that survive a kill, fingerprints of contents."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic import BaseModel, ValidationError

from safeeraser.core.errors import UserError

M = TypeVar("M", bound=BaseModel)


@contextmanager
def atomic(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path`` that takes its place only when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    # a lone surrogate, which a served model's answer or a file's name may hold, is written as its escape
    encoding, errors = (None, None) if "b" in mode else ("utf-8", "backslashreplace")
    try:
        with _naming(path), open(temporary, mode, encoding=encoding, errors=errors) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(out: Path) -> Iterator[Path]:
    """Give a new folder to fill, which takes the place of ``out`` only when the block ends without an error.

    Raises:
        UserError: If ``out`` exists and is not an empty folder.
    """
    out = Path(out).resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not an empty folder: remove it or choose another --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    # a mount point, such as a volume of a container, cannot be replaced
    is_kept = out.exists() and (os.path.ismount(out) or not os.access(out.parent, os.W_OK))
    beside = out if is_kept else out.parent
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=beside, ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary) / "new"
        folder.mkdir()
        yield folder
        if is_kept:
            for entry in folder.iterdir():
                os.replace(entry, out / entry.name)
        else:
            os.replace(folder, out)


def sweep(folder: Path) -> None:
    """Remove temporary files that killed writers left in ``folder``; only for the folder's single writer."""
    for temporary in Path(folder).glob(".*.tmp"):
        if temporary.is_file():
            temporary.unlink(missing_ok=True)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name ``path`` in errors of writing: the system names a file that cannot be opened, but none on a full disk."""
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
    """Read a JSON file: UTF-8, or with a byte-order mark UTF-8, UTF-16 or UTF-32.

    Raises:
        UserError: If it is missing or is not JSON; the message names file and position.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (ValueError, RecursionError) as error:  # no JSON, no text, a number of 5,000 digits, endless brackets
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


class Appender:
    """Appends to a JSONL file (None: to none) in chunks ``seconds`` apart, and what is left when the block ends."""

    def __init__(self, path: Path | None, seconds: float) -> None:
        self._path, self._seconds = path, seconds
        self._waiting: list[BaseModel] = []
        self._flushed = time.monotonic()

    def add(self, item: BaseModel) -> None:
        """Keep an item to be written within ``seconds``."""
        self._waiting.append(item)
        if time.monotonic() - self._flushed > self._seconds:
            self._flush()

    def _flush(self) -> None:
        if self._waiting and self._path:
            append_jsonl(self._path, self._waiting)
        self._waiting, self._flushed = [], time.monotonic()

    def __enter__(self) -> Appender:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Write what is left, also after an error."""
        self._flush()


def read_jsonl(path: Path, kind: type[M]) -> list[M]:
    """Read the objects of a JSONL file; a missing file is an empty one, an unfinished last line is none.

    Raises:
        UserError: If a finished line is not a ``kind``; the message names file, line and field.
    """
    path = Path(path)
    if not path.exists():
        return []
    items = []
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):  # cut short by a kill
                break
            try:
                items.append(_parsed(line, kind))
            except (ValueError, RecursionError) as error:
                raise _refusal(f"{path}, line {number}", "remove the line to have it made again", error) from None
    return items


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
    if b"\\ud" in line.lower():  # lone surrogates, which pydantic's own parser takes for an error
        return kind.model_validate(json.loads(line.decode("utf-8")))
    return kind.model_validate_json(line)


def _refusal(where: str, advice: str, error: Exception) -> UserError:
    """The error for an object that does not validate; an unknown field was written by a newer version, no damage."""
    if not isinstance(error, ValidationError):
        return UserError(f"{where}: not valid JSON ({error}); {advice}")
    problems = error.errors(include_url=False, include_input=False)
    first = next((problem for problem in problems if problem["type"] != "extra_forbidden"), problems[0])
    field = ".".join(map(str, first["loc"])) or "line"
    if first["type"] == "extra_forbidden":
        from safeeraser import __version__

        return UserError(
            f"{where}: the field {field!r} is unknown to safeeraser {__version__}, so that a newer version must have "
            "written it: upgrade, or choose another folder"
        )
    return UserError(f"{where}, {field}: {first['msg']}; {advice}")


def _line(item: BaseModel) -> str:
    # ASCII: a lone surrogate or a line separator in a model's answer must not break the file
    return json.dumps(item.model_dump(), ensure_ascii=True) + "\n"


def _drop_partial_line(path: Path) -> None:
    if not path.exists() or path.stat().st_size == 0:
        return
    with open(path, "rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":  # only after a kill is the whole file read
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)


def claim(path: Path, made_of: dict[str, Any], ignored: Collection[str] = ()) -> None:
    """Write what a result is made of, or check that the result there is made of the same.

    Raises:
        UserError: If the file says otherwise, or nothing; the message names what differs.
    """
    given = json.loads(json.dumps(made_of))
    if not path.exists():
        write_json(path, given)
        return
    there = read_json(path)
    if not isinstance(there, dict):
        raise UserError(f"{path}: not a JSON object, so it does not say what {path.parent} is made of; remove it")
    if changed := "; ".join(differences(there, given, ignored)):
        raise UserError(f"{path.parent} was made with other options ({changed}): choose another --out, or remove it")


def differences(there: dict[str, Any], now: dict[str, Any], ignored: Collection[str] = ()) -> list[str]:
    """Say in which fields, possibly nested, two mappings differ; dotted keys that are ``ignored`` do not count.

    Example:
        >>> differences({"seed": 0, "lora": {"rank": 4}}, {"seed": 0, "lora": {"rank": 8}})
        ['lora.rank: 4 there, 8 now']
    """
    changed = changes(there, now).items()
    return [f"{key}: {old} there, {new} now" for key, (old, new) in changed if key not in ignored]


def changes(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Dotted keys whose values differ between two nested dicts, with both as text: "not set" where there is none.

    Example:
        >>> changes({"lora": {"rank": 4}}, {"lora": {"rank": 4}, "pd_noise": 0.3})
        {'pd_noise': ('not set', '0.3')}
    """
    first, second = flat(one), flat(other)
    keys = [key for key in dict.fromkeys([*first, *second]) if first.get(key) != second.get(key)]
    said, other_said = ({key: repr(of[key]) if key in of else "not set" for key in keys} for of in (first, second))
    return {key: (said[key], other_said[key]) for key in keys}


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, by dotted key.

    Example:
        >>> flat({"seed": 0, "lora": {"rank": 4}})
        {'seed': 0, 'lora.rank': 4}
    """
    pairs: dict[str, Any] = {}
    for key, item in value.items():
        pairs |= flat(item, f"{prefix}{key}.") if isinstance(item, Mapping) else {prefix + key: item}
    return pairs


def stable_hash(*parts: Any, length: int = 16) -> str:
    """Hash JSON-able values to a short hex string that is the same on every machine."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def hash_files(paths: Iterable[Path]) -> str:
    """Hash the contents of files in the order given (sha256, 16 hex digits)."""
    digest = hashlib.sha256()
    for path in paths:
        content = hashlib.sha256()
        with open(path, "rb") as file:
            while block := file.read(2**16):
                content.update(block)
        digest.update(content.digest())
    return digest.hexdigest()[:16]


def environment() -> dict[str, Any]:
    """Collect what a run was made with: versions, git revision, machine. Never secrets, never environment variables."""
    import platform
    import subprocess
    from importlib import metadata

    packages = {}
    for name in ("safeeraser", "torch", "transformers", "peft", "accelerate", "tokenizers", "numpy", "pillow"):
        with suppress(metadata.PackageNotFoundError):
            packages[name] = metadata.version(name)  # of several that are installed the first on the path, as imports
    command, revision = ["git", "rev-parse", "HEAD"], ""
    with suppress(OSError):  # no git here
        revision = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip()
    return {
        "packages": packages,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "git": revision or None,
    }
