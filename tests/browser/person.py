"""People at a browser window: what they do there, and what they see."""

import asyncio
import re
import secrets
from pathlib import Path
from typing import Any, Literal

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, expect

from infra.local.stack import Stack
from infra.local.supervisor import Process
from tests.support.waiting import PATIENCE, eventually

#: Milliseconds that a person waits for something on the page.
GLANCE = PATIENCE * 1000

#: What the console may say: connections fail where tests break them.
EXPECTED_COMPLAINTS = re.compile(r"WebSocket connection to|Failed to load resource|ERR_INTERNET_DISCONNECTED")

_BODIES = "rows => rows.map(row => row.querySelector('.markdown').innerText.trim())"

#: Notes in every frame what number, if any, stands on the open conversation's row and at its end of the page.
_WATCH_BADGE = """() => {
  window.badgesSeen = [];
  window.framesSeen = 0;
  const look = () => {
    window.framesSeen += 1;
    const badge = document.querySelector('[aria-current] [data-unread]');
    if (badge) window.badgesSeen.push(badge.textContent);
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}"""


class Person:
    """Someone with a window of their own."""

    def __init__(self, name: str, page: Page, address: str) -> None:
        self.name = name
        self.page = page
        self.address = address

    @property
    def user_id(self) -> str:
        """The id that the development sign-in makes of the name."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")

    # --- Doing --------------------------------------------------------------------------------------------

    async def sign_in(self) -> "Person":
        """Open the page and pick the name; returns when the conversations are there."""
        await self.page.goto(self.address)
        await self.page.get_by_label("What should people call you?").fill(self.name)
        await self.page.get_by_role("button", name="Start chatting").click()
        await self.until_connected()
        return self

    async def until_connected(self) -> None:
        """Wait until the first picture of the conversations was taken."""
        found = self.page.get_by_role("navigation", name="Conversations").or_(
            self.page.get_by_role("heading", name="No conversations yet")
        )
        await expect(found).to_be_visible(timeout=GLANCE)
        await self.until_calm()

    async def until_calm(self) -> None:
        """Wait until nothing is said about the connection."""
        await expect(self.page.locator(".connection__bar")).to_have_count(0, timeout=GLANCE)

    async def start_with(self, other: "Person | str") -> None:
        """Find someone by name and open a conversation with them."""
        name = other if isinstance(other, str) else other.name
        search = self.page.get_by_label("Find people")
        await search.fill(name)
        await self.page.locator("button[data-person]", has_text=name).click(timeout=GLANCE)
        await expect(self.composer).to_be_visible(timeout=GLANCE)
        await expect(self.page.get_by_role("heading", level=2, name=name)).to_be_visible(timeout=GLANCE)

    async def open(self, other: "Person | str") -> None:
        """Open a conversation from the list and wait for its messages."""
        await self.row(other).click(timeout=GLANCE)
        await expect(self.log).to_have_attribute("aria-busy", "false", timeout=GLANCE)

    async def say(self, text: str) -> None:
        """Write into the open conversation and press Enter."""
        await self.composer.fill(text)
        await self.composer.press("Enter")

    async def look_away(self) -> None:
        """The window loses the focus. Headless pages always believe they have it, so it is said for them."""
        await self.page.evaluate("document.hasFocus = () => false; window.dispatchEvent(new Event('blur'))")

    async def look_back(self) -> None:
        """And gets it again."""
        await self.page.evaluate("delete document.hasFocus; window.dispatchEvent(new Event('focus'))")

    async def picture(self, path: Path) -> None:
        """Take a screenshot, with every transition at its end."""
        await self.page.evaluate("document.fonts.ready.then(() => undefined)")
        await self.page.screenshot(path=path, animations="disabled")

    async def scheme(self, scheme: Literal["light", "dark"]) -> None:
        """Prefer light or dark."""
        await self.page.emulate_media(color_scheme=scheme)

    # --- Seeing -------------------------------------------------------------------------------------------

    @property
    def composer(self) -> Locator:
        """The field that messages are written in."""
        return self.page.get_by_role("textbox", name=re.compile("^Message "))

    @property
    def log(self) -> Locator:
        """The open conversation's messages."""
        return self.page.get_by_role("log")

    @property
    def messages(self) -> Locator:
        """The messages of the open conversation, in order."""
        return self.log.get_by_role("article")

    def row(self, other: "Person | str") -> Locator:
        """A conversation's row in the list."""
        name = other if isinstance(other, str) else other.name
        return self.page.locator("button[data-conversation]", has_text=name)

    def badge(self, other: "Person | str") -> Locator:
        """The unread number on a row."""
        return self.row(other).locator("[data-unread]")

    async def bodies(self) -> list[str]:
        """The texts of the messages that the page holds, in order."""
        found: list[str] = await self.messages.evaluate_all(_BODIES)
        return found

    async def sees(self, *bodies: str, within: float = PATIENCE) -> None:
        """Wait until the conversation ends in exactly these messages, all of them taken by the server."""

        async def seen() -> bool:
            end = (await self.bodies())[-len(bodies) :]
            assert end == list(bodies), end
            return await self.page.locator(".message__mark--pending").count() == 0

        await eventually(seen, within=within, sentence=f"{self.name} sees {bodies[-3:]!r} at the end")

    async def watch_badge(self) -> None:
        """Begin to note the open conversation's unread number in every frame."""
        await self.page.evaluate(_WATCH_BADGE)

    async def badges_seen(self) -> tuple[list[str], int]:
        """The numbers noted, and in how many frames was looked."""
        badges: list[str] = await self.page.evaluate("window.badgesSeen")
        frames: int = await self.page.evaluate("window.framesSeen")
        return badges, frames

    async def violations(self, axe: str) -> list[str]:
        """What axe finds wrong with the page as it is."""
        await self.page.evaluate(axe)
        results: Any = await self.page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
        found = []
        for violation in results["violations"]:
            where = [node["html"][:200] for node in violation["nodes"]][:3]
            found.append(f"{violation['id']}: {violation['help']} {where}")
        return found


