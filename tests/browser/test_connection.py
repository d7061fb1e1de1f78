"""The connection goes and comes back: nothing is lost, nothing comes twice, and the page says what is the matter."""

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import expect

from infra.local.stack import Stack
from tests.browser.person import GLANCE, Cast, Person
from tests.support.people import People
from tests.support.socketio_client import Client
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_chat_goes_on_when_an_edge_is_killed(cast: Cast, stack: Stack) -> None:
    # Given two people on one edge, in the middle of a chat
    ada, bob = await cast.person("Ada", 0), await cast.person("Bob", 0)
    await asyncio.gather(ada.sign_in(), bob.sign_in())
    await ada.start_with(bob)
    await ada.say("0")
    await bob.open(ada)
    await bob.sees("0")

    async def talk(person: Person) -> None:
        for count in range(1, 21):
            await person.say(f"{person.name} {count}")
            await asyncio.sleep(0.15)

    talking = [asyncio.create_task(talk(person)) for person in (ada, bob)]
    await asyncio.sleep(1)
    # When their edge dies
    await stack.kill(stack.edges[0])
    try:
        await asyncio.gather(*talking)
        # Then both hold the same history: all of it, each message once, each one's own in the order written
        expected = {"0", *(f"{person.name} {count}" for person in (ada, bob) for count in range(1, 21))}

        async def complete() -> bool:
            for person in (ada, bob):
                bodies = await person.bodies()
                assert sorted(bodies) == sorted(expected)
                assert await person.page.locator(".message__mark--pending").count() == 0
            return await ada.bodies() == await bob.bodies()

        await eventually(complete, within=40, sentence="both windows show all messages, once, in one order")
        for person in (ada, bob):
            own = [body for body in await ada.bodies() if body.startswith(person.name)]
            assert own == [f"{person.name} {count}" for count in range(1, 21)]
            await person.until_calm()
    finally:
        await stack.restart(stack.edges[0])


async def test_an_edge_that_stops_in_good_order_hands_its_people_over(cast: Cast, stack: Stack) -> None:
    # Given two people on two edges, in a chat
    ada, bob = await cast.person("Ada", 0), await cast.person("Bob", 1)
    await asyncio.gather(ada.sign_in(), bob.sign_in())
    await ada.start_with(bob)
    await ada.say("before")
    await bob.open(ada)
    try:
        # When the edge of one stops
        await stack.terminate(stack.edges[0], 30)

        # Then both go on
        await ada.say("after")
        await bob.sees("before", "after")
        await ada.sees("before", "after")
    finally:
        await stack.restart(stack.edges[0])


async def test_what_is_written_offline_goes_out_when_the_network_returns(
    cast: Cast, people: People, screenshots: Path
) -> None:
    (ada,) = await cast.arrive("Ada")
    bob = await people.connect(people.name("bob"), 1)
    conversation = await people.start(bob, ada.user_id)
    await people.say(bob, conversation, "still there?")
    await ada.open("bob")
    await ada.sees("still there?")
    # Given a device without a network, on which two messages are written while one arrives
    await ada.page.context.set_offline(True)
    await expect(ada.page.locator(".connection__bar")).to_contain_text("offline", timeout=GLANCE)
    await ada.say("one")
    await ada.say("two")
    await people.say(bob, conversation, "hello?")
    await expect(ada.page.locator(".message__mark--pending")).to_have_count(2)
    await ada.picture(screenshots / "offline.png")
    # When the network returns
    await ada.page.context.set_offline(False)
    # Then all is there on both sides, once
    await ada.sees("still there?", "hello?", "one", "two")
    page = await bob.call("list_messages", conversation_id=conversation)
    assert [message["body"] for message in page["messages"]] == ["still there?", "hello?", "one", "two"]


