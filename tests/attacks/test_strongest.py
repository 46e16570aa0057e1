"""The default ensemble: closed forms of linear models, masked gradients, order and cost."""

import pytest
import torch
from torch import Tensor, nn

from trustml.access import Handed
from trustml.affine import minimal_distance
from trustml.attacks._alternation import alternate
from trustml.attacks._losses import margin
from trustml.attacks.apgd import apgd
from trustml.attacks.strongest import strongest
from trustml.contracts import Access
from trustml.errors import BadOption, MethodFailed, NotApplicable
from trustml.randomness import keyed
from trustml.threats import Lp

SAMPLES = 6
IDS = torch.arange(SAMPLES)


def linear(classes: int, shape: tuple[int, ...] = (1, 4, 4)) -> tuple[nn.Module, Tensor, Tensor]:
    """A random linear classifier, inputs in [0.3, 0.7], and its own answers as labels."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), classes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        x = 0.3 + 0.4 * torch.rand(SAMPLES, *shape, generator=generator)
        model[1].bias -= model(x).mean(0)
        return model, x, model(x).argmax(1)


def least(model: nn.Module, x: Tensor, y: Tensor, norm: str) -> Tensor:
    """The least distance at which a sample of a linear model is misread, in closed form."""
    weight, bias = model[1].weight.detach().double(), model[1].bias.detach().double()
    return minimal_distance(weight, bias, x, y, norm, (0.0, 1.0))


class Stairs(nn.Module):
    """A linear model behind a staircase: its gradient is there, but random in size and sign.

    The input is rounded to 1/20 and the gradient of a fast wave is what backpropagation sees.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        steps = (x * 20).round() / 20
        wave = torch.sin(x * 1e4) * 1e-3
        return self.model(steps.detach() + wave - wave.detach())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize(("classes", "shape"), [(2, (1, 4, 4)), (3, (16,)), (5, (2, 3, 4, 1))])
def test_verdicts_are_those_of_the_closed_form(
    norm: str, classes: int, shape: tuple[int, ...]
) -> None:
    """A little above the least distance each sample falls, a little below it none can."""
    model, x, y = linear(classes, shape)
    truth = least(model, x, y, norm)
    for times, expected in ((1.05, True), (0.97, False)):
        threat = Lp(norm, times * truth)
        candidate = strongest(model, x, y, threat, random=keyed(0, IDS), rounds=1, bursts=2)
        assert bool(threat.contains(candidate, x).all())
        assert bool(((model(candidate).argmax(1) != y) == expected).all())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_wanted_class_is_reached(norm: str) -> None:
    """Of two classes the wanted one is the other: any misreading is what is wanted."""
    model, x, y = linear(2)
    threat = Lp(norm, 1.05 * least(model, x, y, norm), targeted=True)
    candidate = strongest(model, x, 1 - y, threat, random=keyed(0, IDS))
    assert bool(threat.contains(candidate, x).all())
    assert bool((model(candidate).argmax(1) == 1 - y).all())


def test_a_masked_gradient_does_not_save_the_model() -> None:
    """Twice the least distance suffices on stairs of 1/20; gradients alone leave some standing."""
    model, x, y = linear(2)
    masked, threat = Stairs(model), Lp("linf", 0.1 + 1.2 * least(model, x, y, "linf"))
    y = masked(x).argmax(1).detach()
    by_gradient = apgd(masked, x, y, threat, random=keyed(0, IDS), steps=20, loss="margin")
    assert bool((masked(by_gradient).argmax(1) == y).any())
    candidate = strongest(masked, x, y, threat, random=keyed(0, IDS))
    assert bool(threat.contains(candidate, x).all())
    assert bool((masked(candidate).argmax(1) != y).all())


@pytest.mark.parametrize(("share", "starts", "last"), [(0.5, 1, 0), (0.9, 3, 40)])
def test_only_the_nearly_won_get_more_starts(share: float, starts: int, last: int) -> None:
    """In half the least ball half of the margin is left: far; in nine tenths of it a tenth: near.

    Gradients: 10 and, to the one other class, 10 of short walks, then 6 walks of 6 a start, each
    after 64 windows, and where it is near a last walk of 40.
    """
    model, x, y = linear(2)
    handed = Handed(model, Access.GRADIENTS, SAMPLES)
    threat = Lp("linf", share * least(model, x, y, "linf"))
    strongest(handed, x, y, threat, random=keyed(0, IDS), targets=3, more=2)
    assert bool((handed.backwards == 10 + 10 + 36 * starts + last).all())
    looks = handed.forwards - handed.backwards - 384 * starts
    assert bool((looks >= 0).all())
    assert bool((looks <= 16 + 8 * starts).all())


