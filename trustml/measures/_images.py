"""What measures of images ask of their inputs."""

from collections.abc import Callable

from torch import Tensor

from trustml.errors import NotApplicable

Box = tuple[float, float]
Inside = Callable[[Tensor], Tensor]


def check_images(measure: str, x: Tensor, channels: int | None = None) -> None:
    """Check that inputs are images (B, C, H, W), of so many channels.

    Raises:
        NotApplicable: they are not.
    """
    if x.dim() != 4:
        raise NotApplicable(
            f"{measure} is a measure of images (channels, height, width); these inputs have the "
            f"shape {tuple(x.shape[1:])}: linf, l2, l1 and l0 take any"
        )
    if channels is not None and x.shape[1] != channels:
        raise NotApplicable(
            f"{measure} compares colours, red, green and blue; these images have {x.shape[1]} "
            f"channel{'s' if x.shape[1] > 1 else ''}: structure, patch, spatial, wasserstein"
            f"{', flow' if x.shape[1] == 1 else ''} and the norms take those"
        )


def in_box(candidate: Tensor, x: Tensor, box: Box) -> Tensor:
    """Return the candidates with each entry brought into the box, as x's own type holds it."""
    low, high = (float(value) for value in x.new_tensor(box))
    return candidate.to(x.dtype).clamp(low, high)


def one_each(epsilon: Tensor, x: Tensor) -> Tensor:
    """Return epsilon, a scalar or (B, 1, …), as (B,) float64."""
    return epsilon.double().expand(len(x), *[1] * (x.dim() - 1)).reshape(-1)


def furthest(
    candidate: Tensor, x: Tensor, inside: Inside, shape: tuple[int, ...], rounds: int = 40
) -> Tensor:
    """Return points on the way from x to the candidates, as far as `inside` lets them go.

    By bisection, over points as x's own type holds them, so that what comes back was itself seen to
    be inside; not always the farthest such point where the way leaves and comes back.

    Args:
        candidate: (B, *S) in the box.
        x: (B, *S).
        inside: points (B, *S) → bool of that shape.
        shape: of one share each: (B, 1, 1, 1) or (B, 1, H, W).
        rounds: halvings.
    """
    least, most = x.new_zeros(shape).double(), x.new_ones(shape).double()
    wide, way = x.double(), candidate.double() - x.double()
    whole = inside(candidate).view(shape)
    best = candidate.where(whole, x)
    for _ in range(rounds):
        middle = (least + most) / 2
        point = (wide + middle * way).to(x.dtype)
        held = inside(point).view(shape)
        best = best.where(whole | ~held, point)
        least, most = middle.where(held, least), most.where(held, middle)
    return best
