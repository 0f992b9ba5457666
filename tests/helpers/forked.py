"""``safeeraser`` in several processes over gloo, forked from one that has imported everything: eight for one start.

``python forked.py 2 unlearn ... -- 8 unlearn ...`` starts two, then eight, and sets what ``torchrun`` sets for each.
"""

import os
import socket
import sys
from itertools import groupby

import peft  # noqa: F401
import torch
import transformers  # noqa: F401

from safeeraser.cli import main
from safeeraser.unlearn import stage  # noqa: F401


def started(rank: int, number: int, port: int, arguments: list[str]) -> int:
    """The id of a process that does one rank's part."""
    child = os.fork()
    if child:
        return child
    there = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": number, "LOCAL_WORLD_SIZE": number, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in there.items()} | {"MASTER_ADDR": "127.0.0.1"}
    code = 1
    try:
        code = main(arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def team(number: int, arguments: list[str]) -> int:
    """The worst exit status of processes that work together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = [started(rank, number, port, arguments) for rank in range(number)]
    return max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)


if __name__ == "__main__":
    torch.set_num_threads(1)
    lines = [list(line) for is_end, line in groupby(sys.argv[1:], "--".__eq__) if not is_end]
    raise SystemExit(max(team(int(number), arguments) for number, *arguments in lines))
