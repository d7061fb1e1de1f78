import { useAppDispatch, useAppSelector } from "@/app/hooks";
import { Icon } from "@/ui/Icon";
import { useNow } from "@/ui/useNow";
import { selectAuth, signedOut } from "../auth/authSlice";
import { saveIdentity } from "../auth/identity";
import { retryRequested, selectConnection, type ConnectionState } from "./connectionSlice";

/** Shows what is wrong with the connection and what happens next. It is empty while connected. */
export function ConnectionBar() {
  const connection = useAppSelector(selectConnection);
  const { mode } = useAppSelector(selectAuth);
  const dispatch = useAppDispatch();
  const { status } = connection;
  const signOut = () => {
    saveIdentity(null);
    dispatch(signedOut());
  };
  if (status === "ready" || status === "idle") return <div className="connection" role="status" />;

  return (
    <div className="connection" role="status">
      <div className={`connection__bar connection__bar--${status}`}>
        {status === "refused" ? (
          <Icon name="alert" size={16} />
        ) : (
          <span className="spinner spinner--small" aria-hidden="true" />
        )}
        <StatusText connection={connection} />
        {(status === "waiting" || status === "refused") && (
          <button type="button" className="link" onClick={() => dispatch(retryRequested())}>
            {status === "waiting" ? "Try now" : "Try again"}
          </button>
        )}
        {status === "refused" && mode === "development" && (
          <button type="button" className="link" onClick={signOut}>
            Use another name
          </button>
        )}
      </div>
    </div>
  );
}

function StatusText({
  connection: { status, sessions, retryAt, reason, networkDown },
}: {
  connection: ConnectionState;
}) {
  const now = useNow(500);
  const seconds = retryAt === null ? 0 : Math.max(0, Math.ceil((retryAt - now) / 1000));
  const when = seconds > 1 ? `in ${seconds} s` : "now";
  switch (status) {
    case "connecting":
      return <span>{sessions === 0 ? "Connecting…" : "Reconnecting…"}</span>;
    case "draining":
      return <span>The server is shutting down for maintenance. Reconnecting {when}. You can keep writing.</span>;
    case "refused":
      return (
        <span>
          <strong>Not connected.</strong> {reason?.message}
        </span>
      );
    default:
      return (
        <span>
          <strong>{networkDown ? "You’re offline." : (reason?.message ?? "The connection was lost.")}</strong>{" "}
          Reconnecting {when}.
        </span>
      );
  }
}
