/** The real command line in a process of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';

/** The package's root. */
export const packageRoot = fileURLToPath(new URL('../../../', import.meta.url));

/** How a process is started. */
export interface ServerProcessOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** The user it runs as; only root may set it. */
  readonly uid?: number;
}

/** A process of `onnx-serving`; killed after the test at the latest. */
export class ServerProcess {
  /** What it has written so far. */
  out = '';
  err = '';
  /** Its exit code, or the signal that ended it. */
  readonly ended: Promise<number | NodeJS.Signals>;
  readonly #child: ChildProcess;

  constructor(t: TestContext, args: readonly string[], options: ServerProcessOptions = {}) {
    const child = spawn(process.execPath, [join(packageRoot, 'bin/onnx-serving.js'), ...args], {
      cwd: options.cwd ?? packageRoot,
      env: { ...process.env, ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
      ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.uid }),
    });
    this.#child = child;
    child.stdout.on('data', (chunk) => {
      this.out += chunk;
    });
    child.stderr.on('data', (chunk) => {
      this.err += chunk;
    });
    this.ended = new Promise((resolve) => child.once('close', (code, signal) => resolve(code ?? signal!)));
    t.after(async () => {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
      await this.ended;
    });
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** Everything that it has written. */
  get text(): string {
    return `${this.out}\n${this.err}`;
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /**
   * The URL, once it listens.
   *
   * @throws what it wrote, when it ends before that
   */
  async listening(): Promise<string> {
    let hasEnded = false;
    void this.ended.then(() => {
      hasEnded = true;
    });
    for (;;) {
      const url = /Listening on (http:\S+)/.exec(this.out)?.[1];
      if (url) return url;
      if (hasEnded) throw new Error(`it ended before it listened: ${this.text}`);
      await Promise.race([once(this.#child.stdout!, 'data'), this.ended]);
    }
  }

  /** Waits until it has written a line that fits. */
  async written(pattern: RegExp): Promise<void> {
    let hasEnded = false;
    void this.ended.then(() => {
      hasEnded = true;
    });
    while (!pattern.test(this.text)) {
      if (hasEnded) throw new Error(`it ended before it wrote ${pattern}: ${this.text}`);
      await Promise.race([once(this.#child.stdout!, 'data'), once(this.#child.stderr!, 'data'), this.ended]);
    }
  }
}
