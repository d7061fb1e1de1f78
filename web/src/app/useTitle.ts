import { useEffect } from "react";
import { selectTotalUnread } from "@/features/conversations/conversationsSlice";
import { useAppSelector } from "./hooks";

/** Wait this long before showing a new total while the user is reading, so that a read receipt can lower it again. */
const READING_DELAY = 700;

/** Shows the total of unread messages in the title of the tab. */
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
    const timer = setTimeout(show, READING_DELAY);
    return () => clearTimeout(timer);
  }, [total, reading]);
}
