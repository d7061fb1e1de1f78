"""Long conversations stay smooth: 2,000 messages, and 50 new ones a second."""

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from infra.local.stack import NO_RATE_LIMITS, Stack
from infra.local.supervisor import Process
from tests.browser.person import GLANCE, Cast, Person
from tests.support.extra_processes import extra_edge
from tests.support.people import People
from tests.support.socketio_client import Client
from tests.support.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]

COUNT = 2000
SENDERS = 4
#: Messages that a sender has under way at once while the conversation is made.
TOGETHER = 20
#: Messages a second while Ada types.
RATE = 50
#: Pixels that a message may move when older ones are put above it: rounding, not a jump.
JUMP = 2

#: Scrolls up a wheel's notch per frame until the first message, noting the length of frames and every jump: a message
#: in view must move by what was scrolled, whatever is loaded above it.
_SCROLL_UP = """async () => {
  const box = document.querySelector("[role=log]");
  const frames = [];
  const jumps = [];
  const frame = () => new Promise(requestAnimationFrame);
  const visible = () => {
    const { top, bottom } = box.getBoundingClientRect();
    const rows = [...box.querySelectorAll("[role=article]")].slice(1);
    const inside = (bounds) => bounds.top > top + 100 && bounds.bottom < bottom;
    return rows.find((row) => inside(row.getBoundingClientRect()));
  };
  let before = await frame();
  let still = 0;
  while (still < 120) {
    const row = visible();
    const from = row?.getBoundingClientRect().top ?? 0;
    const at = box.scrollTop;
    box.scrollTop = Math.max(0, at - 240);
    const step = at - box.scrollTop;
    const now = await frame();
    frames.push(now - before);
    before = now;
    const moved = (row?.getBoundingClientRect().top ?? 0) - from - step;
    if (row?.isConnected && Math.abs(moved) > 2) jumps.push(moved);
    const loading = box.querySelector("[aria-label='Loading earlier messages']");
    still = step !== 0 ? 0 : still + (loading ? 0.2 : 60);
  }
  return { frames, jumps, rows: box.querySelectorAll("[role=article]").length };
}"""

#: Notes when a message's push reaches the page and when its row has been painted.
_WATCH_RENDERING = """() => {
  window.rendered = [];
  const Native = window.WebSocket;
  const arrivals = new Map();
  window.WebSocket = class extends Native {
    constructor(...parameters) {
      super(...parameters);
      this.addEventListener("message", ({ data }) => {
        const body = typeof data === "string" && data.includes('"new_message"') && /"body":"(probe \\d+)"/.exec(data);
        if (body) arrivals.set(body[1], performance.now());
      });
    }
  };
  addEventListener("DOMContentLoaded", () => {
    new MutationObserver(() => {
      for (const [body, at] of arrivals) {
        const rows = document.querySelectorAll("[role=article]");
        if (!rows[rows.length - 1]?.textContent.includes(body)) continue;
        arrivals.delete(body);
        const { port1, port2 } = new MessageChannel();
        port1.onmessage = () => window.rendered.push(performance.now() - at);
        requestAnimationFrame(() => port2.postMessage(0));
      }
    }).observe(document.body, { childList: true, subtree: true });
  });
}"""

_WATCH_KEYS = """() => {
  window.keys = [];
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (entry.name === "keydown") window.keys.push(entry.duration);
  }).observe({ type: "event", durationThreshold: 16 });
}"""


@pytest_asyncio.fixture(loop_scope="session")
async def fast_edge(stack: Stack) -> AsyncIterator[Process]:
    """An edge that lets anybody write as fast as they can."""
    async with extra_edge(stack, NO_RATE_LIMITS) as edge:
        yield edge


