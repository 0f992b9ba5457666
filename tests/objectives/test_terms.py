"""Each term against values derived by hand, and the contract that every registered term keeps."""

import math

import pytest
import torch
from torch import Tensor, tensor

from safeeraser.core.errors import UserError
from safeeraser.objectives import (
    TERMS,
    Rows,
    Term,
    TokenLogProbs,
    by_position,
    parse_method,
    register,
    token_mean,
)

ALL = [pytest.param(term, id=name) for name, term in TERMS]


def value(name: str, *log_probs: TokenLogProbs, **options: float) -> Tensor:
    """The term's losses; it gets the log-probabilities in the order of its rows."""
    return TERMS.get(name).function(*log_probs, **options)


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
    loss = value("ga", TokenLogProbs(answer, torch.ones(2, 1, dtype=torch.bool)), bound=3.0)
    loss.sum().backward()
    torch.testing.assert_close(loss.detach(), tensor([-1.0, -3.0]))
    torch.testing.assert_close(answer.grad, tensor([[1.0], [0.0]]))


def test_npo() -> None:
    """beta = 0.5. Sample 1 equals its reference: R = 0, loss = -2 / 0.5 * ln(1/2) = 4 ln 2.

    Sample 2: R = (-3 - -1) + (-5 - -1) = -6, the sum, loss = -4 ln sigmoid(3) = 4 ln(1 + e^-3); per token half of each.
    """
    answer = tensor([[-1.0, -2.0], [-3.0, -5.0]])
    reference = tensor([[-1.0, -2.0], [-1.0, -1.0]])
    log_probs = TokenLogProbs(answer, torch.ones(2, 2, dtype=torch.bool), reference_answer=reference)
    expected = tensor([4 * math.log(2), 4 * math.log(1 + math.exp(-3))])
    torch.testing.assert_close(value("npo", log_probs, beta=0.5, per_token=False), expected)
    torch.testing.assert_close(value("npo", log_probs, beta=0.5), expected / 2)


def test_npo_starts_as_gradient_ascent_and_fades_with_the_whole_answer() -> None:
    """d loss / d log p(y_t) = 2 sigmoid(beta R) / T: that of ga, 1 / T, at R = 0.

    At -25 for each of two tokens R = -50: with beta 0.1 it is sigmoid(-5) = 0.0067. (With the mean it would be
    sigmoid(-2.5) = 0.076, and 0.46 after 31 tokens that lost 1.6 each.)
    """
    answer = tensor([[-1.0, -1.0], [-26.0, -26.0]], requires_grad=True)
    log_probs = TokenLogProbs(answer, torch.ones(2, 2, dtype=torch.bool), reference_answer=-torch.ones(2, 2))
    value("npo", log_probs, beta=0.1).sum().backward()
    torch.testing.assert_close(answer.grad, tensor([[0.5] * 2, [1 / (1 + math.exp(5))] * 2]))
    start = answer.detach()[:1].requires_grad_()
    value("ga", TokenLogProbs(start, log_probs.mask[:1])).sum().backward()
    torch.testing.assert_close(start.grad, answer.grad[:1])


def test_kl() -> None:
    """Two positions over two tokens, p_ref = (1/2, 1/2) at both.

    p = (1/4, 3/4): 1/2 ln 2 + 1/2 ln(2/3) = 1/2 ln(4/3); p = p_ref: 0; their mean is 1/4 ln(4/3). With the second
    position masked it is 1/2 ln(4/3) = 0.144. (The other direction, KL(p || p_ref), is ln 2 - H(1/4) = 0.131.)
    """
    distribution = tensor([[[0.25, 0.75], [0.5, 0.5]]] * 2).log()
    reference = torch.full((2, 2, 2), 0.5).log()
    mask = tensor([[True, True], [True, False]])
    tokens = torch.zeros_like(mask, dtype=torch.long)
    log_probs = TokenLogProbs(distribution[..., 0], mask, reference[..., 0], distribution, reference, tokens=tokens)
    torch.testing.assert_close(value("kl", log_probs), tensor([0.25, 0.5]) * math.log(4 / 3))


def test_simnpo() -> None:
    """beta = 2, gamma = 1, tokens of log p -1 and -3 (mean -2): -2/2 ln sigmoid(4 - 1) = ln(1 + e^-3).

    The mean, not the sum: the second sample has one token of log p -2 and costs the same.
    """
    answer = tensor([[-1.0, -3.0], [-2.0, -99.0]])
    log_probs = TokenLogProbs(answer, tensor([[True, True], [True, False]]))
    expected = tensor([math.log(1 + math.exp(-3))] * 2)
    torch.testing.assert_close(value("simnpo", log_probs, beta=2.0, gamma=1.0), expected)


