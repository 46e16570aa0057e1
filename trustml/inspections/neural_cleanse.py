"""Neural Cleanse: the smallest patch that turns every input into a class, class by class."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from trustml.access import frozen
from trustml.contracts import Classifier, Random, Split, Suspects
from trustml.errors import BadInput, BadOption, NotApplicable
from trustml.registry import inspection

# Of the mask's norm beside the loss: its first weight, and how fast that adapts.
FIRST_WEIGHT, FACTOR = 1e-3, 1.05
RATE, DECAYS = 0.1, (0.5, 0.9)  # of Adam, as published


@inspection(source="Wang et al. 2019, IEEE S&P, equations 3 and 4, section IV")
def neural_cleanse(
    model: Classifier,
    clean: Split,
    /,
    *,
    random: Random,
    steps: int = 200,
    samples: int = 32,
    success: float = 0.99,
) -> Suspects:
    """Return how small each class's mask is: minus the log2 of the share of pixels it covers.

    For every class a mask and a pattern are sought with which all clean inputs are read as that
    class, the mask with the least L1 norm. A backdoor's target needs an unusually small one. What
    is usual depends on class, data and training: compare it with honest models, class by class.

    Args:
        model: it needs gradients.
        clean: images (B, C, H, W) of the inspector's own.
        random: draws the inputs of each step.
        steps: of Adam, for all classes at once.
        samples: inputs that each step looks at, the same for every class.
        success: share of inputs that must be turned before the mask is made smaller.

    Raises:
        BadOption: counts below 1 or a share that is none.
        BadInput: no clean inputs.
        NotApplicable: the inputs are no images, or the model's answers have no gradient.
    """
    _check(clean, steps, samples, success)
    size, mask, pattern = smallest(
        model, clean, random, steps=steps, samples=samples, success=success
    )
    laid = clean.low + mask * (pattern - clean.low)
    return Suspects(-size.clamp_min(1e-6).log2(), laid, mask)


def smallest(
    model: Classifier, clean: Split, random: Random, /, *, steps: int, samples: int, success: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the share of pixels that each class's mask covers (K,), masks and patterns.

    Masks (K, 1, H, W) are in [0, 1], patterns (K, C, H, W) within the box. Of all steps, it is the
    smallest mask that turned its share of inputs; where none did, the last one, with a share of 1.

    Raises:
        NotApplicable: the model's answers have no gradient.
    """
    classes, (channels, height, width) = clean.classes, clean.x.shape[1:]
    # The same start for every class and every model: none is lucky.
    start = torch.zeros(classes, 1 + channels, height, width, device=clean.x.device)
    start[:, 0] = -2.0  # a mask of 0.12, as good as none where the pattern is the middle of the box
    raw = start.requires_grad_()
    optimizer = torch.optim.Adam([raw], lr=RATE, betas=DECAYS)
    weight = torch.full((classes,), FIRST_WEIGHT, device=raw.device)
    best, least = raw.detach(), torch.ones(classes, device=raw.device)
    wanted = torch.arange(classes, device=raw.device).repeat_interleave(min(samples, len(clean)))
    turned_lately = torch.zeros(classes, device=raw.device)
    with frozen(model), torch.enable_grad():
        for step in range(steps):
            lot = random.uniform((1,), "inputs", step)[:, 0].argsort(stable=True)[:samples]
            x = clean.x[lot.to(clean.x.device)]
            shape = raw.sigmoid()
            logits = model(_marked(x, shape, clean))
            if not logits.requires_grad:
                raise NotApplicable(
                    "neural_cleanse needs gradients through the model, and its answers have none"
                )
            loss = cross_entropy(logits, wanted, reduction="none").view(classes, -1).mean(1)
            size = shape[:, 0].flatten(1).mean(1)
            (slope,) = torch.autograd.grad((loss + weight * size * height * width).sum(), raw)
            share = (logits.argmax(1) == wanted).view(classes, -1).float().mean(1)
            better = (share >= success) & (size < least)
            taken = better | (least == 1)  # until one does turn them, the latest
            best = torch.where(taken[:, None, None, None], shape, best).detach()
            least = torch.where(better, size, least).detach()
            turned_lately = 0.8 * turned_lately + 0.2 * share
            weight = torch.where(turned_lately >= success, weight * FACTOR, weight / FACTOR)
            raw.grad = slope
            optimizer.step()
    return least, best[:, :1], clean.low + (clean.high - clean.low) * best[:, 1:]


def _marked(x: Tensor, shape: Tensor, clean: Split) -> Tensor:
    """Return every input under every class's mask and pattern, (K · B, *S)."""
    mask, pattern = shape[:, None, :1], shape[:, None, 1:]
    pattern = clean.low + (clean.high - clean.low) * pattern
    return (x + mask * (pattern - x)).flatten(0, 1)


def _check(clean: Split, steps: int, samples: int, success: float) -> None:
    if min(steps, samples) < 1 or not 0 < success <= 1:
        raise BadOption(
            f"neural_cleanse: steps={steps},samples={samples},success={success:g} is not allowed: "
            f"counts of 1 or more, and a share above 0 and up to 1"
        )
    if not len(clean):
        raise BadInput("neural_cleanse: there are no clean inputs to turn")
    if clean.x.ndim != 4:
        raise NotApplicable(
            f"neural_cleanse needs images (channels, height, width), and these inputs have the "
            f"shape {tuple(clean.x.shape[1:])}: maximum_margin takes any shape"
        )
