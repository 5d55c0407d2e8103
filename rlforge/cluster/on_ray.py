"""Each part in a Ray actor: the only file that imports Ray."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from collections.abc import Generator as SyncGenerator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar

import ray
from ray._private import ray_constants
from ray.exceptions import RayActorError, RayTaskError

from rlforge.cluster.actors import GeneratorActor, LearnerActor, RouterActor, WorkerActor
from rlforge.cluster.config import ClusterConfig
from rlforge.cluster.janitor import Janitor
from rlforge.cluster.last_words import LastWords
from rlforge.cluster.line import Line
from rlforge.cluster.messages import Address
from rlforge.cluster.placement import generator_gpus, learner_gpus
from rlforge.cluster.ray_folder import make_ray_folder
from rlforge.cluster.specs import GeneratorSpec, LearnerSpec, RouterSpec, WorkerSpec
from rlforge.deadlines import deadline
from rlforge.errors import ActorDied, DeadlineExceeded, RlforgeError, SetupError, boundary
from rlforge.generators.pool import GeneratorPool
from rlforge.interfaces import Generator, Learner, RewardRouter
from rlforge.loops.collect import Collector, as_they_finish
from rlforge.types import (
    Batch,
    Completion,
    GenerateRequest,
    Group,
    GroupRequest,
    LoadReport,
    Manifest,
    Metrics,
    Reward,
    Rollout,
)

HEARTBEAT_S = 2.0
"""Seconds between looks at every actor: a dead one is reported well within 10 s, also while nobody calls it."""
SHUTDOWN_S = 60.0
"""Seconds Ray may take to end what it started."""
CLOSE_S = 30.0
"""Seconds a part may take to free what it holds."""
LOOPBACK = "127.0.0.1"
CONCURRENCY = 1000
"""Calls an actor may have open through Ray at once; what really runs at once is bounded inside the parts."""

Fault = TypeVar("Fault", bound=BaseException)

# --- stand-ins that play the role of the part in the actor ----------------------------------------------


class Remote:
    """A part in an actor: its name for messages, its handle, the deadline of each call, and where its line answers."""

    def __init__(self, handle: Any, name: str, deadline_s: float, address: Address | None = None) -> None:
        self.handle = handle
        self.name = name
        self.deadline_s = deadline_s
        self._reach(address)

    def __reduce__(self) -> Any:
        return type(self), (self.handle, self.name, self.deadline_s, self._address)

    def _reach(self, address: Address | None) -> None:
        self._address = address
        self._line = Line(address, self.name) if address else None

    async def call(self, method: str, *args: Any, within_s: float | None = None, **options: Any) -> Any:
        """Call a method of the part, with a deadline that names both."""
        return await self._ask(self.handle.call, f"answer {method}()", method, *args, within_s=within_s, **options)

    async def often(self, method: str, argument: Any) -> Any:
        """Call a method that is called so often that it goes past Ray. The caller sets the deadline."""
        if self._line is None:
            raise ActorDied(f"{self.name} is not running: it was asked to {method}() before start()")
        try:
            return await self._line.call(method, argument)
        except ActorDied as error:
            raise await self._obituary(error) from None

    async def _obituary(self, error: ActorDied) -> ActorDied:
        """Ray knows why a process died, its connection only that it did."""
        try:
            await self._ask(self.handle.pid, "say that it lives", within_s=HEARTBEAT_S)
        except ActorDied as known:
            return known
        except DeadlineExceeded:
            pass
        return self._named(error)

    async def start(self, within_s: float | None = None, *, towards: str = LOOPBACK) -> None:
        """Start the part, for callers that reach the machine at `towards`."""
        self._reach(await self._ask(self.handle.start, "start", towards, within_s=within_s))

    async def close(self) -> None:
        """Close the part and end its process; one that takes too long ends with what it holds, worlds included."""
        if self._line is not None:
            self._line.close()
        try:
            await self.call("close", within_s=CLOSE_S)
        except ActorDied:
            return
        except DeadlineExceeded:
            pass  # what the run learned is saved, and a part that hangs is no reason to lose the rest of it
        ray.kill(self.handle)

    @contextmanager
    def attributed(self) -> SyncGenerator[None]:
        """Turn Ray's errors into what the part raised, or into the news that it is dead."""
        try:
            yield
        except RayTaskError as error:
            raise self._named(_cause(error)) from error
        except RayActorError as error:
            raise ActorDied(f"{self.name} died: {_reason(error)}") from error

    async def _ask(self, method: Any, doing: str, *args: Any, within_s: float | None = None, **options: Any) -> Any:
        async with deadline(within_s or self.deadline_s, f"{self.name} to {doing}"):
            with self.attributed():
                return await method.remote(*args, **options)

    def _named(self, error: Fault) -> Fault | ActorDied:
        """A part that lost a process of its own (an engine) does not know its name here."""
        if type(error) is ActorDied and self.name not in str(error):
            return ActorDied(f"{self.name}: {error}")
        return error


