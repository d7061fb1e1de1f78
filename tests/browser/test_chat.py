"""People chat: both ways, without ghosts, stale numbers or hijacked screens."""

import re
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.browser.person import GLANCE, Cast
from tests.support.people import People
from tests.support.socketio_client import Client
from tests.support.waiting import eventually

CODE = """Here is the shortest thing that shows it:

```python
async def deliver(frame: Frame, sockets: Sockets) -> int:
    \"\"\"Put a frame on every socket of its users.\"\"\"
    count = 0
    for delivery in frame.pushes:
        for sid in sockets.of(delivery.to):
            if sid != delivery.except_sid:
                await emit(sid, delivery.event)  # overlaps
                count += 1
    return count
```"""

REPLY = """So two frames for one socket overlap when `emit` suspends. What about

1. one lane per socket
2. one lane per edge

> Prefer what can be explained at 3 a.m."""

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_two_people_chat_both_ways_across_two_edges(cast: Cast) -> None:
    # Given two people on different edges
    ada, bob = await cast.arrive("Ada", "Bob")
    await ada.start_with(bob)
    # When they write to each other
    await ada.say("ping")
    await bob.open(ada)
    await bob.say("pong")
    await ada.say("**and** again")
    # Then both see the same, in the same order
    for person in (ada, bob):
        await person.sees("ping", "pong", "and again")
    # and Ada sees that Bob is there, that he has read it, and that he writes
    await expect(ada.page.locator(".pane__title")).to_contain_text("Online")
    await expect(ada.messages.last.get_by_label("Seen")).to_be_visible(timeout=GLANCE)
    await bob.composer.press_sequentially("hm")
    await expect(ada.page.locator(".typing")).to_contain_text("is typing", timeout=GLANCE)


async def test_a_conversation_without_messages_is_no_ghost_at_the_other_end(cast: Cast, people: People) -> None:
    ada, bob = await cast.arrive("Ada", "Bob")
    # Given that Ada has opened a conversation with Bob and written nothing
    await ada.start_with(bob)
    await expect(ada.log).to_contain_text(re.compile("Say hello"))
    # When Bob gets news of another one, which everything before it would have overtaken
    zoe = await people.connect(people.name("zoe"), 0)
    await people.say(zoe, await people.start(zoe, bob.user_id))
    await expect(bob.row("zoe")).to_be_visible(timeout=GLANCE)
    # Then Ada's is not in his list, also not after a reload
    await expect(bob.row(ada)).to_have_count(0)
    await bob.page.reload()
    await expect(bob.row("zoe")).to_be_visible(timeout=GLANCE)
    await expect(bob.row(ada)).to_have_count(0)
    # until she writes
    await ada.say("hello")
    await expect(bob.row(ada)).to_be_visible(timeout=GLANCE)


async def test_unread_numbers_are_right_before_and_after_a_reload(cast: Cast, people: People) -> None:
    (ada,) = await cast.arrive("Ada")
    bob = await people.connect(people.name("bob"), 1)
    conversation = await people.start(bob, ada.user_id)
    # Given two unread messages
    for body in ("one", "two"):
        await people.say(bob, conversation, body)
    await expect(ada.badge("bob")).to_have_attribute("data-unread", "2", timeout=GLANCE)
    await expect(ada.page).to_have_title("(2) Warren")
    # Then a reload keeps them
    await ada.page.reload()
    await expect(ada.badge("bob")).to_have_attribute("data-unread", "2", timeout=GLANCE)
    await expect(ada.page).to_have_title("(2) Warren")
    # and once they are read, they are gone, also after another
    await ada.open("bob")
    await expect(ada.page.get_by_role("separator", name="New messages")).to_be_visible()
    await told_read(bob, conversation, 2)
    await ada.page.reload()
    await ada.sees("one", "two")
    await expect(ada.badge("bob")).to_have_count(0)
    await expect(ada.page).to_have_title("Warren", timeout=GLANCE)


async def test_the_conversation_being_read_never_shows_a_number(cast: Cast, people: People) -> None:
    (ada,) = await cast.arrive("Ada")
    bob = await people.connect(people.name("bob"), 1)
    conversation = await people.start(bob, ada.user_id)
    await people.say(bob, conversation, "0")
    await ada.open("bob")
    await ada.watch_badge()
    # When the chat is lively
    for count in range(1, 81):
        await people.say(bob, conversation, str(count))
        if count % 10 == 0:
            await ada.say(f"yes {count}")
    await ada.sees("80", "yes 80")

    async def all_read() -> bool:
        [listed] = (await bob.call("list_conversations"))["conversations"]
        [read] = [each["last_read_seq"] for each in listed["participants"] if each["user"]["id"] == ada.user_id]
        return bool(read == listed["last_seq"] == 89)

    await eventually(all_read, sentence="Ada has read everything")
    # Then no frame showed a number on it
    badges, frames = await ada.badges_seen()
    assert badges == []
    assert frames > 20


