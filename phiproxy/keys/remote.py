"""Calls to a key provider's blocking SDK: off the event loop, with a deadline, retries and a circuit breaker.

A provider's call raises ProviderDenied or ProviderMisconfigured where the answer is final and ProviderUnavailable where it is not;
only the last is tried again (full jitter, so that many proxies do not come back in step) and counted by the breaker. While the
breaker is open, nobody waits for a provider that does not answer: cached keys go on, everything else fails at once.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from phiproxy.errors import ProviderError, ProviderUnavailable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Seconds and counts of one provider's calls.

    ``connect`` and ``read`` are the SDK's own timeouts per attempt; ``deadline`` ends the waiting whatever the SDK does.
    ``failures`` in a row open the breaker, ``rest`` later one call may try whether the provider is back.
    """

    connect: float = 2.0
    read: float = 5.0
    attempts: int = 3
    deadline: float = 20.0
    failures: int = 5
    rest: float = 5.0
    threads: int = 8


class Breaker:
    """Open after ``failures`` calls in a row without an answer; ``rest`` seconds later one call is let through to try.

    Used on the event loop only. (The libraries that were looked at hold a lock for the whole of a call.)
    """

    def __init__(self, failures: int, rest: float, clock: Callable[[], float] = monotonic) -> None:
        self._limit = failures
        self._rest = rest
        self._clock = clock
        self._failures = 0
        self._retry_at = 0.0

    def allows(self) -> bool:
        """Tell whether a call may go; while open, the one that may is the only one until the next ``rest`` is over."""
        if self._failures < self._limit:
            return True
        if self._clock() < self._retry_at:
            return False
        self._retry_at = self._clock() + self._rest
        return True

    def answered(self) -> None:
        """Note that the provider answered, whatever it said."""
        self._failures = 0

    def failed(self) -> None:
        """Note that it did not."""
        self._failures += 1
        self._retry_at = self._clock() + self._rest


class Remote:
    """The calls of one provider."""

    def __init__(self, name: str, limits: CallLimits | None = None) -> None:
        self.limits = limits or CallLimits()
        self.breaker = Breaker(self.limits.failures, self.limits.rest)
        self._name = name
        self._threads = ThreadPoolExecutor(self.limits.threads, thread_name_prefix=f"phiproxy {name}")

    async def call(self, function: Callable[[], T]) -> T:
        """Run ``function`` on a thread and return what it returns.

        Raises what it raises of ProviderDenied, ProviderMisconfigured and ProviderUnavailable; ProviderUnavailable also past the
        deadline and while the breaker is open. A call past its deadline is left to its thread.
        """
        if not self.breaker.allows():
            raise ProviderUnavailable(f"{self._name} did not answer the last calls and is left alone for a moment")
        try:
            async with asyncio.timeout(self.limits.deadline):
                result = await asyncio.get_running_loop().run_in_executor(self._threads, self._tried, function)
        except TimeoutError:
            self.breaker.failed()
            raise ProviderUnavailable(f"{self._name} does not answer within {self.limits.deadline:g} s") from None
        except ProviderUnavailable:
            self.breaker.failed()
            raise
        except ProviderError:
            self.breaker.answered()
            raise
        self.breaker.answered()
        return result

    def _tried(self, function: Callable[[], T]) -> T:
        retrying = Retrying(
            retry=retry_if_exception_type(ProviderUnavailable),
            stop=stop_after_attempt(self.limits.attempts),
            wait=wait_random_exponential(multiplier=0.1, max=2.0),
            reraise=True,
        )
        return retrying(function)

    def close(self) -> None:
        """Let the threads end; what is still called is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
