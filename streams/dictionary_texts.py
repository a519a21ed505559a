"""[pure] The sentences of the dictionary, in English and 简体中文: one table, each row a sentence with the same gaps."""

from __future__ import annotations

from collections.abc import Mapping

from streams.dictionary_alert_texts import ALERTS
from streams.dictionary_change_texts import CHANGES

Row = tuple[str, str]

# Small words: lists, spans, conditions
SMALL: Mapping[str, Row] = {
    "comma": (", ", "、"),
    "and": (" and ", "和"),
    "or": (" or ", "或"),
    "space": (" ", ""),
    "semicolon": ("; ", "；"),
    "colon": (": ", "："),
    "titled": ("‘{title}’", "「{title}」"),
    "event": ("the event {names}", "事件 {names}"),
    "events": ("one of the events {names}", "事件 {names} 之一"),
    "where": (" (where {conditions})", "（条件：{conditions}）"),
    "span_s": ("{n} second", "{n} 秒"),
    "spans_s": ("{n} seconds", "{n} 秒"),
    "span_m": ("{n} minute", "{n} 分钟"),
    "spans_m": ("{n} minutes", "{n} 分钟"),
    "span_h": ("{n} hour", "{n} 小时"),
    "spans_h": ("{n} hours", "{n} 小时"),
    "span_d": ("{n} day", "{n} 天"),
    "spans_d": ("{n} days", "{n} 天"),
    "c_equals": ("is {value}", "为 {value}"),
    "c_in": ("is {values}", "为 {values}"),
    "c_exists": ("is there", "存在"),
    "c_absent": ("is absent, null or empty", "不存在、为 null 或为空"),
    "c_above": ("is over {bound}", "大于 {bound}"),
    "c_at_least": ("is {bound} or more", "不小于 {bound}"),
    "c_below": ("is under {bound}", "小于 {bound}"),
    "c_at_most": ("is {bound} or less", "不大于 {bound}"),
    "c_matches": (
        "matches the regular expression {pattern} in its first 1,000 characters",
        "的前 1,000 个字符匹配正则表达式 {pattern}",
    ),
}

SOURCES: Mapping[str, Row] = {
    "src_meaning": ("The click events of the topic {topic}.", "主题 {topic} 的点击事件。"),
    "src_entity": (
        "An entity (a person, as a rule) is told by {user_id}, or by {anonymous_id} where that is absent.",
        "实体（通常是一个人）由 {user_id} 识别；没有它时由 {anonymous_id} 识别。",
    ),
    "src_fields": (
        (
            "In a record, the name of the event is at {event}, its time at {timestamp}, its properties are at {properties}, and {event_id} tells one "
            "event from another; without it, the record itself does."
        ),
        "在记录中，事件名位于 {event}，时间位于 {timestamp}，属性位于 {properties}；{event_id} 区分不同的事件，没有它时以整条记录区分。",
    ),
    "src_calls": (
        (
            "A track call is the event that it names; any other call is the event of its type: page, screen, identify, group, alias. What a call "
            "says as its name, category, context and traits is found among its properties too, unless they say otherwise."
        ),
        "track 调用即其所命名的事件；其他调用以其类型（page、screen、identify、group、alias）为事件。调用的 name、category、context 和 traits 也视同其属性，属性中另有同名者除外。",
    ),
    "src_keyed": (
        "Records are keyed by their entity; one whose key is missing or is another is rejected.",
        "记录以实体为键；没有键或键不是该实体的记录会被拒绝。",
    ),
    "src_trusted": (
        "Records are keyed by something that determines their entity; the key is not compared with it.",
        "记录的键以另一种形式决定实体；不与实体比较。",
    ),
    "src_rekeyed": (
        "Records are keyed anew by their entity, through the topic {topic}.",
        "记录经由主题 {topic} 按实体重新设键。",
    ),
    "src_lateness": (
        (
            "Within {lateness} the order of arrival does not matter. An event older than the newest of its entity by more than that is late and is "
            "not counted. An event that comes twice within it counts once."
        ),
        "在 {lateness}之内，到达的先后没有影响。比同一实体最新事件早出超过此时长的事件算作迟到，不计入。在此时长内重复到来的事件只计一次。",
    ),
    "src_rejected": (
        "An event more than {skew} ahead of the clock is rejected, and so is a record of more than {bytes} bytes.",
        "时间超前时钟 {skew}以上的事件，以及大于 {bytes} 字节的记录，会被拒绝。",
    ),
    "src_earliest": (
        "Where nothing was counted before, counting begins with the oldest record of the topic.",
        "此前没有计数时，从主题中最早的记录开始计数。",
    ),
    "src_latest": (
        "Where nothing was counted before, counting begins with the records that come from then on.",
        "此前没有计数时，从此后到来的记录开始计数。",
    ),
}

