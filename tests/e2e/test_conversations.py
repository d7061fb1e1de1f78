"""`start_conversation` and `list_conversations`: what the ack says, and who is told."""

import asyncio

import pytest

from contracts.errors import Code
from infra.local.stack import Stack
from tests.support.extra_processes import extra_edge
from tests.support.people import People


async def test_a_start_is_acked_with_the_whole_conversation(people: People) -> None:
    # Given two users
    ada, bob = await people.arrive("ada", "bob")

    # When one starts a conversation with the other
    acked = await ada.call("start_conversation", participant_ids=[bob.user_id])

    # Then the ack has all that there is to know of it
    conversation = acked["conversation"]
    assert conversation["kind"] == "direct"
    assert conversation["title"] is None
    assert conversation["created_by"] == ada.user_id
    assert conversation["created_at"] == conversation["updated_at"]
    assert (conversation["last_seq"], conversation["unread_count"]) == (0, 0)
    assert conversation["last_message"] is None
    people_in_it = {person["user"]["id"]: person for person in conversation["participants"]}
    assert set(people_in_it) == {ada.user_id, bob.user_id}
    assert people_in_it[bob.user_id] == {
        "user": {"id": bob.user_id, "name": bob.user_id, "picture": None},
        "online": True,
        "last_seen_at": people_in_it[bob.user_id]["last_seen_at"],
        "last_read_seq": 0,
        "last_read_at": None,
    }


async def test_a_start_shows_name_and_picture_from_the_tokens(people: People) -> None:
    ada = await people.connect(people.name("ada"), name="Ada Lovelace", picture="https://pictures.test/ada.png")
    bob = await people.connect(people.name("bob"), edge=1, name="Bob Kahn")

    conversation = (await bob.call("start_conversation", participant_ids=[ada.user_id]))["conversation"]

    users = sorted((person["user"] for person in conversation["participants"]), key=lambda user: str(user["id"]))
    assert users == [
        {"id": ada.user_id, "name": "Ada Lovelace", "picture": "https://pictures.test/ada.png"},
        {"id": bob.user_id, "name": "Bob Kahn", "picture": None},
    ]


async def test_a_start_is_pushed_to_the_initiators_other_sockets_and_to_nobody_else(people: People) -> None:
    # Given a user on two edges, and another one
    ada, bob = await people.arrive("ada", "bob")
    phone, tablet = await asyncio.gather(people.connect(ada.user_id, edge=1), people.connect(ada.user_id, edge=0))

    # When they start a conversation on one socket
    acked = await ada.call("start_conversation", participant_ids=[bob.user_id])

    # Then their other sockets are told exactly what the ack said
    conversation_id = acked["conversation"]["id"]
    for other in (phone, tablet):
        assert await other.push("conversation_updated") == acked
    await people.settle(ada, phone, tablet, bob)
    assert phone.names(conversation_id) == tablet.names(conversation_id) == ["conversation_updated"]
    # And neither the socket that asked nor the other person is
    assert ada.names(conversation_id) == bob.names(conversation_id) == []


async def test_starting_a_direct_conversation_that_exists_returns_it(people: People) -> None:
    ada, bob = await people.arrive("ada", "bob")
    conversation_id = await people.chat(ada, bob)

    again = (await ada.call("start_conversation", participant_ids=[bob.user_id]))["conversation"]
    from_the_other_side = (await bob.call("start_conversation", participant_ids=[ada.user_id]))["conversation"]

    assert again["id"] == from_the_other_side["id"] == conversation_id
    assert again["created_by"] == from_the_other_side["created_by"] == ada.user_id
    assert (again["last_seq"], again["unread_count"]) == (1, 0)
    assert (from_the_other_side["last_seq"], from_the_other_side["unread_count"]) == (1, 1)
    listed = (await bob.call("list_conversations"))["conversations"]
    assert [conversation["id"] for conversation in listed].count(conversation_id) == 1


async def test_naming_the_same_person_twice_or_oneself_is_still_direct(people: People) -> None:
    ada, bob = await people.arrive("ada", "bob")
    conversation_id = await people.start(ada, bob)
    assert await people.start(ada, bob, bob) == conversation_id
    assert await people.start(ada, bob, ada) == conversation_id


async def test_more_people_make_a_group_with_a_title(people: People) -> None:
    # Given three people
    ada, bob, cy = await people.arrive("ada", "bob", "cy")

    # When one starts a conversation with the others, twice
    others = [bob.user_id, cy.user_id]
    group = (await ada.call("start_conversation", participant_ids=others, title="  Rust nights "))["conversation"]
    second = (await ada.call("start_conversation", participant_ids=others))["conversation"]

    # Then each start is a group of its own
    assert (group["kind"], group["title"], second["title"]) == ("group", "Rust nights", None)
    assert {person["user"]["id"] for person in group["participants"]} == {ada.user_id, bob.user_id, cy.user_id}
    assert second["id"] != group["id"]


