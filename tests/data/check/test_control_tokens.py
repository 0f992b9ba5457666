"""What looks like a control token of a model in questions and answers is named with its place."""

import json
from pathlib import Path

import pytest
from releases import record, release

from safeeraser import cli, data
from safeeraser.data.check.texts import control_token_problems, control_tokens


@pytest.mark.parametrize(
    "token",
    [
        *("<image>", "<pad>", "<s>", "</s>", "<unk>"),  # LLaVA
        *("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|image_pad|>", "<|endoftext|>", "<|eot_id|>", "<|user|>"),
        *("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<image_soft_token>"),  # Gemma
        *("<fake_token_around_image>", "<global-img>", "<row_1_col_2>", "<end_of_utterance>"),  # SmolVLM
        *("[INST]", "[/INST]", "[IMG]", "[IMG_BREAK]", "[IMG_END]", "<<SYS>>", "<</SYS>>"),  # Pixtral, Llama 2
        *(
            "<img>",
            "</img>",
            "<IMG_CONTEXT>",
            "<loc0012>",
            "<\uff5cend\u2581of\u2581sentence\uff5c>",
            "[CLS]",
            "<mask>",
        ),
    ],
)
def test_control_tokens_of_common_families_are_told(token: str) -> None:
    assert control_tokens(f"How is{token}\nthis made? {token}") == [token]


@pytest.mark.parametrize(
    "text",
    ["a < b and c > d", "<b>bold</b> <br/> <table>", "[hazard A]", "[1] [sic]", "<|", "|>", "<images>", "I <3 s"],
)
def test_other_brackets_are_no_control_tokens(text: str) -> None:
    assert control_tokens(text) == []


def bad_release(folder: Path) -> Path:
    pairs = [{"question": "<image>\nQ?", "model_response": "U", "sd_response": "S.</s>", "note": "<image>"}]
    retain = {"Question": "What?", "Answer": "An axe.", "Prediction": "<|im_end|> <|im_end|> <s>"}
    changed = record(2, unsafe_pairs=pairs, UnharmPair_text1=retain, keyword="<image>")
    return release(folder, record(1), changed, val=[record(3)])


def test_file_record_and_field_are_named(tmp_path: Path) -> None:
    folder = bad_release(tmp_path)
    probe = {"image": "img/Weapon/1.jpg", "question": "<image> Q?", "answer": "A.", "kind": "count"}
    (folder / "dataset/probes.json").write_text(json.dumps([probe]))
    said = [str(problem).partition(": this looks")[0] for problem in control_token_problems(folder / "dataset")]
    assert said == [
        "all_train.json, record 2, field unsafe_pairs[0].question: holds '<image>'",
        "all_train.json, record 2, field unsafe_pairs[0].sd_response: holds '</s>'",
        "all_train.json, record 2, field UnharmPair_text1.Prediction: holds '<|im_end|>', '<s>'",
        "probes.json, record 1, field question: holds '<image>'",
    ]


def test_the_command_names_them_and_the_line_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = bad_release(tmp_path / "mine")
    assert cli.main(["data", "check", str(folder), "--workers", "1", "--out", str(tmp_path / "report.json")]) == 1
    assert "record 2, field unsafe_pairs[0].question: holds '<image>'" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "report.json").read_text())["problems"]) == 3
    assert len(data.load(folder).records) == 3
    data.warn_of_control_tokens(data.load(folder))
    warning = capsys.readouterr().err
    assert "3 texts of mine hold" in warning and "'<image>' in a train record about img/Weapon/2.jpg" in warning


def test_the_embedded_benchmark_has_none(small: data.Benchmark, capsys: pytest.CaptureFixture[str]) -> None:
    data.warn_of_control_tokens(small)
    assert capsys.readouterr().err == "" and control_token_problems(small.root) == []


def test_import_names_line_and_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    for n in range(2):
        Image.new("RGB", (4, 4), (50 * n, 0, 0)).save(tmp_path / f"{n}.png")
    head = "image,question,unsafe_answer,retain_question,retain_answer,split\n"
    rows = '0.png,"<image>\nHow?",Take it.,What?,A thing.,train\n1.png,How?,Take it.</s>,What?,A thing.,val\n'
    (tmp_path / "data.csv").write_text(head + rows)
    assert cli.main(["data", "import", str(tmp_path / "data.csv"), "--out", str(tmp_path / "out")]) == 0
    warning = capsys.readouterr().err
    assert "2 texts hold" in warning and "line 2, column question: holds '<image>'" in warning
    assert "line 4, column unsafe_answer: holds '</s>'" in warning
    assert data.load(tmp_path / "out").records[0].forget[0].question == "<image>\nHow?"
