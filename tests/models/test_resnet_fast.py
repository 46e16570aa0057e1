"""The network of few epochs: whitening, its course's arithmetic, learning, and what it keeps to."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import unfold

from trustml.access import Handed
from trustml.attacks.pgd import pgd
from trustml.benchmarks.place import arithmetic
from trustml.contracts import Access, Domain, OwnCourse, Split, Training
from trustml.defenses.fast_adversarial_training import fast_adversarial_training
from trustml.defenses.weight_averaging import weight_averaging
from trustml.errors import BadOption, NotApplicable
from trustml.models import _fast_course
from trustml.models._fast_course import Moves, SlowAverage, coins, reflected, triangle
from trustml.models._fast_network import FLOOR
from trustml.models.cnn_fast import cnn_fast
from trustml.models.resnet_fast import resnet_fast
from trustml.randomness import keyed
from trustml.recipes import read_recipe
from trustml.threats import Lp
from trustml.training import evaluate, fit, seeded

COLOUR = Domain((3, 16, 16), 4)
TRAINING = Training(epochs=4, batch_size=32, learning_rate=6.0, weight_decay=0.01, optimizer="sgd")


def stripes(count: int, seed: int = 0) -> Split:
    """Return noisy pictures of four kinds: stripes across or along, at a light or a dark colour."""
    random = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 4
    wave = 0.25 * torch.sin(torch.arange(16) * math.pi / 2)
    across = wave.expand(16, 16)
    x = torch.where((y % 2 == 0)[:, None, None], across, across.T)[:, None].repeat(1, 3, 1, 1)
    x = x + 0.4 + 0.2 * (y // 2)[:, None, None, None]
    x = x + 0.1 * torch.randn(x.shape, generator=random)
    return Split(x.clamp(0, 1), y, torch.arange(count), 4)


def small(seed: int = 0, **options: object) -> nn.Module:
    with seeded(seed):
        return resnet_fast(COLOUR, channels=(8, 16), **options)  # type: ignore[arg-type]


def test_the_first_layer_whitens() -> None:
    """Truth: principal directions over √(λ + floor) have the covariance diag(λ/(λ + floor)).

    The second half of the channels is the first with the other sign.
    """
    module, x = small(), torch.rand(300, 3, 16, 16).cumsum(3) / 16
    module.see(x)
    with torch.no_grad():
        maps = module.whiten((x - module.mean) / module.spread).double()
    answers = maps.permute(1, 0, 2, 3).flatten(1)
    patches = unfold((x - module.mean) / module.spread, 2).transpose(1, 2).flatten(0, 1).double()
    variances = torch.linalg.eigvalsh(torch.cov(patches.T, correction=0))
    covariance = torch.cov(answers, correction=0)
    wanted = torch.diag(variances / (variances + FLOOR))
    torch.testing.assert_close(covariance[:12, :12], wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(covariance[12:, :12], -wanted, atol=1e-4, rtol=0)
    assert float(variances.min()) > FLOOR  # else the identity would not be near


def test_has_the_published_sizes() -> None:
    """Of the paper's network: 24 whitened patches, then 64, 256, 256 channels, 3x3 at the end.

    Weights by hand: 24·12 + 24; 9·(24·64 + 64² + 64·256 + 256² + 2·256²); scale and bias of the
    normalisations 4·(64 + 256 + 256); head 256·10 + 10.
    """
    module = resnet_fast(Domain((3, 32, 32), 10)).eval()
    convolutions = 9 * (24 * 64 + 64**2 + 64 * 256 + 256**2 + 2 * 256**2)
    count = sum(p.numel() for p in module.parameters())
    assert count == 24 * 12 + 24 + convolutions + 4 * 576 + 2570
    with torch.no_grad():
        maps = module.body(module.whiten(torch.rand(2, 3, 32, 32)))
    assert maps.shape == (2, 256, 3, 3)


@pytest.mark.parametrize("views", ["one", "mirror", "crops"])
def test_head_reads_the_features_of_any_views(views: str) -> None:
    """Averaged views are the same for a mirror image, and a linear head keeps the average."""
    module = small(views=views).eval()
    x = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(module.head(module.features(x)), module(x))
        same = torch.allclose(module(x), module(x.flip(3)), atol=1e-6)
    assert same == (views != "one")


def test_learns_and_equal_seeds_are_equal_weights() -> None:
    """Stripes far apart are told apart by a network of few weights; one seed is one network."""
    weights = []
    for seed in (0, 0, 1):
        module = small(seed)
        curve = fit(module, stripes(256), stripes(64, 1), TRAINING, seed)
        weights.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    assert evaluate(module, stripes(100, 2))[1] >= 0.97
    assert curve[-1].train_loss < curve[0].train_loss
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not module.training


def test_weights_in_a_file_are_all_of_it(tmp_path: Path) -> None:
    """What was seen of the data travels along: mean, spread and whitening."""
    module, other = small(), small(1)
    fit(module, stripes(128), stripes(32, 1), replace(TRAINING, epochs=1), 0)
    state = {name: t.contiguous() for name, t in module.state_dict().items()}
    save_file(state, tmp_path / "weights.safetensors")
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    x = torch.rand(4, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(module(x), other.eval()(x))


def test_attacks_find_its_gradient() -> None:
    """A gradient attack with a large ball fools what noise of no budget does not."""
    module, test = small(), stripes(64, 2)
    fit(module, stripes(256), stripes(64, 1), TRAINING, 0)
    handed = Handed(module, Access.GRADIENTS, 64)  # type: ignore[arg-type]
    threat, random = Lp("linf", 0.2), keyed(0, test.ids)
    found = pgd(handed, test.x, test.y, threat, random=random, steps=10)
    with torch.no_grad():
        assert (module(found).argmax(1) != test.y).double().mean() > 0.9


def test_a_training_safeguard_keeps_its_course() -> None:
    """Fast adversarial training changes the loss; the whitening and the rates stay the model's."""
    guard = fast_adversarial_training(lambda: small(), COLOUR, epsilon=0.002)
    fit(guard, stripes(256), stripes(64, 1), TRAINING, 0)
    module = guard.deployed
    assert float(module.spread.max()) < 1  # the data were seen
    assert evaluate(module, stripes(100, 2))[1] >= 0.9


