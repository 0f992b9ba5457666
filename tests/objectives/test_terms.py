"""Each term against values derived by hand, and the contract that every registered term keeps."""

import math

import pytest
import torch
from torch import Tensor, tensor

from safeeraser.errors import UserError
from safeeraser.objectives import (
    TERMS,
    Rows,
    Term,
    TermOptions,
    TokenLogProbs,
    parse_method,
    register,
    token_mean,
)

ALL = [pytest.param(term, id=name) for name, term in TERMS]


def value(name: str, *log_probs: TokenLogProbs, **options: float) -> Tensor:
    """The term's losses; it gets the log-probabilities in the order of its rows."""
    term = TERMS.get(name)
    return term(dict(zip(term.rows, log_probs, strict=True)), TermOptions(**options))


def two_answers() -> TokenLogProbs:
    """Two samples: tokens of probability 1/2 and 1/8; one token of probability 1/4, then padding."""
    answer = tensor([[math.log(1 / 2), math.log(1 / 8)], [math.log(1 / 4), -99.0]])
    return TokenLogProbs(answer, tensor([[True, True], [True, False]]))


@pytest.mark.parametrize(("name", "sign"), [("ga", -1), ("po", 1), ("nll", 1), ("pd", 1)])
def test_cross_entropy_terms(name: str, sign: int) -> None:
    """CE_1 = (ln 2 + ln 8) / 2 = (1 + 3) / 2 ln 2 = 2 ln 2; CE_2 = ln 4 = 2 ln 2; ga is minus that."""
    torch.testing.assert_close(value(name, two_answers()), sign * tensor([2 * math.log(2)] * 2))


def test_ga_bound_stops_the_gradient_of_a_forgotten_sample() -> None:
    """Cross-entropies 1 and 5 with bound 3: losses -1 and -min(5, 3) = -3; d loss_1 / d log p = 1, d loss_2 = 0."""
    answer = tensor([[-1.0], [-5.0]], requires_grad=True)
    loss = value("ga", TokenLogProbs(answer, torch.ones(2, 1, dtype=torch.bool)), ascent_bound=3.0)
    loss.sum().backward()
    torch.testing.assert_close(loss.detach(), tensor([-1.0, -3.0]))
    torch.testing.assert_close(answer.grad, tensor([[1.0], [0.0]]))


def test_npo() -> None:
    """beta = 0.5. Sample 1 equals its reference: r = 0, loss = -2 / 0.5 * ln(1/2) = 4 ln 2.

    Sample 2: r = mean(-3 - -1, -5 - -1) = -3, loss = -4 ln sigmoid(1.5) = 4 ln(1 + e^-1.5).
    """
    answer = tensor([[-1.0, -2.0], [-3.0, -5.0]])
    reference = tensor([[-1.0, -2.0], [-1.0, -1.0]])
    log_probs = TokenLogProbs(answer, torch.ones(2, 2, dtype=torch.bool), reference_answer=reference)
    expected = tensor([4 * math.log(2), 4 * math.log(1 + math.exp(-1.5))])
    torch.testing.assert_close(value("npo", log_probs, npo_beta=0.5), expected)


def test_npo_starts_as_gradient_ascent_and_fades() -> None:
    """d loss / d r = 2 sigmoid(beta r): 1 at r = 0, 2 sigmoid(-5) = 0.0134 at r = -50 with beta 0.1."""
    answer = tensor([[-1.0], [-51.0]], requires_grad=True)
    log_probs = TokenLogProbs(answer, torch.ones(2, 1, dtype=torch.bool), reference_answer=tensor([[-1.0], [-1.0]]))
    value("npo", log_probs, npo_beta=0.1).sum().backward()
    torch.testing.assert_close(answer.grad, tensor([[1.0], [2 / (1 + math.exp(5))]]))


