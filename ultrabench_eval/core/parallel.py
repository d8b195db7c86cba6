"""Threads that work ahead of their reader, in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

THREADS = min(4, max(2, os.cpu_count() or 1))
"""For decoding and resizing. More do not help on common machines, and more than there are cores
cost much where images are small: threads then mostly wait for one another."""

T = TypeVar("T")
R = TypeVar("R")


def ordered(
    work: Callable[[T], R], items: Iterable[T], ahead: int = 2 * THREADS
) -> Iterator[tuple[T, R]]:
    """Items with their results, in the order of the items, worked on by `THREADS` threads.

    At most `ahead` results wait for the reader, so memory stays bounded. What `work` raises is
    raised here.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        waiting: deque[tuple[T, Future[R]]] = deque()
        try:
            for item in items:
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) > ahead:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()
