"""The ledger's metrics of readings, all made at once."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.report import AlertState
from streams.collector import LedgerText, SourceReading


def ledger_text(readings: Sequence[SourceReading], alerts: Sequence[AlertState] = ()) -> bytes:
    text = LedgerText()
    for _ in text.renewed(readings):
        pass
    return b"".join(text.pieces(readings, alerts))