async def test_messages_that_arrive_unseen_count_until_the_person_looks(cast: Cast, people: People) -> None:
    (ada,) = await cast.arrive("Ada")
    bob = await people.connect(people.name("bob"), 1)
    conversation = await people.start(bob, ada.user_id)
    await people.say(bob, conversation, "first")
    await ada.open("bob")
    await told_read(bob, conversation, 1)
    # Given that Ada looks elsewhere, when a message comes
    await ada.look_away()
    await people.say(bob, conversation, "second")
    # Then it counts as unread, with a divider before it
    await expect(ada.badge("bob")).to_have_attribute("data-unread", "1", timeout=GLANCE)
    await expect(ada.page.get_by_role("separator", name="New messages")).to_be_visible()
    # until she looks
    await ada.look_back()
    await told_read(bob, conversation, 2)
    await expect(ada.badge("bob")).to_have_count(0)


async def test_nobody_can_take_over_the_screen_of_someone_who_writes(cast: Cast) -> None:
    ada, bob, cleo = await cast.arrive("Ada", "Bob", "Cleo")
    # Given that Bob is writing to Cleo
    await bob.start_with(cleo)
    await bob.composer.press_sequentially("A long thou")
    # When Ada starts a conversation with him and writes
    await ada.start_with(bob)
    await ada.say("Look at me!")
    await expect(bob.row(ada)).to_be_visible(timeout=GLANCE)
    await expect(bob.badge(ada)).to_have_attribute("data-unread", "1", timeout=GLANCE)
    # Then he can go on where he was
    await expect(bob.composer).to_be_focused()
    await bob.page.keyboard.type("ght")
    await expect(bob.composer).to_have_value("A long thought")
    await expect(bob.page.get_by_role("heading", level=2, name=cleo.name)).to_be_visible()
    # and his draft waits for him when he comes back from answering her
    await bob.open(ada)
    await bob.say("In a minute.")
    await bob.row(cleo).click()
    await expect(bob.composer).to_have_value("A long thought")


async def test_a_group_knows_who_has_read(cast: Cast, people: People) -> None:
    # Given a group of three
    (ada,) = await cast.arrive("Ada")
    bob, cleo = await people.arrive("bob", "cleo")
    conversation = await people.start(bob, cleo, ada.user_id, title="Release")
    await people.say(bob, conversation, "Is it out?")

    # When one of them answers
    await ada.open("Release")
    await ada.say("It is.")
    await ada.sees("Is it out?", "It is.")

    # Then she sees who has read that, and when everyone has
    await bob.call("message_seen", conversation_id=conversation, seq=2)
    await expect(ada.log).to_contain_text(f"Seen by {bob.user_id}", timeout=GLANCE)
    await cleo.call("message_seen", conversation_id=conversation, seq=2)
    await expect(ada.log).to_contain_text("Seen by everyone", timeout=GLANCE)
    await expect(ada.messages.last.get_by_label("Seen")).to_be_visible()


async def test_a_large_group_names_those_whom_it_does_not_show_and_lists_all(cast: Cast, people: People) -> None:
    # Given a group of 55, in which one of the last to join has written
    (ada,) = await cast.arrive("Ada")
    bob, *others = await people.arrive("bob", *["member"] * 52)
    zoe = await people.connect(people.name("zoe"), name="Zoe Last")
    conversation = await people.start(bob, *others, zoe, ada.user_id, title="Everyone")
    await people.say(bob, conversation, "Welcome.")
    await people.say(zoe, conversation, "Hello, all!")

    # When Ada opens it
    await ada.open("Everyone")

    # Then she sees who wrote, and who has read what she answers
    await expect(ada.log).to_contain_text("Zoe Last", timeout=GLANCE)
    await expect(ada.row("Everyone")).to_contain_text("Zoe: Hello, all!")
    await ada.say("Hello, Zoe.")
    await ada.sees("Welcome.", "Hello, all!", "Hello, Zoe.")
    await zoe.call("message_seen", conversation_id=conversation, seq=3)
    await expect(ada.log).to_contain_text("Seen by Zoe Last", timeout=GLANCE)

    # And all who are in it are listed, page by page
    await ada.page.get_by_role("button", name="55 people").click()
    listed = ada.page.locator("[data-participant]")
    await expect(listed).to_have_count(50, timeout=GLANCE)
    await ada.page.get_by_role("button", name="Show more").click()
    await expect(listed).to_have_count(55, timeout=GLANCE)
    await expect(listed.first).to_contain_text(bob.user_id)
    await expect(listed.last).to_contain_text("Zoe Last")
    await expect(listed.filter(has_text="(you)")).to_have_count(1)


