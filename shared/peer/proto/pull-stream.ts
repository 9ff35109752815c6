/** A server stream from an iterable: items are pulled as fast as the client takes them. */
import type { AnswerSink, StreamHandler } from "./method.ts";

/** `answers` makes the iterable of a request; it is ended early when the client goes away. */
export function pullStream<Request, Answer>(
  sink: AnswerSink<Answer>,
  answers: (request: Request) => AsyncIterable<Answer>,
): StreamHandler<Request> {
  let isOver = false;
  let wake: (() => void) | undefined;
  const pump = async (request: Request): Promise<void> => {
    for await (const answer of answers(request)) {
      if (isOver) return;
      if (sink.send(answer)) continue;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  };
  return {
    receive: (request) => {
      pump(request).then(
        () => isOver || sink.end(),
        (error: unknown) => isOver || sink.end(error),
      );
    },
    halfClose: () => undefined,
    drained: () => wake?.(),
    closed: () => {
      isOver = true;
      wake?.();
    },
  };
}
