"""How the triples of an optimizer step are spread over processes and forward passes."""

from dataclasses import replace

import pytest

from safeeraser.bench.spec import read_options, training_values
from safeeraser.config import StepBatch, UnlearnOptions, step_batch
from safeeraser.core.errors import UserError


@pytest.mark.parametrize(
    ("given", "processes", "fits", "expected"),
    [
        ({}, 1, None, (16, 2)),  # 32, the paper's
        ({}, 2, None, (16, 1)),
        ({}, 8, None, (4, 1)),
        ({}, 1, 40, (32, 1)),
        ({}, 1, 7, (4, 8)),  # the largest that divides 32
        ({}, 2, 1, (1, 16)),
        ({"global_batch": 24}, 1, 16, (12, 2)),
        ({"global_batch": 32, "batch_size": 1}, 2, 9, (1, 16)),
        ({"global_batch": 32, "accumulation": 4}, 2, 9, (4, 4)),
        ({"batch_size": 4}, 2, 9, (4, 1)),  # as before there was a global batch
        ({"accumulation": 4}, 1, 9, (16, 4)),
        ({"global_batch": 32, "batch_size": 3, "accumulation": 5}, 2, 9, (3, 5)),  # these go before it
    ],
)
def test_parts_follow_from_the_whole_unless_they_are_given(
    given: dict[str, int], processes: int, fits: int | None, expected: tuple[int, int]
) -> None:
    assert step_batch(UnlearnOptions(**given), processes, fits) == StepBatch(*expected, processes)


@pytest.mark.parametrize("processes", [1, 2, 8])
@pytest.mark.parametrize("fits", [None, 1, 3, 64])
def test_a_global_batch_is_the_same_on_any_number_of_processes(processes: int, fits: int | None) -> None:
    assert step_batch(UnlearnOptions(), processes, fits).global_batch == 32


@pytest.mark.parametrize(
    ("given", "processes", "multiple"),
    [
        ({"global_batch": 32}, 3, 3),
        ({"global_batch": 32, "batch_size": 5}, 1, 5),
        ({"global_batch": 4, "batch_size": 4}, 2, 8),
    ],
)
def test_a_whole_that_its_parts_do_not_make_up_is_refused(given: dict[str, int], processes: int, multiple: int) -> None:
    with pytest.raises(UserError, match=f"training.global_batch: .* give a multiple of {multiple}"):
        step_batch(UnlearnOptions(**given), processes)


def test_specs_of_given_parts_are_what_they_were_before_there_was_a_global_batch() -> None:
    values = training_values(UnlearnOptions(batch_size=4), None)
    assert (values["batch_size"], values["accumulation"]) == (4, 1) and "global_batch" not in values
    assert training_values(UnlearnOptions(batch_size=0), None)["batch_size"] == 0  # refused where it is used
    whole = training_values(UnlearnOptions(batch_size=1, global_batch=32), None)
    assert (whole["global_batch"], whole["batch_size"], whole["accumulation"]) == (32, 1, None)
    lora = {"lora": UnlearnOptions().lora}
    again = read_options(UnlearnOptions, {**whole, **lora}, "training")
    assert again == replace(UnlearnOptions(), batch_size=1, global_batch=32)
