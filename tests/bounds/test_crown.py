"""Bounds that must hold, be tight where a closed form is known, and get tighter with effort."""

import math
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import Tensor, nn
from torch.nn import functional

from trustml.bounds.crown import crown_margins
from trustml.bounds.graph import graph_of
from trustml.bounds.interval import interval_bounds, interval_margins
from trustml.contracts import Norm
from trustml.threats import Lp

NORMS: tuple[tuple[Norm, float], ...] = (("linf", 0.1), ("l2", 0.3), ("l1", 0.5), ("l0", 2.0))


class Residual(nn.Module):
    """Every operation that has a rule, in one small network for (2, 6, 6) images."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Conv2d(2, 4, 3, stride=1, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)
        self.norm.weight.data.normal_()
        self.second = nn.Conv2d(4, 4, 3, padding="same", groups=2, bias=False)
        self.pool = nn.MaxPool2d(3, 2, padding=1)
        self.leaky = nn.LeakyReLU(0.2)
        self.dense = nn.Linear(4 * 3 * 3, 6)
        self.head = nn.Linear(6, 3)
        self.register_buffer("mean", torch.tensor([0.4, 0.6]).view(2, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) / 0.5
        x = functional.relu(self.norm(self.first(x)))
        x = self.pool(self.leaky(self.second(x)) - 0.5 * x + x)
        x = torch.tanh(self.dense(torch.flatten(x, 1)))
        return self.head(functional.softplus(x) + torch.sigmoid(x))


CASES = st.tuples(
    st.integers(0, 10_000),
    st.sampled_from(NORMS),
    st.sampled_from([(3, 5, 3), (4, 6, 5, 2), (2, 4)]),
)


@settings(max_examples=60)
@given(CASES)
def test_nothing_within_the_threat_gets_below_the_bounds(case: tuple) -> None:
    """Points found by chance and by descent are within the threat: no sound bound is above."""
    seed, (norm, epsilon), sizes = case
    net = small_net(sizes, seed)
    x = torch.rand(4, sizes[0])
    threat = Lp(norm, torch.tensor([0.0, 0.3, 1.0, 2.0]) * epsilon if norm != "l0" else epsilon)
    y = net(x).argmax(1)
    graph = graph_of(net, (sizes[0],))
    bounds = [
        interval_margins(graph, x, y, threat),
        crown_margins(graph, x, y, threat, refine=0),
        crown_margins(graph, x, y, threat),
    ]
    for points in attacked(net, x, y, threat, seed):
        assert bool(threat.contains(points, x).all())
        seen = margins_of(net, points, y)
        for bound in bounds:
            assert bool((bound <= seen).all())


@pytest.mark.parametrize(("norm", "epsilon"), NORMS)
@pytest.mark.parametrize("seed", [0, 1])
def test_bounds_hold_for_every_operation(norm: str, epsilon: float, seed: int) -> None:
    """As above, through convolution, batch norm, pooling, a residual sum and smooth bends."""
    net, x = Residual(seed).eval(), torch.rand(6, 2, 6, 6)
    threat, y = Lp(norm, epsilon), net(x).argmax(1)
    graph = graph_of(net, (2, 6, 6))
    plain = interval_margins(graph, x, y, threat)
    tight = crown_margins(graph, x, y, threat)
    for points in attacked(net, x, y, threat, seed):
        seen = margins_of(net, points, y)
        assert bool((plain <= seen).all())
        assert bool((tight <= seen).all())
    assert bool((tight >= plain).all())
    assert bool((tight > plain).any())


@pytest.mark.parametrize("norm", ["linf", "l1"])
@pytest.mark.parametrize("seed", range(4))
def test_bounds_lie_below_the_truth_of_complete_verification(norm: str, seed: int) -> None:
    """A linear program for each activation pattern gives the least margin; CROWN comes nearest."""
    net, x = small_net((3, 5, 3), seed), torch.rand(2, 3)
    y, graph = net(x).argmax(1), graph_of(net, (3,))
    for epsilon in (0.02, 0.2):
        threat = Lp(norm, epsilon)
        plain, tight = (f(graph, x, y, threat) for f in (interval_margins, crown_margins))
        for row in range(2):
            for rival in set(range(3)) - {int(y[row])}:
                truth = least_margin(net, x[row], (int(y[row]), rival), threat)
                assert float(plain[row, rival]) <= float(tight[row, rival]) <= truth + 1e-9
                # With so small a ball hardly any unit can bend, and nothing is lost.
                if epsilon == 0.02 and norm == "linf" and not _bends(net, x[row], epsilon):
                    assert float(tight[row, rival]) == pytest.approx(truth, abs=1e-4)


def _bends(net: nn.Sequential, x: Tensor, epsilon: float) -> bool:
    with torch.no_grad():
        return bool((net[0](x).abs() <= epsilon * net[0].weight.abs().sum(1)).any())


@pytest.mark.parametrize("weight", [(1.0, -2.0), (-3.0, 0.5)])
@pytest.mark.parametrize("bias", [-2.0, -0.3, 0.4, 3.0])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_single_relu_is_exact(weight: tuple[float, float], bias: float, sign: float) -> None:
    """With ± max(w·x + b, 0): monotone in w·x, whose range over the box is a closed form."""
    net = nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 2))
    net[0].weight.data, net[0].bias.data = torch.tensor([weight]), torch.tensor([bias])
    net[2].weight.data, net[2].bias.data = torch.tensor([[sign], [0.0]]), torch.zeros(2)
    x, epsilon = torch.tensor([[0.5, 0.95]]), 0.1
    graph = graph_of(net.eval(), (2,))
    found = crown_margins(graph, x, torch.tensor([0]), Lp("linf", epsilon))[0, 1]
    middle, low, high = x[0].double(), *(x[0].double() + s * epsilon for s in (-1, 1))
    corners = [
        sum(w * v for w, v in zip(weight, (a, b), strict=True)) + bias
        for a in (low[0], high[0])
        for b in (low[1], high[1].clamp(max=1.0))
    ]
    ends = [max(float(min(corners)), 0.0), max(float(max(corners)), 0.0)]
    assert len(middle) == 2
    assert float(found) == pytest.approx(min(sign * end for end in ends), abs=2e-6)


@pytest.mark.parametrize(
    ("bent", "straight", "low", "high", "least"),
    [
        # z − relu(z) on [−1, 1]: the chord is (z + 1)/2 above, so z/2 − 1/2 below: −1, the truth.
        (-1.0, 1.0, -1.0, 1.0, -1.0),
        # relu(z) − z/2 on [−1, 2]: the line below is z, as 2 > 1: z/2, which is −1/2 at −1.
        (1.0, -0.5, -1.0, 2.0, -0.5),
        # The same on [−2, 1]: the line below is 0: −z/2, which is −1/2 at 1.
        (1.0, -0.5, -2.0, 1.0, -0.5),
    ],
)
def test_lines_of_a_relu(
    bent: float, straight: float, low: float, high: float, least: float
) -> None:
    """With bent · relu(z) + straight · z, with z = relu(z + 10) − 10: CROWN's value by hand."""
    net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2))
    middle, wide = (low + high) / 2, (high - low) / 2
    net[0].weight.data = torch.tensor([[2 * wide], [2 * wide]])
    net[0].bias.data = torch.tensor([middle - wide, middle - wide + 10])
    net[2].weight.data = torch.tensor([[bent, straight], [0.0, 0.0]])
    net[2].bias.data = torch.tensor([-10 * straight, 0.0])
    graph, x = graph_of(net.eval(), (1,)), torch.tensor([[0.5]])
    found = crown_margins(graph, x, torch.tensor([0]), Lp("linf", 0.5))[0, 1]
    assert float(found) == pytest.approx(least, abs=2e-5)


