import { appendFileSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf } from '../errors.js';
import { makeDirectory } from '../make-directory.js';
import { closeCrashJournal, openCrashJournal } from '../native/binding.js';

/** A version as the journal remembers it. */
export interface JournalModel {
  /** Identity of the version within its process. */
  readonly id: number;
  /** Content hash of the model: a model is blamed for as long as its file does not change. */
  readonly digest: string;
  readonly name: string;
  readonly version: number;
}

/** A process that ended by a fatal signal, and the models that its crashed thread was running. */
export interface CrashRecord {
  readonly signal: number;
  readonly models: readonly JournalModel[];
}

/** What a model did, over all processes that share a cache directory. */
interface QuarantineEntry {
  readonly name: string;
  /** ISO times at which a process ended while running the model. */
  readonly ends: readonly string[];
  readonly lastSignal: number;
}

const endsBeforeQuarantine = 2;
const magic = 0x4a53584f;
const headerWords = 8;

/**
 * Remembers across process ends which models crash the engine while they run.
 *
 * Each process keeps a mapped journal of what its threads run. The next start reads the journals of processes that
 * are gone, counts the ends of each model, and a model with two of them is not loaded again.
 */
export class CrashMemory {
  readonly #directory: string;
  readonly #ownName: string;
  readonly #isAlive: (identity: string) => boolean;
  #ends = new Map<string, QuarantineEntry>();
  #isOpen = false;

  /**
   * @param options.directory where journals lie; made when it is missing
   * @param options.identity name of this process, which `isAlive` understands
   */
  constructor(options: {
    readonly directory: string;
    readonly identity: string;
    readonly isAlive: (identity: string) => boolean;
  }) {
    this.#directory = options.directory;
    this.#ownName = options.identity;
    this.#isAlive = options.isAlive;
  }

  /**
   * Reads what earlier processes left and opens the journal of this one.
   *
   * @returns why nothing will be remembered, or undefined when all is well
   */
  open(): string | undefined {
    try {
      makeDirectory(this.#directory);
      this.#ends = this.#readQuarantine();
      const crashes = this.#collectCrashes();
      for (const crash of crashes) this.#count(crash);
      if (crashes.length > 0) this.#writeQuarantine();
      openCrashJournal(this.#journalFile(this.#ownName));
      writeFileSync(this.#modelsFile(this.#ownName), '', { mode: 0o600 });
      this.#isOpen = true;
      return undefined;
    } catch (error) {
      return messageOf(error);
    }
  }

  /**
   * Notes which model an identity stands for, before it is run.
   *
   * @param onFailure told why it cannot be noted, as on a full disk: that costs the memory and not the model
   * @returns the number that runs are to be noted under; 0 for not at all
   */
  remember(model: JournalModel, onFailure: (reason: string) => void = () => undefined): number {
    if (!this.#isOpen) return 0;
    const file = this.#modelsFile(this.#ownName);
    try {
      // On a line of its own, whatever was left of one that a full disk cut.
      appendFileSync(file, `\n${JSON.stringify(model)}\n`);
      return model.id;
    } catch (error) {
      onFailure(`it will not be known should it end the process: ${file}: ${messageOf(error)}`);
      return 0;
    }
  }

  /** Why a model is not to be loaded; undefined when it may be. */
  quarantineReason(digest: string): string | undefined {
    const entry = this.#ends.get(digest);
    if (!entry || entry.ends.length < endsBeforeQuarantine) return undefined;
    return (
      `${entry.ends.length} processes ended by signal ${entry.lastSignal} while they ran it, the last at ` +
      `${entry.ends.at(-1)}; it is loaded again when its file changes, or when ${this.#quarantineFile()} is deleted`
    );
  }

  /** Ends the journal: whatever happens later in this process blames no model. */
  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    closeCrashJournal();
    rmSync(this.#journalFile(this.#ownName), { force: true });
    rmSync(this.#modelsFile(this.#ownName), { force: true });
  }

  #collectCrashes(): readonly CrashRecord[] {
    const crashes: CrashRecord[] = [];
    for (const file of readdirSync(this.#directory)) {
      const name = /^(.+)\.journal$/.exec(file)?.[1];
      if (name === undefined || name === this.#ownName || this.#isAlive(name)) continue;
      const crash = readCrash(this.#journalFile(name), this.#modelsFile(name));
      if (crash) crashes.push(crash);
      rmSync(this.#journalFile(name), { force: true });
      rmSync(this.#modelsFile(name), { force: true });
    }
    return crashes;
  }

  #count(crash: CrashRecord): void {
    for (const { digest, name } of crash.models) {
      const before = this.#ends.get(digest)?.ends ?? [];
      this.#ends.set(digest, {
        name,
        ends: [...before, new Date().toISOString()],
        lastSignal: crash.signal,
      });
    }
  }

  #readQuarantine(): Map<string, QuarantineEntry> {
    try {
      const entries = JSON.parse(readFileSync(this.#quarantineFile(), 'utf8')) as Record<
        string,
        QuarantineEntry
      >;
      return new Map(Object.entries(entries).filter(([, entry]) => Array.isArray(entry?.ends)));
    } catch {
      // A first start, or a file that somebody broke: the count begins anew.
      return new Map();
    }
  }

  #writeQuarantine(): void {
    const temporary = `${this.#quarantineFile()}.${this.#ownName}`;
    writeFileSync(temporary, `${JSON.stringify(Object.fromEntries(this.#ends), undefined, 2)}\n`);
    renameSync(temporary, this.#quarantineFile());
  }

  #quarantineFile(): string {
    return join(this.#directory, 'quarantine.json');
  }

  #journalFile(name: string): string {
    return join(this.#directory, `${name}.journal`);
  }

  #modelsFile(name: string): string {
    return join(this.#directory, `${name}.models`);
  }
}

/**
 * What a journal tells of the end of its process; undefined when no signal ended it or nothing was being run. A
 * thread of the engine's own may be the one that crashed: then every model in flight is blamed.
 */
export function readCrash(journalFile: string, modelsFile: string): CrashRecord | undefined {
  const bytes = readFileSync(journalFile);
  const words = new Uint32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + (bytes.length & ~3)));
  const signal = words[2];
  if (words[0] !== magic || !signal) return undefined;
  const running: { readonly thread: number; readonly id: number }[] = [];
  for (let at = headerWords; at + 1 < words.length; at += 2) {
    if (words[at + 1]) running.push({ thread: words[at]!, id: words[at + 1]! });
  }
  const own = running.filter(({ thread }) => thread === words[3]);
  const blamed = new Set((own.length > 0 ? own : running).map(({ id }) => id));
  const models = readFileSync(modelsFile, 'utf8')
    .split('\n')
    .flatMap(parseModel)
    .filter(({ id }) => blamed.has(id));
  return models.length > 0 ? { signal, models } : undefined;
}

/** Of a line that was cut, by a full disk, nothing is left. */
function parseModel(line: string): readonly JournalModel[] {
  try {
    return [JSON.parse(line) as JournalModel];
  } catch {
    return [];
  }
}
