"""Faults on purpose, by hand: kills, full disks, folders that cannot be written or are gone.

``python tests/faults/chaos.py --kills 30 --seed 0``, or a part of it with ``--only kills``. ``safeeraser`` is started
as a user does, the damage is done, and what is left is checked; the exit status is 1 if a check failed. The figures
are in docs/reliability.md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from safetensors import safe_open

from safeeraser import data
from safeeraser.core import files
from safeeraser.data.release import rewrite
from safeeraser.judges import criteria_for
from safeeraser.records import Query, Response, Verdict

SMALL = "--quick --limit 12 --steps 10 --training.batch_size 4 --max-new-tokens 8 --generation.batch_size 8".split()
TINY = "--methods po --questions 1 --limit 12 --steps 8 --training.batch_size 4 --max-new-tokens 8".split()
STAGES = ("start", "unlearn", "respond", "judge", "score", "report")
LONGEST = {"start": 6.0, "unlearn": 2.0, "respond": 1.0, "judge": 0.02, "score": 0.01, "report": 1.0}
"""Seconds into a stage in which the kill falls, at most."""
VICTIMS = ("all", "bench", "server", "cell")
"""Who is killed: every process at once, as in a power cut; the bench alone; the fork server alone, whose forks the
cells are; one cell alone."""


def small_data(folder: Path) -> None:
    """Write a release of 24 records of the embedded benchmark and use it from here on: a restart reads it at once."""
    whole = data.load("pictogram", limit=12)
    root = folder / "small" / "dataset"
    for name in {name for one in whole.records for name in (one.image, one.safe_image or one.image)}:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(whole.image(name), root / name)
    rewrite(replace(whole, probes=(), layout=None), root)
    for flags in (SMALL, TINY):
        flags += ["--data", str(root.parent)]


def bench(out: Path, flags: Sequence[str] = TINY) -> list[str]:
    return [sys.executable, "-m", "safeeraser", "bench", "--out", str(out), *flags]


def finish(out: Path, flags: Sequence[str] = TINY) -> subprocess.CompletedProcess[str]:
    return subprocess.run(bench(out, flags), capture_output=True, text=True, timeout=1800, check=False)


# -- what a run folder holds -----------------------------------------------------------------------------------------
def everything(out: Path) -> dict[str, object]:
    """All that a run has found, by file: two runs of the same command must be equal in it."""
    found: dict[str, object] = {"table": (out / "report" / "table.csv").read_text()}
    for folder in sorted(out.glob("cells/*/*/seed-*")):
        name = f"{folder.parent.name}/{folder.name}"
        found[f"{name} scores"] = json.loads((folder / "scores.json").read_text())["scores"]
        for file in ("responses.jsonl", "verdicts.jsonl", "train.jsonl"):
            lines = (folder / file).read_text().splitlines() if (folder / file).exists() else []
            found[f"{name} {file}"] = lines if file == "train.jsonl" else sorted(lines)
        found[f"{name} adapter"] = files.hash_files(sorted(folder.glob("adapter/*.safetensors")))
    return found


def damage(out: Path, finished: bool) -> list[str]:
    """What is not whole; while a run is not finished, the last line of a JSONL file may be cut and files may lack."""
    problems = []
    for path in sorted(out.rglob("*")):
        if path.suffix == ".json" and not path.name.startswith(".") and not path.name.endswith(".tmp"):
            try:
                json.loads(path.read_bytes())
            except ValueError as error:
                problems.append(f"{path.name}: {error}")
        elif path.suffix == ".jsonl":
            lines = path.read_bytes().split(b"\n")
            problems += [f"{path.name}: a cut line"] if finished and lines[-1] else []
            for line in lines[:-1]:
                try:
                    json.loads(line)
                except ValueError as error:
                    problems.append(f"{path.name}: {error}")
        elif path.suffix == ".safetensors" and ".tmp" not in str(path.relative_to(out)):
            with safe_open(path, "pt") as file:
                problems += [] if list(file.keys()) else [f"{path}: empty"]
        elif finished and path.name.endswith(".tmp"):
            problems.append(f"{path.relative_to(out)} was left")
    return problems + ([text for folder in out.glob("cells/*/*/seed-*") for text in lost(folder)] if finished else [])


def lost(folder: Path) -> list[str]:
    """Answers and verdicts of a finished cell that are missing, or there twice."""
    queries = files.read_jsonl(folder / "queries.jsonl", Query)
    answers = Counter(one.query_id for one in files.read_jsonl(folder / "responses.jsonl", Response))
    verdicts = Counter((v.query_id, v.criterion) for v in files.read_jsonl(folder / "verdicts.jsonl", Verdict))
    wanted = [(query.id, criterion) for query in queries for criterion in criteria_for(query.set)]
    problems = [
        f"{folder.name}: {number} answers to {query.id}" for query in queries if (number := answers[query.id]) != 1
    ]
    return problems + [f"{folder.name}: {verdicts[key]} verdicts on {key}" for key in wanted if verdicts[key] != 1]


# -- kills -----------------------------------------------------------------------------------------------------------
def kills(number: int, seed: int, folder: Path) -> list[str]:
    """Kill benches at random moments; each run that then ends must hold what one does that was left alone."""
    chance, begun = random.Random(seed), time.monotonic()
    finish(folder / "undisturbed", SMALL).check_returncode()
    expected, problems = everything(folder / "undisturbed"), damage(folder / "undisturbed", finished=True)
    print(f"left alone: {time.monotonic() - begun:.0f} s", flush=True)
    hit: Counter[tuple[str, str]] = Counter()
    runs, aims = 0, []
    while hit.total() < number:
        runs += 1
        out = folder / f"run-{runs}"
        if not aims:  # every stage and victim once, in random order, then anew
            aims = [(stage, victim) for stage in STAGES for victim in VICTIMS if (stage, victim) != ("report", "cell")]
            chance.shuffle(aims)
        now, aims = aims[:8], aims[8:]
        for stage, victim in sorted(now, key=lambda aim: STAGES.index(aim[0])):
            struck = kill(bench(out, SMALL), out, stage, victim, chance) if hit.total() < number else None
            if struck is None:
                break  # it ended before its moment came
            hit[struck] += 1
            problems += [f"run {runs}, after {struck}: {text}" for text in damage(out, finished=False)]
            print(f"kill {hit.total()}, run {runs}: {struck[1]} in {struck[0]}", flush=True)
        last = finish(out, SMALL)
        if last.returncode:
            problems.append(f"run {runs}: the last restart ended with {last.returncode}: {last.stderr[-500:]}")
            continue
        problems += [f"run {runs}: {text}" for text in damage(out, finished=True)]
        there = everything(out)
        problems += [f"run {runs}: {name} is another" for name in expected if there.get(name) != expected[name]]
        shutil.rmtree(out)
    for stage in STAGES:
        print(f"  {stage:8}" + ", ".join(f"{hit[stage, victim]} x {victim}" for victim in VICTIMS))
    print(f"{hit.total()} kills in {runs} runs, {time.monotonic() - begun:.0f} s")
    return problems


def kill(command: list[str], out: Path, stage: str, victim: str, chance: random.Random) -> tuple[str, str] | None:
    """Start, wait until a cell is that far and a little longer, kill; say where and whom, None if the bench ended.

    Everything stands still while it is found out where it is: scoring takes some hundredths of a second.
    """
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    before, aim = report_time(out), STAGES.index(stage)
    while process.poll() is None and not any(STAGES.index(one) >= aim for one in stages_of(out, before)):
        time.sleep(0.001)
    moment = time.monotonic() + chance.random() * LONGEST[stage]
    while process.poll() is None and time.monotonic() < moment:
        time.sleep(0.001)
    if process.poll() is not None:
        return None
    os.killpg(process.pid, signal.SIGSTOP)
    stages = stages_of(out, before)
    reached = stage if stage in stages else min(stages, key=STAGES.index)
    servers = children(process.pid)
    cells = [cell for server in servers for cell in children(server)]
    there = [cell for cell in cells if stages.get(reached) in (None, place_of(cell))]
    found = {"server": servers, "cell": there or cells, "all": [process.pid], "bench": [process.pid]}
    victim = victim if found[victim] else "bench"
    if victim == "all":
        os.killpg(process.pid, signal.SIGKILL)
    else:  # without the bench its cells are stopped, without the server they end; without one cell the others go on
        os.kill(chance.choice(found[victim]), signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGCONT)
    process.wait()
    return reached, victim


def stages_of(out: Path, reported: float) -> dict[str, Path | None]:
    """The stages that running cells are in, each with such a cell; "report" when all cells have their scores."""
    cells = [path.parent for path in out.glob("cells/*/*/seed-*/cell.json")]
    waiting = [cell for cell in cells if not (cell / "scores.json").exists()]
    if cells and not waiting:
        return {"report" if report_time(out) <= reported else "start": None}
    running: dict[str, Path | None] = {said(cell): cell for cell in waiting if (cell / "progress.json").exists()}
    return running or {"start": None}


def stage_of(out: Path, reported: float) -> str:
    """The earliest of them."""
    return min(stages_of(out, reported), key=STAGES.index)


def place_of(pid: int) -> Path | None:
    """The folder of a running cell: its log lies there."""
    try:
        return Path(os.readlink(f"/proc/{pid}/fd/1")).parent
    except OSError:
        return None


def said(cell: Path) -> str:
    try:
        name, numbers = json.loads((cell / "progress.json").read_text())["text"].split()[:2]
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return "start"
    done, total = numbers.split("/")
    return "judge" if name == "respond" and done == total else str(name)


def report_time(out: Path) -> float:
    page = out / "report" / "index.html"
    return page.stat().st_mtime if page.exists() else 0.0


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


# -- disk and folders ------------------------------------------------------------------------------------------------
DISK = 64_000_000
FULL: dict[str, tuple[int, tuple[str, ...]]] = {
    "the first file": (0, ("cells", "report")),
    "a checkpoint": (1_500_000, ("cells", "report")),
    "answers": (8_000, ("cells/*/*/*/responses.jsonl", "cells/*/*/*/verdicts.jsonl", "cells/*/*/*/scores.json")),
    "verdicts": (8_000, ("cells/*/*/*/verdicts.jsonl", "cells/*/*/*/scores.json")),
    "the report": (50_000, ("report",)),
}
"""What there is no more room for: bytes that are left on a disk of ``DISK``, and what is not there yet."""


def disk(folder: Path) -> list[str]:
    """Every fault must be said in a sentence; mended, the same command must end as if nothing had been."""
    finish(folder / "whole").check_returncode()
    expected = everything(folder / "whole")
    problems = []
    for fault in (full_disks, file_size_limit, read_only, removed, cut_line, newer, two_at_once):
        print(f"{fault.__name__}: {(fault.__doc__ or '').splitlines()[0]}", flush=True)
        found = fault(folder, expected)
        problems += [f"{fault.__name__}: {text}" for text in found]
    return problems


def mended(out: Path, expected: dict[str, object]) -> list[str]:
    last = finish(out)
    if last.returncode:
        return [f"mended, it ended with {last.returncode}: {last.stderr[-500:]}"]
    there = everything(out)
    return damage(out, finished=True) + [f"{name} is another" for name in expected if there.get(name) != expected[name]]


def told(done: subprocess.CompletedProcess[str], out: Path, *texts: str) -> list[str]:
    """What is wrong with how a failure was said."""
    last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
    print(f"    status {done.returncode}: {last[:230]}", flush=True)
    logs = "".join(path.read_text(errors="replace") for path in out.rglob("log.txt")) if out.is_dir() else ""
    problems = ["a traceback"] if "Traceback" in done.stderr + logs else []
    problems += ["it ended well"] if done.returncode == 0 else []
    return problems + (
        [] if any(text in done.stderr for text in texts) else [f"none of {texts} was said: {done.stderr[-300:]}"]
    )


def full_disks(folder: Path, expected: dict[str, object]) -> list[str]:
    """A disk that is full, or becomes full on the way."""
    problems = []
    for name, (free, lacking) in FULL.items():
        place = folder / "disk"
        place.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(place)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            print("    not tried: this process may not mount a disk")
            place.rmdir()
            return problems
        try:
            out = shutil.copytree(folder / "whole", place / "run")
            for path in [path for pattern in lacking for path in out.glob(pattern)]:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            filler = place / "filler"
            with open(filler, "wb") as file:
                file.truncate(0)
                os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(place).free - free)
            found = told(finish(out), out, "No space left on device", "a full disk")
            filler.unlink()
            problems += [f"{name}: {text}" for text in found + mended(out, expected)]
        finally:
            subprocess.run(["umount", str(place)], check=True)
            place.rmdir()
    return problems


def file_size_limit(folder: Path, expected: dict[str, object]) -> list[str]:
    """The same without a disk of its own: no file may become larger than 300 kB, 3 kB."""
    problems = []
    for size in (300_000, 3_000):
        out = folder / f"limit-{size}"
        command = ["bash", "-c", f'ulimit -f {size // 1000}; exec "$@"', "bash", *bench(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        problems += told(done, out, "File too large", "a full disk") + mended(out, expected)
    return problems


def read_only(folder: Path, expected: dict[str, object]) -> list[str]:
    """A folder that cannot be written, for root too."""
    place = folder / "read-only"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(place)]
    lock, unlock = ["chattr", "+i", str(place)], ["chattr", "-i", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        unlock = ["umount", str(place)]
    elif subprocess.run(lock, capture_output=True, check=False).returncode and os.geteuid() == 0:
        print("    not tried: this process may neither mount nor chattr")
        return []
    else:
        place.chmod(0o555)
    try:
        return told(finish(place / "run"), place, "Read-only file system", "not permitted", "Permission denied")
    finally:
        subprocess.run(unlock, capture_output=True, check=False)
        place.chmod(0o755)


def removed(folder: Path, expected: dict[str, object]) -> list[str]:
    """The run folder is removed while cells unlearn, and while they answer."""
    problems = []
    for stage in ("unlearn", "respond"):
        out = folder / f"removed-in-{stage}"
        process = subprocess.Popen(bench(out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and stage_of(out, 0.0) != stage:
            time.sleep(0.002)
        out.rename(folder / "gone")
        shutil.rmtree(folder / "gone")
        _, said = process.communicate(timeout=600)
        problems += told(subprocess.CompletedProcess([], process.returncode, "", said), out, "was removed")
        problems += ["a part of a cell was made anew"] if list(out.rglob("*.jsonl")) else []
        problems += mended(out, expected)
    return problems


def cut_line(folder: Path, expected: dict[str, object]) -> list[str]:
    """A line in the middle of the answers is cut; removed, it is made again."""
    out = shutil.copytree(folder / "whole", folder / "cut")
    cell = next(out.glob("cells/*/po/seed-*"))
    (cell / "scores.json").unlink()
    lines = (cell / "responses.jsonl").read_bytes().splitlines(True)
    whole, lines[3] = lines[3], lines[3][:20] + b"\n"
    (cell / "responses.jsonl").write_bytes(b"".join(lines))
    problems = told(finish(out), out, "responses.jsonl, line 4")
    del lines[3]
    (cell / "responses.jsonl").write_bytes(b"".join(lines))
    return (
        problems + mended(out, expected) + ([] if whole in (cell / "responses.jsonl").read_bytes() else ["not again"])
    )


def newer(folder: Path, expected: dict[str, object]) -> list[str]:
    """A run folder of a newer version."""
    out = shutil.copytree(folder / "whole", folder / "newer")
    path = next(out.glob("cells/*/po/seed-*/cell.json"))
    before = path.read_text()
    path.write_text(json.dumps(json.loads(before) | {"curriculum": "steep"}))
    problems = told(finish(out), out, "a newer version")
    report = [sys.executable, "-m", "safeeraser", "report", str(out)]
    done = subprocess.run(report, capture_output=True, text=True, check=False)
    problems += told(done, out, "a newer version")
    path.write_text(before)
    return problems + mended(out, expected)


def two_at_once(folder: Path, expected: dict[str, object]) -> list[str]:
    """Two benches in one folder: the second is refused, the first ends."""
    out = folder / "two"
    first = subprocess.Popen(bench(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while first.poll() is None and not (out / "cells").exists():
        time.sleep(0.01)
    problems = told(finish(out), out, "another 'safeeraser bench' is at work")
    problems += [f"the first ended with {first.returncode}"] if first.wait() else []
    return problems + mended(out, expected)


PARTS: dict[str, Callable[[argparse.Namespace, Path], list[str]]] = {
    "kills": lambda options, folder: kills(options.kills, options.seed, folder),
    "disk": lambda options, folder: disk(folder),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(PARTS))
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1"}
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        small_data(Path(folder))
        for name, part in PARTS.items():
            if options.only in (None, name):
                (Path(folder) / name).mkdir()
                problems += part(options, Path(folder) / name)
    print("\n".join(problems) or "no problem found")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