def test_an_average_of_its_weights_learns_by_its_course() -> None:
    """The safeguard keeps a second network, the mean, which takes no step of its own."""
    guard = weight_averaging(lambda: small(), COLOUR, decay=0.5)
    fit(guard, stripes(256), stripes(64, 1), TRAINING, 0)
    assert evaluate(guard.deployed, stripes(100, 2))[1] >= 0.9
    assert float(guard.deployed.spread.max()) < 1


def test_weights_beside_it_are_learnt_by_the_usual_course() -> None:
    """A module with weights of its own beside the network's is no scaffold: all must be learnt."""
    module = nn.Sequential(small(), nn.Linear(4, 4))
    before = module[1].weight.detach().clone()
    fit(module, stripes(64), stripes(32, 1), replace(TRAINING, epochs=1, learning_rate=0.1), 0)
    assert not torch.equal(module[1].weight, before)


def test_layers_may_compute_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU that does so in hardware: it learns, and weights and answers are float32."""
    monkeypatch.setattr(_fast_course, "fast_dtype", lambda device: torch.bfloat16)
    module = small()
    fit(module, stripes(256), stripes(64, 1), TRAINING, 0)
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    assert module(stripes(3).x).dtype == torch.float32
    assert evaluate(module, stripes(100, 2))[1] >= 0.95


def test_rates_rise_and_fall_in_lines() -> None:
    """0.2 at the first step, 1 at 23 % of the way, 0.07 after the last."""
    assert triangle(0, 100) == pytest.approx(0.2)
    assert triangle(23, 100) == pytest.approx(1.0)
    assert triangle(100, 100) == pytest.approx(0.07)
    assert triangle(23 + 77 // 7, 100) == pytest.approx(1 - 0.93 / 7)


def test_biases_are_faster_and_decay_is_the_same_share() -> None:
    """Normalisations' biases at 64 times the rate; rate · decay is one number for all weights."""
    module = small()
    course = module.course(stripes(64), 10, replace(TRAINING, batch_size=512), 0)
    slow, fast = course.optimizer.param_groups
    first = 0.2 * 6.0 * 512 / 1024  # half the batch, half the rate
    assert slow["lr"] == pytest.approx(first)
    assert fast["lr"] == pytest.approx(64 * first)
    for group in (slow, fast):
        assert group["initial_lr"] * group["weight_decay"] == pytest.approx(0.01 / 2)
    assert {p.dim() for p in fast["params"]} == {1}
    assert len(fast["params"]) == 4
    assert all(p is not module.whiten.weight for p in slow["params"])