def test_simnpo_leaves_alone_what_is_unlikely_whatever_the_reference_says() -> None:
    """d loss / d m = 2 sigmoid(beta m + gamma): 2 sigmoid(-1) at m = -0.5, 2 sigmoid(-20) at m = -10 with beta 2."""
    answer = tensor([[-0.5], [-10.0]], requires_grad=True)
    log_probs = TokenLogProbs(answer, torch.ones(2, 1, dtype=torch.bool))
    value("simnpo", log_probs, beta=2.0).sum().backward()
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
    torch.testing.assert_close(value("dpo", refusal, forget, beta=0.5), expected)


def one_answer(p: Tensor, token: int, reference: Tensor | None = None) -> TokenLogProbs:
    """One sample of one answer token, its distribution given as probabilities, ``(V,)``."""
    said, before = p.log()[None, None], None if reference is None else reference.log()[None, None]
    tokens, mask = tensor([[token]]), torch.ones(1, 1, dtype=torch.bool)
    return TokenLogProbs(said[..., token], mask, distribution=said, reference_distribution=before, tokens=tokens)


def logit_gradient(
    name: str, logits: list[float], token: int, reference: Tensor | None = None, **options: float
) -> Tensor:
    """Gradient of a term's loss in the logits of one answer token, ``(V,)``."""
    of = tensor(logits, requires_grad=True)
    value(name, one_answer(of.softmax(-1), token, reference), **options).sum().backward()
    assert of.grad is not None
    return of.grad


def test_wga_weighs_a_token_by_its_probability() -> None:
    """beta = 2, tokens of p 1/2 and 1/8: (1/4 ln 1/2 + 1/64 ln 1/8) / 2; d loss / d log p is p^2 / T."""
    answer = two_answers().answer[:1].clone().requires_grad_()
    loss = value("wga", TokenLogProbs(answer, torch.ones(1, 2, dtype=torch.bool)), beta=2.0)
    loss.sum().backward()
    torch.testing.assert_close(loss.detach(), tensor([(math.log(1 / 2) / 4 + math.log(1 / 8) / 64) / 2]))
    torch.testing.assert_close(answer.grad, tensor([[1 / 8, 1 / 128]]))


def test_satimp_leaves_alone_what_is_forgotten_and_what_is_certain() -> None:
    """beta1 = 2, beta2 = 1: d loss / d log p = p^2 (1 - p) / T: 1/8 at p = 1/2, 0 at p = 1, 1e-8 at p = 1e-4; T = 3."""
    answer = tensor([[0.5, 1.0, 1e-4]]).log().requires_grad_()
    value("satimp", TokenLogProbs(answer, torch.ones(1, 3, dtype=torch.bool)), beta1=2.0, beta2=1.0).sum().backward()
    torch.testing.assert_close(answer.grad, tensor([[1 / 8, 0.0, 1e-8]]) / 3, rtol=1e-3, atol=0)


def test_weighted_ascents_without_weights_are_gradient_ascent() -> None:
    log_probs = two_answers()
    ascent = value("ga", log_probs)
    torch.testing.assert_close(value("wga", log_probs, beta=0.0), ascent)
    torch.testing.assert_close(value("satimp", log_probs, beta1=0.0, beta2=0.0), ascent)
    torch.testing.assert_close(value("satimp", log_probs, beta1=3.0, beta2=0.0), value("wga", log_probs, beta=3.0))


def test_undial_goes_to_the_reference_without_the_answer_and_stops_there() -> None:
    """p_ref = (1/2, 1/4, 1/4), answer 0, e^beta = 4: q is proportional to (1/8, 1/4, 1/4), so (1/5, 2/5, 2/5).

    Its gradient in the logits is p - q: at p = (1/3, 1/3, 1/3) it is (2, -1, -1) / 15, and 0 at p = q.
    """
    reference = tensor([0.5, 0.25, 0.25])
    target = tensor([0.2, 0.4, 0.4])
    options = {"beta": math.log(4)}
    torch.testing.assert_close(
        value("undial", one_answer(target, 0, reference), **options)[0], -(target * target.log()).sum()
    )
    away = logit_gradient("undial", [0.0, 0.0, 0.0], 0, reference, **options)
    torch.testing.assert_close(away, tensor([2.0, -1.0, -1.0]) / 15)
    there = logit_gradient("undial", target.log().tolist(), 0, reference, **options)
    torch.testing.assert_close(there, torch.zeros(3), rtol=0, atol=1e-6)


