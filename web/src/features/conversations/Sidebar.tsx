import { useAppDispatch, useAppSelector } from "@/app/hooks";
import { Avatar } from "@/ui/Avatar";
import { Icon } from "@/ui/Icon";
import { useTheme, type Theme } from "@/ui/theme";
import { selectAuth, signedOut } from "../auth/authSlice";
import { saveIdentity } from "../auth/identity";
import { PeopleResults, SearchField } from "../people/PeopleSearch";
import { selectPeople } from "../people/peopleSlice";
import { ConversationList } from "./ConversationList";

export function Sidebar() {
  const searching = useAppSelector((state) => selectPeople(state).query !== null);
  return (
    <aside className="sidebar" aria-label="Conversations and people">
      <header className="sidebar__header">
        <h1 className="brand">
          <img src="/favicon.svg" alt="" width={28} height={28} /> Warren
        </h1>
        <ThemeButton />
        <CurrentUser />
      </header>
      <SearchField />
      {searching ? <PeopleResults /> : <ConversationList />}
    </aside>
  );
}

const NEXT_THEME: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };
const THEME_ICONS = { system: "system", light: "sun", dark: "moon" } as const;
const THEME_NAMES = { system: "system", light: "light", dark: "dark" };

function ThemeButton() {
  const [theme, setTheme] = useTheme();
  return (
    <button
      type="button"
      className="icon-button"
      aria-label={`Theme: ${THEME_NAMES[theme]}. Switch to ${THEME_NAMES[NEXT_THEME[theme]]}`}
      title={`Theme: ${THEME_NAMES[theme]}`}
      onClick={() => setTheme(NEXT_THEME[theme])}
    >
      <Icon name={THEME_ICONS[theme]} size={18} />
    </button>
  );
}

function CurrentUser() {
  const dispatch = useAppDispatch();
  const { user, mode } = useAppSelector(selectAuth);
  if (!user) return null;
  const signOut = () => {
    saveIdentity(null);
    dispatch(signedOut());
  };
  return (
    <>
      {mode === "development" && (
        <button type="button" className="icon-button" aria-label="Sign out" title="Sign out" onClick={signOut}>
          <Icon name="signOut" size={18} />
        </button>
      )}
      <span className="me" title={user.name}>
        <Avatar user={user} size="small" />
        <span className="visually-hidden">Signed in as {user.name}</span>
      </span>
    </>
  );
}
