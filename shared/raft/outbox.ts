/**
 * The messages that wait for the next `Ready`: those that may leave at once, and those that vouch
 * for something and so may leave only once it is durable.
 */
import type { Message, NodeId } from "./types.ts";

const NO_MESSAGES: readonly Message[] = [];

export class Outbox {
  #now: Message[] = [];
  #afterDurable: Message[] = [];

  get hasMessages(): boolean {
    return this.#now.length > 0 || this.#afterDurable.length > 0;
  }

  send(message: Message): void {
    this.#now.push(message);
  }

  sendAfterDurable(message: Message): void {
    this.#afterDurable.push(message);
  }

  /**
   * Acknowledges the log up to `index`. An acknowledgement covers all before it, so of those in a
   * row to one leader only the furthest is kept.
   */
  acknowledge(ack: {
    readonly from: NodeId;
    readonly to: NodeId;
    readonly term: number;
    readonly index: number;
  }): void {
    const last = this.#afterDurable.at(-1);
    let { index } = ack;
    if (last?.type === "appendReply" && !last.reject && last.to === ack.to) {
      if (last.term === ack.term) {
        this.#afterDurable.pop();
        index = Math.max(index, last.index);
      }
    }
    const { from, to, term } = ack;
    this.#afterDurable.push({
      type: "appendReply",
      from,
      to,
      term,
      index,
      reject: false,
      hintIndex: 0,
      hintTerm: 0,
    });
  }

  /**
   * Takes back the acknowledgements that have not left: the term has changed, and what they vouch
   * for may be overwritten before it is ever written.
   */
  withdrawAcknowledgements(): void {
    if (this.#afterDurable.length === 0) return;
    this.#afterDurable = this.#afterDurable.filter((message) => message.type !== "appendReply");
  }

  take(): readonly Message[] {
    if (this.#now.length === 0) return NO_MESSAGES;
    const messages = this.#now;
    this.#now = [];
    return messages;
  }

  takeAfterDurable(): readonly Message[] {
    if (this.#afterDurable.length === 0) return NO_MESSAGES;
    const messages = this.#afterDurable;
    this.#afterDurable = [];
    return messages;
  }
}