def test_ce_u_takes_from_the_answer_what_it_has_and_gives_it_to_the_others() -> None:
    """p = (1/2, 1/4, 1/4), answer 0: q = (0, 1/2, 1/2), loss ln 4, gradient p - q = (1/2, -1/4, -1/4)."""
    p = tensor([0.5, 0.25, 0.25])
    torch.testing.assert_close(value("ce_u", one_answer(p, 0)), tensor([math.log(4)]))
    torch.testing.assert_close(logit_gradient("ce_u", p.log().tolist(), 0), tensor([0.5, -0.25, -0.25]))


def test_ce_u_skips_first_tokens_and_gives_nothing_where_none_is_left() -> None:
    """Two tokens of loss ln 4 and ln 3, then one of ln 4: without the first of each ln 3 and 0."""
    first, second = tensor([0.5, 0.25, 0.25]), tensor([1.0, 1.0, 1.0]) / 3
    said = torch.stack([torch.stack([first, second]), torch.stack([first, second])]).log()
    tokens, mask = torch.zeros(2, 2, dtype=torch.long), tensor([[True, True], [True, False]])
    log_probs = TokenLogProbs(said[..., 0], mask, distribution=said, tokens=tokens)
    torch.testing.assert_close(value("ce_u", log_probs), tensor([math.log(12) / 2, math.log(4)]))
    torch.testing.assert_close(value("ce_u", log_probs, skip=1), tensor([math.log(3), 0.0]))


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
    torch.testing.assert_close(value("rmu", states(hidden), coefficient=5.0), tensor([6.25, 50.0]))
    other = value("rmu", states(hidden), coefficient=5.0, seed=1)
    assert not torch.allclose(other, tensor([6.25, 50.0]))


