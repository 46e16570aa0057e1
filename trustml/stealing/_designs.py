"""Which inputs to ask an affine victim about: D+1 that tell its D+1 columns, within the domain."""

from math import isqrt, prod

import torch
from torch import Tensor

from trustml.asking import asked
from trustml.contracts import Victim


def basis(victim: Victim) -> Tensor:
    """Return (D+1, D) float64: the box's point nearest 0, then it with one entry moved.

    Answers stay small, so a relative error stays small: the design for floating-point rounding.
    """
    domain = victim.domain
    zero = torch.zeros((), dtype=torch.float64).clamp(domain.low, domain.high)
    origin = float(asked(zero, victim))
    far = domain.high if domain.high - origin >= origin - domain.low else domain.low
    count = prod(domain.shape)
    points = torch.full((count + 1, count), origin, dtype=torch.float64)
    points[1:].fill_diagonal_(far)
    return points


def signs(victim: Victim) -> Tensor:
    """Return (N, D) float64 corners of the box, N ≥ D+1, by the rows of a Hadamard matrix.

    Every answer tells of every column, so an error of fixed size is averaged over N of them.
    """
    domain, count = victim.domain, prod(victim.domain.shape)
    middle, half = (domain.high + domain.low) / 2, (domain.high - domain.low) / 2
    return middle + half * hadamard(count + 1)[:, 1 : count + 1]


def hadamard(least: int) -> Tensor:
    """Return the smallest Hadamard matrix of order ≥ `least` by Sylvester or Paley; column 0 is 1.

    Orders are powers of 2, and q + 1 for primes q ≡ 3 mod 4 (Paley 1933): entry χ(i − j), the
    quadratic character, bordered by ones.
    """
    order = max(2, least)
    while order & (order - 1) and not (order % 4 == 0 and _is_prime(order - 1)):
        order += 1
    if order & (order - 1) == 0:
        matrix = torch.ones(1, 1, dtype=torch.float64)
        while len(matrix) < order:
            matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
        return matrix
    prime = order - 1
    character = -torch.ones(prime, dtype=torch.float64)
    character[torch.arange(1, prime) ** 2 % prime] = 1.0
    character[0] = -1.0  # 0 on the diagonal, and the identity that Paley's matrix adds, sign turned
    place = torch.arange(prime)
    matrix = torch.ones(order, order, dtype=torch.float64)
    matrix[1:, 1:] = character[(place[:, None] - place[None, :]) % prime]
    return matrix


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % factor for factor in range(2, isqrt(number) + 1))