async def test_the_first_message_shows_the_conversation_to_every_participant(people: People) -> None:
    # Given a group that nobody has written in, one participant on two edges, and a stranger
    ada, bob, cy, stranger = await people.arrive("ada", "bob", "cy", "stranger")
    bobs_phone = await people.connect(bob.user_id, edge=0)
    group = await people.start(ada, bob, cy)

    # When the initiator writes for the first time
    message = await people.say(ada, group)

    # Then every socket of every participant gets the conversation as that participant sees it
    for client, unread in ((ada, 0), (bob, 1), (bobs_phone, 1), (cy, 1)):
        pushed = (await client.push("conversation_updated", group))["conversation"]
        assert (pushed["id"], pushed["kind"], pushed["last_seq"], pushed["unread_count"]) == (group, "group", 1, unread)
        assert pushed["last_message"] == {
            "id": message["id"],
            "seq": 1,
            "sender_id": ada.user_id,
            "preview": "hello",
            "sent_at": message["sent_at"],
        }
    await people.settle(ada, bob, bobs_phone, cy, stranger)
    for client in (bob, bobs_phone, cy):
        assert client.names(group) == ["conversation_updated", "new_message", "unread_updated"]
    assert ada.names(group) == ["conversation_updated"]
    assert stranger.names(group) == []

    # And a second message does not show it again
    for client in (ada, bob):
        client.mark()
    await people.say(ada, group)
    await people.settle(ada, bob)
    assert (ada.names(group), bob.names(group)) == ([], ["new_message", "unread_updated"])


@pytest.mark.answers(Code.USER_NOT_FOUND)
async def test_somebody_the_system_has_never_seen_cannot_be_written_to(people: People) -> None:
    ada, bob = await people.arrive("ada", "bob")
    nobody = people.name("nobody")
    for others in ([nobody], [bob.user_id, nobody]):
        error = await ada.error("start_conversation", participant_ids=others)
        assert error["code"] == "user_not_found"
    assert (await ada.call("list_conversations"))["conversations"] == []


@pytest.mark.answers(Code.INVALID_PAYLOAD)
async def test_a_conversation_with_nobody_else_is_refused(people: People) -> None:
    (ada,) = await people.arrive("ada")
    for others in ([], [ada.user_id]):
        error = await ada.error("start_conversation", participant_ids=others)
        assert error["code"] == "invalid_payload"
        assert error["details"][0]["field"] == "participant_ids"


async def test_conversations_are_listed_newest_activity_first(people: People) -> None:
    # Given three conversations, and then activity in the oldest
    ada, bob, cy, di = await people.arrive("ada", "bob", "cy", "di")
    with_bob, with_cy, with_di = [await people.chat(other, ada) for other in (bob, cy, di)]
    message = await people.say(bob, with_bob, "again")

    # When they are listed
    listed = await ada.call("list_conversations")

    # Then the newest activity comes first, and counts are those of the one who asks
    mine = [found for found in listed["conversations"] if found["id"] in (with_bob, with_cy, with_di)]
    assert [found["id"] for found in mine] == [with_bob, with_di, with_cy]
    assert [found["unread_count"] for found in mine] == [2, 1, 1]
    assert mine[0]["last_message"]["id"] == message["id"]
    assert mine[0]["updated_at"] == message["sent_at"]
    # And the total is the sum over all of them
    assert listed["total_unread"] == sum(found["unread_count"] for found in listed["conversations"])


async def test_pages_of_conversations_follow_each_other_without_gap_or_overlap(people: People) -> None:
    # Given seven conversations
    ada, *others = await people.arrive("ada", *["other"] * 7)
    expected: list[str] = []
    for other in others:
        conversation_id = await people.start(ada, other)
        await people.say(ada, conversation_id)
        expected.insert(0, conversation_id)

    # When they are read three at a time
    pages: list[list[str]] = []
    cursor = None
    while not pages or cursor:
        payload = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = await ada.call("list_conversations", payload)
        cursor = page["next_cursor"]
        pages.append([conversation["id"] for conversation in page["conversations"]])

    # Then there are three pages, and all is there once
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [conversation_id for page in pages for conversation_id in page] == expected
    # And a page that just holds everything has no next one
    assert (await ada.call("list_conversations", limit=7))["next_cursor"] is None


