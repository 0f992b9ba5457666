"""``safeeraser`` with FSDP over CPU processes, for tests: accelerate itself leaves FSDP out where there is no GPU.

Started by ``accelerate launch --config_file fsdp.yaml tests/helpers/fsdp_on_cpu.py unlearn ...``; ``STOP_AT=3`` kills
the process after step 3. Rows are packed, however few tokens a picture is; how many about each picture goes, a line for
each pass, into ``packed-RANK.jsonl`` of the folder ``PACKED_TO``: two processes that print mix their lines.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate.state import PartialState
from accelerate.utils import DistributedType

from safeeraser.cli import main
from safeeraser.models import packing, prefix
from safeeraser.unlearn import arguments, stage
from safeeraser.unlearn.trainer import StepLog


def training_arguments(**given: Any) -> transformers.TrainingArguments:
    return transformers.TrainingArguments(**(given | {"use_cpu": False}))


class StoppedLog(StepLog):
    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        super().on_log(args, state, control, logs, **kwargs)
        if str(state.global_step) == os.environ.get("STOP_AT"):
            os._exit(9)


def pack(*given: Any) -> Any:
    with (Path(os.environ["PACKED_TO"]) / f"packed-{os.environ['RANK']}.jsonl").open("a") as lines:
        lines.write(json.dumps(given[-1]) + "\n")
    return made(*given)


if __name__ == "__main__":
    prefix.LEAST_SHARED = 0
    made, packing.pack = packing.pack, pack
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    PartialState._prepare_backend = lambda *_: ("gloo", DistributedType.MULTI_GPU)
    PartialState.set_device = lambda self: setattr(self, "device", torch.device("cpu"))
    arguments.TrainingArguments = training_arguments
    stage.StepLog = StoppedLog
    raise SystemExit(main(sys.argv[1:]))
