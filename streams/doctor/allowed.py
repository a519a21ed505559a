"""What Kafka says that we may do: asked with the metadata (KIP-430), which aiokafka's own requests do not do yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import for_code
from aiokafka.protocol.admin import DescribeGroupsRequest_v3, DescribeGroupsResponse_v3
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String

OPERATIONS = {3: "READ", 4: "WRITE", 5: "CREATE", 6: "DELETE", 7: "ALTER", 8: "DESCRIBE", 10: "DESCRIBE_CONFIGS"}


class _MetadataAnswer(Response):
    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", Array(("node_id", Int32), ("host", String("utf-8")), ("port", Int32), ("rack", String("utf-8")))),
        ("cluster_id", String("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("topic", String("utf-8")),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
        ("authorized_operations", Int32),
    )


class _MetadataStruct(RequestStruct):
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = _MetadataAnswer
    SCHEMA = Schema(
        ("topics", Array(String("utf-8"))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class _MetadataRequest(Request[_MetadataStruct]):
    API_KEY = 3

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = list(topics)

    def build(self, request_struct_class: type[_MetadataStruct]) -> _MetadataStruct:
        return request_struct_class(self._topics, False, False, True)


class _GroupsStruct(RequestStruct):
    """aiokafka reads the answer to its own as one of the version before, without the operations."""

    API_KEY = 15
    API_VERSION = 3
    RESPONSE_TYPE = DescribeGroupsResponse_v3
    SCHEMA = DescribeGroupsRequest_v3.SCHEMA


class _GroupsRequest(Request[_GroupsStruct]):
    API_KEY = 15

    def __init__(self, group: str) -> None:
        self._group = group

    def build(self, request_struct_class: type[_GroupsStruct]) -> _GroupsStruct:
        return request_struct_class([self._group], True)


async def described(admin: AIOKafkaAdminClient, topics: Sequence[str]) -> list[tuple[dict[str, Any], frozenset[str] | None]]:
    """Each topic as `describe_topics` has it, and what we may do with it. Raises NotImplementedError where the broker cannot say."""
    answer: Any = await admin._send_request(_MetadataRequest(topics))
    return [(topic, _named(topic["authorized_operations"])) for topic in answer.to_object()["topics"] if topic["error_code"] == 0]


async def allowed_on_group(admin: AIOKafkaAdminClient, group: str) -> frozenset[str] | None:
    """What we may do with a consumer group. Raises KafkaError: GroupAuthorizationFailedError where we may not even look."""
    coordinator = await admin.find_coordinator(group)
    answer: Any = await admin._send_request(_GroupsRequest(group), coordinator)
    (found,) = answer.to_object()["groups"]
    if found["error_code"]:
        raise for_code(found["error_code"])(group)
    return _named(found["authorized_operations"])


def _named(bits: int) -> frozenset[str] | None:
    """None where the broker does not say: whoever sees a topic may at least describe it."""
    found = frozenset(name for place, name in OPERATIONS.items() if bits >> place & 1)
    return found if "DESCRIBE" in found else None
