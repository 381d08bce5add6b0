"""To a Ray cluster and away from it: found or started, every node checked before it gets work."""

from __future__ import annotations

import importlib.util
import logging
import os
import pickle
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refdepth.cores import usable_cores
from refdepth.errors import ConfigurationError, RefdepthError, UnavailableError
from refdepth.pipeline.cluster_node import Expected, check, title, versions
from refdepth.pipeline.config import RunRequest
from refdepth.pipeline.files import TEMPORARY_PREFIX, write_bytes
from refdepth.pipeline.work import Watch

logger = logging.getLogger(__name__)

LOCAL, AUTO = "local", "auto"
LOOK_SECONDS = 0.1
_TOUCH_SECONDS = 5.0
_CONNECT_SECONDS = 15.0
_START_SECONDS = 120.0
_CHECK_SECONDS = 60.0
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Has Ray use 127.0.0.1 on Linux, too."""
_OWN_TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
"""By which the processes of a cluster that is started here know each other."""
_LOOPBACK_HOSTS = ("127.0.0.1", "localhost")


def refuse_address(address: str) -> None:
    """Raises `ConfigurationError` for what is no address of a cluster, `UnavailableError` where Ray
    is not installed."""
    host, _, port = address.rpartition(":")
    if address not in (LOCAL, AUTO) and not (host and "/" not in host and port.isdecimal()):
        raise ConfigurationError(
            "is not the address of a Ray cluster.",
            subject=f"--cluster {address}",
            action="Use HOST:PORT of its head, auto (the cluster that this machine is part of) or"
            " local (one on this machine, for this run).",
        )
    if importlib.util.find_spec("ray") is None:
        raise UnavailableError(
            "needs Ray, which is not installed.",
            subject=f"--cluster {address}",
            action="Run `pip install refdepth[ray]`, on every node.",
        )


@dataclass(kw_only=True)
class Connection:
    """A cluster whose nodes have been checked."""

    address: str
    expected: Expected
    owned: bool
    """Whether it was connected to here, and ends with this."""
    left: threading.Event = field(default_factory=threading.Event)
    """Set when this ends: until then the thread stays that has started Ray, whose processes end
    with it."""
    folder: Path | None = None
    """Ray's own files, where it was started here."""

    def close(self) -> None:
        """Leaves the cluster; ends it where it was started here."""
        import ray

        with suppress(OSError):
            (self.expected.workspace / self.expected.probe).unlink(missing_ok=True)
        if self.owned:
            ray.shutdown()
            _say_nothing(False)
        self.left.set()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def connect(
    address: str, workspace: Path, request: RunRequest, max_memory_gb: float | None, watch: Watch
) -> Connection:
    """Joins the cluster at `address`, or starts it, and checks its nodes.

    Raises `UnavailableError` where it does not answer, or for the first node that is not what this
    machine is or does not see what it sees.
    """
    _set_environment(address)
    import ray

    expected = _expectation(workspace, request)
    connection = Connection(address=address, expected=expected, owned=not ray.is_initialized())
    try:
        if connection.owned and address == LOCAL:
            _start(connection, max_memory_gb, watch)
        elif connection.owned:
            _join(connection, watch)
        write_bytes(workspace / expected.probe, expected.content.encode())
        _check_nodes(expected, watch)
    except BaseException:
        connection.close()
        raise
    return connection


def alive() -> dict[str, dict[str, Any]]:
    """The nodes that do work, by their id."""
    import ray

    return {
        node["NodeID"]: node
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("CPU", 0) > 0
    }


def _start(connection: Connection, max_memory_gb: float | None, watch: Watch) -> None:
    connection.folder = Path(tempfile.mkdtemp(prefix="refdepth-ray-"))
    options = {
        "address": "local",
        "num_cpus": usable_cores(),
        "include_dashboard": False,
        "_temp_dir": str(connection.folder),
    }
    if max_memory_gb is not None:
        options["_memory"] = int(max_memory_gb * 2**30)
    logger.info("starting Ray on this machine, %d cores", usable_cores())
    _init(options, _START_SECONDS, connection, watch)


def _join(connection: Connection, watch: Watch) -> None:
    address = connection.address
    if address != AUTO:
        host, _, port = address.rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=_TOUCH_SECONDS):
                pass
        except (OSError, OverflowError) as error:
            raise _no_answer(address, str(error)) from error
    _init({"address": address}, _CONNECT_SECONDS, connection, watch)
    logger.info("connected to the Ray cluster at %s", address)