async def test_what_was_not_accepted_survives_a_reload(cast: Cast, people: People, stack: Stack) -> None:
    (ada,) = await cast.arrive("Ada")
    bob = await people.connect(people.name("bob"), 1)
    conversation = await people.start(bob, ada.user_id)
    await people.say(bob, conversation, "first")
    await ada.open("bob")
    await ada.sees("first")
    # Given a message that nobody stores for now
    for worker in stack.workers["persistence"]:
        stack.pause(worker)
    try:
        await ada.say("kept")
        await ada.composer.fill("and a draft")
        await expect(ada.page.locator(".message__mark--pending")).to_have_count(1)
        # When the page is loaded again
        await ada.page.reload()
        await expect(ada.page.locator(".message__mark--pending")).to_have_count(1, timeout=GLANCE)
        await expect(ada.composer).to_have_value("and a draft")
    finally:
        for worker in stack.workers["persistence"]:
            stack.resume(worker)
    # Then it is delivered, once
    await ada.sees("first", "kept")
    page = await bob.call("list_messages", conversation_id=conversation)
    assert [message["body"] for message in page["messages"]] == ["first", "kept"]


async def test_a_refused_message_says_why_and_can_be_edited_and_sent_again(
    cast: Cast, people: People, screenshots: Path
) -> None:
    # Given a message that the server will not take
    (ada,) = await cast.arrive("Ada")
    bob = await people.connect(people.name("bob"), 1)
    await people.say(bob, await people.start(bob, ada.user_id), "go on")
    await ada.open("bob")
    # The page itself doesn't send what is too long, so something that was kept from an earlier visit has to.
    await ada.page.evaluate(
        """([user, conversation]) => localStorage.setItem(`warren.outbox.${user}.kept`, JSON.stringify({
             client_message_id: "kept", conversation_id: conversation, body: "long ".repeat(1000),
             composed_at: new Date().toISOString(), refusal: null }))""",
        [ada.user_id, await ada.row("bob").get_attribute("data-conversation")],
    )

    # When the page sends it
    await ada.page.reload()
    # Then it says why not
    await expect(ada.page.get_by_text("Not sent.")).to_be_visible(timeout=GLANCE)
    await ada.picture(screenshots / "refused.png")

    # And it can be made shorter and sent
    await ada.page.get_by_role("button", name="Edit and send again").click()
    await expect(ada.composer).to_be_focused()
    await expect(ada.page.get_by_text("characters over the limit")).to_be_visible()
    await expect(ada.page.get_by_role("button", name="Send", exact=True)).to_be_disabled()
    await ada.say("short")
    await ada.sees("go on", "short")


async def test_a_slow_network_only_takes_longer(cast: Cast, people: People) -> None:
    (ada,) = await cast.arrive("Ada")
    bob = await people.connect(people.name("bob"), 1)
    conversation = await people.start(bob, ada.user_id)
    await people.say(bob, conversation, "hello")
    # Given a network as on a train
    devtools = await ada.page.context.new_cdp_session(ada.page)
    await devtools.send("Network.enable")
    await devtools.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 600, "downloadThroughput": 30_000, "uploadThroughput": 15_000},
    )
    await ada.page.reload()
    await ada.until_connected()
    await ada.open("bob")
    # When both write
    for count in range(5):
        await ada.say(f"ada {count}")
        await people.say(bob, conversation, f"bob {count}")
    # Then everything is there in the end, in the server's order
    history = await eventually(
        lambda: complete_history(bob, conversation, 11), within=30, sentence="all messages are stored"
    )
    await ada.sees(*history, within=30)


async def test_a_refused_token_ends_the_tries_and_says_so(cast: Cast, stack: Stack, screenshots: Path) -> None:
    # Given a host application that hands over tokens, and one that is no good
    ada = await cast.person("Ada", 0)
    await ada.page.add_init_script("window.WARREN_TOKEN = () => window.token ?? 'no.good.token'")
    await ada.page.goto(ada.address)
    bar = ada.page.locator(".connection__bar")
    await expect(bar).to_contain_text("Not connected.", timeout=GLANCE)
    await ada.picture(screenshots / "refused-connection.png")
    # When it has a better one, and the person tries again
    await ada.page.evaluate("token => { window.token = token }", stack.token(ada.user_id, ada.name))
    await ada.page.get_by_role("button", name="Try again").click()
    await ada.until_connected()


async def complete_history(reader: Client, conversation: str, count: int) -> list[str]:
    """The texts of a conversation, once there are as many as there should be."""
    page = await reader.call("list_messages", conversation_id=conversation)
    bodies = [message["body"] for message in page["messages"]]
    return bodies if len(bodies) == count else []
