import { memo, useState } from "react";
import type { User } from "@/protocol";
import { Icon } from "./Icon";

/** One of twelve hues, always the same for one id. */
export function hueOf(id: string): number {
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
  /** Draws the dot; leave it out where presence is no matter. */
  online?: boolean | undefined;
}

/** Someone's picture, or their initials. The name stands beside it, so it is silent for screen readers. */
export const Avatar = memo(function Avatar({ user, size = "medium", group = false, online }: Props) {
  const [broken, setBroken] = useState<string | null>(null);
  const picture = user.picture !== broken ? user.picture : null;
  return (
    <span className={`avatar avatar--${size} hue-${hueOf(user.id)}`} aria-hidden="true">
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
