"""Tasks of lmms-eval on local data: capability probes of the embedded benchmark; nothing is fetched."""

from pathlib import Path

from safeeraser.data import Benchmark

VISUALS = """
def visuals(doc):
    return [doc["image"].convert("RGB")]
"""
TASK = """task: {name}
dataset_path: parquet
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: generate_until
doc_to_visual: !function pictures.visuals
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs:
  max_new_tokens: 24
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
    ignore_case: true
    ignore_punctuation: true
"""


def write_task(folder: Path, name: str, benchmark: Benchmark, kind: str, questions: int) -> Path:
    """Write the first probes of one kind as parquet, with the YAML that makes them a task."""
    from datasets import Dataset, Features, Image, Value

    folder.mkdir(parents=True, exist_ok=True)
    probes = [probe for probe in benchmark.probes if probe.kind == kind][:questions]
    rows = [
        {"image": str(benchmark.image(probe.image)), "question": probe.question, "answer": probe.answer}
        for probe in probes
    ]
    features = Features({"image": Image(), "question": Value("string"), "answer": Value("string")})
    Dataset.from_list(rows, features=features).to_parquet(folder / f"{name}.parquet")
    (folder / "pictures.py").write_text(VISUALS)
    (folder / f"{name}.yaml").write_text(TASK.format(name=name, data=folder.resolve() / f"{name}.parquet"))
    return folder