def test_what_is_easily_won_is_cheap() -> None:
    """Twice the least distance of a linear model falls to the first gradient steps."""
    model, x, y = linear(4)
    handed = Handed(model, Access.GRADIENTS, SAMPLES)
    strongest(handed, x, y, Lp("linf", 2 * least(model, x, y, "linf")), random=keyed(0, IDS))
    assert bool((handed.forwards + handed.backwards < 20).all())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_neither_companions_nor_order_matter(norm: str) -> None:
    """Bit for bit, with budgets of which some suffice and some do not."""
    model, x, y = linear(4)
    net = nn.Sequential(model, nn.Tanh())
    threat = Lp(norm, least(model, x, y, norm) * torch.linspace(0.5, 1.6, SAMPLES))

    def run(rows: Tensor) -> Tensor:
        handed = Handed(net, Access.GRADIENTS, len(rows), block=8)
        part, random = threat.at(rows), keyed(3, rows)
        return strongest(handed, x[rows], y[rows], part, random=random, rounds=1, more=1, bursts=1)

    together = run(IDS)
    for rows in (IDS.flip(0), IDS[:4], IDS[5:6]):
        assert torch.equal(run(rows), together[rows])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_search_by_turns_returns_the_best_that_it_saw(norm: str) -> None:
    """Among all points asked about, the inputs themselves left out, none has a higher margin."""
    model, x, y = linear(3)
    threat, seen = Lp(norm, 0.9 * least(model, x, y, norm)), []

    def watched(z: Tensor) -> Tensor:
        seen.append(margin(model(z), y).detach())
        return model(z)

    candidate = alternate(watched, x, y, threat, keyed(0, IDS), rounds=1, more=1, bursts=1)
    highest = torch.stack(seen[1:]).amax(0)
    assert torch.allclose(margin(model(candidate), y), highest, atol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_of_starts_side_by_side_the_best_is_kept(
    norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With stairs between, starts end differently; a point's owner is the only input so near.

    Every sample counts as near to being won here.
    """
    monkeypatch.setattr("trustml.attacks._alternation.NEAR", 1e3)
    model, x, y = linear(2)
    masked, seen = Stairs(model), torch.full((SAMPLES,), -torch.inf)
    calls: list[Tensor] = []
    y = masked(x).argmax(1).detach()
    threat = Lp(norm, 0.9 * least(model, x, y, norm))

    def watched(z: Tensor) -> Tensor:
        answers = masked(z)
        owner = torch.cdist(z.detach().flatten(1), x.flatten(1)).argmin(1)
        calls.append(z.detach())
        # The inputs themselves, asked about first, are no candidates.
        if not torch.equal(z, x):
            seen.scatter_reduce_(0, owner, margin(answers, y[owner]).detach(), "amax")
        return answers

    candidate = alternate(watched, x, y, threat, keyed(0, IDS), rounds=1, more=4, bursts=1)
    open_ = threat.budget(x).flatten() > 0
    starts = next(z for z in calls if len(z) == 4 * int(open_.sum()))
    # In Linf a start is one of a few vertices, so that now and then two are the same.
    apart = torch.stack([torch.pdist(of_one) for of_one in starts.flatten(1).split(4)])
    assert (apart > 0).double().mean() > 0.4
    assert int(open_.sum()) >= 5
    assert torch.allclose(margin(masked(candidate), y)[open_], seen[open_], atol=1e-5)


def test_starts_of_a_sample_end_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Side by side, each sample's first start wins where it begins; the others get one turn yet.

    A turn is 64 windows, a walk of 6 looks and a last one; with the starts at most 72 looks.
    """
    monkeypatch.setattr("trustml.attacks._alternation.NEAR", 1e3)
    handed: list[int] = []

    def model(z: Tensor) -> Tensor:
        handed.append(len(z))
        # Of four starts of each sample, asked about together for the first time.
        won = (handed.count(4 * SAMPLES) == 1) & (len(z) == 4 * SAMPLES)
        lead = torch.where((torch.arange(len(z)) % 4 == 0) & won, 1.0, -1.0) + 0 * z.flatten(1).sum(
            1
        )
        return torch.stack([-lead, lead], 1)

    x, y = torch.full((SAMPLES, 1, 4, 4), 0.5), torch.zeros(SAMPLES, dtype=torch.int64)
    alternate(model, x, y, Lp("linf", 0.1), keyed(0, IDS), rounds=1, more=4, bursts=3)
    first = handed.index(4 * SAMPLES)
    assert sum(handed[first + 1 :]) <= 3 * SAMPLES * 72


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_walks_between_the_windows_help(norm: str) -> None:
    """Five walks go from any vertex to the best; 320 windows alone come nowhere near."""
    model, x, y = linear(2, (1, 12, 12))
    threat = Lp(norm, 1.05 * least(model, x, y, norm))
    candidate = alternate(model, x, y, threat, keyed(0, IDS), rounds=1, more=0, bursts=5)
    assert bool((model(candidate).argmax(1) != y).all())


@pytest.mark.parametrize("epsilon", [0.0, float("inf")])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_nothing_and_everything_allowed(norm: str, epsilon: float) -> None:
    """At 0 the inputs come back; in the whole box a linear model with two classes has no safety."""
    model, x, y = linear(2)
    candidate = strongest(model, x, y, Lp(norm, epsilon), random=keyed(0, IDS), rounds=1, bursts=1)
    if epsilon == 0:
        assert torch.equal(candidate, x)
    else:
        assert bool((model(candidate).argmax(1) != y).all())


def test_a_model_without_gradients_is_refused() -> None:
    model, x, y = linear(2)
    with pytest.raises(NotApplicable, match="gradient"):
        strongest(
            lambda z: model(z.detach()).detach(), x, y, Lp("linf", 1e-4), random=keyed(0, IDS)
        )


def test_nan_is_an_error() -> None:
    _, x, y = linear(2)
    with pytest.raises(MethodFailed, match="NaN"):
        strongest(
            lambda z: z.flatten(1)[:, :2] * torch.nan, x, 0 * y, Lp("linf", 0.1),
            random=keyed(0, IDS),
        )  # fmt: skip


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"rounds": 0}, {"bursts": 0}, {"targets": -1}, {"more": -1}]
)
def test_bad_options_are_refused(options: dict[str, int]) -> None:
    model, x, y = linear(2)
    with pytest.raises(BadOption):
        strongest(model, x, y, Lp("linf", 0.1), random=keyed(0, IDS), **options)
