/** Native work in threads of the pool, when the process exits: it would be waited for, however long it takes. */
const stops = new Set<() => void>();

function stopAll(): void {
  for (const stop of stops) stop();
}

/** Has `stop` called when the process exits. @returns what takes that back, to be called when the work has ended */
export function stopAtExit(stop: () => void): () => void {
  if (stops.size === 0) process.on('exit', stopAll);
  stops.add(stop);
  return () => {
    stops.delete(stop);
    if (stops.size === 0) process.off('exit', stopAll);
  };
}
