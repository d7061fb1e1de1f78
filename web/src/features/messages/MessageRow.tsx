import { memo } from "react";
import { Avatar } from "@/ui/Avatar";
import { Icon } from "@/ui/Icon";
import { clock, exact } from "@/ui/time";
import type { User } from "@/protocol";
import { Markdown } from "./Markdown";

export type Mark = "pending" | "sent" | "seen";

const MARKS = {
  pending: { icon: "clock", label: "Sending" },
  sent: { icon: "sent", label: "Sent" },
  seen: { icon: "seen", label: "Seen" },
} as const;

interface Props {
  body: string;
  time: string;
  sender: User;
  mine: boolean;
  /** The first of several by one sender: it carries the name and the picture. */
  first: boolean;
  named: boolean;
  mark: Mark | null;
  refusal?: string | undefined;
  onEdit?: () => void;
  onDiscard?: () => void;
}

export const MessageRow = memo(function MessageRow(props: Props) {
  const { body, time, sender, mine, first, named, mark, refusal, onEdit, onDiscard } = props;
  const classes = [
    "message",
    mine ? "message--mine" : "message--theirs",
    first && "message--first",
    refusal && "message--refused",
  ];
  return (
    <div
      className={classes.filter(Boolean).join(" ")}
      role="article"
      aria-label={`${mine ? "You" : sender.name}, ${clock(time)}`}
    >
      {!mine && named && <span className="message__avatar">{first && <Avatar user={sender} size="small" />}</span>}
      <div className="message__column">
        {first && named && !mine && <span className="message__sender">{sender.name}</span>}
        <div className="message__bubble">
          <Markdown source={body} />
          <span className="message__meta">
            <time dateTime={time} title={exact(time)}>
              {clock(time)}
            </time>
            {mark && !refusal && (
              <span
                className={`message__mark message__mark--${mark}`}
                role="img"
                aria-label={MARKS[mark].label}
                title={MARKS[mark].label}
              >
                <Icon name={MARKS[mark].icon} size={16} />
              </span>
            )}
          </span>
        </div>
        {refusal && (
          <div className="message__refusal" role="alert">
            <Icon name="alert" size={16} />
            <span>
              <strong>Not sent.</strong> {refusal}
            </span>
            <button type="button" className="link" onClick={onEdit}>
              Edit and send again
            </button>
            <button type="button" className="link" onClick={onDiscard}>
              Discard
            </button>
          </div>
        )}
      </div>
    </div>
  );
});
