import { nanoid } from "@reduxjs/toolkit";
import { useEffect, useState, type KeyboardEvent } from "react";
import { useAppDispatch, useAppSelector } from "@/app/hooks";
import { Avatar } from "@/ui/Avatar";
import { Icon } from "@/ui/Icon";
import { moveFocus } from "@/ui/moveFocus";
import { timeAgo } from "@/ui/time";
import { selectMe } from "../auth/authSlice";
import { selectOnline } from "../connection/connectionSlice";
import { selectScreen, startRequested } from "../conversations/screenSlice";
import { selectPresence } from "../presence/presenceSlice";
import { focusComposer } from "../messages/Composer";
import { searchChanged, searchClosed, selectPeople, selectPerson } from "./peopleSlice";

const SEARCH_ID = "people-search";

export const focusSearch = () => document.getElementById(SEARCH_ID)?.focus();

/** The search field above the conversation list. While it is in use, search results replace the list. */
export function SearchField() {
  const dispatch = useAppDispatch();
  const { query } = useAppSelector(selectPeople);

  const onKeyDown = (event: KeyboardEvent<HTMLInputElement>) => {
    if (event.key === "Escape") {
      dispatch(searchClosed());
      event.currentTarget.blur();
    } else if (event.key === "ArrowDown") {
      event.preventDefault();
      document.querySelector<HTMLElement>("button[data-person], button[data-conversation]")?.focus();
    }
  };

  return (
    <div className="search" role="search">
      <Icon name="search" size={18} />
      <input
        id={SEARCH_ID}
        className="search__field"
        type="text"
        inputMode="search"
        value={query ?? ""}
        placeholder="Find people"
        aria-label="Find people"
        autoComplete="off"
        spellCheck={false}
        maxLength={100}
        onFocus={() => {
          if (query === null) dispatch(searchChanged(""));
        }}
        onChange={(event) => dispatch(searchChanged(event.target.value))}
        onKeyDown={onKeyDown}
      />
      {query !== null && (
        <button
          type="button"
          className="icon-button"
          aria-label="Close search"
          onClick={() => dispatch(searchClosed())}
        >
          <Icon name="close" size={16} />
        </button>
      )}
    </div>
  );
}

export function PeopleResults() {
  const dispatch = useAppDispatch();
  const me = useAppSelector(selectMe);
  const online = useAppSelector(selectOnline);
  const { query, answeredQuery, resultIds, error } = useAppSelector(selectPeople);
  const { starting, startError } = useAppSelector(selectScreen);
  const [chosen, setChosen] = useState<string[]>([]);

  // When the search closes, its focused element is removed: move the focus to the composer.
  useEffect(
    () => () => {
      requestAnimationFrame(() => {
        if (document.activeElement === document.body) focusComposer();
      });
    },
    [],
  );

  const results = resultIds.filter((id) => id !== me);
  const loading = answeredQuery === null || (answeredQuery !== query && results.length === 0);

  const start = (participantIds: string[], title?: string) => {
    dispatch(startRequested({ request: nanoid(), participantIds, ...(title ? { title } : {}) }));
  };
  const toggle = (id: string) =>
    setChosen((ids) => (ids.includes(id) ? ids.filter((other) => other !== id) : [...ids, id]));

  return (
    <section
      className="people"
      aria-label="People"
      onKeyDown={(event) => {
        if (event.key === "Escape") dispatch(searchClosed());
      }}
    >
      {chosen.length > 0 && <GroupForm chosen={chosen} onRemove={toggle} onStart={(title) => start(chosen, title)} />}
      {startError !== null && (
        <p className="people__error" role="alert">
          <Icon name="alert" size={16} /> {startError}
        </p>
      )}
      <div className="list" aria-busy={loading}>
        {error !== null ? (
          <p className="people__note" role="alert">
            {error}
          </p>
        ) : loading ? (
          <p className="people__note" role="status">
            {online ? "Searching…" : "Search is unavailable while you’re offline."}
          </p>
        ) : results.length === 0 ? (
          <p className="people__note" role="status">
            {query?.trim() ? `No one found for “${query.trim()}”` : "No one else has joined yet"}
          </p>
        ) : (
          <ul onKeyDown={moveFocus}>
            {results.map((id) => (
              <PersonRow
                key={id}
                id={id}
                chosen={chosen.includes(id)}
                busy={starting?.participantIds.includes(id) === true}
                onStart={() => start([id])}
                onToggle={() => toggle(id)}
              />
            ))}
          </ul>
        )}
      </div>
    </section>
  );
}

interface PersonProps {
  id: string;
  chosen: boolean;
  busy: boolean;
  onStart: () => void;
  onToggle: () => void;
}

function PersonRow({ id, chosen, busy, onStart, onToggle }: PersonProps) {
  const person = useAppSelector((state) => selectPerson(state, id));
  const presence = useAppSelector((state) => selectPresence(state, id));
  return (
    <li className="person">
      <button type="button" className="row" data-person={id} aria-busy={busy} onClick={onStart}>
        <Avatar user={person} online={presence?.online} />
        <span className="row__text">
          <span className="row__name">{person.name}</span>
          <span className="row__preview">
            {busy
              ? "Opening…"
              : presence?.online
                ? "Online"
                : presence?.last_seen_at
                  ? `Last seen ${timeAgo(presence.last_seen_at)}`
                  : "Offline"}
          </span>
        </span>
      </button>
      <button
        type="button"
        className="icon-button person__add"
        aria-pressed={chosen}
        aria-label={`Add ${person.name} to a group`}
        title="Add to a group"
        onClick={onToggle}
      >
        <Icon name={chosen ? "sent" : "plus"} size={16} />
      </button>
    </li>
  );
}

interface GroupProps {
  chosen: string[];
  onRemove: (id: string) => void;
  onStart: (title: string) => void;
}

function GroupForm({ chosen, onRemove, onStart }: GroupProps) {
  const [title, setTitle] = useState("");
  return (
    <form
      className="group-form"
      aria-label="New group"
      onSubmit={(event) => {
        event.preventDefault();
        onStart(title.trim());
      }}
    >
      <ul className="chips">
        {chosen.map((id) => (
          <Chip key={id} id={id} onRemove={() => onRemove(id)} />
        ))}
      </ul>
      <input
        className="input"
        value={title}
        maxLength={200}
        placeholder="Group name (optional)"
        aria-label="Group name (optional)"
        onChange={(event) => setTitle(event.target.value)}
      />
      <button type="submit" className="button button--wide" disabled={chosen.length < 2}>
        {chosen.length < 2 ? "Select one more person" : `Create group of ${chosen.length + 1}`}
      </button>
    </form>
  );
}

function Chip({ id, onRemove }: { id: string; onRemove: () => void }) {
  const person = useAppSelector((state) => selectPerson(state, id));
  return (
    <li className="chip">
      {person.name}
      <button type="button" aria-label={`Remove ${person.name}`} onClick={onRemove}>
        <Icon name="close" size={12} />
      </button>
    </li>
  );
}
