import { useEffect } from "react";
import { selectAuth } from "@/features/auth/authSlice";
import { SignIn } from "@/features/auth/SignIn";
import { ConnectionBar } from "@/features/connection/ConnectionBar";
import { ConversationPane } from "@/features/conversations/ConversationPane";
import { selectOpenId } from "@/features/conversations/screenSlice";
import { Sidebar } from "@/features/conversations/Sidebar";
import { focusSearch } from "@/features/people/PeopleSearch";
import { useAppSelector } from "./hooks";
import { useTitle } from "./useTitle";

export function App() {
  const { signedIn } = useAppSelector(selectAuth);
  return signedIn ? <Chat /> : <SignIn />;
}

function Chat() {
  const open = useAppSelector((state) => selectOpenId(state) !== null);
  useTitle();
  useEffect(() => {
    const onKeyDown = (event: KeyboardEvent) => {
      if (event.key.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey) || event.shiftKey || event.altKey)
        return;
      event.preventDefault();
      focusSearch();
    };
    window.addEventListener("keydown", onKeyDown);
    return () => window.removeEventListener("keydown", onKeyDown);
  }, []);
  return (
    <div className={open ? "chat chat--open" : "chat"}>
      <Sidebar />
      <main className="main">
        {/* The page's heading on a narrow screen, which hides the sidebar. */}
        <h1 className="main__heading">Warren</h1>
        <ConnectionBar />
        <ConversationPane />
      </main>
    </div>
  );
}