def test_float32_rounding_is_in_the_bound() -> None:
    """Sums that cancel: float32 is off by more than the margin, and a bound must allow for it."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(400, 40), nn.ReLU(), nn.Linear(40, 3))
    net[0].weight.data = torch.randn(40, 400) * 3e3
    net[0].bias.data = -net[0].weight.data.sum(1) / 2
    x = (torch.rand(200, 400) - 0.5) * 1e-4 + 0.5
    y = net(x).argmax(1)
    exact = nn.Sequential(nn.Linear(400, 40), nn.ReLU(), nn.Linear(40, 3)).double()
    exact.load_state_dict({name: t.double() for name, t in net.state_dict().items()})
    graph = graph_of(net.eval(), (400,))
    bound = crown_margins(graph, x, y, Lp("linf", 0.0))
    in_float32, in_truth = margins_of(net, x, y), margins_of(exact, x.double(), y)
    # The test says something only where float32 and the truth differ.
    assert float((in_float32 - in_truth).nan_to_num(0.0, 0.0, 0.0).abs().max()) > 1e-4
    assert bool((bound <= in_float32).all())
    assert bool((bound <= in_truth).all())


def test_only_wanted_pairs_are_bounded() -> None:
    """What is not asked for is infinite; what is asked for is as when all is asked for."""
    net, x = small_net((3, 5, 3), 1), torch.rand(2, 3)
    graph, y, threat = graph_of(net, (3,)), torch.tensor([0, 1]), Lp("linf", 0.1)
    every = crown_margins(graph, x, y, threat)
    some = torch.tensor([[True, False, True], [False, True, False]])
    found = crown_margins(graph, x, y, threat, wanted=some)
    assert torch.equal(found[0, 2], every[0, 2])
    assert bool(found[0, :2].isinf().all())
    assert bool(found[1].isinf().all())


def test_batch_and_order_play_no_part() -> None:
    """A sample's bound is its own: alone, in company, or backwards."""
    net, x = small_net((4, 8, 8, 3), 2), torch.rand(7, 4)
    graph, y = graph_of(net, (4,)), net(x).argmax(1)
    threat = Lp("l2", torch.linspace(0.1, 0.6, 7))
    together = crown_margins(graph, x, y, threat, refine=5)
    back = torch.arange(6, -1, -1)
    turned = crown_margins(graph, x[back], y[back], threat.at(back), refine=5)
    assert torch.allclose(together, turned[back], atol=1e-12)
    alone = [
        crown_margins(graph, x[i : i + 1], y[i : i + 1], threat.at(torch.tensor([i])), refine=5)
        for i in range(7)
    ]
    assert torch.allclose(together, torch.cat(alone), atol=1e-12)


