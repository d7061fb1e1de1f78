"""No hijacked screens: pushes say what is, never what to do, so nothing opens that the user did not open. Promise 8."""

from tests.support import protocol
from tests.support.people import People

#: What a receiver may get about conversations; each only says what is, and none what to do.
TELLING = {"conversation_updated", "new_message", "unread_updated", "message_seen", "typing"}


async def test_no_push_tells_a_client_what_to_open(people: People) -> None:
    # Given somebody who looks at one conversation, on two devices
    ada, bob, cy = await people.arrive("ada", "bob", "cy")
    phone = await people.connect(bob.user_id, edge=0)
    at = await people.chat(ada, bob)
    await people.settle(bob, phone)
    for client in (bob, phone):
        client.mark()

    # When others start conversations with them, write in them, type and read
    direct, group = await people.start(cy, bob), await people.start(cy, bob, ada, title="Open me")
    for conversation_id in (direct, group):
        await cy.call("typing", conversation_id=conversation_id, typing=True)
        await people.say(cy, conversation_id)
        await cy.call("typing", conversation_id=conversation_id, typing=True)
    await ada.call("message_seen", conversation_id=group, seq=1)
    await people.settle(bob, phone)

    # Then they are told what is new, in events that say what is and never what to do
    for client in (bob, phone):
        for conversation_id in (direct, group):
            pushed = {push.name for push in client.since_mark(conversation_id)}
            assert pushed >= {"conversation_updated", "new_message", "unread_updated"}
            assert pushed <= TELLING
        assert client.names(at) == []

    # And their own start on one device comes to the other in exactly the form in which others' do: only the ack of
    # one's own start, which the other device does not get, may open anything
    own = await bob.call("start_conversation", participant_ids=[cy.user_id])
    echoed = await phone.push("conversation_updated", direct, conversation=own["conversation"])
    protocol.check(echoed, protocol.PUSHES["conversation_updated"], "conversation_updated")
    others = await phone.push("conversation_updated", group)
    assert echoed.keys() == others.keys()
    assert echoed["conversation"].keys() == others["conversation"].keys()
