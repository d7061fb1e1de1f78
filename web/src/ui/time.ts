const locale = typeof navigator === "undefined" ? "en" : navigator.language;
const format = (options: Intl.DateTimeFormatOptions) => new Intl.DateTimeFormat(locale, options);

const CLOCK = format({ hour: "2-digit", minute: "2-digit" });
const WEEKDAY = format({ weekday: "short" });
const SHORT_DATE = format({ day: "numeric", month: "short" });
const LONG_DATE = format({ weekday: "long", day: "numeric", month: "long" });
const FULL_DATE = format({ day: "numeric", month: "long", year: "numeric" });
const FULL = format({ dateStyle: "full", timeStyle: "medium" });
const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** The number of a day in the user's time zone; it grows by one each day. */
export function dayNumber(time: string): number {
  const date = new Date(time);
  return Math.round(Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) / DAY);
}

const today = (now: number) => dayNumber(new Date(now).toISOString());

export const clockTime = (time: string) => CLOCK.format(new Date(time));
export const fullTime = (time: string) => FULL.format(new Date(time));

/** A short time for the conversation list: 14:02, Yesterday, Tue, 3 Mar. */
export function shortTime(time: string, now = Date.now()): string {
  const age = today(now) - dayNumber(time);
  if (age <= 0) return clockTime(time);
  if (age === 1) return "Yesterday";
  if (age < 7) return WEEKDAY.format(new Date(time));
  return SHORT_DATE.format(new Date(time));
}

/** The text of a day heading. */
export function dayLabel(time: string, now = Date.now()): string {
  const age = today(now) - dayNumber(time);
  if (age <= 0) return "Today";
  if (age === 1) return "Yesterday";
  return (age < 300 ? LONG_DATE : FULL_DATE).format(new Date(time));
}

/** A relative time: just now, 5 minutes ago, yesterday. */
export function timeAgo(time: string, now = Date.now()): string {
  const age = now - new Date(time).getTime();
  if (age < MINUTE) return "just now";
  if (age < HOUR) return RELATIVE.format(-Math.round(age / MINUTE), "minute");
  if (age < DAY) return RELATIVE.format(-Math.round(age / HOUR), "hour");
  return RELATIVE.format(-Math.round(age / DAY), "day");
}