def _init(options: dict[str, Any], seconds: float, connection: Connection, watch: Watch) -> None:
    """`ray.init` with an end. In a thread of its own it leaves this process' signals alone, but for
    the handlers of its native part, which are taken back."""
    import ray
    from ray.job_config import JobConfig

    class InstalledModules(JobConfig):
        """Ray would have processes on nodes import modules from the folder of the command first:
        from photos beside a `numba.py`. With a folder of their own they do not."""

        def _runtime_env_has_working_dir(self) -> bool:
            return True

    options = {**options, "job_config": InstalledModules()}
    ended = threading.Event()
    failure: list[BaseException] = []

    def init() -> None:
        try:
            _say_nothing(True)
            ray.init(**options, log_to_driver=False, configure_logging=False)
        except BaseException as error:
            failure.append(error)
        ended.set()
        connection.left.wait()

    with _hushed():
        threading.Thread(target=init, name="ray", daemon=True).start()
        patience = time.monotonic() + seconds
        while not ended.wait(LOOK_SECONDS) and time.monotonic() < patience:
            watch.cancellation.check()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(ValueError, TypeError):  # another thread; a handler that is not Python's
            signal.signal(number, signal.getsignal(number))
    if not ended.is_set():
        raise _no_answer(connection.address, f"nothing within {seconds:.0f} s")
    if failure:
        said = str(failure[0]).strip()
        logger.debug("%s", said)
        raise _no_answer(connection.address, said.partition("\n")[0]) from failure[0]


def _no_answer(address: str, why: str) -> UnavailableError:
    return UnavailableError(
        f"no Ray cluster answers ({why.strip().rstrip('.')}).",
        subject=f"--cluster {address}",
        action="Run the command on a machine of the cluster; `ray status` there says whether it is"
        " up.",
    )


def _expectation(workspace: Path, request: RunRequest) -> Expected:
    given = [getattr(request.inputs, name) for name in type(request.inputs).model_fields]
    models = Path(request.config.depth.model), Path(request.config.refine.upsampler.model)
    paths = [Path(value) for value in given if isinstance(value, str)]
    paths += [model for model in models if model.is_absolute()]
    return Expected(
        workspace=workspace,
        probe=f"{TEMPORARY_PREFIX}cluster-{secrets.token_hex(8)}",
        content=secrets.token_hex(32),
        given=tuple(row for path in paths for row in _sample(path)),
        versions=versions(),
    )


def _sample(path: Path) -> Iterator[tuple[str, int | None]]:
    """A path that is there, and the first file in it."""
    if path.is_file():
        yield str(path), path.stat().st_size
    elif path.is_dir():
        yield str(path), None
        first = min((file for file in path.iterdir() if file.is_file()), default=None)
        if first is not None:
            yield str(first), first.stat().st_size


def _check_nodes(expected: Expected, watch: Watch) -> None:
    """Raises `UnavailableError` for the first node that differs."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(check)
    asked = {}
    for identity, node in alive().items():
        place = NodeAffinitySchedulingStrategy(identity, soft=False)
        ref = task.options(num_cpus=0, max_retries=0, scheduling_strategy=place).remote(expected)
        asked[ref] = title(node["NodeManagerHostname"], node["NodeManagerAddress"])
    logger.info("nodes: %s", ", ".join(sorted(asked.values())) or "none yet")
    patience = time.monotonic() + _CHECK_SECONDS
    while asked:
        watch.cancellation.check()
        ready, _ = ray.wait(list(asked), timeout=LOOK_SECONDS)
        for ref in ready:
            _judge(ref, f"node {asked.pop(ref)}")
        if asked and time.monotonic() > patience:
            raise UnavailableError(
                f"has not answered within {_CHECK_SECONDS:.0f} s.",
                subject=f"node {min(asked.values())}",
                action="See whether it is overloaded, or take it out of the cluster.",
            )


def _judge(ref: Any, node: str) -> None:
    """Raises what a node has found; one that has gone meanwhile does not matter."""
    import ray
    from ray.exceptions import NodeDiedError, RayError, TaskUnschedulableError

    try:
        found = ray.get(ref)
    except (NodeDiedError, TaskUnschedulableError) as error:
        logger.warning("%s has gone (%s)", node, str(error).partition("\n")[0])
        return
    except (RayError, ImportError, RuntimeError) as error:
        raise UnavailableError(
            f"cannot run refdepth ({str(error).strip().splitlines()[-1]}).",
            subject=node,
            action="Install the same refdepth there, in the Python that Ray was started with.",
        ) from error
    if found is not None:
        difference: RefdepthError = pickle.loads(found)
        raise difference


@contextmanager
def _hushed() -> Iterator[None]:
    """Keeps Ray's advice off the terminal."""
    theirs = logging.getLogger("ray")
    before = theirs.level
    theirs.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        theirs.setLevel(before)


def _say_nothing(silent: bool) -> None:
    """What raylets report goes to standard output otherwise, whatever `ray.init` is told; our log
    has it."""
    import ray

    ray._private.worker._worker_logs_enabled = not silent


def _set_environment(address: str) -> None:
    """What Ray reads when it is first imported; what the user has set stays."""
    if "ray" in sys.modules:
        return
    variables = dict(_QUIET)
    if address == LOCAL or address.rpartition(":")[0] in _LOOPBACK_HOSTS:
        variables |= _LOOPBACK
    if address == LOCAL:
        variables |= _OWN_TOKEN
    for name, value in variables.items():
        os.environ.setdefault(name, value)
