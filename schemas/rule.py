"""An alert rule."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from schemas.duration import Duration
from schemas.funnel import Model, Name, Ratio


class Drop(Model):
    """Relative to what is usual: `by` of it lost is the threshold, `recover_by` of it lost is the recovery.

    What is usual is the rate of the hours that hold the same window a day or a week earlier, or the median
    of the hours within `over`: of those at the same hour of the week where there are three, else of all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    by: float = Field(gt=0, lt=1)
    from_: Literal["last_week", "yesterday", "median"] = Field(default="median", alias="from")
    over: Duration = Duration("28d")
    recover_by: Ratio | None = None


class Rule(Model):
    """Fire when the rate of the step into `stage` is surely beyond a threshold for `for`.

    The threshold is one of `below`, `above`, `drop`, `below_target`. `detector: windowed` asks for a
    window whose confidence limit lies beyond it; `detector: sequential` adds up the evidence bucket by
    bucket against a rate that is worse by `effect`, up to a limit that healthy traffic passes once in
    `run_length`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    name: Name
    funnel: Name
    stage: Name
    basis: Literal["users", "entries", "adjusted"] = "adjusted"
    window: Duration
    long_window: Duration | None = None
    widen_to: Duration | None = None
    below: Ratio | None = None
    above: Ratio | None = None
    drop: Drop | None = None
    below_target: bool = False
    detector: Literal["windowed", "sequential"] = "windowed"
    effect: float = Field(default=0.4, ge=0.05, lt=1)
    run_length: Duration = Duration("100d")
    for_: Duration = Field(default=Duration("0s"), alias="for")
    keep_firing_for: Duration = Duration("0s")
    recover_above: Ratio | None = None
    recover_below: Ratio | None = None
    min_entrants: int = Field(default=30, ge=1)
    confidence: float = Field(default=0.95, ge=0.5, lt=1)
    by: tuple[Name, ...] = ()
    severity: Name = "warning"
    notify: tuple[Name, ...] = ()
    runbook: str = ""

    @model_validator(mode="after")
    def _one_threshold(self) -> Rule:
        given = [name for name, here in self._thresholds().items() if here]
        if len(given) != 1:
            what = f"has {' and '.join(f'`{name}`' for name in given)}" if given else "has no threshold"
            raise ValueError(f"a rule {what}; write exactly one of `below`, `above`, `drop`, `below_target`")
        return self

    def _thresholds(self) -> dict[str, bool]:
        return {
            "below": self.below is not None,
            "above": self.above is not None,
            "drop": self.drop is not None,
            "below_target": self.below_target,
        }

    @property
    def condition(self) -> Literal["below", "above", "drop", "below_target"]:
        """Which of the four thresholds the rule has."""
        if self.below is not None:
            return "below"
        if self.above is not None:
            return "above"
        return "drop" if self.drop is not None else "below_target"

    @property
    def rises(self) -> bool:
        """Whether it is a rate too high that fires."""
        return self.above is not None

    @property
    def fixed(self) -> float | None:
        """The threshold where the rule itself says it: `below` or `above`."""
        return self.below if self.below is not None else self.above

    @property
    def recovery(self) -> float | None:
        """The rate at which a firing alert resolves, where the rule itself says it.

        By default the threshold; None where that is another at each evaluation (Verdict.recovery tells).
        """
        said = self.recover_below if self.rises else self.recover_above
        return self.fixed if said is None else said