def test_interval_bounds_of_a_hand_worked_network() -> None:
    """On [.4, .6]², z = (x0 − x1, x0 + x1 − 1) is in [−.2, .2]², so relu(z) in [0, .2]²."""
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    net[0].weight.data = torch.tensor([[1.0, -1.0], [1.0, 1.0]])
    net[0].bias.data = torch.tensor([0.0, -1.0])
    net[2].weight.data = torch.tensor([[1.0, -2.0], [3.0, 1.0]])
    net[2].bias.data = torch.tensor([0.5, 0.0])
    graph = graph_of(net.eval(), (2,))
    lower, upper = interval_bounds(graph, torch.full((1, 2), 0.5), Lp("linf", 0.1))
    assert lower[0].tolist() == pytest.approx([0.1, 0.0], abs=3e-6)
    assert upper[0].tolist() == pytest.approx([0.7, 0.8], abs=3e-6)


AFFINE: dict[str, nn.Module] = {
    "linear": nn.Sequential(nn.Flatten(), nn.Linear(50, 7)),
    "convolution": nn.Sequential(nn.Conv2d(2, 4, 3, 2, 1, groups=2), nn.Flatten()),
    "batch norm": nn.Sequential(nn.BatchNorm2d(2), nn.Flatten()),
    "average": nn.Sequential(nn.AvgPool2d(3, 2, 1), nn.Flatten()),
}


