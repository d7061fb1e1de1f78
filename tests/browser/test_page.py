"""The page is safe, can be used by everyone, and needs no mouse."""

from pathlib import Path

import pytest
from playwright.async_api import Request, expect

from infra.local.paths import ROOT
from tests.browser.person import GLANCE, Cast
from tests.support.people import People

pytestmark = pytest.mark.asyncio(loop_scope="session")

AXE = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"

HOSTILE = [
    "<script>window.hacked = true</script>",
    "<img src=x onerror='window.hacked = true'>",
    "![beacon](http://evil.example/pixel.png)",
    "[click me](javascript:window.hacked=true)",
    "[and me](JAVASCRIPT:window.hacked=true) <javascript:window.hacked=true>",
    "<a href='javascript:window.hacked=true'>and me</a>",
    "<iframe src='http://evil.example/'></iframe>",
    "<svg><animate onbegin='window.hacked = true' attributeName=x></svg>",
    "<style>body { display: none }</style><link rel=stylesheet href='http://evil.example/x.css'>",
    "```html\n<img src=http://evil.example/code.png onerror='window.hacked = true'>\n```",
    "[ref]\n\n[ref]: javascript:window.hacked=true",
    "> " * 60 + "deep",
    "[" * 3000,
    "*" * 3999 + "a",
    "| a | b |\n|---|---|\n| <img src=http://evil.example/cell.png> | [x](data:text/html,<script>1</script>) |",
]


async def test_hostile_markdown_stays_text(cast: Cast, people: People) -> None:
    (ada,) = await cast.arrive("Ada")
    requested: list[str] = []

    def note(request: Request) -> None:
        if "evil" in request.url:
            requested.append(request.url)

    ada.page.on("request", note)
    mallory = await people.connect(people.name("mallory"), 1, name="<img src=http://evil.example/name.png>")
    conversation = await people.start(mallory, ada.user_id, title=None)
    for body in HOSTILE:
        await people.say(mallory, conversation, body)
    await ada.open("<img src=http://evil.example/name.png>")
    await expect(ada.messages).to_have_count(len(HOSTILE), timeout=GLANCE)
    await expect(ada.page.locator(".hljs-tag").first).to_be_visible(timeout=GLANCE)
    for link in await ada.log.get_by_role("link").all():
        assert str(await link.get_attribute("href")).startswith(("http://", "https://", "mailto:"))
    # Then nothing ran, nothing was fetched, and nothing of it is an element
    assert await ada.page.evaluate("window.hacked") is None
    assert requested == []
    for tag in ("script", "img", "iframe", "style", "link", "animate"):
        assert await ada.log.locator(tag).count() == 0, tag


async def test_axe_finds_nothing_in_light_and_dark(cast: Cast, people: People) -> None:
    # Given the page before and after signing in
    axe = AXE.read_text()
    ada = await cast.person("Ada", 0)
    await ada.page.goto(ada.address)
    found = await ada.violations(axe)
    await ada.sign_in()
    found += await ada.violations(axe)

    # When it shows all that it can show
    bob = await people.connect(people.name("bob"), 1)
    conversation = await people.start(bob, ada.user_id)
    await people.say(
        bob, conversation, "# Title\n\nText with `code` and a [link](https://example.org).\n\n```python\nreturn 1\n```"
    )
    await people.say(bob, conversation, "| a | b |\n|---|---|\n| 1 | 2 |\n\n- [ ] to do\n- [x] done")
    zoe = await people.connect(people.name("zoe"), 0)
    await people.say(zoe, await people.start(zoe, ada.user_id), "unread")
    await ada.open("bob")
    await ada.say("an *answer*")
    await ada.sees("an answer")
    await expect(ada.badge("zoe")).to_be_visible(timeout=GLANCE)

    # Then nothing is wrong with it in either scheme, wide or narrow
    for scheme in ("light", "dark"):
        await ada.scheme("dark" if scheme == "dark" else "light")
        await ada.page.wait_for_timeout(300)  # colours change gradually
        found += await ada.violations(axe)
        await ada.page.get_by_label("Find people").click()
        await expect(ada.page.locator("button[data-person]").first).to_be_visible(timeout=GLANCE)
        await ada.page.locator(".person__add").first.click()
        await ada.page.wait_for_timeout(300)
        found += await ada.violations(axe)
        await ada.page.get_by_role("button", name="Close search").click()
    await ada.page.set_viewport_size({"width": 390, "height": 780})
    found += await ada.violations(axe)
    assert found == []


async def test_the_keyboard_alone_suffices(cast: Cast) -> None:
    # Given two people to write to
    bob, cleo = await cast.arrive("Bob", "Cleo")
    ada = await cast.person("Ada", 0)
    keyboard = ada.page.keyboard
    # When Ada signs in
    await ada.page.goto(ada.address)
    await keyboard.type(ada.name)
    await keyboard.press("Enter")
    await ada.until_connected()
    # And finds Bob, and writes to him
    await keyboard.press("Control+k")
    await keyboard.type(bob.name)
    await expect(ada.page.locator("button[data-person]")).to_have_count(1, timeout=GLANCE)
    await keyboard.press("ArrowDown")
    await keyboard.press("Enter")
    await expect(ada.composer).to_be_focused(timeout=GLANCE)
    await keyboard.type("first")
    await keyboard.press("Shift+Enter")
    await keyboard.type("second line")
    await keyboard.press("Enter")
    await ada.sees("first\nsecond line")
    await expect(ada.composer).to_be_focused()
    # And starts another with Cleo, and goes back to Bob by the list
    await keyboard.press("Control+k")
    await keyboard.type(cleo.name)
    await expect(ada.page.locator("button[data-person]", has_text=cleo.name)).to_be_visible(timeout=GLANCE)
    await expect(ada.page.locator("button[data-person]")).to_have_count(1, timeout=GLANCE)
    await keyboard.press("ArrowDown")
    await keyboard.press("Enter")
    await expect(ada.page.get_by_role("heading", level=2, name=cleo.name)).to_be_visible(timeout=GLANCE)
    await keyboard.press("Control+k")
    await keyboard.press("Escape")
    await ada.row(bob).focus()
    await keyboard.press("Enter")
    # Then she is where she was, ready to write
    await ada.sees("first\nsecond line")
    await expect(ada.composer).to_be_focused()


async def test_a_phone_shows_one_column(cast: Cast, people: People, screenshots: Path) -> None:
    # Given a phone, and a message
    ada = await cast.person("Ada", 0, width=390, height=780, touch=True)
    await ada.sign_in()
    bob = await people.connect(people.name("bob"), 1, name="Bob Kahn")
    await people.say(bob, await people.start(bob, ada.user_id), "Are you on the train already?")
    await expect(ada.row("Bob Kahn")).to_be_visible(timeout=GLANCE)
    await expect(ada.page.get_by_role("main")).to_be_hidden()

    # When the conversation is opened, then it has the screen to itself
    await ada.open("Bob Kahn")
    await expect(ada.page.get_by_role("navigation")).to_be_hidden()
    assert await ada.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # And the page's button leads back, and the browser's leads there again
    await ada.page.get_by_role("button", name="Back to conversations").click()
    await expect(ada.row("Bob Kahn")).to_be_visible()
    await ada.page.go_back()
    await ada.sees("Are you on the train already?")
