import { memo } from "react";
import { Avatar } from "@/ui/Avatar";
import { Icon } from "@/ui/Icon";
import { clockTime, fullTime } from "@/ui/time";
import type { User } from "@/protocol";
import { Markdown } from "./Markdown";

export type DeliveryStatus = "pending" | "sent" | "seen";

const DELIVERY_STATUSES = {
  pending: { icon: "clock", label: "Sending" },
  sent: { icon: "sent", label: "Sent" },
  seen: { icon: "seen", label: "Seen" },
} as const;

interface Props {
  body: string;
  time: string;
  sender: User;
  mine: boolean;
  /** The first message of a group by one sender: it shows the sender's name and picture. */
  first: boolean;
  showSender: boolean;
  status: DeliveryStatus | null;
  refusal?: string | undefined;
  onEdit?: () => void;
  onDiscard?: () => void;
}

export const MessageRow = memo(function MessageRow(props: Props) {
  const { body, time, sender, mine, first, showSender, status, refusal, onEdit, onDiscard } = props;
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
      aria-label={`${mine ? "You" : sender.name}, ${clockTime(time)}`}
    >
      {!mine && showSender && <span className="message__avatar">{first && <Avatar user={sender} size="small" />}</span>}
      <div className="message__column">
        {first && showSender && !mine && <span className="message__sender">{sender.name}</span>}
        <div className="message__bubble">
          <Markdown source={body} />
          <span className="message__meta">
            <time dateTime={time} title={fullTime(time)}>
              {clockTime(time)}
            </time>
            {status && !refusal && (
              <span
                className={`message__mark message__mark--${status}`}
                role="img"
                aria-label={DELIVERY_STATUSES[status].label}
                title={DELIVERY_STATUSES[status].label}
              >
                <Icon name={DELIVERY_STATUSES[status].icon} size={16} />
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
