"""[pure] The sentences about alert rules, in English and 简体中文."""

from __future__ import annotations

from collections.abc import Mapping

ALERTS: Mapping[str, tuple[str, str]] = {
    "r_meaning": (
        "Fires when the rate of {from_} → {to} is surely {limit}{lasting}.",
        "当 {from_} → {to} 的转化率确定{limit}{lasting}时触发。",
    ),
    "r_below": ("under {rate}", "低于 {rate}"),
    "r_above": ("over {rate}", "高于 {rate}"),
    "r_target": ("under its target of {rate}", "低于目标 {rate}"),
    "r_drop": ("more than {by} under {usual}", "比{usual}低 {by} 以上"),
    "r_last_week": ("that of the same hours a week earlier", "一周前同一时段"),
    "r_yesterday": ("that of the same hours a day earlier", "一天前同一时段"),
    "r_median": ("the median of the hours of the {over} before", "此前 {over}各小时的中位数"),
    "r_lasting": (", for {span}", "并持续 {span}"),
    "r_users": (
        "Judged are, over {window}, the users at {to} of the users at {from_} (basis “users”).",
        "判断依据：{window}内{to}的用户占{from_}的用户（口径 “users”）。",
    ),
    "r_entries": (
        (
            "Judged are conversions of entries at {from_}, of the newest {window} whose entries are all finished, which takes {mature} (basis "
            "“entries”)."
        ),
        "判断依据：{from_}入口的转化，取其入口已全部完结（需 {mature}）的最新 {window}（口径 “entries”）。",
    ),
    "r_adjusted": (
        (
            "Judged are the conversions into {to} of the last {window}, of what the entries at {from_} due in it are worth, each at its age (basis "
            "“adjusted”); while nothing is usual yet, the conversions of finished entries."
        ),
        (
            "判断依据：最近 {window}到{to}的转化，相对于其间到期的{from_}入口按各自年龄的价值（口径 “adjusted”）；尚无通常水平时，"
            "用完结入口的转化。"
        ),
    ),
    "r_step": ("It is judged every {step} of event time.", "事件时间每过 {step}判断一次。"),
    "r_windowed": (
        "Surely: with {entrants} or more entrants, the one-sided {confidence} limit of the rate lies {beyond} the threshold.",
        "“确定”是指：进入者不少于 {entrants}，且转化率的单侧 {confidence} 界限{beyond}阈值。",
    ),
    "r_sequential": (
        (
            "Surely: evidence for a rate {worse} than the threshold by {effect} is added up bucket by bucket, over {entrants} or more entrants, to a "
            "limit that traffic at its usual rate passes by chance once in {run} or less often; what is usual is taken at the far end of what is "
            "known of it, and limits of the rate are told at {confidence}."
        ),
        (
            "“确定”是指：逐桶累积转化率比阈值{worse} {effect} 的证据，进入者不少于 {entrants}，直到一个界限；通常水平的流量偶然越过它的次数"
            "不多于每 {run}一次；通常水平取已知范围的远端，转化率的界限按 {confidence} 给出。"
        ),
    ),
    "r_under": ("under", "低于"),
    "r_over": ("over", "高于"),
    "r_lower": ("lower", "低"),
    "r_higher": ("higher", "高"),
    "r_long": ("So it must be over {long} too.", "{long}的窗口内也须如此。"),
    "r_widen": (
        "While fewer than {entrants} entered within it, the window doubles, up to {widen}.",
        "其间进入者不足 {entrants} 时，窗口加倍，直到 {widen}。",
    ),
    "r_compared_near": (
        "Compared with are the hours that hold the same window {ago}; that baseline is itself known only within limits, which are allowed for.",
        "与{ago}包含同一窗口的各小时比较；该基准自身的不确定范围也计算在内。",
    ),
    "r_week": ("a week earlier", "一周前"),
    "r_day": ("a day earlier", "一天前"),
    "r_compared_median": (
        (
            "The median is that of the same hour of the week where the {over} hold three of them, else that of all hours; that baseline is itself "
            "known only within limits, which are allowed for."
        ),
        "当 {over}内有三个一周中的同一小时，取它们的中位数，否则取所有小时的中位数；该基准自身的不确定范围也计算在内。",
    ),
    "r_at_once": ("It fires as soon as that is seen.", "一经发现即触发。"),
    "r_for": ("It fires when that has been so for {span}.", "持续 {span}后触发。"),
    "r_recovers": ("It resolves {back}{kept}.", "{back}{kept}恢复。"),
    "r_back_up": ("when the rate is back at {rate} or more", "转化率回到 {rate} 或以上"),
    "r_back_down": ("when the rate is back at {rate} or less", "转化率回到 {rate} 或以下"),
    "r_back_drop": ("when the rate is no more than {by} under that", "转化率不再比它低 {by} 以上"),
    "r_kept": (" and has been for {span}", "并保持 {span}后"),
    "r_kept_not": ("", "时"),
    "r_by": (
        "It is judged for everybody, and for each value of {dimensions} by itself.",
        "对全体判断，并对 {dimensions} 的每个值分别判断。",
    ),
    "r_unknown": (
        "Too few entrants, no data or a stale source make it neither fire nor resolve.",
        "进入者太少、没有数据或来源停滞时，既不触发也不恢复。",
    ),
    "r_tells": ("Its severity is {severity}; it tells {channels}.", "严重级别为 {severity}；通知 {channels}。"),
    "r_tells_nobody": ("Its severity is {severity}; it tells nobody.", "严重级别为 {severity}；不通知任何人。"),
    "r_runbook": ("What to do: {runbook}", "处理办法：{runbook}"),
    "p_meaning": (
        "Fires for a source whose records are not counted: none comes, or counting is behind, for {span}.",
        "当某来源的记录没有被计数，即没有记录到来或计数落后，持续 {span}时触发。",
    ),
    "p_clock": (
        "It is judged by the clock, for each source by itself; until it is over, the rules of that source neither fire nor resolve.",
        "按时钟判断，每个来源分别判断；在此期间，该来源的规则既不触发也不恢复。",
    ),
}
