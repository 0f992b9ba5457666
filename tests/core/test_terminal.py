"""Long work says how far it is where nobody looks at a terminal, too."""

import pytest

from safeeraser.core import terminal


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands at ``clock[0]`` seconds."""
    at = [0.0]
    monkeypatch.setattr("safeeraser.core.terminal.time.monotonic", lambda: at[0])
    return at


def test_a_log_gets_a_line_a_minute_with_the_time_left_at_this_pace(clock, capsys):
    with terminal.bar("respond", 100) as progress:
        progress(40, 100)  # done before the run was killed
        for number in range(1, 61):
            clock[0] += 10
            progress(40 + number, 100, note="note \x1b[31m" if number == 30 else "")
    assert capsys.readouterr().err.splitlines() == [
        "respond 46/100, 9.0 min left",
        "respond 52/100, 8.0 min left",
        "respond 58/100, 7.0 min left",
        "respond 64/100, 6.0 min left",
        "respond 70/100 note \\x1b[31m, 5.0 min left",
        "respond 76/100, 4.0 min left",
        "respond 82/100, 3.0 min left",
        "respond 88/100, 2.0 min left",
        "respond 94/100, 1.0 min left",
        "respond 100/100 in 600 s",
    ]


def test_short_work_is_one_line_and_a_failed_one_is_not_called_done(clock, capsys):
    with terminal.bar("decode", None):
        clock[0] = 2.4
    assert capsys.readouterr().err == "decode in 2 s\n"
    with pytest.raises(KeyboardInterrupt), terminal.bar("judge", 3) as progress:
        progress(1, 3)
        raise KeyboardInterrupt
    assert capsys.readouterr().err == ""
