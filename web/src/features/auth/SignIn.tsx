import { useId, useState, type SyntheticEvent } from "react";
import { useAppDispatch } from "@/app/hooks";
import { signedIn } from "./authSlice";
import { saveIdentity } from "./identity";
import { userIdFor } from "./tokens";

/** The development sign-in: it accepts any name. It is never shown when the host application provides tokens. */
export function SignIn() {
  const dispatch = useAppDispatch();
  const [name, setName] = useState("");
  const field = useId();
  const userId = userIdFor(name);

  const submit = (event: SyntheticEvent) => {
    event.preventDefault();
    if (userId === "") return;
    const identity = { user_id: userId, name: name.trim() };
    saveIdentity(identity);
    dispatch(signedIn(identity));
  };

  return (
    <main className="sign-in">
      <form className="sign-in__card" onSubmit={submit}>
        <img className="sign-in__mark" src="/favicon.svg" alt="" width={56} height={56} />
        <h1>Warren</h1>
        <p className="sign-in__lead">Real-time messaging.</p>
        <label htmlFor={field}>What should people call you?</label>
        <input
          id={field}
          className="input"
          value={name}
          maxLength={60}
          autoComplete="nickname"
          placeholder="Ada Lovelace"
          autoFocus
          onChange={(event) => setName(event.target.value)}
        />
        <button type="submit" className="button button--wide" disabled={userId === ""}>
          Start chatting
        </button>
        <p className="sign-in__note">
          {userId ? (
            <>
              Your user ID is <strong>{userId}</strong>. Use the same name on every device.
            </>
          ) : (
            "This is a development sign-in. You don’t need a password."
          )}
        </p>
      </form>
    </main>
  );
}
