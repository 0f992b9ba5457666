"""``safeeraser`` whose answering stops, for tests of several processes: started by ``accelerate launch``.

With ``STOP=1`` the second process fails at its second batch.
"""

import os
import sys
from typing import Any

from safeeraser.cli import main
from safeeraser.core.errors import UserError
from safeeraser.models import chat

BATCHES = 0


def stopping(*given: Any) -> list[chat.Generation]:
    global BATCHES
    BATCHES += 1
    if (os.environ.get("STOP"), os.environ["RANK"], BATCHES) == ("1", "1", 2):
        raise UserError("this process cannot go on")
    return generate(*given)


if __name__ == "__main__":
    generate, chat.generate = chat.generate, stopping
    raise SystemExit(main(sys.argv[1:]))
