import { useAppDispatch, useAppSelector } from "@/app/hooks";
import { Avatar } from "@/ui/Avatar";
import { timeAgo } from "@/ui/time";
import { selectMe } from "../auth/authSlice";
import { selectPerson } from "../people/peopleSlice";
import { selectPresence } from "../presence/presenceSlice";
import { moreParticipantsRequested, selectParticipants } from "./participantsSlice";

/** The participants of the open group, a page at a time. */
export function ParticipantList({ conversationId }: { conversationId: string }) {
  const dispatch = useAppDispatch();
  const { shownFor, ids, nextCursor, requested, error } = useAppSelector(selectParticipants);
  if (shownFor !== conversationId) return null;
  return (
    <section className="participants" id="participants" aria-label="Participants" aria-busy={requested} tabIndex={0}>
      <ul>
        {ids.map((id) => (
          <ParticipantRow key={id} id={id} />
        ))}
      </ul>
      {error !== null && <p role="alert">{error}</p>}
      {requested ? (
        <span className="spinner" role="status" aria-label="Loading participants" />
      ) : nextCursor !== null || error !== null ? (
        <button type="button" className="button" onClick={() => dispatch(moreParticipantsRequested())}>
          {error === null ? "Show more" : "Try again"}
        </button>
      ) : null}
    </section>
  );
}

function ParticipantRow({ id }: { id: string }) {
  const me = useAppSelector(selectMe);
  const person = useAppSelector((state) => selectPerson(state, id));
  const presence = useAppSelector((state) => selectPresence(state, id));
  return (
    <li className="participants__row" data-participant={id}>
      <Avatar user={person} size="small" online={presence?.online} />
      <span className="participants__name">{id === me ? `${person.name} (you)` : person.name}</span>
      <span className="participants__presence">
        {presence?.online ? "Online" : presence?.last_seen_at ? `Last seen ${timeAgo(presence.last_seen_at)}` : ""}
      </span>
    </li>
  );
}
