"""What a rule's parts must be to each other and to its funnel, and what is allowed but probably not meant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from schemas.config_problems import Location, instead
from schemas.duration import Duration, bucket_seconds
from schemas.funnel import Funnel
from schemas.pipeline import PIPELINE
from schemas.rule import Rule

Check = tuple[Location, str, str]

RESERVED = (PIPELINE, "FunnelwatchDeadMan")
HOUR, DAY = 3600, 86_400
WEEKS_TO_LEARN = 3
COMPARED = {"yesterday": DAY, "last_week": 7 * DAY}


def check_window(at: Location, window: Duration) -> Iterator[Check]:
    """A trailing window is made of whole buckets."""
    if not 10 <= window <= 30 * DAY:
        yield at, f"{window} is out of range", "write 10s to 30d"
        return
    bucket = bucket_seconds(window)
    if window % bucket:
        yield at, f"{window} is no multiple of its bucket ({bucket} s)", f"write {int(window) // bucket * bucket or bucket}s"


def check_rule(at: Location, rule: Rule, funnel: Funnel, lateness_seconds: int, channels: Sequence[str]) -> Iterator[Check]:
    """What is wrong with a rule over a funnel; `lateness_seconds` is what its source allows."""
    if rule.name in RESERVED:
        yield (*at, "name"), f"{rule.name!r} is the name of an alert that is always there", "give the rule another"
    names = [stage.name for stage in funnel.stages]
    if rule.stage not in names:
        yield (*at, "stage"), f"funnel {funnel.name!r} has no stage {rule.stage!r}", instead(rule.stage, names)
    elif rule.stage == names[0]:
        yield (*at, "stage"), f"{rule.stage!r} is the first stage: no step leads into it", f"name one of {', '.join(names[1:])}"
    else:
        yield from _check_target(at, rule, funnel)
    yield from _check_windows(at, rule)
    yield from _check_recovery(at, rule)
    yield from _check_drop(at, rule, int(funnel.conversion_window) + lateness_seconds)
    yield from _check_detector(at, rule)
    for i, name in enumerate(rule.by):
        if name not in funnel.dimensions:
            yield (*at, "by", i), f"funnel {funnel.name!r} has no dimension {name!r}", instead(name, list(funnel.dimensions))
    for i, name in enumerate(rule.notify):
        if name not in channels:
            yield (*at, "notify", i), f"there is no channel {name!r}", instead(name, channels)


def _check_target(at: Location, rule: Rule, funnel: Funnel) -> Iterator[Check]:
    if not rule.below_target:
        return
    target = funnel.stages[funnel.stage_index(rule.stage)].target
    if target is None:
        yield (*at, "below_target"), f"stage {rule.stage!r} has no target", "give the stage one, or write `below: RATE`"
    elif rule.recover_above is not None and rule.recover_above < target:
        yield (*at, "recover_above"), f"{rule.recover_above} is under the target ({target})", "it must be at least the target"
    elif rule.detector == "sequential" and not 0 < target < 1:
        yield (*at, "below_target"), f"nothing is less likely than at a target of {target}", "use a target between 0 and 1"


def _check_windows(at: Location, rule: Rule) -> Iterator[Check]:
    yield from check_window((*at, "window"), rule.window)
    for key, longer in (("long_window", rule.long_window), ("widen_to", rule.widen_to)):
        if longer is not None:
            yield from check_window((*at, key), longer)
            if longer <= rule.window:
                yield (*at, key), f"{longer} is no longer than the window ({rule.window})", "write a longer one, or leave it out"


def _check_recovery(at: Location, rule: Rule) -> Iterator[Check]:
    if rule.rises and rule.recover_above is not None:
        yield (*at, "recover_above"), "a rate above a threshold recovers by falling", "write recover_below"
    if not rule.rises and rule.recover_below is not None:
        yield (*at, "recover_below"), "a rate below a threshold recovers by rising", "write recover_above"
    if rule.below is not None and rule.recover_above is not None and rule.recover_above < rule.below:
        yield (*at, "recover_above"), f"{rule.recover_above} is under `below` ({rule.below})", "it must be at least `below`"
    if rule.above is not None and rule.recover_below is not None and rule.recover_below > rule.above:
        yield (*at, "recover_below"), f"{rule.recover_below} is over `above` ({rule.above})", "it must be at most `above`"


def _check_drop(at: Location, rule: Rule, finished_seconds: int) -> Iterator[Check]:
    drop = rule.drop
    if drop is None:
        return
    at = (*at, "drop")
    if drop.recover_by is not None and drop.recover_by > drop.by:
        yield (*at, "recover_by"), f"{drop.recover_by} is over `by` ({drop.by})", "it must be at most `by`"
    if drop.recover_by is not None and rule.recover_above is not None:
        yield (*at, "recover_by"), "the rule says `recover_above` too", "keep one of them"
    if drop.from_ != "median" and "over" in drop.model_fields_set:
        yield (*at, "over"), f"`over` is of a median, not of {drop.from_}", "leave it out, or write from: median"
    if not DAY <= drop.over <= 30 * DAY:
        yield (*at, "over"), f"{drop.over} is out of range", "write 1d to 30d"
    elif rule.basis != "users":
        known = finished_seconds + HOUR
        ago = COMPARED.get(drop.from_, int(drop.over))
        if known > ago:
            key = "over" if drop.from_ == "median" else "from"
            what = f"entries of {drop.over if key == 'over' else drop.from_} are not all finished: that takes the conversion window"
            yield (*at, key), what, "look back further, or write basis: users"


def _check_detector(at: Location, rule: Rule) -> Iterator[Check]:
    if rule.detector == "windowed":
        for key in ("effect", "run_length"):
            if key in rule.model_fields_set:
                yield (*at, key), f"`{key}` is of a sequential detector", "leave it out, or write detector: sequential"
        return
    if rule.long_window is not None:
        yield (*at, "long_window"), "a sequential detector has no windows to compare", "leave it out, or write detector: windowed"
    if not HOUR <= rule.run_length <= 3650 * DAY:
        yield (*at, "run_length"), f"{rule.run_length} is out of range", "write 1h to 3650d"
    fixed, key = rule.fixed, rule.condition
    if fixed is not None and not 0 < fixed < 1:
        yield (*at, key), f"{fixed} leaves nothing to add up", "write a rate between 0 and 1"
    elif rule.above is not None and rule.basis != "adjusted" and rule.above * (1 + rule.effect) >= 1:
        yield (*at, "effect"), f"{rule.above} and {rule.effect:.0%} more is no rate under 1", f"write less than {1 / rule.above - 1:.2f}"


def rule_warnings(rule: Rule, funnel: Funnel) -> Iterator[str]:
    """What is allowed but probably not meant, one sentence each."""
    conversion = funnel.conversion_window
    if rule.basis == "users" and rule.window < conversion:
        yield (
            f"alert {rule.name!r}: its window ({rule.window}) is shorter than the conversion window of "
            f"{funnel.name!r} ({conversion}): on basis users a jump in traffic lowers the "
            "rate for a while; a longer window is calmer"
        )
    if rule.basis == "entries" and rule.window < conversion:
        yield (
            f"alert {rule.name!r}: on basis entries it sees a fall once the entries are finished, {conversion} after they "
            f"opened; basis adjusted sees it as it comes"
        )
    if rule.drop is not None and rule.drop.from_ == "median" and rule.drop.over < WEEKS_TO_LEARN * 7 * DAY:
        yield (
            f"alert {rule.name!r}: within {rule.drop.over} there are too few weeks to tell the hours of the week apart; "
            f"over: {WEEKS_TO_LEARN * 7}d or more does"
        )
    if not rule.notify:
        yield f"alert {rule.name!r} notifies nobody; name a channel in `notify`"
