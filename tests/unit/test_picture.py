"""The picture that goes with a notification."""

from __future__ import annotations

import io

import pytest
from PIL import Image, ImageChops

from alerting.message import Notification
from alerting.picture import picture
from schemas.duration import MICROS
from tests.parts.alerts import NIGHT_US, notification

RED, BLUE = (201, 48, 44), (11, 98, 196)


def told(*rates: float, threshold: float | None = 0.4, step: int = 60) -> Notification:
    first = NIGHT_US - (len(rates) - 1) * step * MICROS
    series = tuple((first + n * step * MICROS, rate) for n, rate in enumerate(rates))
    return notification().model_copy(update={"series": series, "series_seconds": 300, "threshold": threshold})


def drawn(said: Notification) -> Image.Image:
    png = picture(said)
    assert png is not None
    return Image.open(io.BytesIO(png)).convert("RGB")


def rows(image: Image.Image, colour: tuple[int, int, int]) -> list[int]:
    """The rows of which a good part is of a colour."""
    mask = Image.new("L", image.size, 255)
    for band, wanted in zip(image.split(), colour):
        near = band.point([255 if abs(level - wanted) < 40 else 0 for level in range(256)])
        mask = ImageChops.darker(mask, near)
    shares = mask.resize((1, image.height), Image.Resampling.BOX).tobytes()
    return [y for y, share in enumerate(shares) if share > 30]


def test_the_rate_and_its_threshold_are_where_the_axis_says() -> None:
    image = drawn(told(*[0.2] * 30))
    bottom, top = 400 - 36, 52  # 0% and 50%
    for level, colour in ((0.4, RED), (0.2, BLUE)):
        found = rows(image, colour)
        assert sum(found) / len(found) == pytest.approx(bottom - (bottom - top) * level / 0.5, abs=1.5)


def test_without_a_threshold_there_is_no_line_for_it() -> None:
    assert rows(drawn(told(*[0.2] * 30, threshold=None)), RED) == []


@pytest.mark.parametrize("rates", [(0.0, 0.0, 0.0), (1.0, 0.5, 0.0), (0.0001, 0.0002, 0.0001), (3.5, 2.0, 0.1)])
def test_any_rates_can_be_drawn(rates: tuple[float, ...]) -> None:
    for threshold in (None, 0.4):
        assert drawn(told(*rates, threshold=threshold)).size == (800, 400)
    assert drawn(told(*rates, step=86_400)).size == (800, 400)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_points_are_no_picture(count: int) -> None:
    assert picture(told(*[0.2] * count)) is None


def test_a_name_in_another_script_does_not_spoil_it() -> None:
    assert drawn(told(0.1, 0.2, 0.3).model_copy(update={"funnel": "購入", "stage": "支払い"})).size == (800, 400)


def test_it_is_small_enough_for_any_mail() -> None:
    assert len(picture(told(*[0.1 + n % 7 / 20 for n in range(60)])) or b"") < 40_000