def test_kl() -> None:
    """Two positions over two tokens, p_ref = (1/2, 1/2) at both.

    p = (1/4, 3/4): 1/2 ln 2 + 1/2 ln(2/3) = 1/2 ln(4/3); p = p_ref: 0; their mean is 1/4 ln(4/3). With the second
    position masked it is 1/2 ln(4/3) = 0.144. (The other direction, KL(p || p_ref), is ln 2 - H(1/4) = 0.131.)
    """
    distribution = tensor([[[0.25, 0.75], [0.5, 0.5]]] * 2).log()
    reference = torch.full((2, 2, 2), 0.5).log()
    mask = tensor([[True, True], [True, False]])
    log_probs = TokenLogProbs(distribution[..., 0], mask, reference[..., 0], distribution, reference)
    torch.testing.assert_close(value("kl", log_probs), tensor([0.25, 0.5]) * math.log(4 / 3))


def test_simnpo() -> None:
    """beta = 2, gamma = 1, tokens of log p -1 and -3 (mean -2): -2/2 ln sigmoid(4 - 1) = ln(1 + e^-3).

    The mean, not the sum: the second sample has one token of log p -2 and costs the same.
    """
    answer = tensor([[-1.0, -3.0], [-2.0, -99.0]])
    log_probs = TokenLogProbs(answer, tensor([[True, True], [True, False]]))
    expected = tensor([math.log(1 + math.exp(-3))] * 2)
    torch.testing.assert_close(value("simnpo", log_probs, simnpo_beta=2.0, simnpo_gamma=1.0), expected)


def test_simnpo_leaves_alone_what_is_unlikely_whatever_the_reference_says() -> None:
    """d loss / d m = 2 sigmoid(beta m + gamma): 2 sigmoid(-1) at m = -0.5, 2 sigmoid(-20) at m = -10 with beta 2."""
    answer = tensor([[-0.5], [-10.0]], requires_grad=True)
    log_probs = TokenLogProbs(answer, torch.ones(2, 1, dtype=torch.bool))
    value("simnpo", log_probs, simnpo_beta=2.0).sum().backward()
    torch.testing.assert_close(answer.grad, tensor([[2 / (1 + math.e)], [2 / (1 + math.exp(20))]]))


def test_dpo() -> None:
    """beta = 0.5. Sample 1 equals its reference: -ln sigmoid(0) = ln 2.

    Sample 2: the refusal gained (-1 - -2) + (-1 - -3) = 3, the unsafe answer of one token lost -5 - -1 = -4; the sums
    differ by 7, so -ln sigmoid(3.5) = ln(1 + e^-3.5).
    """
    two, one = tensor([[True, True]] * 2), tensor([[True, False]] * 2)
    refusal = TokenLogProbs(
        tensor([[-2.0, -3.0], [-1.0, -1.0]]), two, reference_answer=tensor([[-2.0, -3.0], [-2.0, -3.0]])
    )
    forget = TokenLogProbs(
        tensor([[-1.0, -7.0], [-5.0, -7.0]]), one, reference_answer=tensor([[-1.0, 7.0], [-1.0, 7.0]])
    )
    expected = tensor([math.log(2), math.log(1 + math.exp(-3.5))])
    torch.testing.assert_close(value("dpo", refusal, forget, dpo_beta=0.5), expected)


def states(hidden: Tensor, reference: Tensor | None = None) -> TokenLogProbs:
    """Samples of two tokens with these states, ``(B, 2, H)``; the second token of the last sample is padding."""
    mask = torch.ones(hidden.shape[:2], dtype=torch.bool)
    mask[-1, 1] = False
    return TokenLogProbs(torch.zeros(mask.shape), mask, hidden=hidden, reference_hidden=reference)


