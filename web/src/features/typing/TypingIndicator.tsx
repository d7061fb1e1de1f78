import { useAppSelector } from "@/app/hooks";
import { firstName } from "../conversations/names";
import { selectPeople } from "../people/peopleSlice";
import { selectTyping } from "./typingSlice";

/** Always takes its line, so that nothing moves when someone begins or stops. */
export function TypingIndicator({ conversationId }: { conversationId: string }) {
  const typing = useAppSelector((state) => selectTyping(state, conversationId));
  const known = useAppSelector((state) => selectPeople(state).known);
  const names = typing.map((id) => firstName(known[id]?.name ?? id));
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
