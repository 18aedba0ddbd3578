"""The report in a real browser: it opens in silence, its films move together, and it fits any screen."""

import base64
import importlib.util
import io
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manifests.tables import Tables
from pipeline.config import load
from pipeline.report import write_report
from tests import pack_samples
from tests.clips import stamp_of
from tests.pipeline.small_pairs import put
from tests.pipeline.test_report import KEEP, training

CHROMIUM = Path("/usr/bin/chromium")
SWITCHES = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
FRAMES = 29
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not there: apt-get install chromium"),
    pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="playwright is not installed"),
]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """A page with a film in every pair, long names, a training, and something left to do."""
    folder = tmp_path_factory.mktemp("report")
    small = pack_samples.make(folder, sources=2, characters=3, frames=(FRAMES,), keep=KEEP)
    (row,) = Tables(small.root).read("characters", where=f"id = '{small.characters[0]}'").to_pylist()
    put(
        small.root,
        "characters",
        [row | {"identity": "a_name_without_a_single_blank_in_it_" * 6, "origins": ["x" * 300]}],
    )
    path = small.write(folder / ("a_long_name_" * 12 + ".yaml"))
    return Path(write_report(load(path), str(path), None, [str(training(folder / "trained"))])["page"])


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=str(CHROMIUM), args=list(SWITCHES))
        yield started
        started.close()


@pytest.fixture
def opened(browser, page_file):
    """Open the page at a width, in a colour scheme; what the browser complains of or asks for ends the test."""
    contexts, heard = [], []

    def open_page(width=1440, scheme="light", script=True):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=script, offline=True
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: heard.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("request", lambda asked: asked.url.startswith(("data:", "file:")) or heard.append(asked.url))
        page.on("requestfailed", lambda asked: heard.append(f"failed: {asked.url[:80]}"))
        page.goto(page_file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert heard == []


TIMES = "player => [...player.querySelectorAll('video')].map(film => film.currentTime)"
READY = "player => [...player.querySelectorAll('video')].every(film => film.readyState >= 2 && !film.seeking)"


def player_of(page, number=0):
    """Return a player whose films are loaded."""
    player = page.locator(".player").nth(number)
    player.scroll_into_view_if_needed()
    handle = player.element_handle()
    page.wait_for_function(READY, arg=handle)
    return player, handle


def test_it_opens_without_a_word_and_asks_for_nothing(opened):
    page = opened()
    for number in range(page.locator(".player").count()):
        player_of(page, number)
    files = page.evaluate("performance.getEntriesByType('resource').map(entry => entry.name.slice(0, 40))")
    assert [name for name in files if not name.startswith("data:")] == []


def test_films_of_a_pair_play_in_step_and_go_round(opened):
    page = opened()
    player, handle = player_of(page)
    frame_s = 1 / pack_samples.FPS
    player.get_by_role("button").click()
    seen, apart = [], []
    for _ in range(45):  # about four seconds, of a film of 2.9
        page.wait_for_timeout(90)
        times = handle.evaluate(TIMES)
        seen.append(times[0])
        apart.append(max(times) - min(times))
    assert max(seen) > 2.0
    assert sum(now < before for before, now in pairwise(seen)) >= 1  # it began again
    assert sorted(apart)[len(apart) * 9 // 10] <= frame_s
    assert player.get_by_role("button").inner_text() == "Pause"
    player.get_by_role("button").click()
    page.wait_for_function(READY, arg=handle)
    times = handle.evaluate(TIMES)
    assert max(times) - min(times) <= frame_s / 2
    page.wait_for_timeout(400)
    assert handle.evaluate(TIMES) == times  # it stands


def test_one_slider_moves_all_films_to_the_same_frame_also_by_keys(opened):
    page = opened()
    player, handle = player_of(page, 1)
    slider = player.get_by_role("slider")
    slider.fill("17")
    page.wait_for_function(READY, arg=handle)
    assert [int(time * pack_samples.FPS) for time in handle.evaluate(TIMES)] == [17, 17, 17]
    assert "frame 18 of 29" in player.locator("output").inner_text()
    slider.press("ArrowRight")
    page.wait_for_function(READY, arg=handle)
    assert [int(time * pack_samples.FPS) for time in handle.evaluate(TIMES)] == [18, 18, 18]
    slider.press("Home")
    page.wait_for_function(READY, arg=handle)
    assert [int(time * pack_samples.FPS) for time in handle.evaluate(TIMES)] == [0, 0, 0]


def test_the_frame_that_is_shown_is_the_frame_that_is_named(opened):
    """Every frame of the source carries its number as a row of squares (tests/clips.py): the screen is asked."""
    page = opened()
    player, handle = player_of(page)
    film = player.locator("video").first
    for number in (0, 11, 28):
        player.get_by_role("slider").fill(str(number))
        page.wait_for_function(READY, arg=handle)
        page.wait_for_timeout(150)
        data = film.evaluate(
            "film => { const page = document.createElement('canvas'); page.width = film.videoWidth; "
            "page.height = film.videoHeight; page.getContext('2d').drawImage(film, 0, 0); return page.toDataURL() }"
        )
        with Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))) as picture:
            assert stamp_of(np.asarray(picture.convert("RGB"))) == number + 2  # the segment begins two frames late


def test_playing_one_pair_halts_the_other(opened):
    page = opened()
    first, _ = player_of(page, 0)
    first.get_by_role("button").click()
    second, _ = player_of(page, 1)
    second.get_by_role("button").click()
    assert first.get_by_role("button").inner_text() == "Play"
    assert second.get_by_role("button").inner_text() == "Pause"


@pytest.mark.parametrize("width", [320, 390, 768, 1000, 1440])
def test_nothing_is_wider_than_the_screen(opened, width):
    page = opened(width)
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    wide = page.evaluate(
        "[...document.querySelectorAll('body *')].filter(each => !each.closest('nav') && "
        "each.getBoundingClientRect().right > innerWidth + 0.5).map(each => each.outerHTML.slice(0, 80))"
    )
    assert wide == []
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_everything_that_moves_is_reached_by_keys_and_has_a_name(opened):
    page = opened()
    names = page.evaluate(
        "[...document.querySelectorAll('button, input, a, summary')].map(each => each.tabIndex >= 0 && "
        "(each.getAttribute('aria-label') || each.textContent.trim()))"
    )
    assert names
    assert all(names)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_it_stands_on(opened, scheme):
    """WCAG 2.2, 1.4.3: a contrast of 4.5 at least, reckoned from the colours that the browser shows."""
    page = opened(1440, scheme)
    low = json.loads(page.evaluate(CONTRAST))
    assert low == []


CONTRAST = r"""
(() => {
  const parse = (text) => text.match(/[\d.]+/g).map(Number);
  const linear = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const back = (each) => {
    for (let at = each; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const each of document.querySelectorAll('body *')) {
    if (![...each.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())) continue;
    if (each.closest('script, style, noscript, svg, option') || each.closest('td.zero')) continue;
    const ink = light(parse(getComputedStyle(each).color)), under = light(back(each));
    const ratio = (Math.max(ink, under) + 0.05) / (Math.min(ink, under) + 0.05);
    if (ratio < 4.5) found.push([each.className, each.textContent.trim().slice(0, 30), ratio]);
  }
  return JSON.stringify(found);
})()
"""