async def test_two_windows_of_one_person_agree(cast: Cast, people: People) -> None:
    # Given one person with two windows, and an unread message
    here = await (await cast.person("Ada", 0)).sign_in()
    there = await cast.person("Ada", 1)
    there.name = here.name
    await there.sign_in()
    bob = await people.connect(people.name("bob"), 1)
    conversation = await people.start(bob, here.user_id)
    await people.say(bob, conversation, "hello")
    for window in (here, there):
        await expect(window.badge("bob")).to_have_attribute("data-unread", "1", timeout=GLANCE)

    # When one window reads and answers, then the other no longer counts that, and shows the answer
    await here.open("bob")
    await expect(there.badge("bob")).to_have_count(0, timeout=GLANCE)
    await here.say("hi")
    await there.open("bob")
    await there.sees("hello", "hi")


async def test_the_main_states_are_worth_looking_at(cast: Cast, people: People, screenshots: Path) -> None:
    # Given somebody who signs in
    ada = await cast.person("Ada", 0, height=900, name="Ada Lovelace")
    await ada.page.goto(ada.address)
    await ada.page.get_by_label("What should people call you?").fill(ada.name)
    await ada.picture(screenshots / "sign-in.png")
    await ada.sign_in()
    await expect(ada.page.get_by_role("heading", name="No conversations yet")).to_be_visible(timeout=GLANCE)
    await ada.picture(screenshots / "empty.png")

    # And a list of people who have written, in several ways
    names = ("Grace Hopper", "Linus Torvalds", "Margaret Hamilton", "Barbara Liskov", "Alan Turing", "Zoë Adeyemi")
    grace, linus, margaret, barbara, alan, zoe = [
        await people.connect(people.name(name.split()[0].lower()), index % 2, name=name)
        for index, name in enumerate(names)
    ]
    group = await people.start(margaret, ada.user_id, grace, linus, title="Release 1.0")
    for by, conversation, body in (
        (alan, await people.start(alan, ada.user_id), "It halts. I am nearly certain."),
        (margaret, group, "The checklist is up, please tick your part off."),
        (zoe, await people.start(zoe, ada.user_id), "The new avatars are in, have a look"),
        (zoe, await people.start(zoe, ada.user_id), "and tell me if yours is too green"),
        (barbara, await people.start(barbara, ada.user_id), "Anything that holds for a `Queue` has to hold for yours."),
        (linus, await people.start(linus, ada.user_id), "Talk is cheap. Show me the `diff`."),
    ):
        await people.say(by, conversation, body)
    for client in (alan, barbara):
        await client.close()
    chat = await people.start(grace, ada.user_id)
    await people.say(grace, chat, "Morning! Did the nightly build go through?")

    # When a lively chat is open, then each state of it is worth a picture
    await ada.open("Grace Hopper")
    await ada.say("It did, on the third try. The **flaky** one was `test_failover_keeps_order`.")
    await ada.say(CODE)
    await eventually(lambda: ada.page.locator(".hljs-keyword").count(), sentence="the code is coloured")
    await people.say(grace, chat, REPLY)
    await ada.say("One lane per edge, then.")
    await expect(ada.messages.last.get_by_label("Sent")).to_be_visible(timeout=GLANCE)
    await grace.call("message_seen", conversation_id=chat, seq=5)
    await expect(ada.messages.last.get_by_label("Seen")).to_be_visible(timeout=GLANCE)
    await grace.call("typing", conversation_id=chat, typing=True)
    await expect(ada.page.locator(".typing")).to_contain_text("Grace is typing", timeout=GLANCE)
    await ada.picture(screenshots / "chat-light.png")
    await ada.scheme("dark")
    await ada.picture(screenshots / "chat-dark.png")
    await ada.page.get_by_label("Find people").click()
    await expect(ada.page.locator("button[data-person]").first).to_be_visible(timeout=GLANCE)
    await ada.picture(screenshots / "search-dark.png")
    await ada.scheme("light")
    await ada.picture(screenshots / "search-light.png")
    await ada.page.keyboard.press("Escape")
    await ada.page.set_viewport_size({"width": 390, "height": 780})
    await ada.picture(screenshots / "narrow-chat.png")
    await ada.page.get_by_role("button", name="Back to conversations").click()
    await expect(ada.row("Release")).to_be_visible()
    await ada.picture(screenshots / "narrow-list.png")


async def told_read(client: Client, conversation: str, seq: int) -> None:
    """Wait until someone's reading up to a message, or further, was told to this client."""

    def told() -> bool:
        seen = [push.payload for push in client.pushes if push.name == "message_seen"]
        return any(each["conversation_id"] == conversation and each["last_read_seq"] >= seq for each in seen)

    await eventually(told, sentence=f"{client.user_id} is told of reading up to {seq}")
