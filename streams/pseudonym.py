"""[pure] Entities under pseudonyms: what the ledger has of a person cannot be told from whom without the key.

With a key (FUNNELWATCH_PRIVACY__KEY) a worker gives every entity another name right after decoding, before
anything is looked up or stored:

    "~" + base64url(HMAC-SHA256(HMAC-SHA256(key, "funnelwatch entity"), entity)[:16])

and every event another identity, since an event_id, or a record that has none, may name the person too:
96 bits of keyed BLAKE2b. Same person, same name: so everything is counted as before. Two simultaneous events
of one person that match the same stage are put in the order of these identities then.

Rotation: with a previous key, a state that is not there under the name of today is looked for under the
former one, and carried over in the write that changes it. An event whose former identity is in its person's
tail keeps that, so that what a producer sends again is still known. A ledger that was counted without a key
is one whose previous key is `Unkeyed`; there everybody is renamed, whether they come again or not, and their events with them.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b, sha256
from hmac import digest

from schemas.event import Batch
from streams.journeys import IDENTITY_BYTES_MAX, IDENTITY_LENGTH_MAX, bytes_identity, text_identity
from streams.matching import Match
from streams.resting import is_at_rest
from streams.retelling import with_identities
from streams.tail import Identity

MARK, LENGTH = "~", 23  # of a pseudonym
CACHED_MAX = 200_000  # names, of each key


class Key:
    """One key: the names of entities and the identities of events under it."""

    def __init__(self, secret: str) -> None:
        root = secret.encode()
        self.fingerprint = digest(root, b"funnelwatch fingerprint", "sha256").hex()[:16]
        self._of_entities = _Hmac(digest(root, b"funnelwatch entity", "sha256"))
        self._of_events = blake2b(key=digest(root, b"funnelwatch event", "sha256"), digest_size=12)
        self._known: dict[str, str] = {}

    def entity(self, name: str) -> str:
        known = self._known.get(name)
        if known is None:
            if len(self._known) >= CACHED_MAX:
                self._known.clear()
            hashed = self._of_entities.digest(name.encode("utf-8", "surrogatepass"))
            known = self._known[name] = MARK + urlsafe_b64encode(hashed[:16])[:22].decode()
        return known

    def entities(self, names: Sequence[str]) -> list[str]:
        known = self._known.get
        return [known(name) or self.entity(name) for name in names]

    def event(self, own: str, raw: bytes) -> str:
        """By its event_id, or else by its bytes."""
        if own:
            return self.identity(own if len(own) <= IDENTITY_LENGTH_MAX else text_identity(own))
        return self.identity(raw if len(raw) <= IDENTITY_BYTES_MAX else bytes_identity(raw))

    def identity(self, told: Identity) -> str:
        """Of an event that the engine would tell from others by this."""
        hashed = self._of_events.copy()
        hashed.update(told.encode("utf-8", "surrogatepass") if isinstance(told, str) else told)
        return hashed.hexdigest()

    def events(self, own_ids: Sequence[str], raws: Sequence[bytes], matches: Iterable[Match | None]) -> list[str]:
        """Of many, by the shortest way; of what nothing matches, and so is not kept, a number by which no two are the same."""
        begin, found = self._of_events.copy, []
        for place, (own, raw, match) in enumerate(zip(own_ids, raws, matches)):
            if match is None:
                found.append(str(place))
            elif len(own) > IDENTITY_LENGTH_MAX or len(raw) > IDENTITY_BYTES_MAX or not own.isascii():
                found.append(self.event(own, raw))
            else:
                hashed = begin()
                hashed.update(own.encode() if own else raw)
                found.append(hashed.hexdigest())
        return found


class _Hmac:
    """HMAC-SHA256 with its key worked in beforehand: several times as quick for short texts."""

    def __init__(self, key: bytes) -> None:
        block = key.ljust(64, b"\0")
        self._inner = sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = sha256(bytes(byte ^ 0x5C for byte in block))

    def digest(self, text: bytes) -> bytes:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(text)
        outer.update(inner.digest())
        return outer.digest()


class Unkeyed:
    """How it was before there was a key."""

    fingerprint = ""

    def entity(self, name: str) -> str:
        return name


class Pseudonyms:
    """The names of today, and those that states may still be stored under. One a worker."""

    def __init__(self, key: Key, previous: Key | Unkeyed | None = None) -> None:
        self._key = key
        self.previous = previous

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """By which a ledger knows its keys: that of today first."""
        return (self._key.fingerprint,) if self.previous is None else (self._key.fingerprint, self.previous.fingerprint)

    def stored(self, entity: str) -> tuple[str, ...]:
        """Every name that an entity may be stored under, that of today first."""
        own = self._key.entity(entity)
        return (own,) if self.previous is None else (own, self.previous.entity(entity))

    def conceal(self, batch: Batch, matches: Iterable[Match | None]) -> None:
        """Put pseudonyms in the place of entities, and of what tells events apart."""
        batch.entities = self._key.entities(batch.entities)
        batch.ids = self._key.events(batch.ids, batch.raws, matches)

    def former(self, entities: Sequence[str], concealed: Sequence[str], missing: Iterable[str]) -> dict[str, str]:
        """The former names of those that are missing under today's."""
        if self.previous is None:
            return {}
        real = dict(zip(concealed, entities))
        return {name: self.previous.entity(real[name]) for name in missing}

    def recognise(self, batch: Batch, own: Sequence[str], places: Mapping[str, Sequence[int]], states: Mapping[str, bytes]) -> None:
        """Let events that are in their entity's tail under a former identity keep it. `own`: the event_ids as they came."""
        if not isinstance(self.previous, Key):
            return
        for entity, mine in places.items():
            state = states.get(entity)
            if state is None or is_at_rest(state):
                continue
            for place in mine:
                found = self.previous.event(own[place], batch.raws[place])
                if found.encode() in state:
                    batch.ids[place] = found

    def carried(self, state: bytes) -> bytes:
        """A state that was stored under a former name, as it is kept under today's."""
        return with_identities(state, self._key.identity) if isinstance(self.previous, Unkeyed) else state

    def renamed(self, name: str) -> str | None:
        """Today's name of an entity that is stored by its own; None of one that has a pseudonym, whose entity nobody can tell."""
        if not isinstance(self.previous, Unkeyed) or (name.startswith(MARK) and len(name) == LENGTH):
            return None
        return self._key.entity(name)
