import http from 'node:http';

/** A trickle of small requests whose waits show how long a server's event loop is held. */
export interface LoopProbe {
  /** The longest wait since the last call, ms; requests that still wait count with the time they have waited. */
  longestWaitMs(): number;
  stop(): void;
}

/**
 * Asks for /v2/health/live every few milliseconds, each on a connection that is free, whatever became of the ones
 * before. A server answers it from its event loop alone, so the wait of the one that came first while the loop was
 * held is the time it was held, seen from outside and for any server.
 */
export function startLoopProbe(url: string, everyMs = 5): LoopProbe {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 64 });
  const waiting = new Set<number>();
  let longest = 0;
  const ask = (): void => {
    const sentAt = performance.now();
    waiting.add(sentAt);
    const done = (): void => {
      if (waiting.delete(sentAt)) longest = Math.max(longest, performance.now() - sentAt);
    };
    http
      .get(`${url}/v2/health/live`, { agent }, (response) =>
        response.resume().on('end', done).on('error', done),
      )
      .on('error', done);
  };
  const timer = setInterval(ask, everyMs);
  return {
    longestWaitMs() {
      const now = performance.now();
      const wait = Math.max(longest, ...[...waiting].map((sentAt) => now - sentAt));
      longest = 0;
      return wait;
    },
    stop() {
      clearInterval(timer);
      agent.destroy();
    },
  };
}