FUNNELS: Mapping[str, Row] = {
    "f_meaning_ordered": (
        "How many of those at {first} go on, stage by stage, to {last} within {window} of their beginning.",
        "处于{first}的人中，有多少在开始后 {window}内逐个阶段走到{last}。",
    ),
    "f_meaning_strict": (
        "How many of those at {first} go on, stage by stage and with nothing else in between, to {last} within {window} of their beginning.",
        "处于{first}的人中，有多少在开始后 {window}内逐个阶段走到{last}，其间没有任何其他事件。",
    ),
    "f_meaning_any": (
        "How many do everything from {first} to {last}, in whatever order, within {window}.",
        "有多少人在 {window}内完成从{first}到{last}的全部事项，先后不限。",
    ),
    "f_entities": (
        "What is counted are entities of the source {source}, each told by {user_id}, or by {anonymous_id} where that is absent.",
        "计数的是来源 {source} 的实体，由 {user_id} 识别；没有它时由 {anonymous_id} 识别。",
    ),
    "f_stages": ("Its stages are {stages}.", "各阶段依次为：{stages}。"),
    "f_ordered": (
        (
            "Order “ordered”: a chain begins with an event of {first}; the newest beginning counts. An event of a later stage reaches it when the "
            "newest chain that got to the stage before began no more than {window} earlier, exactly {window} included. Other events in between do "
            "not matter. One event can take one chain further and begin another, but never goes on from itself."
        ),
        (
            "顺序 “ordered”：链从{first}的事件开始，以最新的开始为准。后面阶段的事件，当走到前一阶段的最新的链在此前不超过 {window}（恰好 {window}"
            "也算）内开始时，即到达该阶段。其间的其他事件没有影响。一个事件可以推进一条链并开始另一条，但不会接在自己之后。"
        ),
    ),
    "f_strict": (
        (
            "Order “strict”: a chain begins with an event of {first}; the newest beginning counts. An event of a later stage reaches it when the "
            "newest chain that stands at the stage before began no more than {window} earlier, exactly {window} included. Any other event of the "
            "entity, one that no stage names too, ends the chains: each event ends them at every stage that it does not match, once it has taken "
            "further those it can. One event never goes on from itself."
        ),
        (
            "顺序 “strict”：链从{first}的事件开始，以最新的开始为准。后面阶段的事件，当处于前一阶段的最新的链在此前不超过 {window}（恰好 {window}"
            "也算）内开始时，即到达该阶段。该实体的任何其他事件，包括没有任何阶段提到的，都会终止链：每个事件先推进它能推进的链，"
            "再终止处于它不匹配的各阶段的链。事件不会接在自己之后。"
        ),
    ),
    "f_any": (
        (
            "Order “any”: the order in which events come does not matter. A stage is reached at an event that matches it or a stage named before "
            "it, when the newest events of all stages up to it lie within {window}, exactly {window} included. {first} needs an event of its own. "
            "One event can stand for every stage that it matches."
        ),
        (
            "顺序 “any”：事件的先后没有影响。当某事件匹配该阶段或在它之前列出的阶段，且直到该阶段的所有阶段的最新事件都在 {window}之内（恰好 {window}"
            "也算）时，即到达该阶段。{first}必须有自己的事件。一个事件可以充当它匹配的每个阶段。"
        ),
    ),
    "f_exclude": (
        (
            "{events}{where} ends the chains that got to {from_} or further, but not yet to {to}: they have to begin anew. What was reached stays "
            "reached, and what the same event itself reaches stands."
        ),
        "{events}{where}会终止已到{from_}或更远、但尚未到{to}的链：须重新开始。已到达的仍算到达，同一事件自身到达的也保留。",
    ),
    "f_users": (
        "Users at a stage, over a window: the distinct entities that reached it within the window, each once, under its latest reach.",
        "某窗口内某阶段的用户：在窗口内到达该阶段的不同实体，各计一次，按其最近一次到达计。",
    ),
    "f_windows": (
        (
            "Windows: {windows}. A window is made of whole buckets of event time; it begins with the bucket (window ÷ bucket − 1) before the one "
            "that holds T, and has no upper end."
        ),
        "窗口：{windows}。窗口由事件时间的整桶组成；从 T 所在的桶之前第（窗口 ÷ 桶宽 − 1）个桶开始，没有上限。",
    ),
    "f_width": ("{windows} in buckets of {width}", "{windows}（桶宽 {width}）"),
    "f_entries": (
        (
            "An entry at a stage opens with a reach more than {window} after the last opening, and converts, once, when the next stage is reached "
            "within {window} of its opening. It is finished (mature) {mature} after its bucket of opening ends: {window} and the allowed lateness "
            "of {lateness}. Until then it is pending."
        ),
        (
            "阶段的入口由距上次开启超过 {window}的到达开启；若在开启后 {window}内到达下一阶段，即转化，仅一次。开启所在的桶结束后 {mature}"
            "（{window}加上允许的迟到 {lateness}），入口即完结（成熟）；在此之前为未决。"
        ),
    ),
    "f_late": (
        "An event that comes more than {lateness} behind the newest of its entity is late and is not counted.",
        "比同一实体最新事件早出超过 {lateness}的事件算作迟到，不计入。",
    ),
    "f_baseline_all": (
        (
            "What is usual is learned from finished entries, each counting half as much {half_life} later, all hours together; with fewer "
            "than {entries} of them, so weighted, nothing is usual yet."
        ),
        "通常水平由完结的入口学得，每过 {half_life}其权重减半，所有小时合在一起；加权后不足 {entries} 个时，尚无通常水平。",
    ),
    "f_baseline_hour_of_week": (
        (
            "What is usual is learned from finished entries, each counting half as much {half_life} later, for each of the 168 hours of the "
            "week (UTC) as far as it has entries enough to tell; with fewer than {entries} in all, so weighted, nothing is usual yet."
        ),
        (
            "通常水平由完结的入口学得，每过 {half_life}其权重减半；一周 168 个小时（UTC）在入口足够时各自学习；加权后总共不足 {entries} 个时，"
            "尚无通常水平。"
        ),
    ),
    "f_overall": (
        "The overall rate is users at {last} ÷ users at {first}, of one window.",
        "总转化率是同一窗口内{last}的用户 ÷ {first}的用户。",
    ),
}

