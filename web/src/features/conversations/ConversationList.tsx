import { useAppDispatch, useAppSelector } from "@/app/hooks";
import { Icon } from "@/ui/Icon";
import { moveFocus } from "@/ui/moveFocus";
import { focusSearch } from "../people/PeopleSearch";
import { ConversationRow } from "./ConversationRow";
import {
  moreConversationsRequested,
  selectConversationIds,
  selectListState,
  snapshotRetried,
} from "./conversationsSlice";

/** More conversations are loaded when the view is within this many pixels of the end. */
const LOAD_MORE_DISTANCE = 400;

export function ConversationList() {
  const dispatch = useAppDispatch();
  const ids = useAppSelector(selectConversationIds);
  const { loaded, error, hasMore } = useAppSelector(selectListState);

  if (ids.length === 0) {
    if (error !== null) return <ListError message={error} onRetry={() => dispatch(snapshotRetried())} />;
    return loaded ? <ListEmpty /> : <ListSkeleton />;
  }
  return (
    <nav
      className="list"
      aria-label="Conversations"
      onScroll={({ currentTarget: box }) => {
        if (hasMore && box.scrollHeight - box.scrollTop - box.clientHeight < LOAD_MORE_DISTANCE)
          dispatch(moreConversationsRequested());
      }}
    >
      <ul onKeyDown={moveFocus}>
        {ids.map((id) => (
          <ConversationRow key={id} id={id} />
        ))}
      </ul>
      {hasMore && (
        <p className="list__more">
          <span className="spinner" role="status" aria-label="Loading more conversations" />
        </p>
      )}
    </nav>
  );
}

function ListEmpty() {
  return (
    <div className="empty empty--list">
      <span className="empty__icon">
        <Icon name="search" size={26} />
      </span>
      <h2>No conversations yet</h2>
      <p>Search for someone by name and send the first message.</p>
      <button type="button" className="button" onClick={focusSearch}>
        Find people
      </button>
    </div>
  );
}

function ListError({ message, onRetry }: { message: string; onRetry: () => void }) {
  return (
    <div className="empty empty--list" role="alert">
      <span className="empty__icon">
        <Icon name="alert" size={26} />
      </span>
      <h2>Couldn’t load your conversations</h2>
      <p>{message}</p>
      <button type="button" className="button" onClick={onRetry}>
        Try again
      </button>
    </div>
  );
}

function ListSkeleton() {
  return (
    <div className="list" role="status" aria-label="Loading conversations">
      {[62, 48, 70, 55, 40].map((width) => (
        <div key={width} className="row row--skeleton">
          <span className="skeleton skeleton--avatar" />
          <span className="row__text">
            <span className="skeleton skeleton--line" style={{ width: `${width - 15}%` }} />
            <span className="skeleton skeleton--line" style={{ width: `${width + 20}%` }} />
          </span>
        </div>
      ))}
    </div>
  );
}
