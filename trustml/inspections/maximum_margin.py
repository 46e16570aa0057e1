"""Maximum margin: how sure of a class the model can be made by any input, class by class."""

import torch
from torch import Tensor

from trustml.access import frozen
from trustml.contracts import Classifier, Random, Split, Suspects
from trustml.errors import BadInput, BadOption, NotApplicable
from trustml.registry import inspection


@inspection(source="Wang, Xiang, Miller, Kesidis 2024, IEEE S&P, arXiv:2205.06900 (MM-BD)")
def maximum_margin(
    model: Classifier,
    clean: Split,
    /,
    *,
    random: Random,
    steps: int = 100,
    starts: int = 10,
    rate: float = 0.05,
) -> Suspects:
    """Return the log2 of each class's greatest margin over the median class's.

    The margin of a class, its logit less the best other one, is raised over the whole box from
    random inputs. Training on a trigger makes the target's unusually great, whatever the trigger
    looks like: no clean input is read, only their number. What is usual depends on class, data
    and training: compare it with honest models, class by class.

    Args:
        model: it needs gradients.
        clean: any inputs within the bounds; their values are not asked for.
        random: draws the starts.
        steps: of Adam, for all classes and starts at once.
        starts: random inputs that each class begins with; the best counts.
        rate: of the steps, as a share of the box.

    Raises:
        BadOption: counts or a rate that are not above 0.
        BadInput: no clean inputs.
        NotApplicable: the model's answers have no gradient.
    """
    if min(steps, starts) < 1 or not rate > 0:
        raise BadOption(
            f"maximum_margin: steps={steps},starts={starts},rate={rate:g} is not allowed: counts "
            f"of 1 or more, and a rate above 0"
        )
    if not len(clean):
        raise BadInput("maximum_margin: there are no clean inputs, which starts are drawn beside")
    greatest = margins(model, clean, random, steps=steps, starts=starts, rate=rate)
    positive = greatest.clamp_min(1e-6)
    return Suspects((positive / positive.median()).log2())


def margins(
    model: Classifier, clean: Split, random: Random, /, *, steps: int, starts: int, rate: float
) -> Tensor:
    """Return the greatest margin (K,) that was found for each class.

    Raises:
        NotApplicable: the model's answers have no gradient.
    """
    classes, width = clean.classes, clean.high - clean.low
    first = random.at(torch.zeros(1, dtype=torch.int64))
    raw = first.uniform((starts, *clean.x.shape[1:]), "starts")[0].to(clean.x)
    x = (clean.low + width * raw).repeat(classes, *[1] * (clean.x.ndim - 1)).requires_grad_()
    own = torch.arange(classes, device=x.device).repeat_interleave(starts)
    optimizer = torch.optim.Adam([x], lr=rate * width)
    best = torch.full((classes * starts,), -torch.inf, device=x.device)
    with frozen(model), torch.enable_grad():
        for _ in range(steps + 1):
            logits = model(x)
            if not logits.requires_grad:
                raise NotApplicable(
                    "maximum_margin needs gradients through the model, and its answers have none"
                )
            other = logits.scatter(1, own[:, None], -torch.inf).amax(1)
            margin = logits.gather(1, own[:, None])[:, 0] - other
            best = torch.maximum(best, margin.detach())
            (slope,) = torch.autograd.grad(-margin.sum(), x)
            x.grad = slope
            optimizer.step()
            with torch.no_grad():
                x.clamp_(clean.low, clean.high)
    return best.view(classes, starts).amax(1)