class RemoteGenerator(Remote):
    """Plays the Generator role."""

    async def generate(self, request: GenerateRequest) -> Completion:
        """One completion."""
        return await self.often("generate", request)

    async def load(self, manifest: Manifest) -> LoadReport:
        """Load published weights."""
        return await self.call("load", manifest)

    async def metrics(self) -> Metrics:
        """Counters."""
        return await self.call("metrics")


class RemoteRouter(Remote):
    """Plays the RewardRouter role."""

    async def reward(self, rollouts: Sequence[Rollout]) -> list[Reward]:
        """One reward per rollout."""
        async with deadline(self.deadline_s, f"{self.name} to answer reward()"):
            return list(await asyncio.gather(*(self.often("reward", rollout) for rollout in rollouts)))

    async def metrics(self) -> Metrics:
        """What scorers counted."""
        return await self.call("metrics")


class RemoteLearner(Remote):
    """Plays the Learner role."""

    async def annotate(self, batch: Batch, needs: frozenset[str]) -> Batch:
        """Annotate; nothing travels when nothing is needed."""
        return await self.call("annotate", batch, needs) if needs else batch

    async def step(self, batch: Batch) -> Metrics:
        """One optimizer step."""
        return await self.call("step", batch)

    async def logprobs(self, batch: Batch) -> list[list[float]]:
        """Logprobs under the current weights."""
        return await self.call("logprobs", batch)

    async def publish(self, version: int) -> Manifest:
        """Publish the current weights."""
        return await self.call("publish", version)

    async def save(self, directory: str, *, model_only: bool = False) -> None:
        """Save to a folder that both processes can reach."""
        await self.call("save", directory, model_only=model_only)

    async def restore(self, directory: str) -> None:
        """Restore from a saved folder."""
        await self.call("restore", directory)


class RemoteWorker(Remote):
    """Plays the RolloutWorker role."""

    def collect(self, requests: Sequence[GroupRequest]) -> AsyncIterator[Group]:
        """Finished groups as they come."""
        return as_they_finish(lambda request: self.often("collect", request), requests)


def _cause(error: RayTaskError) -> BaseException:
    cause = error.cause
    return cause if isinstance(cause, BaseException) else RlforgeError(str(error))


def _reason(error: RayActorError) -> str:
    return " ".join(str(error).split())[:400]


async def _beat(remote: Remote) -> None:
    with remote.attributed():
        await remote.handle.beat.remote()


# --- the cluster -------------------------------------------------------------------------------------------------