def test_rmu() -> None:
    """H = 2, c = 5, u a unit vector in the positive quadrant, so that ||5 u||^2 / 2 = 12.5 at h = 0 and 0 at h = 5 u.

    Sample 1: states 0 and 5 u, mean 6.25; sample 2: state -5 u, ||10 u||^2 / 2 = 50, and padding.
    """
    zero = torch.zeros(1, 1, 2, requires_grad=True)
    value("rmu", TokenLogProbs(zero[..., 0], torch.ones(1, 1, dtype=torch.bool), hidden=zero)).backward()
    assert zero.grad is not None
    direction = -zero.grad[0, 0] / zero.grad.norm()  # of steepest descent: towards the target
    assert (direction > 0).all()
    hidden = torch.stack([torch.stack([0 * direction, 5 * direction]), torch.stack([-5 * direction, 99 * direction])])
    torch.testing.assert_close(value("rmu", states(hidden), rmu_coefficient=5.0), tensor([6.25, 50.0]))
    other = value("rmu", states(hidden), rmu_coefficient=5.0, seed=1)
    assert not torch.allclose(other, tensor([6.25, 50.0]))


def test_rmu_retain() -> None:
    """H = 2. Sample 1: squared distances 3^2 + 4^2 = 25 and 0, over H 12.5 and 0, mean 6.25; sample 2: 1 / H = 0.5."""
    hidden = tensor([[[3.0, 4.0], [1.0, 1.0]], [[0.0, 1.0], [9.0, 9.0]]])
    reference = tensor([[[0.0, 0.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]])
    torch.testing.assert_close(value("rmu_retain", states(hidden, reference)), tensor([6.25, 0.5]))


Samples = dict[Rows, TokenLogProbs]
Logits = dict[Rows, Tensor]


def random_samples(term: Term, logits: Logits, width: int | None = None) -> Samples:
    """For each kind of rows 3 answers of 5, 3 and 1 tokens over 7 tokens; the reference all but always says the answer.

    Hidden states are the logits themselves; the reference's are those of the model before its first step.
    """
    tokens = torch.arange(15).reshape(3, 5) % 7
    mask = torch.arange(5) < tensor([[5], [3], [1]])
    sure, start = (8.0 * torch.nn.functional.one_hot(tokens, 7)).log_softmax(-1), random_logits(term)
    samples: Samples = {}
    for rows in term.rows:
        values = {"distribution": logits[rows].log_softmax(-1), "reference_distribution": sure, "hidden": logits[rows]}
        values["reference_hidden"] = start[rows].detach() if rows == "forget" else start[rows].detach() + 1
        ids, kept = tokens, mask
        if width is not None:  # more padding, with values that must never be read
            pad = torch.nn.functional.pad
            values = {name: pad(v, (0, 0, 0, width - 5), value=-math.inf) for name, v in values.items()}
            ids, kept = (pad(t, (0, width - 5)) for t in (tokens, mask))
        for name in ("answer", "reference_answer"):
            values[name] = values[name.replace("answer", "distribution")].gather(-1, ids[..., None])[..., 0]
        given = {name for name in values if set(name.split("_")) <= term.needs | {"answer"}}
        samples[rows] = TokenLogProbs(mask=kept, **{name: values[name] for name in given})
    return samples


def random_logits(term: Term) -> Logits:
    generator = torch.Generator().manual_seed(1)
    return {rows: torch.randn(3, 5, 7, generator=generator).requires_grad_() for rows in term.rows}


def gradients(logits: Logits) -> Logits:
    found = {
        rows: value.grad for rows, value in logits.items() if value.grad is not None and value.grad.isfinite().all()
    }
    assert found.keys() == logits.keys()
    return found


@pytest.mark.parametrize("term", ALL)
def test_every_term_gives_one_finite_loss_per_sample(term: Term) -> None:
    loss = term(random_samples(term, random_logits(term)), TermOptions())
    assert loss.shape == (3,)
    assert loss.isfinite().all()


def closeness(term: Term, log_probs: TokenLogProbs) -> Tensor:
    """What a term works on, ``(B,)``: how likely the answers are, or how near the states are to the reference's."""
    if "hidden" not in term.needs:
        return token_mean(log_probs.answer, log_probs.mask)
    assert log_probs.hidden is not None
    kept = log_probs.reference_hidden
    start = random_logits(term)["forget"].detach() if kept is None else kept
    return -token_mean((log_probs.hidden - start).square().sum(-1), log_probs.mask)


@pytest.mark.parametrize("term", ALL)
def test_every_term_moves_its_answers_the_right_way(term: Term) -> None:
    """A step down the gradient makes every forget answer less likely, and every other answer more likely.

    Of terms that read states: it takes those of forget answers away from the reference, and all others towards it.
    """
    logits = random_logits(term)
    term(random_samples(term, logits), TermOptions()).sum().backward()
    moved = {rows: logits[rows].detach() - 0.1 * gradient for rows, gradient in gradients(logits).items()}
    before = random_samples(term, {rows: value.detach() for rows, value in logits.items()})
    after = random_samples(term, moved)
    for rows in term.rows:
        change = closeness(term, after[rows]) - closeness(term, before[rows])
        assert (change < 0).all() if rows == "forget" else (change > 0).all(), rows


@pytest.mark.parametrize("term", ALL)
def test_every_term_ignores_padding(term: Term) -> None:
    narrow, wide = random_logits(term), random_logits(term)
    loss = term(random_samples(term, narrow), TermOptions())
    padded = term(random_samples(term, wide, width=9), TermOptions())
    torch.testing.assert_close(loss, padded)
    loss.sum().backward()
    padded.sum().backward()
    for rows, gradient in gradients(wide).items():
        torch.testing.assert_close(gradients(narrow)[rows], gradient)
        assert (gradient[2, 1:] == 0).all()


@pytest.mark.parametrize("term", ALL)
def test_every_term_treats_samples_apart(term: Term) -> None:
    """The loss of a sample does not depend on the others in the batch."""
    both = random_logits(term)
    changed = {rows: logits.detach().clone() for rows, logits in both.items()}
    for logits in changed.values():
        logits[1:] += torch.arange(7.0)
    first = term(random_samples(term, both), TermOptions())
    second = term(random_samples(term, changed), TermOptions())
    torch.testing.assert_close(first[0], second[0])


@pytest.mark.parametrize("term", ALL)
def test_every_term_says_where_it_is_from(term: Term) -> None:
    text = term.function.__doc__ or ""
    assert "arXiv" in text and "official" in text and "(B,)" in text


def test_a_registered_term_is_found_and_a_taken_name_refused() -> None:
    with pytest.raises(ValueError, match="duplicate objective term 'ga'"):
        register("ga", rows="forget")(lambda log_probs, options: log_probs.answer)
    with pytest.raises(UserError, match="unknown objective term 'nl': did you mean 'nll'"):
        TERMS.get("nl")


@pytest.mark.parametrize("name", ["ascent_bound", "npo_beta", "simnpo_beta", "dpo_beta", "rmu_coefficient"])
@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan])
def test_options_must_be_positive(name: str, bad: float) -> None:
    with pytest.raises(UserError, match=f"{name}: .* greater than 0"):
        TermOptions(**{name: bad})


@pytest.mark.parametrize("bad", [-0.1, math.nan])
def test_a_margin_must_not_be_negative(bad: float) -> None:
    with pytest.raises(UserError, match="simnpo_gamma: .* from 0 upwards"):
        TermOptions(simnpo_gamma=bad)


def test_method_loss_is_the_weighted_sum_of_means_over_samples() -> None:
    """Refusals of cross-entropy 1 and 3 (mean 2), retain 5, decouple 7: 2 + 5 + 0.5 * 7 = 10.5; without pd 7."""

    def answers(*log_probs: float) -> TokenLogProbs:
        return TokenLogProbs(tensor([log_probs]).T, torch.ones(len(log_probs), 1, dtype=torch.bool))

    samples = {"refusal": answers(-1.0, -3.0), "retain": answers(-5.0), "decouple": answers(-7.0)}
    total, components = parse_method("po+pd=0.5").loss(samples, TermOptions())
    assert total.item() == 10.5
    assert {name: component.item() for name, component in components.items()} == {"po": 2.0, "nll": 5.0, "pd": 7.0}
    assert parse_method("po").loss(samples, TermOptions())[0].item() == 7.0
