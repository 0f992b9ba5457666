import json
from pathlib import Path

import pytest
from PIL import Image

from safeeraser import cli, data
from safeeraser.core.errors import UserError
from safeeraser.core.files import write_json
from safeeraser.data import Benchmark
from safeeraser.data.check import hashes, leaks, texts
from safeeraser.data.check import report as checks
from safeeraser.data.check.duplicates import same_pictures
from safeeraser.data.check.held_out import read_held_out
from safeeraser.data.pictogram.build import build
from safeeraser.data.release import write_release
from safeeraser.records import Record

COPIED, RENAMED, RESAVED = 3, 2, 1
LEAKED = COPIED + RENAMED
"""Of the 12 val records of ``leaky``: the whole record; the texts with the picture in another file; a lossy copy of the
picture with other texts, which is no leak unless asked for."""


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark of 36 train and 12 val records, of which some were made from train records."""
    folder = build(tmp_path_factory.mktemp("leaky") / "leaky", records=48, workers=1)
    benchmark = data.load(folder)
    train, val = benchmark.split("train"), list(benchmark.split("val"))
    for index, twin in enumerate(train[:COPIED]):
        val[index] = twin.model_copy(update={"split": "val"})
    for index, twin in enumerate(train[10 : 10 + RENAMED], COPIED):
        with Image.open(benchmark.image(twin.image)) as image:  # the same pixels, other bytes
            image.save(benchmark.root / "img" / f"renamed-{index}.png", compress_level=0)
        val[index] = twin.model_copy(update={"split": "val", "image": f"img/renamed-{index}.png", "keyword": "other"})
    for index, twin in enumerate(train[20 : 20 + RESAVED], LEAKED):
        with Image.open(benchmark.image(twin.image)) as image:
            image.save(benchmark.root / "img" / f"resaved-{index}.jpg", quality=75)
        val[index] = val[index].model_copy(update={"image": f"img/resaved-{index}.jpg"})
    write_release(folder, [*train, *val], benchmark.refusals, benchmark.probes)
    return folder


@pytest.fixture(scope="module")
def report(leaky: Path) -> checks.CheckReport:
    benchmark = data.load(leaky)
    return checks.check(benchmark, hashes.hash_images(benchmark, checks.images_of(benchmark)))


def _through(report: checks.CheckReport) -> dict[str, int]:
    return {through: sum(found.values()) for through, found in report.leaked_through().items()}


def test_every_made_leak_is_found_through_what_it_leaks_and_nothing_else_is(report: checks.CheckReport) -> None:
    found = _through(report)
    assert (found["record"], found["image"], found["texts"], found["near"]) == (COPIED, LEAKED, LEAKED, RESAVED)
    assert (report.leaked, report.val_records, len(report.held_out)) == (LEAKED, 12, 12 - LEAKED)


def test_a_leak_names_both_records(leaky: Path, report: checks.CheckReport) -> None:
    records = {record.id: record for record in data.load(leaky).records}
    for leak in report.leaks:
        val, train = records[leak.record], records[leak.train_record]
        assert (val.split, train.split) == ("val", "train")
        assert (leak.image, leak.train_image, leak.category) == (val.image, train.image, val.category)


def test_what_looks_alike_is_shown_and_counts_only_on_demand(leaky: Path, report: checks.CheckReport) -> None:
    (pair,) = [pair for pair in report.near if pair.kind == "unsafe"]
    assert pair.val_image.endswith(".jpg") and 0 <= pair.bits <= hashes.NEAR_BITS
    benchmark = data.load(leaky)
    hashed = hashes.hash_images(benchmark, checks.images_of(benchmark))
    assert checks.check(benchmark, hashed, counted=(*leaks.ALWAYS, "near")).leaked == LEAKED + RESAVED
    assert checks.check(benchmark, hashed, near_bits=0).near == ()


def test_pictures_on_both_sides_are_told_apart_from_those_on_one(leaky: Path, report: checks.CheckReport) -> None:
    assert report.borders()["split, unsafe"] == LEAKED
    safe = {kind: {r.safe_image for r in data.load(leaky).split(kind)} for kind in ("train", "val")}
    assert report.borders()["split, safe"] == len(safe["train"] & safe["val"]) > 0
    assert not report.borders()["unsafe and safe"] and not report.borders()["probe"]


def test_the_embedded_benchmark_has_no_leak_and_is_split_pure(small: Benchmark) -> None:
    report = checks.check(small, hashes.hash_images(small, checks.images_of(small)))
    assert (report.leaked, report.same_pictures, report.near) == (0, (), ())
    assert all(count.pairs_in_train <= count.questions_in_train <= count.val_pairs for count in report.texts)
    assert report.leaked_through()["pairs"].total() > 0  # made from templates: counted only on demand


def test_a_picture_used_as_unsafe_and_as_safe_is_found(small: Benchmark) -> None:
    one, *rest = small.records
    mixed = Benchmark("mixed", small.root, (one.model_copy(update={"safe_image": one.image}), *rest), (), (), "")
    (same,) = same_pictures(mixed, hashes.hash_images(small, [one.image]))
    assert (same.images, same.roles, same.borders) == (
        (one.image,),
        ("train safe", "train unsafe"),
        ("unsafe and safe",),
    )


def test_hashes_do_not_depend_on_processes_and_pass_over_what_cannot_be_read(small: Benchmark) -> None:
    paths = sorted(checks.images_of(small))[:130]
    calls: list[tuple[int, int]] = []
    one = hashes.hash_images(small, [*paths, "img/missing.png"], 1, lambda done, of: calls.append((done, of)))
    assert one == hashes.hash_images(small, paths, 2) and set(one) == set(paths)
    assert calls[-1] == (131, 131)
    with pytest.raises(UserError, match="workers 0"):
        hashes.hash_images(small, paths, 0)


def test_alike_counts_differing_bits() -> None:
    def hashed(*bytes_: int) -> hashes.ImageHash:
        return hashes.ImageHash("", bytes((*bytes_, *[0] * (32 - len(bytes_)))))

    some, others = [hashed(0), hashed(0xFF)], [hashed(0x01), hashed(0xFF, 0x01)]
    assert hashes.alike(some, others, 1) == [(0, 0, 1), (1, 1, 1)]
    assert hashes.alike(some, others, 8) == [(0, 0, 1), (1, 0, 7), (1, 1, 1)]
    assert hashes.alike([], others) == []
    with pytest.raises(UserError, match="near bits 257"):
        hashes.alike(some, others, 257)


def test_texts_are_compared_up_to_case_white_space_and_normalisation(small: Benchmark) -> None:
    assert texts.normalised("Cafe\u0301  CR\u00c8ME") == texts.normalised("caf\u00e9 cre\u0300me")
    record = small.records[0]
    shouted = tuple(pair.model_copy(update={"question": f" {pair.question.upper()}\n"}) for pair in record.forget)
    assert texts.all_texts(record.model_copy(update={"forget": shouted})) == texts.all_texts(record)
    assert texts.all_texts(record.model_copy(update={"forget": shouted[1:]})) != texts.all_texts(record)


def test_counts_of_the_paper_are_met_by_a_benchmark_of_its_size() -> None:
    from safeeraser.data.pictogram.entries import record_entries

    records = tuple(
        Record(
            id=str(index),
            split=entry.split,
            category=entry.category,
            keyword=entry.picture.concept.name,
            type="",
            image=entry.picture.path,
            safe_image=entry.safe_picture.path,
            forget=(),
            retain=(),
        )
        for index, entry in enumerate(record_entries(2400, 0))
    )
    counts = checks.paper_counts(Benchmark("paper", Path("."), records, (), (), ""))
    kinds = ("records", "unsafe images", "safe images")
    assert all(count.found == count.paper for count in counts if count.what in kinds)
    assert sum(count.paper for count in counts if count.what.endswith("pairs")) == 28_800
    strange = checks.paper_counts(
        Benchmark("x", Path("."), (records[0].model_copy(update={"category": "X"}),), (), (), "")
    )
    assert [count.paper for count in strange if count.category == "X"] == [0] * 12


def test_held_out_file_is_good_for_its_own_data_alone(leaky, report, small, tmp_path):
    path = tmp_path / "held-out.json"
    write_json(path, report.held_out_file().model_dump())
    assert read_held_out(path, data.load(leaky)) == set(report.held_out)
    with pytest.raises(UserError, match="made for other data"):
        read_held_out(path, small)
    content = json.loads(path.read_text())
    for change, message in [
        ({"records": ["stranger"]}, "'stranger' is no val record"),
        ({"records": []}, "nothing is held out"),
        ({"format": "other"}, "field format"),
        ({"more": 1}, "field more"),
    ]:
        path.write_text(json.dumps(content | change))
        with pytest.raises(UserError, match=message):
            read_held_out(path, data.load(leaky))


def test_check_writes_report_and_held_out_file_and_a_leak_alone_is_no_failure(leaky, tmp_path, capsys):
    before = {path: path.stat().st_mtime_ns for path in leaky.rglob("*")}
    out, held_out = tmp_path / "report.json", tmp_path / "held-out.json"
    flags = ["--out", str(out), "--held-out", str(held_out), "--near", "--workers", "1"]
    assert cli.main(["data", "check", str(leaky), *flags]) == 0
    printed = capsys.readouterr().out
    assert f"leaks: {LEAKED + RESAVED} of 12 val records" in printed and "every record and image can be read" in printed
    written = json.loads(out.read_text())
    assert (written["leaked"], written["counted"]) == (LEAKED + RESAVED, ["record", "image", "texts", "near"])
    assert len(json.loads(held_out.read_text())["records"]) == 12 - LEAKED - RESAVED
    assert {path: path.stat().st_mtime_ns for path in leaky.rglob("*")} == before


def test_check_fails_on_a_broken_image_and_still_writes_what_score_can_use(tmp_path, capsys):
    folder = build(tmp_path / "broken", records=24, workers=1)
    image = data.load(folder).split("val")[0].image
    (folder / "dataset" / image).write_bytes(b"no image")
    held_out = tmp_path / "held-out.json"
    assert cli.main(["data", "check", str(folder), "--held-out", str(held_out), "--workers", "1"]) == 1
    printed = capsys.readouterr().out
    assert "integrity: 1 problem" in printed and image in printed
    assert read_held_out(held_out, data.load(folder))
    items = json.loads((folder / "dataset" / "all_val.json").read_text())
    items[-1]["unsafe_pairs"] = []
    (folder / "dataset" / "all_val.json").write_text(json.dumps(items))
    assert cli.main(["data", "check", str(folder), "--held-out", str(held_out), "--workers", "1"]) == 1
    assert "unsafe_pairs" in (printed := capsys.readouterr().out) and "--on-bad skip" in printed
    assert len(read_held_out(held_out, data.load(folder, on_bad="skip"))) == 5
    (folder / "dataset" / "all_val.json").write_text("{")
    out = tmp_path / "report.json"
    assert cli.main(["data", "check", str(folder), "--out", str(out)]) == 1
    assert "all_val.json" in capsys.readouterr().out
    assert [problem.partition(":")[0] for problem in json.loads(out.read_text())["problems"]] == ["all_val.json"]


def test_copies_are_announced_without_reading_an_image(leaky, small, capsys):
    data.warn_of_copies(small)
    assert capsys.readouterr().err == ""
    data.warn_of_copies(data.load(leaky))
    assert f"{COPIED} of 12 val records of leaky stand in train" in capsys.readouterr().err


def test_score_reports_generality_on_the_held_out_part_as_well(leaky: Path, tmp_path: Path) -> None:
    """Unsafe answers on leaked val records, refusals elsewhere: ASR 5/12 on all of val, 0 on what is held out."""
    from safeeraser.core.files import write_jsonl
    from safeeraser.records import Response

    assert cli.main(["data", "check", str(leaky), "--held-out", str(tmp_path / "h.json"), "--workers", "1"]) == 0
    benchmark = data.load(leaky)
    held_out = read_held_out(tmp_path / "h.json", benchmark)
    asked = [query for query in data.queries(benchmark) if query.set == "generality"]
    answers = [benchmark.refusals[0] if query.record_id in held_out else query.reference for query in asked]
    responses = [Response(query_id=q.id, answer=a, finished=True) for q, a in zip(asked, answers, strict=True)]
    write_jsonl(tmp_path / "responses.jsonl", responses)
    files = ["--data", str(leaky), "--responses", str(tmp_path / "responses.jsonl")]
    assert cli.main(["judge", *files, "--out", str(tmp_path / "verdicts.jsonl")]) == 0
    score = ["score", *files, "--verdicts", str(tmp_path / "verdicts.jsonl"), "--out", str(tmp_path / "scores.json")]
    assert cli.main([*score, "--held-out", str(tmp_path / "h.json")]) == 0
    found = {
        s["metric"]: s for s in json.loads((tmp_path / "scores.json").read_text())["scores"] if s["category"] == "all"
    }
    assert found["asr_generality"]["value"] == pytest.approx(LEAKED / 12)
    assert (found["asr_generality_held_out"]["value"], found["rr_generality_held_out"]["value"]) == (0, 1)
    assert found["asr_generality_held_out"]["n"] == 4 * len(held_out)


def test_bench_keeps_the_held_out_file_in_the_spec_of_each_cell(leaky: Path, tmp_path: Path) -> None:
    from safeeraser import config
    from safeeraser.bench import matrix
    from safeeraser.bench.runs import Cell

    path = tmp_path / "held-out.json"
    assert cli.main(["data", "check", str(leaky), "--held-out", str(path), "--workers", "1"]) == 0
    options = config.BenchConfig(data=str(leaky), methods="po", limit=6, held_out=str(path), out=str(tmp_path / "run"))
    (cell,) = matrix.cells(options)
    assert cell.spec.held_out_records() == read_held_out(path, data.load(leaky))
    cell.prepare()
    path.write_text(path.read_text() + "\n")
    with pytest.raises(UserError, match="has changed since this cell was planned"):
        cell.spec.held_out_records()
    (other,) = matrix.cells(options)
    with pytest.raises(UserError, match="held_out_hash"):
        Cell(cell.folder, other.spec).prepare()
    options.dev = True
    with pytest.raises(UserError, match="--held-out is about val"):
        matrix.cells(options)
