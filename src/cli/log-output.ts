/** Where log lines go: standard error, or files in a directory that are rotated by size. */
import { renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type DestinationStream, pino } from 'pino';
import type { LogConfig } from '../config/schema.js';
import { messageOf, ServingError } from '../errors.js';
import { makeDirectory } from '../make-directory.js';
import type { Logger } from '../observe/logger.js';

/** An open log. */
export interface LogOutput {
  readonly logger: Logger;
  /** Writes out what is buffered. */
  close(): void;
}

/** What lines go to where no directory is configured. */
export interface LineSink {
  write(text: string): unknown;
}

/**
 * Opens the log.
 *
 * @throws ServingError `SRV_IO` when the log directory cannot be written.
 */
export function openLog(config: LogConfig, stderr: LineSink): LogOutput {
  const files = config.dir === undefined ? undefined : openRotatedFile(config.dir, config, stderr);
  const sink: DestinationStream = files ?? { write: (line) => void stderr.write(line) };
  const target: DestinationStream =
    config.format === 'pretty' ? { write: (line) => sink.write(prettyLine(line)) } : sink;
  return {
    logger: pino({ level: config.level, base: null }, target),
    close: () => files?.close(),
  };
}

/** The name of the current log file; older ones have `.1`, `.2` behind it. */
export const logFileName = 'onnx-serving.log';

interface RotatedFile extends DestinationStream {
  close(): void;
}

function openRotatedFile(
  directory: string,
  { maxFileBytes, maxFiles }: Pick<LogConfig, 'maxFileBytes' | 'maxFiles'>,
  stderr: LineSink,
): RotatedFile {
  const file = join(directory, logFileName);
  try {
    makeDirectory(directory);
    const stream = pino.destination({ dest: file, append: true, sync: true });
    // A full disk must not end the server: without a listener the stream's error would.
    stream.on('error', (error) => stderr.write(`The log ${file} cannot be written: ${messageOf(error)}.\n`));
    let size = statSync(file).size;
    return {
      write(line) {
        const bytes = Buffer.byteLength(line);
        if (size > 0 && size + bytes > maxFileBytes) {
          rotate(file, maxFiles);
          stream.reopen();
          size = 0;
        }
        size += bytes;
        stream.write(line);
      },
      close: () => stream.flushSync(),
    };
  } catch (cause) {
    throw new ServingError(
      'SRV_IO',
      `The log directory ${directory} cannot be written: ${messageOf(cause)}.`,
      {
        cause,
      },
    );
  }
}

function rotate(file: string, maxFiles: number): void {
  rmSync(maxFiles === 1 ? file : `${file}.${maxFiles - 1}`, { force: true });
  for (let number = maxFiles - 2; number >= 0; number--) {
    const from = number === 0 ? file : `${file}.${number}`;
    if (statSync(from, { throwIfNoEntry: false })) renameSync(from, `${file}.${number + 1}`);
  }
}

const levelNames: Readonly<Record<number, string>> = {
  10: 'TRACE',
  20: 'DEBUG',
  30: 'INFO',
  40: 'WARN',
  50: 'ERROR',
  60: 'FATAL',
};

/** A JSON line as `08:12:33.123 INFO  message key=value`, the time in UTC. */
export function prettyLine(line: string): string {
  let record: Record<string, unknown>;
  try {
    record = JSON.parse(line) as Record<string, unknown>;
  } catch {
    return line;
  }
  const { level, time, msg, err, ...rest } = record;
  const at = typeof time === 'number' ? new Date(time).toISOString().slice(11, 23) : '';
  const pairs = Object.entries(rest).map(
    ([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
  );
  const head = [at, (levelNames[Number(level)] ?? String(level)).padEnd(5), msg, ...pairs];
  return `${head.filter((part) => part !== '' && part !== undefined).join(' ')}\n${errorLines(err)}`;
}

function errorLines(error: unknown): string {
  if (typeof error !== 'object' || error === null) return '';
  const { stack, message } = error as { stack?: unknown; message?: unknown };
  return `${String(stack ?? message ?? '')
    .split('\n')
    .map((line) => `  ${line}`)
    .join('\n')}\n`;
}