class OnRay:
    """Plays the Cluster role with one actor per part."""

    def __init__(self, config: ClusterConfig, *, run_id: str) -> None:
        self._config = config
        self._run_id = run_id
        self._janitor: Janitor | None = None
        self._remotes: list[Any] = []
        self._last_words = LastWords()
        self._spreads: list[int] = []

    async def start(self) -> None:
        """Attach to the cluster named by the recipe, or start a private one on loopback."""
        for name, value in _RAY_SETTINGS.items():
            os.environ.setdefault(name, value)
        async with deadline(self._config.start_deadline_s, "Ray to start"):
            await asyncio.to_thread(self._attach if self._config.address else self._start_private)
        _take_signals_back()

    def _attach(self) -> None:
        try:
            ray.init(address=self._config.address, namespace=self._run_id, **_QUIET)
        except (ConnectionError, OSError) as error:
            raise SetupError(
                f"attaching to the Ray cluster at '{self._config.address}': {error}; is it up? Leave cluster.address "
                "unset for a private cluster"
            ) from error

    def _start_private(self) -> None:
        folder = make_ray_folder()
        self._janitor = Janitor(self._run_id, folder)
        self._last_words = LastWords(folder / "session_latest" / "logs")
        with boundary("Ray", "starting on loopback"), _only_loopback():
            ray.init(
                address="local",
                namespace=self._run_id,
                include_dashboard=False,
                object_store_memory=self._config.object_store_mb * 2**20,
                _node_ip_address=LOOPBACK,
                _temp_dir=str(folder),
                **_QUIET,
            )

    async def generators(self, specs: Mapping[str, Sequence[GeneratorSpec]]) -> Mapping[str, Generator]:
        """Started pools by name, one actor per replica."""
        self._spreads = [_spread(spec) for replicas in specs.values() for spec in replicas]
        gpus = iter(generator_gpus(_gpus(), self._spreads))
        remotes = {
            name: [
                self._actor(RemoteGenerator, f"generator '{name}' {index}", GeneratorActor, spec, num_gpus=next(gpus))
                for index, spec in enumerate(replicas)
            ]
            for name, replicas in specs.items()
        }
        await self._start_all([remote for replicas in remotes.values() for remote in replicas])
        return {name: GeneratorPool(replicas) for name, replicas in remotes.items()}

    async def learner(self, spec: LearnerSpec) -> Learner:
        """A started learner in an actor."""
        gpus = learner_gpus(_gpus(), self._spreads)
        learner = self._actor(RemoteLearner, "learner", LearnerActor, spec, num_gpus=gpus)
        await self._start_all([learner])
        return learner

    async def router(self, spec: RouterSpec, generators: Mapping[str, Generator] | None = None) -> RewardRouter:
        """A started router in an actor."""
        router = self._actor(RemoteRouter, "reward router", RouterActor, spec, _replicas(generators or {}))
        await self._start_all([router])
        return router

    async def collector(self, spec: WorkerSpec, generators: Mapping[str, Generator], router: RewardRouter) -> Collector:
        """A collector over rollout workers, one actor each."""
        workers = [
            self._actor(RemoteWorker, f"rollout worker {index}", WorkerActor, spec, _replicas(generators), router)
            for index in range(self._config.rollout_workers)
        ]
        await self._start_all(workers)
        return Collector(workers)

    async def release(self, *parts: object) -> None:
        """Close parts of a stage that has ended, and their processes."""
        for part in parts:
            for remote in part.workers if isinstance(part, Collector) else [part]:
                self._remotes.remove(remote)
                await remote.close()  # type: ignore[attr-defined]

    @asynccontextmanager
    async def watched(self) -> AsyncGenerator[None]:
        """Within the body, the death of any actor ends the body with `ActorDied`, whoever was waiting for whom."""
        body = asyncio.current_task()
        assert body is not None
        deaths: list[ActorDied] = []
        watcher = asyncio.create_task(self._watch(body, deaths))
        try:
            yield
        except asyncio.CancelledError:
            if not deaths:
                raise
            body.uncancel()
            raise deaths[0] from None
        except ActorDied as error:
            raise ActorDied(f"{error}\n{self._last_words.of_the_dead(str(error))}".rstrip()) from error
        finally:
            watcher.cancel()

    async def close(self) -> None:
        """Close every part, take Ray down, and remove what it left on disk."""
        await asyncio.gather(*(remote.close() for remote in reversed(self._remotes)), return_exceptions=True)
        self._remotes.clear()
        with suppress(DeadlineExceeded):  # the janitor ends whatever is left
            async with deadline(SHUTDOWN_S, "Ray to end"):
                await asyncio.to_thread(ray.shutdown)
        if self._janitor is not None:
            await asyncio.to_thread(self._janitor.close)

    def _actor(self, stand_in: type[Any], name: str, actor: type[Any], *args: Any, num_gpus: float = 0) -> Any:
        options = {"num_cpus": 0, "num_gpus": num_gpus, "max_concurrency": CONCURRENCY, "max_restarts": 0}
        handle = ray.remote(actor).options(**options, runtime_env={"env_vars": _environment()}).remote(*args)
        remote = stand_in(handle, name, self._config.step_deadline_s)
        self._remotes.append(remote)
        return remote

    async def _start_all(self, remotes: Sequence[Remote]) -> None:
        for remote in remotes:
            await self._alive(remote)
        within_s, towards = self._config.start_deadline_s, self._host()
        await asyncio.gather(*(remote.start(within_s, towards=towards) for remote in remotes))

    def _host(self) -> str:
        """Where parts on other machines find this one."""
        return ray.util.get_node_ip_address() if self._config.address else LOOPBACK

    async def _alive(self, remote: Remote) -> None:
        async with deadline(self._config.start_deadline_s, f"the process of {remote.name} to come up"):
            with remote.attributed():
                self._last_words.expect(remote.name, await remote.handle.pid.remote())

    async def _watch(self, body: asyncio.Task[Any], deaths: list[ActorDied]) -> None:
        """Ask every part again and again; one that is too busy to answer does not hold up the others."""
        asked: dict[Any, asyncio.Task[None]] = {}
        try:
            while not deaths:
                await asyncio.sleep(HEARTBEAT_S)
                asked |= {remote: asyncio.create_task(_beat(remote)) for remote in self._remotes if remote not in asked}
                if asked:
                    await asyncio.wait(asked.values(), timeout=HEARTBEAT_S, return_when=asyncio.FIRST_EXCEPTION)
                answered = {remote: asked.pop(remote).exception() for remote in list(asked) if asked[remote].done()}
                news = [(r, error) for r, error in answered.items() if error and r in self._remotes]
                deaths += [ActorDied(f"{error}\n{self._last_words.of(remote.name)}") for remote, error in news]
            body.cancel()
        finally:
            for beat in asked.values():
                beat.cancel()


