import pino from 'pino';

/** The logger of this package: pino's. */
export type Logger = pino.Logger;

/** A logger that writes nothing: the default when the runtime is embedded. */
export function silentLogger(): Logger {
  return pino({ level: 'silent' });
}
