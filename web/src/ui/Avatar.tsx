import { memo, useState } from "react";
import type { User } from "@/protocol";
import { Icon } from "./Icon";

/** A hue for an id: one of twelve, always the same for the same id. */
export function avatarHue(id: string): number {
  let hash = 0;
  for (let index = 0; index < id.length; index += 1) hash = (hash * 31 + id.charCodeAt(index)) >>> 0;
  return (hash % 12) * 30;
}

export function initialsOf(name: string): string {
  const words = name
    .trim()
    .split(/[\s._-]+/u)
    .filter(Boolean);
  const first = Array.from(words[0] ?? "?")[0] ?? "?";
  const last = words.length > 1 ? (Array.from(words.at(-1) ?? "")[0] ?? "") : "";
  return (first + last).toUpperCase();
}

interface Props {
  user: Pick<User, "id" | "name" | "picture">;
  size?: "small" | "medium" | "large";
  group?: boolean;
  /** Shows the online dot. */
  online?: boolean | undefined;
}

/** A user's picture or initials. It is hidden from screen readers, because the name is shown next to it. */
export const Avatar = memo(function Avatar({ user, size = "medium", group = false, online }: Props) {
  const [broken, setBroken] = useState<string | null>(null);
  const picture = user.picture !== broken ? user.picture : null;
  return (
    <span className={`avatar avatar--${size} hue-${avatarHue(user.id)}`} aria-hidden="true">
      {group ? (
        <Icon name="group" size={size === "small" ? 16 : 20} />
      ) : picture ? (
        <img
          src={picture}
          alt=""
          loading="lazy"
          referrerPolicy="no-referrer"
          draggable={false}
          onError={() => setBroken(picture)}
        />
      ) : (
        initialsOf(user.name)
      )}
      {online && <span className="avatar__dot" />}
    </span>
  );
});
