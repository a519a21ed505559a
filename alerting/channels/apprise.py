"""Everybody else, by way of Apprise: mail, Slack, Telegram, Discord, Teams, DingTalk, WeCom, Feishu, …

Apprise waits while it sends, so each receiver has a thread while it is told. Of the network it reaches
what `guard` lets it, it follows no redirects, and it stores nothing on disk.

What is sent holds text from outside: a dimension's value is whatever an event said. It is escaped as
the receiver reads it, HTML, Markdown or plain text, and calls nobody by `@name`.
"""

from __future__ import annotations

import asyncio
import html
import logging
import re
import string
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress

import apprise
from apprise import AppriseAttachment, NotifyFormat, NotifyType, OverflowMode
from apprise.attachment.memory import AttachMemory
from apprise.plugins import NotifyBase

from alerting.channels.guard import Guard, guarded
from alerting.channels.sender import Gathers
from alerting.message import Notification, together
from alerting.picture import picture
from schemas.channel import AppriseChannel
from schemas.errors import DeliveryError, DeliveryRefused, SettingsError
from schemas.secret import reveal

TIMEOUT_SECONDS = 20.0
REMEMBERED_MAX = 10_000

# These read Markdown even in what they are told is plain text.
ALWAYS_MARKDOWN = frozenset({"NotifyDiscord", "NotifyMattermost", "NotifyRocketChat", "NotifyZulip", "NotifyGuilded", "NotifyMSTeams"})
# A mail is read by no robot that would call somebody.
MENTIONS_NOBODY = frozenset({"NotifyEmail", "NotifyJSON", "NotifyXML", "NotifyForm"})
URL = re.compile(r"https?://[A-Za-z0-9._:/?#@!$&'+,;=%-]+")
PUNCTUATION = str.maketrans({mark: f"\\{mark}" for mark in string.punctuation if mark not in ".,:;%/'\"?&=$^+"})
ZERO_WIDTH_SPACE = "\u200b"

# Apprise and what it stands on log addresses, in which the secrets are.
logging.getLogger("apprise").propagate = False
logging.getLogger("apprise").setLevel(logging.WARNING)
logging.getLogger("urllib3").setLevel(logging.INFO)


class AppriseSender:
    """Tells every receiver of the channel; one that was told is not told again when another has failed."""

    def __init__(self, name: str, channel: AppriseChannel) -> None:
        self.resend_seconds: int | None = None
        self.heartbeat_seconds: int | None = None
        self.gathers: Gathers = "words"
        self._pictures = channel.picture
        asset = apprise.AppriseAsset(
            app_id="funnelwatch", app_desc="funnelwatch", http_redirects=False, async_mode=False, storage_mode="memory"
        )
        self._receivers = [
            _Receiver(name, _plugin(reveal(url, whose := f"channel {name!r}: urls[{place}]"), whose, asset), channel.allow)
            for place, url in enumerate(channel.urls)
        ]

    async def send(self, *notifications: Notification) -> None:
        image = await asyncio.to_thread(picture, notifications[0]) if self._pictures and len(notifications) == 1 else None
        told = await asyncio.gather(*(r.tell(notifications, image) for r in self._receivers), return_exceptions=True)
        failed = [error for error in told if isinstance(error, BaseException)]
        # What may pass next time comes first: then those that refused are asked once more as well.
        for error in sorted(failed, key=lambda e: isinstance(e, DeliveryRefused)):
            raise error

    async def close(self) -> None:
        pass


def _plugin(url: str, whose: str, asset: apprise.AppriseAsset) -> NotifyBase:
    with warnings.catch_warnings():
        # Its first address loads all that Apprise has, in which is a module that Python 3.11 and 3.12 are to lose.
        warnings.simplefilter("ignore", DeprecationWarning)
        plugin = apprise.Apprise.instantiate(url, asset=asset)
    if not isinstance(plugin, NotifyBase):
        raise SettingsError(f"{whose} is no address that Apprise {apprise.__version__} knows; its documentation lists them by service")
    return plugin