STAGES: Mapping[str, Row] = {
    "s_meaning_first": ("Those who begin the funnel.", "开始漏斗的人。"),
    "s_meaning_later": (
        "Those who came this far from {before}, within {window} of their beginning.",
        "在开始后 {window}内从{before}走到这里的人。",
    ),
    "s_meaning_any": (
        "Those who did this and all that is named before it, within {window}.",
        "在 {window}内完成这一项及其之前列出的全部事项的人。",
    ),
    "s_match": ("It is matched by {events}{where}.", "由{events}匹配{where}。"),
    "s_first": ("Every such event reaches it, and begins a chain.", "每个这样的事件都到达该阶段，并开始一条链。"),
    "s_first_any": ("Every such event reaches it.", "每个这样的事件都到达该阶段。"),
    "s_ordered": (
        "Such an event reaches it when the newest chain that got to {before} began no more than {window} earlier.",
        "当走到{before}的最新的链在此前不超过 {window}内开始时，这样的事件即到达该阶段。",
    ),
    "s_strict": (
        (
            "Such an event reaches it when the newest chain that stands at {before} began no more than {window} earlier, and no event of the "
            "entity that does not match {before} came since."
        ),
        "当处于{before}的最新的链在此前不超过 {window}内开始，且其后没有该实体不匹配{before}的事件时，这样的事件即到达该阶段。",
    ),
    "s_any": (
        (
            "It is reached at such an event, or at one of a stage named before it, when the newest events of all stages up to it lie within "
            "{window}."
        ),
        "当直到该阶段的所有阶段的最新事件都在 {window}之内时，在这样的事件或之前列出的阶段的事件处到达该阶段。",
    ),
    "s_exclude": (
        "After {events}{where} no chain that stood between {from_} and here gets here: it has to begin anew.",
        "{events}{where}之后，处于{from_}与此之间的链不能再到这里：须重新开始。",
    ),
    "s_value": (
        (
            "Its value is the sum of {path} over the events that reach it. Where that is absent it counts as 0; where it is no number the record "
            "is rejected."
        ),
        "其数值是到达该阶段的事件的 {path} 之和。缺失时按 0 计；不是数字时，记录会被拒绝。",
    ),
    "s_value_any": (
        (
            "Its value is the sum of {path} over the events that match it and reach it. Where that is absent it counts as 0; where it is no number "
            "the record is rejected."
        ),
        "其数值是匹配并到达该阶段的事件的 {path} 之和。缺失时按 0 计；不是数字时，记录会被拒绝。",
    ),
    "s_entries": (
        (
            "An entry opens with a reach more than {window} after the last opening; it converts when {following} is reached within {window} of "
            "its opening."
        ),
        "距上次开启超过 {window}的到达会开启一个入口；若在开启后 {window}内到达{following}，即转化。",
    ),
    "s_last": (
        "An entry opens with a reach more than {window} after the last opening. This is the last stage: there is nothing to convert to.",
        "距上次开启超过 {window}的到达会开启一个入口。这是最后一个阶段：没有可以转化到的阶段。",
    ),
}

