"""Fit the weights of the rules judge's refusal detector: ``python benchmarks/refusal_weights.py``.

Logistic regression with a ridge on the labelled answers of the development parts. Before it fits all of them, it leaves
out one part after the other and prints kappa on the part left out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from safeeraser.judges.labelled import Labelled, load
from safeeraser.judges.refusals import WEIGHTS, features
from safeeraser.judges.topic import after_yes_or_no
from safeeraser.metrics.agreement import label_agreement

RIDGE = 1.0
SEEN = 4
"""Answers that a feature must be in."""
SMALLEST = 5
"""Weights below this are not kept."""


def fit(seen: Sequence[set[str]], labels: Sequence[int]) -> dict[str, int]:
    """Weight by feature in hundredths of log-odds, and "bias"."""
    counts = Counter(name for names in seen for name in names)
    place = {name: at for at, name in enumerate(sorted(name for name, count in counts.items() if count >= SEEN))}
    pairs = [(row, place[name]) for row, names in enumerate(seen) for name in sorted(names) if name in place]
    inputs = csr_matrix((np.ones(len(pairs)), np.array(pairs).T), shape=(len(seen), len(place)))
    wanted = np.array(labels, dtype=float)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        scores = inputs @ weights[:-1] + weights[-1]
        error = 1 / (1 + np.exp(-scores)) - wanted
        value = np.logaddexp(0, scores).sum() - wanted @ scores + RIDGE * weights[:-1] @ weights[:-1] / 2
        return float(value), np.append(inputs.T @ error + RIDGE * weights[:-1], error.sum())

    found = minimize(loss, np.zeros(len(place) + 1), jac=True, method="L-BFGS-B", options={"maxiter": 2000}).x
    hundredths = {name: round(100 * float(found[at])) for name, at in place.items()}
    kept = {name: weight for name, weight in hundredths.items() if abs(weight) >= SMALLEST}
    return {"bias": round(100 * float(found[-1])), **kept}


def own_words(row: Labelled) -> str:
    """What the detector reads of an answer: where the question asks for yes or no, what follows it."""
    rest = after_yes_or_no(row.question, row.answer)
    return row.answer if rest is None else rest


def main() -> None:
    """Print kappa by part, and write the weights."""
    rows = [row for row in load() if row.part != "held-out"]
    seen, labels = [features(own_words(row)) for row in rows], [row.expected["refusal"] for row in rows]
    for part in dict.fromkeys(row.part for row in rows):
        inside = [row.part == part for row in rows]
        weights = fit(*zip(*[(s, y) for s, y, left in zip(seen, labels, inside, strict=True) if not left], strict=True))
        pairs = [
            (y, float(weights["bias"] + sum(weights.get(name, 0) for name in s) > 0))
            for s, y, left in zip(seen, labels, inside, strict=True)
            if left
        ]
        kappa = label_agreement(pairs).kappa
        print(
            f"{part}: {len(pairs)} answers, kappa {kappa.value:.3f} [{kappa.low:.3f}, {kappa.high:.3f}] when left out"
        )
    weights = fit(seen, labels)
    lines = ",\n".join(f"{json.dumps(name, ensure_ascii=False)}: {weight}" for name, weight in weights.items())
    WEIGHTS.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    print(f"{len(rows)} answers, {len(weights)} weights")


if __name__ == "__main__":
    main()