class Cast:
    """Makes people whom no other test knows, each with a browser context of their own."""

    def __init__(self, browser: Browser, stack: Stack) -> None:
        self.browser = browser
        self.stack = stack
        self.complaints: list[str] = []
        self._contexts: list[BrowserContext] = []

    async def person(
        self,
        first_name: str,
        edge: int | Process = 0,
        *,
        width: int = 1280,
        height: int = 820,
        scheme: Literal["light", "dark"] = "light",
        touch: bool = False,
        name: str | None = None,
    ) -> Person:
        """Someone with a window, not signed in yet, who goes to this edge first and to the others when it fails."""
        context = await self.browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, locale="en-GB", has_touch=touch
        )
        self._contexts.append(context)
        page = await context.new_page()
        page.on("pageerror", lambda error: self.complaints.append(f"{first_name}: {error}"))
        page.on("console", lambda message: self._hear(first_name, message))
        first = edge if isinstance(edge, Process) else self.stack.edges[edge]
        others = [url for url in self.stack.edge_urls if url != first.url]
        address = f"{first.url}/?edge={','.join([first.url, *others])}"
        return Person(name or f"{first_name} {secrets.token_hex(3)}", page, address)

    async def arrive(self, *first_names: str) -> list[Person]:
        """Sign people in, on alternating edges."""
        people = [await self.person(name, index % 2) for index, name in enumerate(first_names)]
        return list(await asyncio.gather(*(person.sign_in() for person in people)))

    async def leave(self) -> None:
        """Close every window."""
        for context in self._contexts:
            await context.close()

    def _hear(self, first_name: str, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not EXPECTED_COMPLAINTS.search(message.text):
            self.complaints.append(f"{first_name}: {message.text}")
