import { useAppSelector } from "@/app/hooks";
import { firstName } from "../conversations/names";
import { selectPeople } from "../people/peopleSlice";
import { selectTyping } from "./typingSlice";

/** Shows who is typing. It always takes one line, so that the layout does not shift. */
export function TypingIndicator({ conversationId }: { conversationId: string }) {
  const typing = useAppSelector((state) => selectTyping(state, conversationId));
  const usersById = useAppSelector((state) => selectPeople(state).usersById);
  const names = typing.map((id) => firstName(usersById[id]?.name ?? id));
  return (
    <p className="typing" role="status">
      {names.length > 0 && (
        <>
          <span className="typing__dots" aria-hidden="true">
            <i />
            <i />
            <i />
          </span>
          {names.length > 2
            ? `${names.length} people are typing`
            : `${names.join(" and ")} ${names.length === 1 ? "is" : "are"} typing`}
        </>
      )}
    </p>
  );
}