@pytest.mark.parametrize("name", AFFINE)
@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_one_affine_operation_is_exact(name: str, norm: str) -> None:
    """Value at x plus or minus the dual norm of each row of the Jacobian, in the box's range."""
    module = AFFINE[name].eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.weight.data.copy_(torch.tensor([-1.5, 2.0]))
            part.running_mean.copy_(torch.tensor([0.3, -0.2]))
            part.running_var.copy_(torch.tensor([0.5, 3.0]))
    x, epsilon = torch.rand(1, 2, 5, 5) * 0.2 + 0.4, {"l0": 2.0}.get(norm, 0.3)
    jacobian = torch.autograd.functional.jacobian(module, x)[0, :, 0].flatten(1).double()
    sizes = jacobian.abs().sort(dim=1, descending=True).values
    far = epsilon * {
        "linf": sizes.sum(1), "l2": sizes.square().sum(1).sqrt(), "l1": sizes[:, 0],
        # Two entries, each across the whole box of width 10.
        "l0": 10 * sizes[:, :2].sum(1) / epsilon,
    }[norm]  # fmt: skip
    middle = module(x)[0].detach().double()
    threat = Lp(norm, epsilon, -5.0, 5.0)
    lower, upper = interval_bounds(graph_of(module, (2, 5, 5)), x, threat)
    centre = middle - jacobian @ x.double().flatten()  # the box is centred at 0
    whole = 5 * sizes.sum(1)
    assert torch.allclose(lower[0], torch.maximum(middle - far, centre - whole), atol=1e-4)
    assert torch.allclose(upper[0], torch.minimum(middle + far, centre + whole), atol=1e-4)


def test_an_infinite_epsilon_leaves_the_box() -> None:
    """Bounds over the whole box are finite and hold anywhere in it."""
    net, x = small_net((3, 4, 2), 0), torch.rand(5, 3)
    graph, y = graph_of(net, (3,)), net(x).argmax(1)
    anywhere = margins_of(net, torch.rand(5, 3), y)
    for norm in ("linf", "l2", "l1", "l0"):
        bound = crown_margins(graph, x, y, Lp(norm, math.inf))
        assert not bool(bound.isnan().any())
        assert bool((bound <= anywhere).all())


def test_agreement_with_auto_lirpa() -> None:
    """The reference library's bounds of the same margins; CROWN here also cuts with intervals."""
    reason = "auto_LiRPA is not installed, or not for this torch"
    lirpa = pytest.importorskip("auto_LiRPA", reason=reason, exc_type=ImportError)
    for seed, norm, order in ((0, "linf", math.inf), (1, "l2", 2.0), (2, "linf", math.inf)):
        net, x = small_net((6, 9, 8, 4), seed, 0.5), torch.rand(3, 6) * 0.2 + 0.4
        y, graph, threat = net(x).argmax(1), graph_of(net, (6,)), Lp(norm, 0.15)
        own = functional.one_hot(y, 4).bool()
        plain, tight = (
            f(graph, x, y, threat).masked_fill(own, 0.0) for f in (interval_margins, crown_margins)
        )
        module = lirpa.BoundedModule(net.double(), torch.zeros(3, 6).double())
        ball = lirpa.BoundedTensor(x.double(), lirpa.PerturbationLpNorm(norm=order, eps=0.15))
        pairs = own.double()[:, None] - torch.eye(4).double()
        theirs = module.compute_bounds(x=(ball,), C=pairs, method="backward")[0].view(3, 4)
        assert bool((tight >= theirs - 2e-4).all())
        assert float(((tight - theirs).abs() < 1e-3).double().mean()) > 0.8
        if norm == "linf":
            theirs = module.compute_bounds(x=(ball,), C=pairs, method="IBP")[0].view(3, 4)
            assert torch.allclose(plain, theirs, atol=2e-4)


