"""How fast a release is read and checked, and how that grows: ``python benchmarks/data.py``.

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

from measure import CLOCK, PROCESSOR, publish, take

from safeeraser import data
from safeeraser.data.release import examine, read_release

PAIRS = 28_800
TIMES = (1, 10, 100)


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
    options = parser.parse_args()
    if options.read:
        read(Path(options.read))
        return
    source, rows = data.load("pictogram").root, {}
    with tempfile.TemporaryDirectory() as folder:
        for times in map(int, options.times.split(",")):
            made = grow(source, Path(folder) / str(times), times)
            size = sum(path.stat().st_size for path in made.glob("all_*.json")) / 2**20
            seconds, cpu, mib, _ = read_in_a_process(made)
            row = {f"{CLOCK}, s": seconds, f"{PROCESSOR}, s": cpu, "MiB of JSON": size, "peak MiB": mib}
            rows[f"read {times * PAIRS:,} pairs"] = row
    took = take(lambda: examine(source))
    rows["decode every image whole, 2 threads"] = {f"{CLOCK}, s": took.wall, f"{PROCESSOR}, s": took.processor}
    publish({"data": rows})


if __name__ == "__main__":
    main()
