"""Options of the subcommands that compare what is there already: compare, agreement, leaderboard."""

from __future__ import annotations

from dataclasses import dataclass

from safeeraser.config.options import OnBad, Protocol


@dataclass
class CompareConfig:
    """Compare two runs or cells question by question: difference, 95 % interval, corrected p-value.

    Example:
        safeeraser compare runs/demo                       # every base method against its +PD variant
        safeeraser compare runs/lr-low runs/lr-high        # the same methods under other options
        safeeraser compare runs/demo/cells/mini-llava/po runs/demo/cells/mini-llava/npo --out po-npo.json
    """

    a: str
    """Run folder, or a folder inside one: of a model, a method (all seeds) or a cell."""
    b: str | None = None
    """What to compare it with; None: within A, every base method against its +PD variant."""
    metrics: str | list[str] | None = None
    """Metrics, comma-separated; None: all. The p-values are corrected for as many comparisons as are made, so choose
    before you look."""
    out: str | None = None
    """JSON file to write."""


@dataclass
class AgreementConfig:
    r"""Compare two judges on the same responses: kappa, confusion table, and the disagreements for a person.

    Example:
        safeeraser agreement runs/x/rules.jsonl runs/x/gpt.jsonl --responses runs/x/responses.jsonl \
            --disagreements look-at-these.csv
        safeeraser agreement runs/x/rules.jsonl --template fill-me-in.csv --responses runs/x/responses.jsonl
        safeeraser agreement runs/x/rules.jsonl filled-in.csv
    """

    a: str
    """Verdicts of one judge: verdicts.jsonl, or a CSV with the columns query_id, criterion, value and perhaps note.
    The value is 0 or 1 (similarity: 0 to 1), ? for undecided, empty for not looked at."""
    b: str | None = None
    """Verdicts of the other judge; not needed with --template."""
    judge_a: str | None = None
    """Whose verdicts to take from A; needed if it holds those of several."""
    judge_b: str | None = None
    """Whose verdicts to take from B; needed if it holds those of several."""
    responses: str | None = None
    """What was judged; None: responses.jsonl in the folder of A."""
    data: str = "pictogram"
    """The benchmark that was answered."""
    on_bad: OnBad = "fail"
    """What to do about bad records: as 'safeeraser respond' was told."""
    protocol: Protocol = "greedy"
    """Protocol that the responses were made with."""
    out: str | None = None
    """JSON file to write."""
    disagreements: str | None = None
    """CSV file to write: questions, answers and both verdicts wherever the judges do not agree; a person fills in
    'value' and gives the file back as a judge."""
    template: str | None = None
    """CSV file to write for a person to label blindly, before any B is there."""
    sample: int = 100
    """Rows of the template, spread evenly over criteria and A's verdicts."""
    seed: int = 0
    """Seed of the template's sample."""


@dataclass
class LeaderboardConfig:
    """Merge runs into one page: Markdown, CSV and HTML, every number scored anew from the verdicts.

    Example:
        safeeraser leaderboard runs/demo runs/mine --out leaderboard
        safeeraser leaderboard runs/* --sort rouge_l
    """

    runs: list[str]
    """Run folders."""
    out: str = "leaderboard"
    """Folder for leaderboard.md, leaderboard.csv and leaderboard.html."""
    sort: str = "sarr"
    """Column that decides the order, the best first; vanilla models come last, as they forget nothing."""
