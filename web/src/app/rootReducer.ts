import { type Action, combineReducers } from "@reduxjs/toolkit";
import { authSlice, signedOut } from "@/features/auth/authSlice";
import { connectionSlice } from "@/features/connection/connectionSlice";
import { conversationsSlice } from "@/features/conversations/conversationsSlice";
import { participantsSlice } from "@/features/conversations/participantsSlice";
import { screenSlice } from "@/features/conversations/screenSlice";
import { draftsSlice } from "@/features/messages/draftsSlice";
import { messagesSlice } from "@/features/messages/messagesSlice";
import { outboxSlice } from "@/features/messages/outboxSlice";
import { peopleSlice } from "@/features/people/peopleSlice";
import { presenceSlice } from "@/features/presence/presenceSlice";
import { typingSlice } from "@/features/typing/typingSlice";

const combinedReducer = combineReducers({
  auth: authSlice.reducer,
  connection: connectionSlice.reducer,
  conversations: conversationsSlice.reducer,
  drafts: draftsSlice.reducer,
  messages: messagesSlice.reducer,
  outbox: outboxSlice.reducer,
  participants: participantsSlice.reducer,
  people: peopleSlice.reducer,
  presence: presenceSlice.reducer,
  screen: screenSlice.reducer,
  typing: typingSlice.reducer,
});

export type RootState = ReturnType<typeof combinedReducer>;

/** The combined reducer. Signing out resets everything that belongs to the user. */
export function rootReducer(state: RootState | undefined, action: Action): RootState {
  if (state && signedOut.match(action))
    return combinedReducer(
      { auth: state.auth, screen: { ...screenSlice.getInitialState(), windowFocused: state.screen.windowFocused } },
      action,
    );
  return combinedReducer(state, action);
}
