"""[pure] The sentences about what changes between two configs, in English and 简体中文."""

from __future__ import annotations

from collections.abc import Mapping

CHANGES: Mapping[str, tuple[str, str]] = {
    "x_source": ("source {name}", "来源 {name}"),
    "x_funnel": ("funnel {name}", "漏斗 {name}"),
    "x_stage": ("funnel {funnel}, stage {name}", "漏斗 {funnel}，阶段 {name}"),
    "x_dimension": ("funnel {funnel}, dimension {name}", "漏斗 {funnel}，维度 {name}"),
    "x_alert": ("alert {name}", "告警 {name}"),
    "x_access": ("access", "访问"),
    "x_channel": ("channel {name}", "通道 {name}"),
    "x_was": ("{label}: {old} before, {new} now.", "{label}：原为 {old}，现为 {new}。"),
    "x_rewritten": ("{label}: written otherwise, and means the same.", "{label}：写法不同，含义相同。"),
    "x_none": ("none", "无"),
    "x_all": ("all", "全部"),
    "x_yes": ("yes", "是"),
    "x_no": ("no", "否"),
    "x_new_source": ("A new source: {meaning}", "新增来源：{meaning}"),
    "x_new_funnel": ("A new funnel, counted from its beginning on: {meaning}", "新增漏斗，从头开始计数：{meaning}"),
    "x_new_dimension": ("A new dimension: {meaning}", "新增维度：{meaning}"),
    "x_new_alert": ("A new rule: {meaning}", "新增规则：{meaning}"),
    "x_new_channel": ("A new channel.", "新增通道。"),
    "x_gone": ("It is there no longer.", "已移除。"),
    "x_stage_new": ("A new stage, number {place}: {meaning}", "新增第 {place} 个阶段：{meaning}"),
    "x_stage_order": ("The stages come in another order: {new}; before: {old}.", "阶段顺序改变：现为 {new}；原为 {old}。"),
    "x_step": (
        "The rate into {to} is now that of those at {new}; before, of those at {old}.",
        "到{to}的转化率现以{new}为分母；原以{old}为分母。",
    ),
    "x_renamed": (
        "Renamed, {old} before. What it counts is the same, but it stands under its new name in the API, in metrics and in links.",
        "已改名，原为 {old}。计数内容不变，但在 API、指标和链接中使用新名称。",
    ),
    "x_alert_renamed": (
        (
            "Renamed, {old} before. It judges the same, but begins anew under its new name: what fires under the old one is forgotten, and silences "
            "of the old name do not hold it."
        ),
        "已改名，原为 {old}。判断方法不变，但以新名称重新开始：旧名称下正在触发的会被遗忘，针对旧名称的静默不再生效。",
    ),
    "x_funnel_renamed": ("Renamed, {old} before.", "已改名，原为 {old}。"),
    "x_threshold": ("Fires when the rate is surely {new}; before, when {old}.", "现在转化率确定{new}时触发；原为{old}。"),
    "x_target_moves": (
        "Its threshold is the target of {stage}: {old} before, {new} now.",
        "其阈值是{stage}的目标：原为 {old}，现为 {new}。",
    ),
    "x_channel_set": ("Set up otherwise: {fields}.", "设置改变：{fields}。"),
    "x_anew": (
        (
            "Counts begin at zero beside the old ones, because {why}. Reports say since when; “funnelwatch backfill {name}” has the topic counted "
            "from its beginning."
        ),
        "计数从零开始，与旧计数并存，因为{why}。报告会注明自何时起；用 “funnelwatch backfill {name}” 可从主题开头重新计数。",
    ),
    "x_why_definition": ("what it counts is another: {what}", "计数的内容不同：{what}"),
    "x_why_windows": (
        "a window of another length (up to an hour, up to a day, longer) needs buckets of a width that it did not have, or no longer has",
        "窗口的长度档次（一小时以内、一天以内、更长）改变，桶宽随之改变",
    ),
    "x_why_name": ("they belong to its name", "计数归属于其名称"),
    "x_dimension_order": ("the order of the dimensions", "维度的顺序"),
    "x_mixed": (
        "The counts of {funnels} go on: until a window has left the change behind, its numbers mix both meanings.",
        "{funnels} 的计数继续：在窗口移过这次改变之前，其数字混合了两种含义。",
    ),
    "x_nothing": ("Nothing changes in meaning.", "含义没有改变。"),
    "x_same": ("The two configs are the same.", "两个配置相同。"),
    "x_title": ("What changes in meaning", "含义的改变"),
    "x_kind_meaning": ("Means something else", "含义改变"),
    "x_kind_anew": ("Starts counting anew", "重新开始计数"),
    "x_kind_words": ("Changes only words", "仅文字改变"),
    "x_kind_running": ("Changes how it runs, and no number", "只改变运行方式，不影响任何数字"),
    "fires": ("fires", "触发"),
    "pages": ("pages", "呼叫"),
    "e_earlier": ("It {fires} earlier.", "会更早{fires}。"),
    "e_later": ("It {fires} later.", "会更晚{fires}。"),
    "e_thinner": ("It {fires} on fewer entrants, and so earlier where traffic is thin.", "进入者较少时也会{fires}，流量小时更早。"),
    "e_thicker": ("It needs more entrants, and {fires} later where traffic is thin.", "需要更多进入者，流量小时更晚{fires}。"),
    "e_surer": ("It must be surer, and {fires} later.", "要求更确定，会更晚{fires}。"),
    "e_unsurer": ("It need be less sure, and {fires} earlier, by chance too.", "要求的确定程度降低，会更早{fires}，也更可能是偶然。"),
    "e_window_longer": (
        "It {fires} later on a sudden change, and sees smaller ones, since more people are judged together.",
        "突然变化时会更晚{fires}，但能发现更小的变化，因为合并判断的人更多。",
    ),
    "e_window_shorter": (
        "It {fires} earlier on a sudden change, and misses smaller ones, since fewer people are judged together.",
        "突然变化时会更早{fires}，但会漏掉较小的变化，因为合并判断的人更少。",
    ),
    "e_effect_more": ("Great changes are found sooner, small ones later.", "大的变化发现得更快，小的更慢。"),
    "e_effect_less": ("Small changes are found sooner, great ones later.", "小的变化发现得更快，大的更慢。"),
    "e_run_longer": ("It {fires} by chance more rarely, and on real changes a little later.", "偶然{fires}的次数减少，真正变化时略晚。"),
    "e_run_shorter": ("It {fires} by chance more often, and on real changes a little earlier.", "偶然{fires}的次数增多，真正变化时略早。"),
    "e_resolves_later": ("It resolves later.", "会更晚恢复。"),
    "e_resolves_earlier": ("It resolves earlier.", "会更早恢复。"),
    "e_conversion_longer": (
        "Who takes longer is counted too: rates can only rise; entries are finished later.",
        "用时更长的人也计入：转化率只会上升；入口完结得更晚。",
    ),
    "e_conversion_shorter": (
        "Who takes longer than {new} does not count any more: rates can only fall; entries are finished sooner.",
        "用时超过 {new}的人不再计入：转化率只会下降；入口完结得更早。",
    ),
    "e_lateness_more": ("Later events still count; entries are finished later.", "更迟的事件仍计入；入口完结得更晚。"),
    "e_lateness_less": (
        "Events are late sooner, and do not count; entries are finished sooner.",
        "事件更容易算作迟到而不计入；入口完结得更早。",
    ),
    "e_target_up": ("More is wanted; what is counted stays the same.", "要求提高；计数不变。"),
    "e_target_down": ("Less is wanted; what is counted stays the same.", "要求降低；计数不变。"),
    "e_baseline_more": ("Adjusted rates are there later.", "adjusted 转化率会更晚出现。"),
    "e_baseline_less": ("Adjusted rates are there sooner, and rest on less.", "adjusted 转化率会更早出现，但依据更少。"),
    "e_half_longer": ("What is usual follows a lasting change more slowly.", "通常水平跟随持久变化更慢。"),
    "e_half_shorter": ("What is usual follows a lasting change more quickly, and is less sure.", "通常水平跟随持久变化更快，但更不确定。"),
}
