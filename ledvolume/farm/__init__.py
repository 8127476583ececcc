"""Many frames over many workers, in order: chunks are handed out, answers come frame by frame.

    render_all        requests in, Rendered out, in the order of the requests
    local.py          workers that are processes of this machine
    cluster.py        workers that are actors of a Ray cluster
    job.py            the folder of a job: what has been rendered, and going on with it
    forecast.py       what a job will cost
    openjd.py         the same as a job for a render farm

Frames are pure functions of their requests, so nobody needs to know who rendered what. A worker that dies costs the frame
that it was at: it is started anew, and the rest of its chunk is done again. A frame that kills its workers is named.
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import closing

import msgspec

from ledvolume.errors import RenderError
from ledvolume.farm.crew import Crew, Death, Failure, error_of, order_for
from ledvolume.farm.job import JobFolder
from ledvolume.farm.local import LocalCrew
from ledvolume.frame import FrameRequest
from ledvolume.offline import Rendered

LARGEST_CHUNK = 16
MOST_DEATHS = 3  # of workers at one frame


def render_all(
    worker_class: type,
    spec: msgspec.Struct,
    requests: Sequence[FrameRequest],
    workers: int = 0,
    ray: str = "",
    job: JobFolder | None = None,
) -> Iterator[Rendered]:
    """Every frame, in the order of the requests, rendered by `worker_class(spec)` in other processes. Raises LedvolumeError.

    requests: each with an index of its own. workers: 0 is one process, or as many actors as the cluster has place for. ray:
    address of a Ray cluster, "local" for one of this machine; "": processes of this machine. job: is told of each frame when
    it is finished; frames that it has already are not rendered again.
    """
    waiting = dict(job.done) if job is not None else {}
    by_index = {request.index: request for request in requests}
    left = [request for request in requests if request.index not in waiting]
    ordered = iter(requests)
    upcoming = next(ordered, None)
    while upcoming is not None and upcoming.index in waiting:
        yield waiting.pop(upcoming.index)
        upcoming = next(ordered, None)
    if not left:
        return
    with closing(open_crew(worker_class, spec, min(workers, len(left)), ray)) as crew:
        for rendered in finished(crew, left):
            if job is not None:
                job.add(by_index[rendered.index], rendered)
            waiting[rendered.index] = rendered
            while upcoming is not None and upcoming.index in waiting:
                yield waiting.pop(upcoming.index)
                upcoming = next(ordered, None)


def finished(crew: Crew, requests: Sequence[FrameRequest]) -> Iterator[Rendered]:
    """Every frame once, as they are finished. Raises what a worker raised, and RenderError for a frame that kills workers."""
    left, under_way = deque(requests), {}
    idle = list(range(crew.size))
    deaths: Counter[int] = Counter()
    while left or under_way:
        while left and idle:
            worker = idle.pop()
            # Smaller ones toward the end, so that all workers end at about the same time.
            size = max(1, min(LARGEST_CHUNK, len(left) // (2 * crew.size)))
            under_way[worker] = deque(left.popleft() for _ in range(size))
            crew.give(worker, list(under_way[worker]))
        for worker, news in crew.heard():
            if worker not in under_way:  # it died when it had nothing to do
                continue
            chunk = under_way[worker]
            if isinstance(news, Failure):
                raise error_of(news)
            if isinstance(news, Death):
                deaths[chunk[0].index] += 1
                if deaths[chunk[0].index] == MOST_DEATHS:
                    raise RenderError(
                        f"frame {chunk[0].index}: {MOST_DEATHS} workers died at it, the last one {news.how}. "
                        "What was rendered before is kept"
                    )
                left.extendleft(reversed(chunk))
                chunk.clear()
            else:
                chunk.popleft()
                yield news
            if not chunk:
                del under_way[worker]
                idle.append(worker)


def open_crew(worker_class: type, spec: msgspec.Struct, workers: int = 0, ray: str = "") -> Crew:
    """Workers as `render_all` has them, none of them started yet. Raises ConfigError without Ray, RenderError without its cluster."""
    order = order_for(worker_class, spec)
    if not ray:
        return LocalCrew(order, max(1, workers))
    from ledvolume.farm.cluster import RayCrew

    return RayCrew(order, workers, ray)
