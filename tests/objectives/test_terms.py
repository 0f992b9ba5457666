"""Each term against values derived by hand, and the contract that every registered term keeps."""

import math

import pytest
import torch
from torch import Tensor, tensor

from safeeraser.errors import UserError
from safeeraser.objectives import TERMS, Term, TermOptions, TokenLogProbs, parse_method, register, token_mean

ALL = [pytest.param(term, id=name) for name, term in TERMS]


def value(name: str, log_probs: TokenLogProbs, **options: float) -> Tensor:
    return TERMS.get(name)(log_probs, TermOptions(**options))


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


def random_samples(term: Term, logits: Tensor, width: int | None = None) -> TokenLogProbs:
    """Samples of 3 answers of 5, 3 and 1 tokens over 7 tokens; the reference all but always says the answer."""
    tokens = torch.arange(15).reshape(3, 5) % 7
    mask = torch.arange(5) < tensor([[5], [3], [1]])
    reference = (8.0 * torch.nn.functional.one_hot(tokens, 7)).log_softmax(-1)
    distribution = logits.log_softmax(-1)
    if width is not None:  # more padding, with values that must never be read
        distribution, reference = (
            torch.nn.functional.pad(d, (0, 0, 0, width - 5), value=-math.inf) for d in (distribution, reference)
        )
        tokens, mask = (torch.nn.functional.pad(t, (0, width - 5)) for t in (tokens, mask))
    answer, reference_answer = (d.gather(-1, tokens[..., None])[..., 0] for d in (distribution, reference))
    return TokenLogProbs(
        answer,
        mask,
        reference_answer if "reference" in term.needs else None,
        distribution if "distribution" in term.needs else None,
        reference if term.needs == {"reference", "distribution"} else None,
    )


def random_logits() -> Tensor:
    return torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("term", ALL)
def test_every_term_gives_one_finite_loss_per_sample(term: Term) -> None:
    loss = term(random_samples(term, random_logits()), TermOptions())
    assert loss.shape == (3,)
    assert loss.isfinite().all()


@pytest.mark.parametrize("term", ALL)
def test_every_term_moves_its_answers_the_right_way(term: Term) -> None:
    """A step down the gradient makes every forget answer less likely, and every other answer more likely."""
    logits = random_logits().requires_grad_()
    term(random_samples(term, logits), TermOptions()).sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all()
    before = random_samples(term, logits.detach())
    after = random_samples(term, logits.detach() - 0.1 * logits.grad)
    change = token_mean(after.answer - before.answer, before.mask)
    assert (change < 0).all() if term.rows == "forget" else (change > 0).all()


@pytest.mark.parametrize("term", ALL)
def test_every_term_ignores_padding(term: Term) -> None:
    narrow, wide = random_logits().requires_grad_(), random_logits().requires_grad_()
    loss = term(random_samples(term, narrow), TermOptions())
    padded = term(random_samples(term, wide, width=9), TermOptions())
    torch.testing.assert_close(loss, padded)
    loss.sum().backward()
    padded.sum().backward()
    assert narrow.grad is not None and wide.grad is not None
    torch.testing.assert_close(narrow.grad, wide.grad)
    assert (wide.grad[2, 1:] == 0).all()


@pytest.mark.parametrize("term", ALL)
def test_every_term_treats_samples_apart(term: Term) -> None:
    """The loss of a sample does not depend on the others in the batch."""
    both = random_logits()
    changed = both.clone()
    changed[1:] += torch.arange(7.0)
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


@pytest.mark.parametrize("name", ["ascent_bound", "npo_beta"])
@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan])
def test_options_must_be_positive(name: str, bad: float) -> None:
    with pytest.raises(UserError, match=f"{name}: .* greater than 0"):
        TermOptions(**{name: bad})


def test_method_loss_is_the_weighted_sum_of_means_over_samples() -> None:
    """Refusals of cross-entropy 1 and 3 (mean 2), retain 5, decouple 7: 2 + 5 + 0.5 * 7 = 10.5; without pd 7."""

    def answers(*log_probs: float) -> TokenLogProbs:
        return TokenLogProbs(tensor([log_probs]).T, torch.ones(len(log_probs), 1, dtype=torch.bool))

    samples = {"refusal": answers(-1.0, -3.0), "retain": answers(-5.0), "decouple": answers(-7.0)}
    total, components = parse_method("po+pd=0.5").loss(samples, TermOptions())
    assert total.item() == 10.5
    assert {name: component.item() for name, component in components.items()} == {"po": 2.0, "nll": 5.0, "pd": 7.0}
    assert parse_method("po").loss(samples, TermOptions())[0].item() == 7.0
