"""Small releases, made on the fly."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image


def record(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A record as the release has it; a change to None leaves the key out."""
    made = {
        "type": "SD",
        "keyword": "axe",
        "category": "Weapon",
        "image_path": f"img/Weapon/{number}.jpg",
        "SDImage_path": "SDimg/Weapon/1.jpg",
        "unsafe_pairs": [{"question": f"Q{k}?", "model_response": f"U{k}", "sd_response": f"S{k}"} for k in range(4)],
        "UnharmPair_text1": {"Question": "What is it?", "Answer": "An axe.", "Prediction": "It is an axe for wood."},
        "UnharmPair_image2": {"Question": "Where?", "Answer": "Left.", "Prediction": "It lies on the left."},
    } | changes
    return {key: value for key, value in made.items() if value is not None}


def draw(path: Path, side: int = 8, **options: Any) -> None:
    """Write an image in the format that the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise((side, side), 90).convert("RGB").save(path, **options)


def draw_all(root: Path, items: Sequence[Any]) -> None:
    """Write the images that the records name, as far as that is a path in the folder."""
    for one in items:
        for key in ("image_path", "image_id", "SDImage_path"):
            name = one.get(key) if isinstance(one, dict) else None
            if isinstance(name, str) and name.strip():
                draw(root / name)


def release(path: Path, *items: Any, lines: bool = False, val: Sequence[Any] | None = None) -> Path:
    """Write ``path/dataset`` with its images."""
    root = path / "dataset"
    root.mkdir(parents=True)
    for name, held in (("all_train.json", items), ("all_val.json", val)):
        if held is not None:
            text = "\n".join(map(json.dumps, held)) + "\n" if lines else json.dumps(held)
            (root / name).write_text(text)
            draw_all(root, held)
    return path