def small_net(sizes: tuple[int, ...], seed: int, scale: float = 1.0) -> nn.Sequential:
    """Return a random ReLU network of the sizes, its biases as large as its weights."""
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layer = nn.Linear(before, after)
        layer.weight.data = torch.randn(after, before, generator=generator) * scale
        layer.bias.data = torch.randn(after, generator=generator) * scale / 2
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1]).eval()


def least_margin(net: nn.Sequential, x: Tensor, pair: tuple[int, int], threat: Lp) -> float:
    """Return the least of logit pair[0] − logit pair[1] over the threat around x (D,), exactly.

    For one hidden layer: a linear program for each pattern of active units (Linf and L1).
    """
    first, last = net[0], net[2]
    weight, bias = first.weight.detach().double().numpy(), first.bias.detach().double().numpy()
    row = (last.weight[pair[0]] - last.weight[pair[1]]).detach().double().numpy()
    constant = float((last.bias[pair[0]] - last.bias[pair[1]]).detach().double())
    start = x.double().numpy()
    found = []
    for pattern in product((0.0, 1.0), repeat=len(bias)):
        on = np.array(pattern)
        # Units that are on have a positive input, the others a negative one.
        sign = np.where(on > 0, -1.0, 1.0)
        slope = (row * on) @ weight
        limits = -sign * (weight @ start + bias)
        value = _lowest(slope, sign[:, None] * weight, limits, start, threat)
        if value is not None:
            found.append(value + float((row * on) @ (weight @ start + bias)) + constant)
    return min(found)


def _lowest(
    slope: np.ndarray, sides: np.ndarray, limits: np.ndarray, start: np.ndarray, threat: Lp
) -> float | None:
    """Return the least slope · move with sides · move ≤ limits in the threat; None if none is."""
    down, up = start - threat.low, threat.high - start
    epsilon = float(threat.epsilon)
    # The move is a rise minus a fall, none negative: so its L1 norm is linear.
    most = [min(epsilon, room) for room in (*up, *down)]
    rows, ends = np.hstack([sides, -sides]), limits
    if threat.norm == "l1":
        rows, ends = np.vstack([rows, np.ones(2 * len(start))]), np.append(ends, epsilon)
    answer = linprog(np.hstack([slope, -slope]), rows, ends, bounds=[(0, m) for m in most])
    return float(answer.fun) if answer.status == 0 else None


def attacked(model: nn.Module, x: Tensor, y: Tensor, threat: Lp, seed: int = 0) -> Tensor:
    """Return points (T, B, *S) of the threat: random ones, and all of a walk down each margin."""
    torch.manual_seed(seed)
    points = [threat.project(x + torch.randn_like(x) * s, x) for s in (0.01, 0.1, 1.0, 10.0)]
    point = points[1]
    for _ in range(15):
        point = point.detach().requires_grad_()
        logits = model(point)
        others = logits.scatter(1, y[:, None], -torch.inf)
        (gradient,) = torch.autograd.grad(
            (others.amax(1) - logits.gather(1, y[:, None])[:, 0]).sum(), point
        )
        step = {"linf": gradient.sign()}.get(
            threat.norm, gradient / gradient.abs().amax().clamp_min(1e-30)
        )
        far = 0.3 if threat.norm == "l0" else float(torch.as_tensor(threat.epsilon).max()) / 4
        point = threat.project((point + far * step).detach(), x)
        points.append(point)
    return torch.stack(points)


def margins_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return logit y minus each logit (B, K), infinite for y itself, as float32 computes them."""
    with torch.no_grad():
        logits = model(x).double()
    own = logits.gather(1, y[:, None])
    return (own - logits).scatter(1, y[:, None], torch.inf)
