import random

import numpy as np
import pytest

from safeeraser.data.pictogram.concepts import ALL, SAFE_SEEN
from safeeraser.data.pictogram.render import BACKGROUNDS, COUNTS, POSITIONS, TEXTURES, render, render_probe


def test_every_concept_has_art_and_stands_out_from_its_background() -> None:
    for index, concept in enumerate(ALL):
        image, meta = render(concept, random.Random(index))
        assert image.shape == (64, 64, 3) and image.dtype == np.uint8
        assert meta["background"] != concept.colour
        # the middle holds the object: it differs from the colour of the background
        contrast = np.abs(image[16:48, 16:48].astype(float) - BACKGROUNDS[meta["background"]]).max()
        assert contrast > 60, concept.name


def test_same_seed_same_pixels_other_seed_other_pixels() -> None:
    first, meta = render(ALL[0], random.Random("a"))
    again, meta_again = render(ALL[0], random.Random("a"))
    other, _ = render(ALL[0], random.Random("b"))
    assert np.array_equal(first, again) and meta == meta_again
    assert not np.array_equal(first, other)


def test_all_augmentations_occur() -> None:
    metas = [render(SAFE_SEEN[0], random.Random(seed))[1] for seed in range(200)]
    assert {meta["background"] for meta in metas} == set(BACKGROUNDS) - {SAFE_SEEN[0].colour}
    assert {meta["texture"] for meta in metas} == set(TEXTURES)
    assert {meta["size"] for meta in metas} == {"small", "large"}


def test_background_and_size_can_be_chosen() -> None:
    image, meta = render(SAFE_SEEN[0], random.Random(0), size=96, background="purple")
    assert image.shape == (96, 96, 3)
    assert meta["background"] == "purple"


def _plain_probe(**layout: object) -> np.ndarray:
    """Where the red object of a probe is, on the first plain blue background that the seeds give."""
    concept = next(concept for concept in SAFE_SEEN if concept.name == "tomato")
    for seed in range(1000):
        image, meta = render_probe(concept, random.Random(seed), **layout)  # type: ignore[arg-type]
        if (meta["background"], meta["texture"]) == ("blue", "plain"):
            return (image[..., 0].astype(int) - image[..., 2]) > 0
    raise AssertionError("no plain blue background in 1000 seeds")


@pytest.mark.parametrize("count", COUNTS)
def test_count_probes_show_that_many_objects_apart(count: int) -> None:
    redness = _plain_probe(count=count)
    corners = [redness[:30, :30], redness[:30, 34:], redness[34:, :30], redness[34:, 34:]]
    assert sum(corner.sum() > 50 for corner in corners) == count
    assert not redness[31:33].any() and not redness[:, 31:33].any()


@pytest.mark.parametrize("position", POSITIONS)
def test_position_probes_put_the_object_on_that_side(position: str) -> None:
    rows, columns = np.nonzero(_plain_probe(position=position))
    dx, dy = POSITIONS[position]
    assert columns.mean() == pytest.approx(32 + 16 * dx, abs=4)
    assert rows.mean() == pytest.approx(32 + 16 * dy, abs=4)


@pytest.mark.parametrize("layout", [{"count": 4}, {"position": "middle"}, {"count": 2, "position": "left"}])
def test_impossible_probes_are_refused(layout: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="one of"):
        render_probe(SAFE_SEEN[0], random.Random(0), **layout)  # type: ignore[arg-type]
