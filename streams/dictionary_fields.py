"""[pure] What each field of the config is to its reader: every field of every model is here, and a test keeps it so.

meaning   it is worded in the dictionary, and another value means something else: another number, another alert
words     a title, a text, an address to read: worded, and without meaning for counts and alerts
running   how it runs: not worded, without meaning for counts and alerts
parts     it holds things that have fields of their own
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Role = Literal["meaning", "words", "running", "parts"]
Field = tuple[Role, str, str]  # and what it is called, in English and 简体中文

_LIMIT: Mapping[str, Field] = {"limit": ("running", "limit", "限流")}
_ADDRESSED: Mapping[str, Field] = {**_LIMIT, "type": ("running", "type", "类型"), "allow": ("running", "allowed hosts", "允许的主机")}
_URL: Field = ("running", "address", "地址")
_HEARTBEAT: Field = ("running", "heartbeat", "心跳")

FIELDS: Mapping[str, Mapping[str, Field]] = {
    "Config": {
        "sources": ("parts", "sources", "来源"),
        "funnels": ("parts", "funnels", "漏斗"),
        "alerts": ("parts", "alerts", "告警"),
        "channels": ("running", "channels", "通道"),
        "pipeline": ("parts", "the pipeline’s own alert", "管道自身的告警"),
        "access": ("parts", "access", "访问"),
    },
    "Source": {
        "name": ("meaning", "name", "名称"),
        "topic": ("meaning", "topic", "主题"),
        "entity_key": ("meaning", "records are keyed by the entity", "记录以实体为键"),
        "trust_key": ("meaning", "the key is taken on trust", "信任记录的键"),
        "start": ("meaning", "where counting begins", "计数的起点"),
        "allowed_lateness": ("meaning", "allowed lateness", "允许的迟到"),
        "max_skew": ("meaning", "most time ahead of the clock", "允许超前时钟"),
        "format": ("running", "how records are written", "记录的编码"),
        "preset": ("meaning", "the kind of records", "记录的类型"),
        "fields": ("parts", "fields", "字段"),
        "dead_letter": ("running", "dead-letter topic", "死信主题"),
        "record_bytes_max": ("meaning", "most bytes of a record", "记录的最大字节数"),
        "reject_ratio_max": ("running", "share of rejected records at which consumption stops", "停止消费的拒绝比例"),
        "rejects_in_a_row_max": ("running", "rejected records in a row at which consumption stops", "停止消费的连续拒绝数"),
    },
    "Fields": {
        "event": ("meaning", "where a record has the event’s name", "记录中的事件名"),
        "timestamp": ("meaning", "where a record has the event’s time", "记录中的时间"),
        "user_id": ("meaning", "where a record has the user id", "记录中的用户 id"),
        "anonymous_id": ("meaning", "where a record has the anonymous id", "记录中的匿名 id"),
        "event_id": ("meaning", "where a record has the event’s id", "记录中的事件 id"),
        "properties": ("meaning", "where a record has the properties", "记录中的属性"),
    },
    "Funnel": {
        "name": ("meaning", "name", "名称"),
        "title": ("words", "title", "标题"),
        "description": ("words", "description", "说明"),
        "owner": ("words", "owner", "负责人"),
        "source": ("meaning", "source", "来源"),
        "order": ("meaning", "order", "顺序"),
        "conversion_window": ("meaning", "conversion window", "转化窗口"),
        "windows": ("meaning", "windows", "窗口"),
        "dimensions": ("parts", "dimensions", "维度"),
        "stages": ("parts", "stages", "阶段"),
        "exclude": ("meaning", "excluded events", "排除的事件"),
        "baseline": ("parts", "baseline", "通常水平"),
    },
    "Stage": {
        "name": ("words", "name", "名称"),
        "event": ("meaning", "events", "事件"),
        "where": ("meaning", "conditions", "条件"),
        "title": ("words", "title", "标题"),
        "value": ("meaning", "value property", "数值属性"),
        "target": ("meaning", "target", "目标"),
        "benchmark": ("meaning", "benchmark", "基准"),
    },
    "Exclusion": {
        "event": ("meaning", "events", "事件"),
        "where": ("meaning", "conditions", "条件"),
        "from_": ("meaning", "from stage", "起始阶段"),
        "to": ("meaning", "before stage", "终止阶段"),
    },
    "Condition": {
        "equals": ("meaning", "equals", "等于"),
        "in_": ("meaning", "is one of", "属于"),
        "exists": ("meaning", "exists", "存在"),
        "above": ("meaning", "over", "大于"),
        "at_least": ("meaning", "at least", "不小于"),
        "below": ("meaning", "under", "小于"),
        "at_most": ("meaning", "at most", "不大于"),
        "matches": ("meaning", "matches", "匹配"),
    },
    "Dimension": {
        "field": ("meaning", "property", "属性"),
        "combine": ("meaning", "combined dimensions", "组合的维度"),
        "allow": ("meaning", "values counted by name", "单独计数的值"),
        "max_values": ("meaning", "most values counted by name", "单独计数的值的上限"),
    },
    "Baseline": {
        "half_life": ("meaning", "half-life of what is usual", "通常水平的半衰期"),
        "by": ("meaning", "hours that what is usual is learned by", "学习通常水平的小时"),
        "min_entries": ("meaning", "finished entries that what is usual needs", "通常水平所需的完结入口"),
    },
    "Rule": {
        "name": ("words", "name", "名称"),
        "funnel": ("meaning", "funnel", "漏斗"),
        "stage": ("meaning", "stage", "阶段"),
        "basis": ("meaning", "basis", "口径"),
        "window": ("meaning", "window", "窗口"),
        "long_window": ("meaning", "long window", "长窗口"),
        "widen_to": ("meaning", "widened up to", "加宽上限"),
        "below": ("meaning", "threshold", "阈值"),
        "above": ("meaning", "threshold", "阈值"),
        "drop": ("parts", "drop", "下降"),
        "below_target": ("meaning", "threshold at the target", "以目标为阈值"),
        "detector": ("meaning", "detector", "检测器"),
        "effect": ("meaning", "change worth finding", "值得发现的变化"),
        "run_length": ("meaning", "mean time between alarms by chance", "偶然告警的平均间隔"),
        "for_": ("meaning", "time before it fires", "触发前的持续时长"),
        "keep_firing_for": ("meaning", "time before it resolves", "恢复前的持续时长"),
        "recover_above": ("meaning", "recovery", "恢复"),
        "recover_below": ("meaning", "recovery", "恢复"),
        "min_entrants": ("meaning", "least entrants", "最少进入者"),
        "confidence": ("meaning", "confidence", "置信度"),
        "by": ("meaning", "judged by dimensions", "按维度判断"),
        "severity": ("meaning", "severity", "严重级别"),
        "notify": ("meaning", "tells", "通知"),
        "runbook": ("words", "runbook", "处理手册"),
    },
    "Drop": {
        "by": ("meaning", "fall that fires", "触发的降幅"),
        "from_": ("meaning", "compared with", "比较对象"),
        "over": ("meaning", "span of the median", "中位数的时长"),
        "recover_by": ("meaning", "fall at which it resolves", "恢复的降幅"),
    },
    "Pipeline": {
        "for_": ("meaning", "time before it fires", "触发前的持续时长"),
        "notify": ("meaning", "tells", "通知"),
        "severity": ("meaning", "severity", "严重级别"),
        "runbook": ("words", "runbook", "处理手册"),
    },
    "Access": {
        "tokens": ("running", "tokens", "令牌"),
        "cors": ("running", "origins of other pages", "其他页面的来源"),
        "metrics": ("running", "who reads the metrics", "谁可读取指标"),
    },
    "Token": {
        "name": ("running", "name", "名称"),
        "hash": ("running", "hash", "哈希"),
        "scopes": ("running", "scopes", "权限"),
        "funnels": ("running", "funnels", "漏斗"),
        "limit": ("running", "limit", "限流"),
        "concurrent": ("running", "requests at once", "并发请求数"),
        "expires": ("running", "last day", "最后有效日"),
    },
    "Quota": {"per": ("running", "per", "每"), "most": ("running", "most", "最多")},
    "Limit": {"per": ("running", "per", "每"), "most": ("running", "most", "最多")},
    "AlertmanagerChannel": {**_ADDRESSED, "url": _URL, "resend": ("running", "resend", "重发"), "heartbeat": _HEARTBEAT},
    "PagerdutyChannel": {**_ADDRESSED, "routing_key": ("running", "routing key", "路由键"), "url": _URL, "heartbeat": _HEARTBEAT},
    "WebhookChannel": {
        **_ADDRESSED,
        "url": _URL,
        "headers": ("running", "headers", "标头"),
        "secret": ("running", "secret", "密钥"),
        "heartbeat": _HEARTBEAT,
    },
    "KafkaChannel": {
        **_LIMIT,
        "type": ("running", "type", "类型"),
        "topic": ("running", "topic", "主题"),
        "brokers": ("running", "brokers", "服务器"),
        "heartbeat": _HEARTBEAT,
    },
    "AppriseChannel": {**_ADDRESSED, "urls": ("running", "addresses", "地址"), "picture": ("running", "picture", "图片")},
    "LogChannel": {**_LIMIT, "type": ("running", "type", "类型")},
}