STEPS: Mapping[str, Row] = {
    "t_meaning": ("The share of those at {from_} who go on to {to}.", "处于{from_}的人中继续走到{to}的比例。"),
    "t_meaning_any": (
        "The share of those who got as far as {from_}, in whatever order, who also do {to}.",
        "在不限先后而到达{from_}的人中，也完成{to}的比例。",
    ),
    "t_users": (
        "Basis “users”: users at {to} ÷ users at {from_}, of one window. It is for reading at a glance: it is no proportion, and may pass 100%.",
        "口径 “users”：同一窗口内{to}的用户 ÷ {from_}的用户。用于一眼速览：它不是比例，可能超过 100%。",
    ),
    "t_entries": (
        (
            "Basis “entries”: conversions ÷ entries, of the entries at {from_} that opened in the window and are finished, which takes {mature} "
            "from the end of their bucket; with its 95% interval (Wilson), and the pending ones beside it."
        ),
        "口径 “entries”：窗口内在{from_}开启且已完结的入口中，转化数 ÷ 入口数；完结需自其桶结束起 {mature}；附 95% 区间（Wilson），未决的另列。",
    ),
    "t_adjusted": (
        (
            "Basis “adjusted”: the usual rate × (conversions into {to} in the window ÷ those usual in it for all entries at {from_} no older than "
            "{window}, each at its age), with its 95% interval (Poisson). It shows a change as it comes; over 100% it is shown as 100%. It is there "
            "once {entries} entries, weighted by age, are finished."
        ),
        (
            "口径 “adjusted”：通常转化率 ×（窗口内到{to}的转化数 ÷ 按各自年龄、不早于 {window}的{from_}全部入口在此窗口内通常的转化数），附 95% "
            "区间（Poisson）。变化一发生即可看到；超过 100% 时显示为 100%。完结的入口（按年龄加权）达到 {entries} 个后才有。"
        ),
    ),
    "t_time": (
        "Time to convert: from an entry’s opening to its conversion.",
        "转化用时：从入口开启到其转化。",
    ),
}

DIMENSIONS: Mapping[str, Row] = {
    "d_meaning": ("Every count, split by {path}.", "所有计数按 {path} 拆分。"),
    "d_meaning_both": (
        "Every count, split by {first} and {second} at once; a value reads “a / b”.",
        "所有计数同时按 {first} 和 {second} 拆分；取值写作 “a / b”。",
    ),
    "d_chain": (
        (
            "A chain has the value of the event of {first} that began it. A user counts under the value of the latest reach, an entry and its "
            "conversion under that at its opening: so the values add up to the total."
        ),
        "链取开始它的{first}事件的值。用户按最近一次到达的值计，入口及其转化按开启时的值计：因此各值之和等于总数。",
    ),
    "d_chain_any": (
        (
            "What is reached has the value of the newest event of {first}. A user counts under the value of the latest reach, an entry and its "
            "conversion under that at its opening: so the values add up to the total."
        ),
        "到达取{first}最新事件的值。用户按最近一次到达的值计，入口及其转化按开启时的值计：因此各值之和等于总数。",
    ),
    "d_allow": (
        "By name are counted {values}; any other value counts as “__other__”.",
        "单独计数的值：{values}；其他值计入 “__other__”。",
    ),
    "d_allow_none": ("No value is counted by name: all count as “__other__”.", "没有值单独计数：全部计入 “__other__”。"),
    "d_max": (
        "The first {most} values that come are counted by name; the rest count as “__other__”.",
        "最先出现的 {most} 个值单独计数；其余计入 “__other__”。",
    ),
    "d_none": (
        "A missing value is “__none__”; one of more than {length} characters, or with control characters, is “__other__”.",
        "缺失的值为 “__none__”；超过 {length} 个字符或含控制字符的值为 “__other__”。",
    ),
}

# The document around the sentences
DOCUMENT: Mapping[str, Row] = {
    "m_title": ("What the numbers mean", "数字的含义"),
    "m_funnel": ("Funnel: {title}", "漏斗：{title}"),
    "m_counted": ("How it is counted", "计数方法"),
    "m_stages": ("Stages", "阶段"),
    "m_steps": ("Rates", "转化率"),
    "m_dimensions": ("Dimensions", "维度"),
    "m_alerts": ("Alerts", "告警"),
    "m_sources": ("Sources", "来源"),
    "m_pipeline": ("The alert that is always there", "始终存在的告警"),
    "m_terms": ("Words", "词汇"),
    "m_name": ("Name: {name}", "名称：{name}"),
    "m_owner": ("Owner: {owner}", "负责人：{owner}"),
    "m_target": ("Target: {rate}", "目标：{rate}"),
    "m_benchmark": ("Benchmark: {rate}", "基准：{rate}"),
    "m_judged": ("Alerts: {names}", "告警：{names}"),
}

TEXTS: Mapping[str, Row] = {**SMALL, **SOURCES, **FUNNELS, **STAGES, **STEPS, **DIMENSIONS, **ALERTS, **DOCUMENT, **CHANGES}