async def test_a_list_never_contradicts_itself_while_messages_come(people: People) -> None:
    # Given two conversations, of which one gets message after message
    ada, bob, cy = await people.arrive("ada", "bob", "cy")
    quiet, lively = await people.chat(bob, ada), await people.chat(cy, ada)
    for _ in range(20):
        await people.say(cy, lively)

        # When the list is taken right after a message was stored, before anybody could have counted it
        listed = await ada.call("list_conversations")

        # Then the total is the sum of what the list shows
        shown = {conversation["id"]: conversation["unread_count"] for conversation in listed["conversations"]}
        assert {quiet, lively} <= shown.keys()
        assert listed["total_unread"] == sum(shown.values())


async def test_a_user_without_conversations_has_an_empty_list(people: People) -> None:
    (ada,) = await people.arrive("ada")
    listed = await ada.call("list_conversations")
    assert (listed["conversations"], listed["next_cursor"], listed["total_unread"]) == ([], None, 0)


@pytest.mark.answers(Code.INVALID_PAYLOAD)
@pytest.mark.parametrize("cursor", ["", "nonsense", "bm9uc2Vuc2U", "e30=", "\u0000", "é"])
async def test_a_cursor_that_nobody_handed_out_is_refused(people: People, cursor: str) -> None:
    (ada,) = await people.arrive("ada")
    for event, payload in (("list_conversations", {}), ("list_participants", {"conversation_id": "c"})):
        error = await ada.error(event, {**payload, "cursor": cursor})
        assert (error["code"], error["details"][0]["field"]) == ("invalid_payload", "cursor")


@pytest.mark.answers(Code.INVALID_PAYLOAD)
@pytest.mark.parametrize("event", ["list_conversations", "list_messages", "list_participants", "find_users"])
async def test_limits_are_from_1_to_100(people: People, event: str) -> None:
    ada, bob = await people.arrive("ada", "bob")
    of_one = event in ("list_messages", "list_participants")
    payload = {"conversation_id": await people.chat(ada, bob)} if of_one else {}
    for limit in (1, 100):
        await ada.call(event, {**payload, "limit": limit})
    for wrong in (0, -1, 101, 1.5, "1", None, True):
        error = await ada.error(event, {**payload, "limit": wrong})
        assert (error["code"], error["details"][0]["field"]) == ("invalid_payload", "limit"), wrong


@pytest.mark.answers(Code.RATE_LIMITED)
async def test_starts_beyond_the_budget_are_refused_and_others_may_start(people: People, stack: Stack) -> None:
    # Given an edge where a user may put three people an hour into new conversations
    async with extra_edge(stack, {"WARREN_START_PEOPLE_PER_HOUR": "3"}) as edge:
        ada, bob, cy = [await people.connect(people.name(label), edge) for label in ("ada", "bob", "cy")]

        # When one has started a group of two others, and starts another
        others = [bob.user_id, cy.user_id]
        await people.start(ada, bob, cy)
        error = await ada.error("start_conversation", participant_ids=others)

        # Then it is refused and told when to try again: one person is left, and two are needed
        assert (error["code"], error["retryable"]) == ("rate_limited", True)
        assert 1_190_000 < error["retry_after_ms"] <= 1_200_001
        # And everything else goes on, for them and for others
        await people.chat(ada, bob)
        await people.start(bob, ada, cy)


async def test_a_member_whom_a_large_group_does_not_show_reads_and_writes_in_it(people: People) -> None:
    # Given a group of 25, and the one who joined last
    ada, *others = await people.arrive("ada", *["other"] * 24)
    group = await people.start(ada, *others)
    last = max(others, key=lambda client: client.user_id)
    await people.say(ada, group)

    # Then the conversation does not show them, and yet has what is their own
    pushed = (await last.push("conversation_updated", group))["conversation"]
    shown = [part["user"]["id"] for part in pushed["participants"]]
    assert (shown[0], len(shown), pushed["participant_count"]) == (ada.user_id, 20, 25)
    assert last.user_id not in shown
    assert (pushed["last_read_seq"], pushed["unread_count"]) == (0, 1)

    # When they read and write
    await last.call("message_seen", conversation_id=group, seq=1)
    await people.say(last, group)

    # Then their list says so, and all participants are there page by page
    (listed,) = (await last.call("list_conversations"))["conversations"]
    assert (listed["last_seq"], listed["last_read_seq"], listed["unread_count"]) == (2, 2, 0)
    first = await ada.call("list_participants", conversation_id=group, limit=20)
    second = await ada.call("list_participants", conversation_id=group, cursor=first["next_cursor"])
    assert [part["user"]["id"] for part in first["participants"]] == shown
    assert [part["last_read_seq"] for part in second["participants"]] == [0, 0, 0, 0, 2]
    assert (second["participants"][-1]["user"]["id"], second["next_cursor"]) == (last.user_id, None)
    # And others can find out who they are
    (named,) = (await ada.call("get_users", user_ids=[last.user_id]))["users"]
    assert (named["name"], named["online"]) == (last.user_id, True)
