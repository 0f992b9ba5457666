"""A small folder in the layout of each public set, made up: placeholders as texts, plain squares as pictures."""

import csv
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from PIL import Image

SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


def make(name: str, root: Path) -> Path:
    """Write the folder of a set below ``root``, named after it."""
    folder = root / name
    folder.mkdir(parents=True)
    MAKERS[name](folder)
    return folder


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (24, 24), (len(path.name) * 9 % 255, 120, 60)).save(path)


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def write_xlsx(path: Path, rows: Sequence[Sequence[str]], shared: bool = True) -> None:
    """A workbook of one sheet, as Excel writes it (shared strings) or as some libraries do (inline)."""
    strings = list(dict.fromkeys(text for row in rows for text in row))
    lines = []
    for number, row in enumerate(rows, 1):
        cells = []
        for place, text in enumerate(row):
            at = f"{chr(65 + place)}{number}"
            inside = f"<is><t>{escape(text)}</t></is>"
            shares = f'<c r="{at}" t="s"><v>{strings.index(text)}</v></c>'
            cells.append(shares if shared else f'<c r="{at}" t="inlineStr">{inside}</c>')
        lines.append(f'<row r="{number}">{"".join(cells)}</row>')
    with zipfile.ZipFile(path, "w") as archive:
        sheet = f'<worksheet xmlns="{SHEET}"><sheetData>{"".join(lines)}</sheetData></worksheet>'
        archive.writestr("xl/worksheets/sheet1.xml", sheet)
        if shared:
            items = "".join(f"<si><t>{escape(text)}</t></si>" for text in strings)
            archive.writestr("xl/sharedStrings.xml", f'<sst xmlns="{SHEET}">{items}</sst>')


def mm_safetybench(folder: Path) -> None:
    fields = ("Question", "Changed Question", "Key Phrase", "Phrase Type", "Rephrased Question")
    for scenario in ("01-First", "02-Second"):
        rows = {
            str(number): {**dict.fromkeys(fields, f"[question {number}]"), "Rephrased Question(SD)": f"[SD {number}]"}
            for number in range(2)
        }
        write_json(folder / "data" / "processed_questions" / f"{scenario}.json", rows)
        for number in range(2):
            for kind in ("SD", "SD_TYPO", "TYPO"):
                picture(folder / "data" / "imgs" / scenario / kind / f"{number}.jpg")


def vlguard(folder: Path) -> None:
    unsafe = {"instruction": "[unsafe picture]", "response": "Sorry."}
    twins = [
        {"safe_instruction": "What is shown?", "response": "A green square."},
        {"unsafe_instruction": "[unsafe words]", "response": "Sorry."},
    ]
    write_json(
        folder / "test.json",
        [
            {"id": "1", "image": "bad/1.png", "safe": False, "harmful_category": "privacy", "instr-resp": [unsafe]},
            {"id": "2", "image": "2.png", "safe": True, "harmful_category": "privacy", "instr-resp": twins},
        ],
    )
    picture(folder / "test" / "bad" / "1.png")
    picture(folder / "test" / "2.png")


def figstep(folder: Path) -> None:
    header = ("dataset", "category_id", "task_id", "category_name", "question", "instruction")
    rows = [("ForbidQI", place, 1, f"topic {place}", "[question]", "[Steps]") for place in (1, 2)]
    for name, images in (("safebench", "SafeBench"), ("SafeBench-Tiny", "SafeBench-Tiny")):
        write_csv(folder / "data" / "question" / f"{name}.csv", header, rows if "Tiny" not in name else rows[:1])
        for place in (1, 2):
            picture(folder / "data" / "images" / images / f"query_ForbidQI_{place}_1_6.png")


def siuo(folder: Path) -> None:
    rows = [
        {"question_id": n, "image": f"S-0{n}.png", "question": "[fine alone]", "category": "morality"} for n in (1, 2)
    ]
    write_json(folder / "siuo_gen.json", rows)
    for n in (1, 2):
        picture(folder / "images" / f"S-0{n}.png")


def mssbench(folder: Path) -> None:
    chat = {"safe_image_path": "s.jpg", "unsafe_image_path": "u.jpg", "intent": "run", "Type": "harm"}
    embodied = {"task": "place", "category": "damage", "safe": "a.png", "unsafe": "b.png"}
    lists = {"safe_instructions": ["Place it."], "unsafe_instructions": ["Place it."]}
    value = {"chat": [{**chat, "queries": ["How do I run?", "Where?"]}], "embodied": [{**embodied, **lists}]}
    write_json(folder / "combined.json", value)
    for name in ("chat/s.jpg", "chat/u.jpg", "embodied/a.png", "embodied/b.png"):
        picture(folder / name)


def vscbench(folder: Path) -> None:
    images = [f"{which}_img_{place}" for which in ("safe", "unsafe") for place in range(3)]
    names = [f"{name}.png" for name in images]
    write_xlsx(
        folder / "vscbench_image_centric.xlsx",
        [["Prompt", "Category", *images], ["What is <this>?", "drugs", *names]],
    )
    for name in names:
        picture(folder / "vscbench_image_centric_images" / "drugs" / name)
    kinds = ("search", "typography", "concat", "figstep")
    header = ["type", "prompt_origin", "prompt_mm", *(f"{kind}_img" for kind in kinds)]
    rows = [["homonyms", "[safe]", "[shown]", *["1.png"] * 4], ["contrast_homonyms", "[un]", "[shown]", *["2.png"] * 4]]
    write_xlsx(folder / "vscbench_text_centric.xlsx", [header, *rows], shared=False)
    for kind in kinds:
        for number in (1, 2):
            picture(folder / "vscbench_text_centric_images" / kind / f"{number}.png")


def mossbench(folder: Path) -> None:
    for part, text in (("data", "[benign]"), ("data_contrast", "[harmful]")):
        row = {"image": "images/1.png", "question": text, "pid": "1", "metadata": {"over": "type 1", "human": 0}}
        write_json(folder / part / "images_information" / "information.json", {"1": row})
        picture(folder / part / "images" / "1.png")


def xstest(folder: Path) -> None:
    header = ("id", "prompt", "type", "label", "focus", "note")
    rows = [(1, "[safe]", "homonyms", "safe", "", ""), (2, "[unsafe]", "contrast_homonyms", "unsafe", "", "")]
    write_csv(folder / "xstest_prompts.csv", header, rows)


def dual_bench(folder: Path) -> None:
    rows = [("1.png", "harmful", "fraud"), ("2.png", "benign", "fraud")]
    write_csv(folder / "dual-bench.csv", ("image", "label", "category"), rows)
    for name, *_ in rows:
        picture(folder / name)


MAKERS = {
    "mm-safetybench": mm_safetybench,
    "vlguard": vlguard,
    "figstep": figstep,
    "siuo": siuo,
    "mssbench": mssbench,
    "vscbench": vscbench,
    "mossbench": mossbench,
    "xstest": xstest,
    "dual-bench": dual_bench,
}
