import { memo } from "react";
import { useAppDispatch, useAppSelector } from "@/app/hooks";
import { Avatar } from "@/ui/Avatar";
import { shortTime } from "@/ui/time";
import { selectMe } from "../auth/authSlice";
import { selectDraft } from "../messages/draftsSlice";
import { selectPeople } from "../people/peopleSlice";
import { selectPresence } from "../presence/presenceSlice";
import { selectTyping } from "../typing/typingSlice";
import { selectBadge } from "./conversationSelectors";
import { selectConversation } from "./conversationsSlice";
import { firstName, conversationName, otherParticipant, plainPreview } from "./names";
import { openConversation } from "./openConversation";

export const ConversationRow = memo(function ConversationRow({ id }: { id: string }) {
  const dispatch = useAppDispatch();
  const me = useAppSelector(selectMe);
  const conversation = useAppSelector((state) => selectConversation(state, id));
  const open = useAppSelector((state) => state.screen.openId === id);
  const badge = useAppSelector((state) => selectBadge(state, id));
  const typing = useAppSelector((state) => selectTyping(state, id));
  const draft = useAppSelector((state) => (state.screen.openId === id ? "" : selectDraft(state, id)));
  const other = conversation && otherParticipant(conversation, me);
  const online = useAppSelector((state) => (other ? (selectPresence(state, other.id)?.online ?? false) : false));
  const sender = useAppSelector(
    (state) => selectPeople(state).usersById[conversation?.last_message?.sender_id ?? ""]?.name,
  );
  if (!conversation || !other) return null;

  const direct = conversation.kind === "direct";
  const last = conversation.last_message;
  const who = last?.sender_id === me ? "You: " : direct || !sender ? "" : `${firstName(sender)}: `;
  const preview = last ? who + plainPreview(last.preview) : "No messages yet";

  return (
    <li>
      <button
        type="button"
        className={badge > 0 ? "row row--unread" : "row"}
        aria-current={open ? "true" : undefined}
        data-conversation={id}
        onClick={() => dispatch(openConversation(id))}
      >
        <Avatar user={direct ? other : { id, name: "", picture: null }} group={!direct} online={direct && online} />
        <span className="row__text">
          <span className="row__line">
            <span className="row__name">{conversationName(conversation, me)}</span>
            {direct && online && <span className="visually-hidden">, online</span>}
            <time className="row__time" dateTime={conversation.updated_at}>
              {shortTime(conversation.updated_at)}
            </time>
          </span>
          <span className="row__line">
            {typing.length > 0 ? (
              <span className="row__preview row__preview--typing">typing…</span>
            ) : draft ? (
              <span className="row__preview">
                <span className="row__draft">Draft:</span> {draft}
              </span>
            ) : (
              <span className="row__preview">{preview}</span>
            )}
            {badge > 0 && (
              <span className="badge" data-unread={badge}>
                {badge > 99 ? "99+" : badge}
                <span className="visually-hidden"> unread</span>
              </span>
            )}
          </span>
        </span>
      </button>
    </li>
  );
});