@contextmanager
def _only_loopback() -> SyncGenerator[None]:
    """Ray on Linux answers 127.0.0.1 with the machine's own address and listens on all; it has a switch, for macOS."""
    switch, usual = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False  # for this process, which has read the variable already
    os.environ[switch] = "0"  # for those it starts
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = usual
        del os.environ[switch]


def _take_signals_back() -> None:
    """Ray's C++ half puts a handler of its own under Python's, which would end us at SIGTERM without any clean-up."""
    if threading.current_thread() is not threading.main_thread():
        return  # an embedding program keeps its signals to itself
    heard = signal.getsignal(signal.SIGTERM)
    if heard is not None:
        signal.signal(signal.SIGTERM, heard)
        signal.siginterrupt(signal.SIGTERM, False)


_RAY_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # parts are the work, not a background to it
    "RAY_prestart_worker_first_driver": "0",  # an idle process per core that no part will use
    "RAY_task_events_report_interval_ms": "0",  # a record of every call, for a dashboard that is off
}
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}


def _replicas(generators: Mapping[str, Generator]) -> dict[str, Sequence[Generator]]:
    """Stand-ins by name, which travel to other actors."""
    return {name: pool.replicas for name, pool in generators.items() if isinstance(pool, GeneratorPool)}


def _environment() -> dict[str, str]:
    """Ray would pin an actor without CPUs to one thread; parts set their own numbers from the recipe's plan."""
    return {"OMP_NUM_THREADS": str(os.cpu_count() or 1), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def _spread(spec: GeneratorSpec) -> int:
    """GPUs that one replica spreads over."""
    return int(getattr(spec.config, "tensor_parallel", 1))


def _gpus() -> int:
    return int(ray.cluster_resources().get("GPU", 0))