class _Receiver:
    def __init__(self, channel: str, plugin: NotifyBase, allow: Sequence[str]) -> None:
        self._channel = channel
        self._plugin = plugin
        named = [host for name in ("host", "smtp_host") if (host := getattr(plugin, name, None))]
        self._guard = Guard(allow, named)
        # What is too long for one message is sent in several, unless the address says otherwise.
        asked = plugin.overflow_mode
        self._overflow = OverflowMode.SPLIT if asked == OverflowMode.UPSTREAM else asked
        self._told: OrderedDict[str, None] = OrderedDict()
        self._busy = threading.Lock()

    async def tell(self, notifications: Sequence[Notification], image: bytes | None) -> None:
        """Tell what this receiver has not been told. Raises DeliveryError, DeliveryRefused."""
        new = [notification for notification in notifications if notification.key not in self._told]
        if not new:
            return
        if not self._busy.acquire(blocking=False):
            raise DeliveryError(self._channel, f"{self._plugin.service_name} has not answered for more than {TIMEOUT_SECONDS:g} s")
        sending = _in_thread(lambda: self._send_and_remember(new, image))
        try:
            await asyncio.wait_for(sending, TIMEOUT_SECONDS)
        except asyncio.TimeoutError:
            raise DeliveryError(self._channel, f"{self._plugin.service_name} did not answer within {TIMEOUT_SECONDS:g} s") from None

    def _send_and_remember(self, notifications: Sequence[Notification], image: bytes | None) -> None:
        try:
            self._send(notifications, image)
            self._told.update(dict.fromkeys(notification.key for notification in notifications))
            while len(self._told) > REMEMBERED_MAX:
                self._told.popitem(last=False)
        finally:
            self._busy.release()

    def _send(self, notifications: Sequence[Notification], image: bytes | None) -> None:
        format_ = format_of(self._plugin)
        title, text = together(notifications)
        with guarded(self._guard) as watch, _Complaints() as complaints:
            taken = self._plugin.notify(
                title=self._title(title, format_),
                body=escaped(self._unmentioned(text), format_),
                notify_type=_type(notifications),
                body_format=format_,
                overflow=self._overflow,
                attach=_attached(image) if image and self._plugin.attachment_support else None,
            )
        if not taken and watch.refused is not None:
            raise DeliveryRefused(self._channel, str(watch.refused))
        if not taken:
            raise DeliveryError(self._channel, f"{self._plugin.service_name} did not take it ({complaints.last or 'no reason given'})")

    def _title(self, title: str, format_: NotifyFormat) -> str:
        """Escaped where it is read as the text is: at the head of it, or by those who read Markdown everywhere."""
        title = self._unmentioned(title)
        as_text = self._plugin.title_maxlen <= 0 or type(self._plugin).__name__ in ALWAYS_MARKDOWN
        return escaped(title, format_) if as_text else title

    def _unmentioned(self, text: str) -> str:
        return text if type(self._plugin).__name__ in MENTIONS_NOBODY else unmentioned(text)


def format_of(plugin: NotifyBase) -> NotifyFormat:
    """How a receiver reads what it is sent: plain if it can, but for those that read Markdown all the same."""
    if type(plugin).__name__ in ALWAYS_MARKDOWN:
        return NotifyFormat.MARKDOWN
    return plugin.resolve_format(NotifyFormat.TEXT)


def escaped(text: str, format_: NotifyFormat) -> str:
    """Text as it has to be written for a format, so that it is read as it is."""
    if format_ == NotifyFormat.HTML:
        return html.escape(text).replace("\n", "<br/>\n")
    if format_ != NotifyFormat.MARKDOWN:
        return text
    # Two spaces at the end of a line, or Markdown joins it with the next. Addresses stay, or they could not be followed.
    return "  \n".join(_markdown(line) for line in text.split("\n"))


def _markdown(line: str) -> str:
    parts, at = [], 0
    for address in URL.finditer(line):
        parts += [line[at : address.start()].translate(PUNCTUATION), address[0]]
        at = address.end()
    found = "".join([*parts, line[at:].translate(PUNCTUATION)])
    return re.sub(r"^(\s*\d+)([.)])", r"\1\\\2", found)


def unmentioned(text: str) -> str:
    """Text that calls nobody: @everyone, <!channel>, <@U123>."""
    return re.sub(r"(?<![\w/.])@(?=\S)|<(?=[!@#])", lambda mark: mark[0] + ZERO_WIDTH_SPACE, text)


def _type(notifications: Sequence[Notification]) -> NotifyType:
    return NotifyType.FAILURE if any(n.status == "firing" for n in notifications) else NotifyType.SUCCESS


def _attached(image: bytes) -> AppriseAttachment:
    attachment = AppriseAttachment()
    attachment.add(AttachMemory(content=image, name="rate.png", mimetype="image/png"))  # type: ignore[no-untyped-call] # it has no types
    return attachment


class _Complaints(logging.Handler):
    """What Apprise warns of in this thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.last = record.getMessage()[:200]

    def __enter__(self) -> _Complaints:
        logging.getLogger("apprise").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("apprise").removeHandler(self)


def _in_thread(work: Callable[[], None]) -> asyncio.Future[None]:
    """Do work in a thread that nobody has to wait for at the end of the process, as a pool's would be."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def finish(error: Exception | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        failed: Exception | None = None
        try:
            work()
        except Exception as error:
            failed = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(finish, failed)

    threading.Thread(target=run, name="apprise", daemon=True).start()
    return done
