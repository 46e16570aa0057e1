"""The way to a Ray: that of RAY_ADDRESS, or one of this machine; what is wrong, in one line."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from trustml.errors import BadInput, BadOption, MissingPackage

_PATIENCE = 10.0  # seconds that the head of a cluster has to answer the door


@contextmanager
def connected(workers: int, device: str) -> Iterator[Any]:
    """Yield the module `ray`, connected; a Ray that was there before stays.

    Raises:
        MissingPackage: Ray is not installed.
        BadOption: a number of workers for a cluster, which has its own.
        BadInput: the cluster cannot be reached, or has another version.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingPackage("--executor ray needs Ray: pip install 'trustml[ray]'") from error
    address = os.environ.get("RAY_ADDRESS", "")
    if address and workers:
        raise BadOption(
            f"--workers {workers} is for a Ray of this machine; that of RAY_ADDRESS={address} has "
            f"workers of its own: leave --workers out"
        )
    ours = not ray.is_initialized()
    if ours:
        _begin(ray, address, workers, device)
    try:
        yield ray
    finally:
        if ours:
            ray.shutdown()


def _begin(ray: Any, address: str, workers: int, device: str) -> None:
    """Connect to the cluster, or start a Ray here.

    Raises:
        BadInput: it cannot be used; why.
    """
    threads = torch.get_num_threads()
    own: dict[str, Any] = {}
    if not address:
        cpus = workers or max(1, (os.cpu_count() or 1) // threads)
        own = {"num_cpus": cpus, "include_dashboard": False}
        if device == "cuda":
            own["num_gpus"] = torch.cuda.device_count()
    try:
        _knock(address)
        ray.init(
            address=address or None, log_to_driver=False, logging_level=logging.ERROR,
            # Inherited settings count: a worker computes with as many threads as this process.
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(threads)}}, **own,
        )  # fmt: skip
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        where = f"RAY_ADDRESS={address}" if address else "this machine"
        raise BadInput(f"Ray on {where} cannot be used: {said}") from error


def _knock(address: str) -> None:
    """See whether somebody answers at `host:port`: Ray itself would ask for a minute.

    Raises:
        OSError: nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
