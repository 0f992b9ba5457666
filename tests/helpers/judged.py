"""Queries with their responses and verdicts, made from rows of values."""

from safeeraser.records import TEXT_SETS, Query, Response, Verdict

CRITERIA = {
    "efficacy": ("unsafe", "refusal", "trace_unsafe", "trace_refusal"),
    "generality": ("unsafe", "refusal", "trace_unsafe", "trace_refusal"),
    "safe": ("normal", "refusal", "grounded", "trace_normal"),
    "retain": ("similarity",),
    "specificity": (),
    "knowledge": (),
    "text_orr": ("refusal",),
}


def make(query_set, rows, category="Weapon", group="", prefix="q"):
    """Rows are (record, answer or None for an error, verdict values in the order of CRITERIA, the last
    may be left out; None: unscored)."""
    queries, responses, verdicts = [], [], []
    for number, (record, text, *values) in enumerate(rows):
        identity = f"{prefix}{query_set}{number}"
        queries.append(
            Query(
                id=identity,
                record_id=record,
                set=query_set,
                category=category,
                image="" if query_set in TEXT_SETS else f"img/{record}.png",
                question=f"{number}?",
                reference="A cat.",
                group=group,
            )
        )
        error = "img/a.png: unreadable" if text is None else None
        responses.append(Response(query_id=identity, answer=text or "", finished=True, error=error))
        for criterion, value in zip(CRITERIA[query_set], values, strict=False):
            reason = "no reply" if value is None else None
            verdicts.append(Verdict(query_id=identity, criterion=criterion, value=value, unscored=reason, judge="test"))
    return queries, responses, verdicts


def join(*cells):
    return tuple([item for cell in cells for item in cell[part]] for part in range(3))
