import errno
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from safeeraser.lookup import Lookup
from safeeraser.records import Response
from safeeraser.spool import WRITTEN_AT_ONCE, Chosen, Spool, where

ITEMS = [Response(query_id=f"q{number}", answer="é\ud800" * number, finished=True) for number in range(300)]


def test_it_is_a_sequence_like_any_other() -> None:
    spool = Spool(ITEMS)
    assert spool == ITEMS and ITEMS == spool and spool == tuple(ITEMS) and Spool() == ()
    assert spool != ITEMS[:-1] and spool != ITEMS[::-1] and spool != "text" and spool != 7
    assert (spool[0], spool[-1], len(spool)) == (ITEMS[0], ITEMS[-1], 300)
    assert spool[5:9] == ITEMS[5:9] and spool[::-7][3:] == ITEMS[::-7][3:] and not spool[9:5]
    assert ITEMS[7] in spool and spool.index(ITEMS[7]) == 7 and [*reversed(spool)] == ITEMS[::-1]
    for place in (300, -301):
        with pytest.raises(IndexError):
            spool[place]


def test_what_is_chosen_stays_in_order_and_can_be_chosen_from() -> None:
    spool = Spool(ITEMS)
    some = where(spool, lambda item: len(item.answer) % 4 == 0)
    assert some == ITEMS[::2] and some[1:3] == ITEMS[2:6:2]
    assert Chosen(some, [2, 0, 2]) == [ITEMS[4], ITEMS[0], ITEMS[4]]


def test_what_is_added_is_there_at_once() -> None:
    spool = Spool[str]()
    for number in range(3):
        spool.append(str(number) * WRITTEN_AT_ONCE)
        spool.append("small")
        assert (spool[-1], spool[-2][:5], len(spool)) == ("small", str(number) * 5, 2 * number + 2)


def test_threads_and_forked_processes_read_the_same_file() -> None:
    spool = Spool(ITEMS)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(spool.__getitem__, [*range(300)] * 5)) == ITEMS * 5
    child = os.fork()
    if child == 0:
        os._exit(0 if spool == ITEMS else 1)
    assert spool == ITEMS and os.waitpid(child, 0)[1] == 0


def test_in_a_pickle_it_is_a_tuple() -> None:
    assert pickle.loads(pickle.dumps([Spool(ITEMS), Spool(ITEMS)[2:4]])) == [tuple(ITEMS), tuple(ITEMS[2:4])]


def test_nothing_is_left_of_it_even_by_a_kill(tmp_path: Path) -> None:
    code = "import os; from safeeraser.spool import Spool; spool = Spool(['x' * 10**6]); os.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(tmp_path)}, check=False)
    assert done.returncode == -9 and not [*tmp_path.iterdir()]


def test_a_full_disk_is_said_with_the_folder() -> None:
    """A limit on the size of files stands for the disk."""
    code = (
        "import resource, signal, tempfile; from safeeraser.spool import Spool\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try: Spool(str(number) for number in range(10000))\n"
        "except OSError as error: print(error.errno, error.filename == tempfile.gettempdir())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(errno.EFBIG), "True"] and done.stderr == ""


def test_the_later_number_of_an_id_counts() -> None:
    found = Lookup(int, [(str(number % 1000), number) for number in range(2500)])
    assert [found.get(str(id)) for id in (0, 499, 500, 999, 1000)] == [2000, 2499, 1500, 1999, None]
    found.add("0", 7)
    found.add("new", 8)
    assert (found.get("0"), found.get("new"), len(found), "1" in found, "x" in found) == (7, 8, 1001, True, False)
    empty = Lookup(float)
    assert (empty.get("a"), len(empty)) == (None, 0)
