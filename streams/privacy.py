"""The pseudonym keys that the settings name, checked."""

from __future__ import annotations

from schemas.errors import SettingsError
from schemas.secret import reveal
from schemas.settings import PrivacySettings
from streams.pseudonym import Key, Pseudonyms, Unkeyed

KEY_LENGTH_MIN = 32
NONE = "none"  # as the previous key: there was none
VARIABLES = ("FUNNELWATCH_PRIVACY__KEY", "FUNNELWATCH_PRIVACY__PREVIOUS_KEY")


def pseudonyms_of(settings: PrivacySettings) -> Pseudonyms | None:
    """None where no key is set. Raises SettingsError for what cannot be a key."""
    key, previous = (reveal(secret, of) for secret, of in zip((settings.key, settings.previous_key), VARIABLES))
    if not key:
        if previous:
            raise SettingsError(f"{VARIABLES[1]} is set and {VARIABLES[0]} is not; set the key that entities are stored under from now on")
        return None
    for secret, variable in ((key, VARIABLES[0]), (previous, VARIABLES[1])):
        if secret not in {"", NONE} and len(secret) < KEY_LENGTH_MIN:
            raise SettingsError(f"{variable} has {len(secret)} characters; a key has at least {KEY_LENGTH_MIN} (openssl rand -base64 32)")
    if key == NONE:
        raise SettingsError(f"{VARIABLES[0]} cannot be {NONE!r}; leave it out to store entities by their own ids")
    if key == previous:
        raise SettingsError(f"{VARIABLES[1]} is the same as {VARIABLES[0]}; leave it out, or set the key of before")
    if not previous:
        return Pseudonyms(Key(key))
    return Pseudonyms(Key(key), Unkeyed() if previous == NONE else Key(previous))
