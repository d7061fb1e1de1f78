import { useEffect } from "react";
import { selectTotalUnread } from "@/features/conversations/conversationsSlice";
import { useAppSelector } from "./hooks";

/** How long a growing total may wait while someone is looking: long enough for "seen" to be told and answered. */
const PATIENCE = 700;

/** Shows the server's total of unread messages in the tab's title. */
export function useTitle(): void {
  const total = useAppSelector(selectTotalUnread);
  const reading = useAppSelector(({ screen }) => screen.windowFocused && screen.openId !== null);
  useEffect(() => {
    const show = () => {
      document.title = total > 0 ? `(${total}) Warren` : "Warren";
    };
    if (!reading || total === 0) {
      show();
      return undefined;
    }
    const timer = setTimeout(show, PATIENCE);
    return () => clearTimeout(timer);
  }, [total, reading]);
}
