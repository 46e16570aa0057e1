"""Five digits read must be a code of the town on the letter.

The lexicon is made up: every code of five digits is in use, a town has the ten codes that share
their first four digits, and its name is made of syllables. Real lists are sparser, so that a
misreading is more often no code at all, and large towns have more codes.
"""

import torch
from torch import Tensor

from trustml.access import frozen, in_blocks
from trustml.contracts import Classifier, Random, Split
from trustml.defenses._watching import Scan, Watch, one_stream, scanned
from trustml.errors import BadInput, BadOption, NotApplicable
from trustml.registry import safeguard

DIGITS, TELLING = 5, 4  # digits of a code, and how many of them the town decides
SYLLABLES = (
    ("Al", "Bren", "Cor", "Dun", "Es", "Far", "Gil", "Har", "Is", "Kel"),
    ("ba", "do", "fi", "ga", "le", "mo", "ni", "ro", "su", "va"),
    ("ck", "l", "m", "n", "p", "r", "s", "t", "x", "nd"),
    ("bridge", "bury", "field", "ford", "ham", "haven", "ley", "mouth", "ton", "wick"),
)


@safeguard(
    source="synthetic lexicon; idea: USPS delivery point validation (Publication 28)",
    stage="monitoring",
    beaten_by="changing the town's name as well, or only the last digit: it stays in the town",
    does_not_stop="another code of the same town, and what both fields are changed to alike",
)
def zip_city(
    model: Classifier, validation: Split, /, *, random: Random, misread: float = 0.005
) -> Watch:
    """Return the watch that takes items five by five as a letter's code: how little it fits, (N,).

    An item's suspicion is -log of the chance that the letter's digits so far are those of its town,
    by the model's probabilities. The town's name is another field of the letter, which the scanner
    and its tampering do not touch: it is that of the digits as the model reads them before the
    scanner. So what was done to the digits before, on the envelope, is not seen here; where the
    names are known, `misfit` tells.

    Args:
        model: reads the digits.
        validation: says how many classes there are.
        random: draws which names are misread.
        misread: share of letters whose town is read as another.

    Raises:
        BadOption: a share that is not in [0, 1).
        NotApplicable: other classes than ten digits.
    """
    if not 0 <= misread < 1:
        raise BadOption(f"zip_city: misread={misread:g} is not allowed: at least 0 and below 1")
    if validation.classes != 10:
        raise NotApplicable(f"zip_city reads ten digits, and here are {validation.classes} classes")
    stream = one_stream(random)

    def watch(items: Tensor, scan: Scan) -> Tensor:
        with torch.no_grad(), frozen(model):
            written = in_blocks(model, items).argmax(1)
            chances = in_blocks(model, scanned(scan, items)).double().softmax(1)
        letters = -(-len(items) // DIGITS)
        wrong = stream.uniform((letters,), "the name is misread")[0] < misread
        other = stream.integers(10, (letters, DIGITS), "the name that is read")[0]
        letter = torch.arange(len(items)) // DIGITS
        place = torch.arange(len(items)) % DIGITS
        there = items.device
        named = torch.where(wrong[letter].to(there), other[letter, place].to(there), written)
        return _running(chances.gather(1, named[:, None])[:, 0], place.to(there), misread)

    return watch


def misfit(chances: Tensor, towns: Tensor, misread: float = 0.005) -> Tensor:
    """Return -log of the chance (L,) that letters' digits are of their towns.

    Args:
        chances: probabilities (L, 5, 10) of what the digits are.
        towns: numbers (L,) of the towns on the letters, as `towns_of` gives them.
        misread: share of letters whose town is read as another.

    Raises:
        BadInput: other shapes.
    """
    if chances.shape[1:] != (DIGITS, 10) or len(towns) != len(chances):
        raise BadInput(f"chances {tuple(chances.shape)}: (letters, 5, 10) and as many towns needed")
    powers = 10 ** torch.arange(TELLING - 1, -1, -1, device=towns.device)
    named = towns[:, None] // powers % 10
    own = chances[:, :TELLING].double().gather(2, named[:, :, None])[..., 0]
    return -torch.log((1 - misread) * own.prod(1) + misread * 0.1**TELLING + 1e-30)


def towns_of(codes: Tensor) -> Tensor:
    """Return the number (L,) of each code's town, from its digits (L, 5)."""
    powers = 10 ** torch.arange(TELLING - 1, -1, -1, device=codes.device)
    return (codes[:, :TELLING] * powers).sum(1)


def town_name(town: int) -> str:
    """Return the made-up name of a town, 0 to 9999."""
    return "".join(
        part[town // 10 ** (TELLING - 1 - place) % 10] for place, part in enumerate(SYLLABLES)
    )


def _running(own: Tensor, place: Tensor, misread: float) -> Tensor:
    """Return each item's -log chance (N,) that its letter, up to it, is of its town.

    Args:
        own: probabilities (N,) of the digit that the town wants.
        place: of each item in its letter.
        misread: share of letters whose town is read as another.
    """
    # The last digit tells nothing: any of ten is of the town.
    steps = torch.where(place < TELLING, own.clamp_min(1e-30).log(), torch.zeros_like(own))
    total = steps.cumsum(0)
    before = torch.cat([total.new_zeros(1), total])[torch.arange(len(own)).to(place) - place]
    counted = (place + 1).clamp(max=TELLING).to(own)
    return -torch.log((1 - misread) * (total - before).exp() + misread * 0.1**counted + 1e-30)
