"""[pure] One funnel: everybody, then each value of a dimension, at the step that is looked at."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as build

from schemas.config import Config
from streams.dashboards.frame import OF_JOB, Addresses, basis, datasource, framed, job, one_of, several, with_variables
from streams.dashboards.panels import COUNT, PER_SECOND, RATE, SECONDS, bars, number, over_time, rates_table, with_targets

OF = f'funnel="$funnel", {OF_JOB}'
NOW = f'{OF}, window="$window"'
EVERYBODY, SPLIT = 'dimension=""', 'dimension="$dimension", value=~"$value"'
STEP = "{{funnel}}: {{from_stage}} → {{stage}}"
RATES = "The basis says what the rate is of: users is read at a glance, entries are those that are finished, adjusted is by age."


def funnel(config: Config, addresses: Addresses) -> build.Dashboard:
    first = config.funnels[0]
    page = "window.${funnel}=${window}&basis.${funnel}=${basis}&by.${funnel}=${dimension}"
    board = framed("funnel", "Funnels: one funnel", "One funnel's steps in total and by the values of a dimension.", addresses, page)
    users = f"funnel_stage_users{{{OF}}}"
    variables = [
        datasource(),
        job(),
        one_of("funnel", "Funnel", f"label_values(funnel_stage_users{{{OF_JOB}}}, funnel)", first.name),
        one_of("window", "Window", f"label_values({users}, window)", str(config.windows_of(first)[0])),
        basis(),
        one_of("stage", "Step into", f"label_values(funnel_conversion_ratio{{{OF}}}, stage)", first.stages[-1].name),
        one_of(
            "dimension",
            "Dimension",
            f'label_values(funnel_stage_users{{{OF}, dimension!=""}}, dimension)',
            next(iter(first.dimensions), ""),
        ),
        several("value", "Values", f'label_values(funnel_stage_users{{{OF}, dimension="$dimension"}}, value)'),
    ]
    with_variables(board, variables)
    _everybody(board.with_row(build.Row("$funnel: everybody")), config)
    _flow(board.with_row(build.Row("$funnel: events, value, time")))
    _by_value(board.with_row(build.Row("$funnel by $dimension: the step into $stage")))
    return board


def _part(name: str, of: str, by: str, *, stage: str = "") -> str:
    return f'max by ({by}) (funnel_conversion_{name}{{basis="$basis", {NOW}, {of}{stage}}})'


def _columns(of: str, by: str, *, stage: str = "") -> dict[str, str]:
    return {ref: _part(name, of, by, stage=stage) for ref, name in (("A", "numerator"), ("B", "denominator"), ("C", "ratio"))}


def _everybody(board: build.Dashboard, config: Config) -> None:
    people = f"max by (stage) (funnel_stage_users{{{NOW}, {EVERYBODY}}})"
    board.with_panel(
        bars(
            "People at each stage", "Distinct people who reached each stage within the window.", COUNT, f"sort_desc({people})", "{{stage}}"
        )
    )
    rate = _part("ratio", EVERYBODY, "funnel, from_stage, stage")
    steps = bars("Steps", f"Rate of each step now. Green: at its target or over. {RATES}", RATE, rate, STEP)
    board.with_panel(with_targets(steps.max(1), config))
    says = "What each rate is made of. Small numbers say little."
    renamed = {"Value #A": "converted", "Value #B": "of", "Value #C": "rate", "from_stage": "from", "stage": "into"}
    board.with_panel(rates_table("Counts", says, _columns(EVERYBODY, "from_stage, stage"), renamed, "of", 8))
    lines = over_time("Steps over time", f"Dashed: a step's target. {RATES}", RATE, [(rate, STEP)])
    board.with_panel(with_targets(lines, config, lines=True))
    board.with_panel(
        over_time("People over time", "Distinct people who reached each stage within the window.", COUNT, [(people, "{{stage}}")])
    )


def _flow(board: build.Dashboard) -> None:
    def flow(metric: str) -> str:
        return f"sum by (stage) (rate({metric}{{{OF}, {EVERYBODY}}}[$__rate_interval]))"

    reached = [(flow("funnel_stage_reached_total"), "{{stage}}"), (flow("funnel_corrections_total"), "{{stage}}: taken back")]
    says = "Events that reach each stage, per second, and those that late events took back."
    board.with_panel(over_time("Events", says, PER_SECOND, reached, 8))
    says = "Sum of a stage's value property per second, in its own unit."
    board.with_panel(over_time("Value per second", says, COUNT, [(flow("funnel_stage_value_total"), "{{stage}}")], 8))
    times = f"sum by (le, from_stage, stage) (rate(funnel_time_to_convert_seconds_bucket{{{OF}}}[$__rate_interval]))"
    quantiles = [
        (f"histogram_quantile({share}, {times})", f"{{{{from_stage}}}} → {{{{stage}}}} {name}")
        for share, name in ((0.5, "p50"), (0.9, "p90"))
    ]
    says = "Time from the opening of an entry to its conversion: half of them are quicker than p50, nine in ten than p90."
    board.with_panel(over_time("Time to convert", says, SECONDS, quantiles, 8))


def _by_value(board: build.Dashboard) -> None:
    into = ', stage="$stage"'
    rate, everybody = _part("ratio", SPLIT, "value", stage=into), _part("ratio", EVERYBODY, "stage", stage=into)
    says = "Rate of the step for each value. Dashed lines of targets are on the panel of everybody."
    board.with_panel(over_time("Rate by $dimension", says, RATE, [(rate, "{{value}}"), (everybody, "everybody")]))
    says = "What each value's rate is made of: a great difference of few people may be chance."
    renamed = {"Value #A": "converted", "Value #B": "of", "Value #C": "rate", "value": "$dimension"}
    board.with_panel(rates_table("$dimension now", says, _columns(SPLIT, "value", stage=into), renamed, "of"))
    says = "How much a value's rate differs from everybody's; under 0 it is worse."
    gap = f"{rate} - on () group_left () {_part('ratio', EVERYBODY, '', stage=into).replace('max by () ', 'max')}"
    board.with_panel(
        over_time("Difference to everybody", says, RATE, [(gap, "{{value}}")]).min(-1).max(1).axis_soft_min(-0.1).axis_soft_max(0.1)
    )
    says = "People, or entries, who could take the step: the denominator of the rate."
    board.with_panel(
        over_time("Who could take the step, by $dimension", says, COUNT, [(_part("denominator", SPLIT, "value", stage=into), "{{value}}")])
    )
    says = "Entries that opened at each stage within the window, in total: the traffic behind the rates."
    entries = f"max by (stage) (funnel_stage_entries{{{NOW}, {EVERYBODY}}})"
    board.with_panel(over_time("Entries opened", says, COUNT, [(entries, "{{stage}}")]))
    says = "Values of the dimension that are counted by themselves; what is over the cap is in __other__."
    values = f'count(count by (value) (funnel_stage_users{{{NOW}, dimension="$dimension"}}))'
    board.with_panel(number("Values of $dimension", says, COUNT, values, span=12).height(8))
