import { setImmediate } from 'node:timers/promises';
import { arrivalTimes, type ClosedLoad, type Load, type OpenLoad } from './load.js';
import type { LoadTarget } from './target.js';

/** Where the samples of a load go while it runs. */
export interface SampleSink {
  /** A request ended. `latencyMs` counts from its intended start; `failure` is absent on success. */
  answered(latencyMs: number, failure: string | undefined): void;
  /** An open loop sent a request this long after its intended start. */
  sentLate(latenessMs: number): void;
}

/** A load that is being offered. */
export interface Offer {
  /** Sends nothing more and resolves when every request that was sent has ended. */
  stop(): Promise<void>;
}

/** The failure of an open-loop request that was never sent because too many others were unanswered. */
export const notSent = 'not sent: too many in flight';

/**
 * Starts offering a load.
 *
 * @param maxInFlight bound on the unanswered requests of an open loop; what is due beyond it counts as failed
 */
export function startOffer(target: LoadTarget, load: Load, sink: SampleSink, maxInFlight: number): Offer {
  return load.kind === 'closed'
    ? startClosedLoop(target, load, sink)
    : startOpenLoop(target, load, sink, maxInFlight);
}

function startClosedLoop(target: LoadTarget, load: ClosedLoad, sink: SampleSink): Offer {
  let isStopped = false;
  const caller = async (first: number): Promise<void> => {
    for (let index = first; !isStopped; index += load.concurrency) {
      const startedAt = performance.now();
      const failure = await target.send(index);
      sink.answered(performance.now() - startedAt, failure);
      // A target that fails at once would otherwise keep the event loop in microtasks and no timer would fire.
      if (failure !== undefined) await setImmediate();
    }
  };
  const callers = Array.from({ length: load.concurrency }, (_, first) => caller(first));
  return {
    async stop() {
      isStopped = true;
      await Promise.all(callers);
    },
  };
}

function startOpenLoop(target: LoadTarget, load: OpenLoad, sink: SampleSink, maxInFlight: number): Offer {
  const arrivals = arrivalTimes(load);
  const startedAt = performance.now();
  const inFlight = new Set<Promise<void>>();
  let index = 0;
  let dueAt = startedAt + arrivals.next().value;
  let timer: NodeJS.Timeout;

  const issue = (intendedAt: number): void => {
    sink.sentLate(performance.now() - intendedAt);
    if (inFlight.size >= maxInFlight) {
      sink.answered(performance.now() - intendedAt, notSent);
      return;
    }
    const request = target.send(index++).then((failure) => {
      sink.answered(performance.now() - intendedAt, failure);
      inFlight.delete(request);
    });
    inFlight.add(request);
  };
  const tick = (): void => {
    const now = performance.now();
    while (dueAt <= now) {
      issue(dueAt);
      dueAt = startedAt + arrivals.next().value;
    }
    timer = setTimeout(tick, Math.max(0, dueAt - performance.now()));
  };
  timer = setTimeout(tick, 0);
  return {
    async stop() {
      clearTimeout(timer);
      await Promise.all(inFlight);
    },
  };
}
