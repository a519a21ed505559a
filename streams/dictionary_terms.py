"""[pure] The words of the page, the API and the alerts, each explained once, in English and 简体中文."""

from __future__ import annotations

from collections.abc import Mapping

# key (its name in the API, where it has one): (term, meaning) in English, (term, meaning) in 简体中文
TERMS: Mapping[str, tuple[str, str, str, str]] = {
    "event": (
        "event",
        "One thing that one person did: its name, its time (event time, when it happened), who did it, and properties.",
        "事件",
        "一个人做的一件事：名称、时间（事件时间，即发生的时刻）、由谁所做，以及属性。",
    ),
    "entity": (
        "entity",
        "Whom a funnel counts: the person with one user id, or one anonymous id where there is no user id.",
        "实体",
        "漏斗计数的对象：具有同一用户 id 的人；没有用户 id 时，具有同一匿名 id 的人。",
    ),
    "funnel": (
        "funnel",
        "Two or more named stages in order, with one conversion window.",
        "漏斗",
        "两个或更多按顺序命名的阶段，共有一个转化窗口。",
    ),
    "stage": (
        "stage",
        "A name, and which events match it.",
        "阶段",
        "一个名称，以及哪些事件与之匹配。",
    ),
    "step": (
        "step",
        "The passage from one stage to the next; its rate stands at the later of the two.",
        "步骤",
        "从一个阶段到下一阶段的过渡；其转化率列在后一阶段处。",
    ),
    "chain": (
        "chain",
        "The way of one entity through a funnel, from one event of the first stage on.",
        "链",
        "一个实体从第一阶段的某个事件起在漏斗中走过的路。",
    ),
    "reach": (
        "reach",
        "An entity reaches a stage at the event that takes a chain there within the conversion window.",
        "到达",
        "在转化窗口内把链带到某阶段的事件，使实体到达该阶段。",
    ),
    "conversion_window": (
        "conversion window",
        "How long a chain may take, from its first stage on, the last moment included.",
        "转化窗口",
        "一条链从第一阶段起最多可用的时间，含最后一刻。",
    ),
    "users": (
        "users",
        "Distinct entities that reached a stage within the window: exact, not estimated.",
        "用户",
        "在窗口内到达某阶段的不同实体数：精确值，不是估计。",
    ),
    "lost": (
        "lost",
        "Users at the stage before less users here, and never below 0.",
        "流失",
        "前一阶段的用户减去此处的用户，不低于 0。",
    ),
    "entries": (
        "entries",
        "An entry opens at a stage with a reach that comes more than the conversion window after the last opening; reaches within it belong to it.",
        "入口",
        "距上次开启超过转化窗口的到达会在阶段开启一个入口；其间的到达都归属于它。",
    ),
    "conversions": (
        "conversions",
        "Entries whose entity reached the next stage within the conversion window of the opening; counted once, in the bucket of the opening.",
        "转化",
        "其实体在开启后的转化窗口内到达下一阶段的入口；各计一次，计入开启所在的桶。",
    ),
    "mature": (
        "mature (finished)",
        "An entry whose outcome is final: its bucket’s end, the conversion window and the allowed lateness are past.",
        "成熟（完结）",
        "结果已定的入口：其桶的结束、转化窗口和允许的迟到都已过去。",
    ),
    "pending": (
        "pending",
        (
            "Of an entry: it may still convert, and is not in the rate. Of an alert: its rate is beyond the threshold, but not yet for as long as the "
            "rule asks."
        ),
        "未决",
        "对入口：仍可能转化，不计入转化率。对告警：转化率已越过阈值，但尚未达到规则要求的时长。",
    ),
    "rate": (
        "rate",
        "numerator ÷ denominator, always shown with both; without a denominator there is no rate, which is not 0%.",
        "转化率",
        "分子 ÷ 分母，总是与二者一同显示；没有分母就没有转化率，而不是 0%。",
    ),
    "basis": (
        "basis",
        "What a rate is made of: users, entries or adjusted.",
        "口径",
        "转化率由什么构成：users、entries 或 adjusted。",
    ),
    "adjusted": (
        "adjusted",
        (
            "A rate that holds the conversions of the window against those usual for all entries that may still convert, each at its age: it shows "
            "in minutes what a rate of finished entries shows after the conversion window."
        ),
        "adjusted（按年龄校正）",
        "把窗口内的转化与所有仍可能转化的入口按各自年龄通常的转化相比的转化率：完结入口的转化率要等过了转化窗口才显示的变化，它几分钟即可显示。",
    ),
    "expected": (
        "expected",
        "The conversions usual in the window for the entries that were due in it.",
        "期望转化",
        "窗口内到期的入口通常会有的转化数。",
    ),
    "baseline": (
        "baseline",
        "The usual rate of a step: the share of entries that converts in the end, learned from finished ones.",
        "通常水平",
        "步骤通常的转化率：最终转化的入口所占的比例，由完结的入口学得。",
    ),
    "projected": (
        "projected",
        "Of the entries that opened in the window, the share expected to have converted in the end.",
        "预计",
        "窗口内开启的入口中，预计最终会转化的比例。",
    ),
    "interval": (
        "interval",
        "Between low and high the true rate lies with 95% confidence; few people make it wide. Basis users has none.",
        "区间",
        "真实的转化率以 95% 的置信度位于 low 与 high 之间；人少则区间宽。users 口径没有区间。",
    ),
    "overall": (
        "overall",
        "Users at the last stage ÷ users at the first.",
        "总转化率",
        "最后阶段的用户 ÷ 第一阶段的用户。",
    ),
    "time_to_convert": (
        "time to convert",
        "From an entry’s opening to its conversion; half of the conversions take up to p50, nine of ten up to p90, 99 of 100 up to p99.",
        "转化用时",
        "从入口开启到转化的时间；一半的转化不超过 p50，九成不超过 p90，99% 不超过 p99。",
    ),
    "events": (
        "events",
        "Events that reached a stage; one entity may bring several.",
        "事件数",
        "到达某阶段的事件数；一个实体可带来多个。",
    ),
    "value": (
        "value",
        "The sum of a stage’s value property over its events, exact to a millionth.",
        "数值",
        "某阶段的事件的数值属性之和，精确到百万分之一。",
    ),
    "target": ("target", "The rate of a step that is wanted.", "目标", "希望步骤达到的转化率。"),
    "benchmark": ("benchmark", "The rate of a step that others reach.", "基准", "他人达到的步骤转化率。"),
    "T": (
        "T",
        "The time a report is about: the clock, or the newest event counted if that is earlier. It never goes back.",
        "T",
        "报告所指的时刻：时钟与已计数的最新事件二者中较早者。它从不后退。",
    ),
    "window": (
        "window",
        "The trailing span of event time that a number is about, up to now.",
        "窗口",
        "数字所涉及的、直到现在的一段事件时间。",
    ),
    "bucket": (
        "bucket",
        "A fixed slice of event time in which counts are kept: 10 seconds for windows up to 1 hour, 1 minute up to 24 hours, 1 hour beyond.",
        "桶",
        "保存计数的固定时间段：1 小时以内的窗口为 10 秒，24 小时以内为 1 分钟，更长为 1 小时。",
    ),
    "watermark": (
        "watermark",
        "The greatest event time that was accepted from a partition of the topic.",
        "水位",
        "从主题的某个分区接受的最大事件时间。",
    ),
    "lag": ("lag", "Records of the topic that are not counted yet.", "积压", "主题中尚未计数的记录数。"),
    "stale": (
        "stale",
        "A partition has unread records and stands more than 60 seconds behind T: the numbers are not up to date.",
        "停滞",
        "某个分区有未读记录，且落后 T 超过 60 秒：数字不是最新的。",
    ),
    "incomplete": (
        "incomplete",
        "The window misses something: records were gone before they were counted, or counting began within it.",
        "不完整",
        "窗口缺少部分内容：记录在计数前已不在，或计数在窗口之内才开始。",
    ),
    "definition": (
        "definition",
        "What a funnel counts: stages, conditions, order, conversion window, dimensions. Counts belong to it: with another, they begin at zero.",
        "定义",
        "漏斗计数的内容：阶段、条件、顺序、转化窗口、维度。计数归属于定义：定义改变，计数从零开始。",
    ),
    "since": ("since", "When counting of the present definition began.", "自", "当前定义开始计数的时刻。"),
    "dimension": (
        "dimension",
        "An event property that every count is split by; its values add up to the total.",
        "维度",
        "拆分所有计数的事件属性；各值之和等于总数。",
    ),
    "__none__": ("__none__", "The value of a dimension where the event has none.", "__none__", "事件没有该属性时的维度值。"),
    "__other__": (
        "__other__",
        "All values of a dimension that are not counted by name.",
        "__other__",
        "未单独计数的所有维度值。",
    ),
    "applied": ("applied", "The fate of a record that was counted.", "已计入", "被计数的记录的去向。"),
    "filtered": (
        "filtered",
        "The fate of a record that no funnel looks at.",
        "已过滤",
        "没有任何漏斗关注的记录的去向。",
    ),
    "late": (
        "late",
        "The fate of an event older than the newest of its entity by more than the allowed lateness: it is not counted.",
        "迟到",
        "比同一实体最新事件早出超过允许迟到的事件的去向：不计入。",
    ),
    "duplicate": (
        "duplicate",
        "The fate of an event that came before already: it changes nothing.",
        "重复",
        "已经来过的事件的去向：不改变任何数字。",
    ),
    "rejected": (
        "rejected",
        "The fate of a record that cannot be read or believed; it goes to the dead-letter topic, with the reason.",
        "已拒绝",
        "无法读取或不可信的记录的去向；连同原因写入死信主题。",
    ),
    "firing": (
        "firing",
        "The rate has surely been beyond the rule’s threshold for as long as it asks, and is not seen to be back.",
        "触发中",
        "转化率确定越过规则的阈值已达要求的时长，且尚未见恢复。",
    ),
    "recovering": (
        "recovering",
        "Still firing: the rate is back, but not yet for as long as the rule asks.",
        "恢复中",
        "仍在触发：转化率已恢复，但尚未达到规则要求的时长。",
    ),
    "resolved": ("resolved", "The incident is over: the rate was seen to be back.", "已恢复", "事件结束：已见转化率恢复。"),
    "no_data": (
        "no data",
        "Nobody entered, so the rule cannot be judged; what fires goes on firing.",
        "无数据",
        "没有人进入，规则无法判断；正在触发的继续触发。",
    ),
    "low_sample": (
        "low sample",
        "Too few entered for the rule to be judged.",
        "样本过少",
        "进入者太少，规则无法判断。",
    ),
    "threshold": (
        "threshold",
        "The rate beyond which a rule fires, as it is at that evaluation.",
        "阈值",
        "规则据以触发的转化率，以该次判断时为准。",
    ),
    "confidence": (
        "confidence",
        "How sure a rule must be that the rate is beyond its threshold, so that chance alone does not make it fire.",
        "置信度",
        "规则须有多大把握认定转化率越过阈值，以免仅因偶然而触发。",
    ),
}
