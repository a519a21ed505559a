"""[pure] When the demo's incident is, so that its alert fires and, in a run of 45 s or more, resolves.

The rule is looked at on every 10 s boundary of event time, over the whole bucket before it, and
must be broken on two boundaries. So the incident covers whole buckets: two breaking ones, then a
sound one to resolve on, then some traffic beyond that one's end to move event time past it.
"""

from __future__ import annotations

from dataclasses import dataclass

BUCKET_SECONDS = 10
SHORTEST_SECONDS = 20
SHARE = 5  # a long run spends about a fifth of its time in the incident
MARGIN_SECONDS = 3
RAMP_SECONDS = 5

ENDLESS_AFTER_SECONDS = 40
ENDLESS_LENGTH_SECONDS = 40
ENDLESS_EVERY_SECONDS = 300


@dataclass(frozen=True)
class Incident:
    """From `begin` (seconds since the epoch) for `length` seconds; again every `every` seconds if given."""

    begin: float
    length: float
    every: float | None = None

    def active(self, at: float) -> bool:
        since = at - self.begin
        return since >= 0 and (since if self.every is None else since % self.every) < self.length


def settled(now: float) -> float:
    """When traffic may begin: not within 5 s before a boundary.

    Payments follow checkouts by a second, so a bucket that holds only the first few seconds of
    traffic looks like an incident.
    """
    into = now % BUCKET_SECONDS
    return now if into <= BUCKET_SECONDS - RAMP_SECONDS else now - into + BUCKET_SECONDS


def schedule(start: float, seconds: float | None) -> Incident | None:
    """The incident of traffic that begins at `start`; None when the run is too short for it to resolve."""
    if seconds is None:
        begin = -_boundary(-start - ENDLESS_AFTER_SECONDS)
        return Incident(begin, ENDLESS_LENGTH_SECONDS, ENDLESS_EVERY_SECONDS)
    length = max(SHORTEST_SECONDS, _boundary(seconds / SHARE))
    latest = start + seconds - length - BUCKET_SECONDS - MARGIN_SECONDS
    begin = _boundary(min(latest, start + seconds / 2))
    return Incident(begin, length) if begin >= start else None


def _boundary(at: float) -> float:
    """The last boundary up to then."""
    return at - at % BUCKET_SECONDS
