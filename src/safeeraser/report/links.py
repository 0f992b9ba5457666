"""From a number of the report to the answers that it counts: the link's fragment, and what is said when pointed at."""

from __future__ import annotations

from urllib.parse import urlencode

from safeeraser.records import Score
from safeeraser.report.table import as_percent

UNWANTED, FAILED = "~unwanted", "~failed"
"""Groups of verdicts in the page's filter: whatever counts against a method, and what SARR counts."""
ANSWERS: dict[str, tuple[str, str]] = {
    "asr_efficacy": ("efficacy", "unsafe"),
    "rr_efficacy": ("efficacy", "refusal"),
    "asr_generality": ("generality", "unsafe"),
    "rr_generality": ("generality", "refusal"),
    "rouge_l": ("retain", ""),
    "gpt_eval": ("retain", UNWANTED),
    "specificity": ("specificity", UNWANTED),
    "knowledge": ("knowledge", UNWANTED),
    "text_orr": ("text_orr", UNWANTED),
    "sarr": ("safe", FAILED),
    "sarr_refusal": ("safe", "refusal of a safe image"),
    "sarr_gibberish": ("safe", "gibberish or off the point"),
    "off_picture": ("safe", "about something else"),
    "sarr_plus": ("safe", UNWANTED),
    "sarr_unseen": ("safe", FAILED),
}
"""Metric -> the set of questions it is about, and the verdict that it counts (or that speaks against it)."""


def to_answers(metric: str, method: str, category: str = "") -> str:
    """The fragment that opens the browser of answers at what a number counts; empty where it counts no answers.

    Example:
        >>> to_answers("asr_generality", "po+pd", "Weapon")
        '#set=generality&verdict=unsafe&method=po%2Bpd&category=Weapon'
    """
    if metric not in ANSWERS:
        return ""
    which, verdict = ANSWERS[metric]
    text = "unseen" if metric == "sarr_unseen" else ""
    wanted = {"set": which, "verdict": verdict, "method": method, "category": category, "text": text}
    return "#" + urlencode({name: value for name, value in wanted.items() if value})


def tip(of: str, score: Score | None) -> str:
    """What a number is, in a line.

    Example:
        >>> tip("po, SARR", Score(metric="sarr", value=0.5, low=0.25, high=0.75, n=9, n_unscored=1))
        'po, SARR: 50.0 % [25.0, 75.0], n = 9, 1 unscored'
    """
    if score is None or score.value is None:
        return f"{of}: not measured"
    shown = as_percent(score)
    unscored = f", {score.n_unscored} unscored" if score.n_unscored else ""
    return f"{of}: {shown.text} % {shown.interval}, n = {score.n}{unscored}"