async def test_two_thousand_messages_scroll_without_a_jump(cast: Cast, people: People, fast_edge: Process) -> None:
    # Given a group with 2,000 messages
    ada, conversation, senders = await long_conversation(cast, people, fast_edge)
    bob = senders[0]
    # When Ada scrolls up to the beginning
    scrolled = await ada.page.evaluate(_SCROLL_UP)
    # Then all messages are there, in order, and nothing has jumped on the way
    assert scrolled["rows"] == COUNT
    assert scrolled["jumps"] == []
    page = await bob.call("list_messages", conversation_id=conversation, after_seq=0, limit=100)
    first = [int(body.split()[1]) for body in (await ada.bodies())[:100]]
    assert first == [int(message["body"].split()[1]) for message in page["messages"]]
    report("frame while scrolling through 2,000 messages", scrolled["frames"])

    # and a new message is drawn at once, at the end as well as anywhere
    await ada.page.get_by_role("button", name="Jump to latest messages").click()
    for number in range(20):
        await people.say(bob, conversation, f"probe {number}")
        await eventually(partial(_numbers, ada.page, "rendered", number + 1), sentence=f"probe {number} was drawn")
    report("push to painted, with 2,000 messages loaded", await _numbers(ada.page, "rendered"))

    # and typing stays smooth while 50 messages a second arrive
    await ada.page.evaluate(_WATCH_KEYS)
    talking = asyncio.create_task(chatter(people, senders, conversation, seconds=4))
    text = "the quick brown fox jumps over the lazy dog"
    await ada.composer.press_sequentially(text, delay=60)
    await expect(ada.composer).to_have_value(text)
    sent = await talking
    report(
        f"keys slower than 16 ms of {len(text)}, with {sent} messages arriving in 4 s", await _numbers(ada.page, "keys")
    )
    await ada.page.get_by_text("chatter", exact=False).nth(sent - 1).wait_for()


async def test_the_first_unread_message_is_found_however_far_up(cast: Cast, people: People) -> None:
    # Given more unread messages than a page of history has
    (ada,) = await cast.arrive("Ada")
    bob = await people.connect(people.name("bob"), 1)
    conversation = await people.start(bob, ada.user_id)
    for count in range(1, 181):
        await people.say(bob, conversation, str(count))
    await expect(ada.badge("bob")).to_have_attribute("data-unread", "180", timeout=GLANCE)
    await ada.open("bob")

    # When Ada asks for the first of them
    await ada.page.get_by_role("button", name="Jump to first unread message").click()

    # Then she sees it, with the line above it
    await expect(ada.page.get_by_role("separator", name="New messages")).to_be_in_viewport(timeout=GLANCE)
    await expect(ada.messages.first).to_be_in_viewport()
    assert (await ada.bodies())[0] == "1"


async def long_conversation(cast: Cast, people: People, edge: Process) -> tuple[Person, str, list[Client]]:
    """A window on a group in which several people have said 2,000 things."""
    ada = await cast.person("Ada", 0)
    await ada.page.add_init_script(f"({_WATCH_RENDERING})()")
    await ada.sign_in()
    senders = [await people.connect(people.name(f"sender{index}"), edge) for index in range(SENDERS)]
    conversation = await people.start(senders[0], *senders[1:], ada.user_id, title="A long story")

    async def tell(sender: Client, numbers: range) -> None:
        for first in range(0, len(numbers), TOGETHER):
            saying = [people.say(sender, conversation, body_of(number)) for number in numbers[first : first + TOGETHER]]
            await asyncio.gather(*saying)

    # The others see the conversation once it has a message.
    await tell(senders[0], range(1, 2))
    await asyncio.gather(*(tell(by, range(first, COUNT + 1, SENDERS)) for first, by in enumerate(senders, start=2)))
    await ada.open("A long story")
    return ada, conversation, senders


def body_of(number: int) -> str:
    """A short text; each fiftieth has a block of code."""
    code = "\n\n```js\nconst n = 1;\n```" if number % 50 == 0 else ""
    return f"number {number} *of many*{code}"


async def chatter(people: People, senders: list[Client], conversation: str, seconds: float) -> int:
    """Send 50 messages a second, by turns; return how many were sent."""
    begin = time.monotonic()
    sending: list[asyncio.Task[Any]] = []
    while (passed := time.monotonic() - begin) < seconds:
        while len(sending) < passed * RATE:
            by = senders[len(sending) % len(senders)]
            sending.append(asyncio.create_task(people.say(by, conversation, f"chatter {len(sending)}")))
        await asyncio.sleep(0.01)
    await asyncio.gather(*sending)
    return len(sending)


async def _numbers(page: Page, name: str, count: int = 0) -> list[float]:
    found: Any = await page.evaluate(f"window.{name}")
    return list(found) if len(found) >= count else []


def report(what: str, times: list[float]) -> None:
    """Print a distribution; machines differ, so nothing is asserted about it."""
    times = sorted(times) or [0.0]
    middle, late = times[len(times) // 2], times[int(len(times) * 0.95)]
    print(f"\n{what}: {len(times)} measured, median {middle:.1f} ms, p95 {late:.1f} ms, longest {times[-1]:.1f} ms")
