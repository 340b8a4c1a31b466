import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { messageOf } from '../errors.js';
import { makeDirectory } from '../make-directory.js';
import type { Logger } from '../observe/logger.js';

/** What changes of the running server have to outlive it. Plain JSON, a part for each of those who keep something. */
export interface StateStore {
  /** What was kept under a name; undefined for nothing. The caller checks its form. */
  get(part: string): unknown;
  /** Keeps a value instead of the one before; undefined for nothing. */
  set(part: string, value: unknown): void;
}

/** Forgets everything with the process. */
export class MemoryState implements StateStore {
  readonly #parts = new Map<string, unknown>();

  get(part: string): unknown {
    return this.#parts.get(part);
  }

  set(part: string, value: unknown): void {
    this.#parts.set(part, value);
  }
}

/**
 * A JSON file, written whole and renamed with every change. A file that cannot be read or written is told in the log
 * and costs what it would have kept, not the service.
 */
export class StateFile implements StateStore {
  readonly #path: string;
  readonly #logger: Logger;
  #parts: Record<string, unknown>;

  constructor(path: string, logger: Logger) {
    this.#path = path;
    this.#logger = logger;
    this.#parts = this.#read();
  }

  get(part: string): unknown {
    return Object.hasOwn(this.#parts, part) ? this.#parts[part] : undefined;
  }

  set(part: string, value: unknown): void {
    if (JSON.stringify(value) === JSON.stringify(this.get(part))) return;
    this.#parts = { ...this.#parts, [part]: value };
    const staged = `${this.#path}.${process.pid}`;
    try {
      makeDirectory(dirname(this.#path));
      writeFileSync(staged, `${JSON.stringify(this.#parts, undefined, 2)}\n`, { mode: 0o600 });
      renameSync(staged, this.#path);
    } catch (error) {
      this.#logger.error(`the state is not kept over a restart: ${this.#path}: ${messageOf(error)}`);
      try {
        rmSync(staged, { force: true });
      } catch {
        // Where no file can be, none is left.
      }
    }
  }

  #read(): Record<string, unknown> {
    let text: string;
    try {
      text = readFileSync(this.#path, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
        this.#logger.error(`the state of before is lost: ${messageOf(error)}`);
      }
      return {};
    }
    try {
      const value: unknown = JSON.parse(text);
      if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ...value };
      throw new Error('expected an object');
    } catch (error) {
      this.#logger.error(`the state of before is lost: ${this.#path}: ${messageOf(error)}`);
      return {};
    }
  }
}