def test_rmu_retain() -> None:
    """H = 2. Sample 1: squared distances 3^2 + 4^2 = 25 and 0, over H 12.5 and 0, mean 6.25; sample 2: 1 / H = 0.5."""
    hidden = tensor([[[3.0, 4.0], [1.0, 1.0]], [[0.0, 1.0], [9.0, 9.0]]])
    reference = tensor([[[0.0, 0.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]])
    torch.testing.assert_close(value("rmu_retain", states(hidden, reference)), tensor([6.25, 0.5]))


Samples = dict[Rows, TokenLogProbs]
Logits = dict[Rows, Tensor]
TOKENS = torch.arange(15).reshape(3, 5) % 7


def random_samples(term: Term, logits: Logits, width: int | None = None) -> Samples:
    """For each kind of rows 3 answers of 5, 3 and 1 tokens over 7 tokens; the reference all but always says the answer.

    Hidden states are the logits themselves; the reference's are those of the model before its first step.
    """
    mask = torch.arange(5) < tensor([[5], [3], [1]])
    sure, start = (8.0 * torch.nn.functional.one_hot(TOKENS, 7)).log_softmax(-1), random_logits(term)
    samples: Samples = {}
    for rows in term.rows:
        values = {"distribution": logits[rows].log_softmax(-1), "reference_distribution": sure, "hidden": logits[rows]}
        values["reference_hidden"] = start[rows].detach() if rows == "forget" else start[rows].detach() + 1
        ids, kept = TOKENS, mask
        if width is not None:  # more padding, with values that must never be read
            pad = torch.nn.functional.pad
            values = {name: pad(v, (0, 0, 0, width - 5), value=-math.inf) for name, v in values.items()}
            ids, kept = (pad(t, (0, width - 5)) for t in (TOKENS, mask))
        for name in ("answer", "reference_answer"):
            values[name] = values[name.replace("answer", "distribution")].gather(-1, ids[..., None])[..., 0]
        given = {name for name in values if set(name.split("_")) <= term.needs | {"answer"}}
        samples[rows] = TokenLogProbs(mask=kept, tokens=ids, **{name: values[name] for name in given})
    return samples


def random_logits(term: Term) -> Logits:
    """Of a model that has not forgotten: the answer is more likely than by chance."""
    generator = torch.Generator().manual_seed(1)
    likely = 2.0 * torch.nn.functional.one_hot(TOKENS, 7)
    return {rows: (likely + torch.randn(3, 5, 7, generator=generator)).requires_grad_() for rows in term.rows}


def gradients(logits: Logits) -> Logits:
    found = {
        rows: value.grad for rows, value in logits.items() if value.grad is not None and value.grad.isfinite().all()
    }
    assert found.keys() == logits.keys()
    return found


@pytest.mark.parametrize("term", ALL)
def test_every_term_gives_one_finite_loss_per_sample(term: Term) -> None:
    loss = term(random_samples(term, random_logits(term)))
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
    term(random_samples(term, logits)).sum().backward()
    moved = {rows: logits[rows].detach() - 0.1 * gradient for rows, gradient in gradients(logits).items()}
    before = random_samples(term, {rows: value.detach() for rows, value in logits.items()})
    after = random_samples(term, moved)
    for rows in term.rows:
        change = closeness(term, after[rows]) - closeness(term, before[rows])
        assert (change < 0).all() if rows == "forget" else (change > 0).all(), rows


@pytest.mark.parametrize("term", ALL)
def test_every_term_ignores_padding(term: Term) -> None:
    narrow, wide = random_logits(term), random_logits(term)
    loss = term(random_samples(term, narrow))
    padded = term(random_samples(term, wide, width=9))
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
    first = term(random_samples(term, both))
    second = term(random_samples(term, changed))
    torch.testing.assert_close(first[0], second[0])


@pytest.mark.parametrize("term", ALL)
def test_every_term_says_where_it_is_from(term: Term) -> None:
    text = term.function.__doc__ or ""
    assert "arXiv" in text and "official" in text and "(B,)" in text


def test_a_registered_term_is_found_and_a_taken_name_refused() -> None:
    with pytest.raises(ValueError, match="duplicate objective term 'ga'"):
        register("ga", rows="forget")(lambda log_probs: log_probs.answer)
    with pytest.raises(UserError, match="unknown objective term 'nl': did you mean 'nll'"):
        TERMS.get("nl")


POSITIVE = {
    "ga": "ascent_bound",
    "npo": "npo_beta",
    "simnpo": "simnpo_beta",
    "dpo": "dpo_beta",
    "rmu": "rmu_coefficient",
}


@pytest.mark.parametrize("method", POSITIVE)
@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, "much"])
def test_options_must_be_positive(method: str, bad: object) -> None:
    with pytest.raises(UserError, match=rf"training\.{POSITIVE[method]}: .* was given; it should be"):
        parse_method(method).options({POSITIVE[method]: bad})


@pytest.mark.parametrize(
    ("method", "option"),
    [("wga", "wga_beta"), ("satimp", "satimp_beta1"), ("satimp", "satimp_beta2"), ("undial", "undial_beta")],
)
def test_weights_and_strengths_must_not_be_negative(method: str, option: str) -> None:
    assert parse_method(method).options({option: 0})[option] == 0
    with pytest.raises(UserError, match=rf"training\.{option}: -1 was given; it should be greater than or equal to 0"):
        parse_method(method).options({option: -1})


def test_ce_u_skips_whole_tokens_and_npo_is_per_token_or_not() -> None:
    for method, option, bad in (
        ("ce_u", "ce_u_skip", 0.5),
        ("ce_u", "ce_u_skip", -1),
        ("npo", "npo_per_token", "much"),
    ):
        with pytest.raises(UserError, match=rf"training\.{option}: .* was given"):
            parse_method(method).options({option: bad})
    assert parse_method("npo").options({"npo_per_token": "false"}) == {"npo_beta": 0.1, "npo_per_token": False}


@pytest.mark.parametrize("bad", [-0.1, math.nan])
def test_a_margin_must_not_be_negative(bad: float) -> None:
    with pytest.raises(UserError, match="simnpo_gamma: .* greater than or equal to 0"):
        parse_method("simnpo").options({"simnpo_gamma": bad})


def test_a_method_has_the_options_of_its_terms_and_knows_all_others() -> None:
    assert parse_method("npo+pd").options({"npo_beta": 0.5, "dpo_beta": 9.0}) == {
        "npo_beta": 0.5,
        "npo_per_token": True,
    }
    assert parse_method("gd").options({}) == {"ascent_bound": None}
    assert "dpo_beta" in parse_method("npo").unread_options() and "npo_beta" not in parse_method("npo").unread_options()
    with pytest.raises(UserError, match="no term has the option 'npo_bta': did you mean 'npo_beta'"):
        parse_method("npo").options({"npo_bta": 0.5})