def test_the_slow_average_is_the_formula() -> None:
    """Weights that stand at 1 from an average at 0: after steps 5 and 7, by hand."""
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    slow = SlowAverage(module, 7)
    nn.init.ones_(module.weight)
    for _ in range(4):
        slow.step()
    assert module.weight.item() == 1.0
    slow.step()
    kept = 0.95**5 * (5 / 7) ** 3
    assert module.weight.item() == pytest.approx(1 - kept)
    nn.init.ones_(module.weight)
    slow.step()
    slow.step()  # the last one counts, though it is no fifth
    kept_last = 0.95**5
    assert module.weight.item() == pytest.approx(kept_last * (1 - kept) + 1 - kept_last)


def test_reflection_and_moves() -> None:
    """Torch's own reflecting pad, cut at each picture's shift, is the truth."""
    assert reflected(torch.arange(-2, 6), 4).tolist() == [2, 1, 0, 1, 2, 3, 2, 1]
    x, ids = torch.rand(50, 2, 6, 5), torch.arange(50)
    moved = Moves(2, False).moved(x, ids, 0, torch.Generator().manual_seed(0))
    padded = nn.functional.pad(x, (2, 2, 2, 2), mode="reflect")
    seen = set()
    for before, after in zip(padded, moved, strict=True):
        at = [
            (i, j)
            for i in range(5)
            for j in range(5)
            if torch.equal(before[:, i : i + 6, j : j + 5], after)
        ]
        assert len(at) == 1
        seen.add(at[0])
    assert len(seen) > 15  # of 25 shifts


def test_each_picture_shows_both_faces_in_two_epochs() -> None:
    """Half are mirrored in one epoch, the other half in the next."""
    x, ids, random = torch.rand(400, 1, 3, 4), torch.arange(400), torch.Generator()
    faces = []
    for epoch in (0, 1, 2):
        moved = Moves(0, True).moved(x, ids, epoch, random)
        turned = (moved != x).flatten(1).any(1)
        assert torch.equal(moved[turned], x[turned].flip(3))
        faces.append(turned)
    assert torch.equal(faces[0], ~faces[1])
    assert torch.equal(faces[0], faces[2])
    assert 150 < int(faces[0].sum()) < 250
    assert set(coins(ids).tolist()) == {0, 1}


def test_digits_are_not_mirrored_unless_asked() -> None:
    grey = Domain((1, 28, 28), 10)
    assert not cnn_fast(grey).moves.mirror
    assert cnn_fast(grey, mirror=True).moves.mirror
    assert resnet_fast(Domain((3, 32, 32), 10)).moves.mirror
    assert isinstance(cnn_fast(grey), OwnCourse)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"channels": ()}, "1 to 3 widths"),
        ({"channels": (8, 0)}, "all 1 or more"),
        ({"channels": (8, 8, 8, 8)}, "1 to 3 widths"),
        ({"shift": -1}, "shift=-1"),
        ({"shift": 16}, "0 to 15 pixels"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(BadOption, match=said):
        resnet_fast(COLOUR, **options)  # type: ignore[arg-type]


def test_refuses_small_pictures_points_and_other_optimizers() -> None:
    for shape, said in (((1, 8, 8), "at least 9x9"), ((5,), "needs images")):
        with pytest.raises(NotApplicable, match=said):
            resnet_fast(Domain(shape, 2))
    recipe = read_recipe("cnn_fast:optimizer=adam")
    with pytest.raises(BadOption, match="optimizer=adam is not allowed"):
        fit(small(), stripes(64), stripes(32), recipe.training, 0)


def test_nine_pixels_are_enough() -> None:
    """9 → 8 whitened → 4 → 2 → 1."""
    x: Tensor = torch.rand(2, 1, 9, 12)
    assert resnet_fast(Domain((1, 9, 12), 3)).eval()(x).shape == (2, 3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_on_a_gpu_equal_seeds_are_equal_weights() -> None:
    """In reduced precision, too, where cuDNN takes algorithms that repeat; and it learns."""
    weights = []
    for _ in range(2):
        module = small().cuda()
        with arithmetic():
            fit(module, stripes(256), stripes(64, 1), TRAINING, 0)
        weights.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert evaluate(module, stripes(100, 2).to("cuda"))[1] >= 0.95
