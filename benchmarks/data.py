"""How fast a release is read and checked, and how that grows: ``python benchmarks/data.py``. One figure per line.

The release at paper scale (2,400 records, 28,800 pairs) is the embedded benchmark's; a larger one repeats its records
with other questions, and points them at the same images.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sheet import CLOCK, PROCESSOR, Figure, Sheet, add_option, take

from safeeraser import data
from safeeraser.data.official import examine, read_release

PAIRS = 28_800
TIMES = (1, 10, 100)


def figures() -> dict[str, Figure]:
    found = {}
    for times in TIMES:
        what = f"read {times * PAIRS:,} pairs"
        found[f"read.{times}.wall"] = Figure(what, "s", CLOCK)
        found[f"read.{times}.processor"] = Figure(what, "s", PROCESSOR, tolerance=1.2)
        found[f"read.{times}.json"] = Figure(what, "MiB", "MiB of JSON", "same", 1.01)
        found[f"read.{times}.memory"] = Figure(what, "MiB", "peak MiB")
    found["examine.wall"] = Figure("decode every image whole, 2 threads", "s", CLOCK)
    found["examine.processor"] = Figure("decode every image whole, 2 threads", "s", PROCESSOR, tolerance=1.2)
    return found


def grow(source: Path, out: Path, times: int) -> Path:
    """Write ``times`` copies of every record of a release, each with its own questions; images are hard links."""
    out.mkdir()
    for folder in ("img", "SDimg"):
        shutil.copytree(source / folder, out / folder, copy_function=os.link)
    for split in ("train", "val"):
        items = json.loads((source / f"all_{split}.json").read_text(encoding="utf-8"))
        with open(out / f"all_{split}.json", "w", encoding="utf-8") as file:
            file.write("[")
            for copy in range(times):
                for number, item in enumerate(items):
                    pairs = [pair | {"question": f"{copy}: {pair['question']}"} for pair in item["unsafe_pairs"]]
                    file.write("" if copy + number == 0 else ",\n")
                    json.dump(item | {"unsafe_pairs": pairs}, file, ensure_ascii=False)
            file.write("]")
    return out


def read_in_a_process(folder: Path) -> tuple[float, float, float, int]:
    """Seconds, CPU seconds and peak MiB of reading a release, and its records, in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--read", str(folder)], capture_output=True, text=True, check=True)
    seconds, cpu, mib, records = done.stdout.split()
    return float(seconds), float(cpu), float(mib), int(records)


def read(folder: Path) -> None:
    start, cpu = time.perf_counter(), time.process_time()
    benchmark = read_release(folder)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(seconds, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, len(benchmark.records))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--times", default=",".join(map(str, TIMES)), help="how many times the paper's scale, comma-separated"
    )
    parser.add_argument("--read", help=argparse.SUPPRESS)
    add_option(parser)
    options = parser.parse_args()
    if options.read:
        read(Path(options.read))
        return
    source, sheet = data.load("pictogram").root, Sheet(figures())
    with tempfile.TemporaryDirectory() as folder:
        for times in map(int, options.times.split(",")):
            made = grow(source, Path(folder) / str(times), times)
            size = sum(path.stat().st_size for path in made.glob("all_*.json")) / 2**20
            seconds, cpu, mib, records = read_in_a_process(made)
            print(f"read {records:,} records, {times * PAIRS:,} pairs, {size:,.0f} MiB of JSON: {seconds:.2f} s")
            print(f"its CPU time: {cpu:.2f} s, {cpu / times:.3f} s per {PAIRS:,} pairs")
            print(f"its peak memory: {mib:,.0f} MiB, {mib / size:.1f} times the JSON", flush=True)
            if times in TIMES:
                for name, value in (("wall", seconds), ("processor", cpu), ("json", size), ("memory", mib)):
                    sheet.add(f"read.{times}.{name}", value)
    images = len({path for r in data.load("pictogram").records for path in (r.image, r.safe_image)})
    took = take(lambda: examine(source))
    print(f"check every image whole, {images:,} images: {sheet.add('examine.wall', took.wall):.2f} s")
    print(f"its CPU time: {sheet.add('examine.processor', took.processor):.2f} s")
    sheet.write(options.json)


if __name__ == "__main__":
    main()