def test_the_official_code_bounds_no_ascent() -> None:
    assert parse_method("ga", "official").options({"ascent_bound": 3.0}) == {"ascent_bound": None}


def test_options_reach_the_function_by_argument_and_the_seed_every_term_that_takes_one() -> None:
    """npo at R = 0 is 2 / beta * ln 2 per token; the direction of rmu is drawn from the seed of the run."""
    samples = {"forget": TokenLogProbs(tensor([[-1.0]]), tensor([[True]]), reference_answer=tensor([[-1.0]]))}
    total, _ = parse_method("npo=1").loss(samples, {"npo_beta": 0.5})
    assert total.item() == pytest.approx(4 * math.log(2))
    drawn = {"forget": states(torch.zeros(1, 2, 8))}
    losses = [parse_method("rmu=1").loss(drawn, seed=seed)[0].item() for seed in (0, 1)]
    hidden = {"forget": states(torch.ones(1, 2, 8))}
    assert losses[0] == pytest.approx(losses[1])  # the same length
    assert parse_method("rmu=1").loss(hidden, seed=0)[0] != parse_method("rmu=1").loss(hidden, seed=1)[0]


def test_what_is_no_option_is_refused_where_it_is_registered() -> None:
    with pytest.raises(ValueError, match="reads 1 kind.* takes 2 positional"):
        register("odd", rows="forget")(lambda log_probs, options: log_probs.answer)
    with pytest.raises(ValueError, match="option 'beta' a type and a default"):
        register("odd", rows="forget")(lambda log_probs, *, beta: log_probs.answer)


def test_method_loss_is_the_weighted_sum_of_means_over_samples() -> None:
    """Refusals of cross-entropy 1 and 3 (mean 2), retain 5, decouple 7: 2 + 5 + 0.5 * 7 = 10.5; without pd 7."""

    def answers(*log_probs: float) -> TokenLogProbs:
        return TokenLogProbs(tensor([log_probs]).T, torch.ones(len(log_probs), 1, dtype=torch.bool))

    samples = {"refusal": answers(-1.0, -3.0), "retain": answers(-5.0), "decouple": answers(-7.0)}
    total, components = parse_method("po+pd=0.5").loss(samples)
    assert total.item() == 10.5
    assert {name: component.item() for name, component in components.items()} == {"po": 2.0, "nll": 5.0, "pd": 7.0}
    assert parse_method("po").loss(samples)[0].item() == 7.0


@pytest.mark.parametrize("term", [term for _, term in TERMS if "distribution" in term.needs])
def test_terms_that_read_distributions_give_the_same_in_slices(term: Term, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two positions at a time: loss and gradients are those of all at once, bit for bit."""
    found = []
    for size in (2**18, 14):
        monkeypatch.setattr("safeeraser.objectives.vocabulary.IN_CACHE", size)
        logits = random_logits(term)
        loss = term(random_samples(term, logits))
        loss.sum().backward()
        found.append((loss, gradients(logits)))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


@pytest.mark.parametrize("weights", [(0.0, 0.0), (2.0, 0.0)])
def test_rows_that_no_loss_reads_have_a_gradient_of_zero(weights: tuple[float, float]) -> None:
    logits = torch.randn(2, 3, 5, requires_grad=True)
    tokens, mask = torch.zeros(2, 3).long(), torch.ones(2, 3).bool()
    values = by_position(lambda tokens, said: said[:, 0], mask, tokens, logits.unbind())
    (values * torch.tensor(weights)[:, None]).sum().backward()
    expected = torch.nn.functional.one_hot(tokens, 5) - logits.detach().softmax(-1)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, expected * torch.tensor(weights)[:, None, None])


@pytest.mark.parametrize("name", ["kl", "undial", "ce_u"])
def test_terms_that_read_distributions_keep_nothing_of_their_size(name: str) -> None:
    """What autograd keeps beside the logits, of 200 positions over 5,000 tokens, is small."""
    tokens, mask = torch.zeros(2, 100).long(), torch.ones(2, 100).bool()
    said, before = (torch.randn(2, 100, 5000, requires_grad=grad) for grad in (True, False))
    of = TokenLogProbs(torch.zeros(2, 100), mask, None, said.unbind(), before.unbind(), tokens=tokens)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        value(name, of)
    own = {tensor.untyped_storage().data_ptr() for tensor in (said, before)}
    assert sum(size for place, size in kept.items() if place not in own) < said.nbytes / 100
