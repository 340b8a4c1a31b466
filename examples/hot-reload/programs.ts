/** The programs of the example, each in a process of its own that ends with it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../../', import.meta.url));

/** A running program. */
export interface Program {
  /** The first match in what it has written, waiting for it. @throws Error with what it wrote when it ends before */
  said(pattern: RegExp): Promise<string>;
  /** Asks it to end, and waits for that. */
  close(): Promise<void>;
}

/** Starts `node FILE ...`, with the file relative to the package. @param onLine is given each line that it writes */
export function startProgram(args: readonly string[], onLine: (line: string) => void = () => {}): Program {
  const child: ChildProcess = spawn(process.execPath, [...args], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
    // Ctrl-C in a terminal is for the example alone: the server must answer what is under way first.
    detached: true,
  });
  let text = '';
  let left = '';
  const ended = once(child, 'close');
  const onExit = (): void => void child.kill('SIGKILL');
  process.once('exit', onExit);
  void ended.then(() => process.off('exit', onExit));
  const waiting = new Set<() => void>();
  const read = (part: Buffer): void => {
    text = (text + part.toString()).slice(-64 * 1024);
    const lines = (left + part.toString()).split('\n');
    left = lines.pop() ?? '';
    for (const line of lines) onLine(line);
    for (const look of waiting) look();
  };
  child.stdout?.on('data', read);
  child.stderr?.on('data', read);
  return {
    said: (pattern) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          const found = pattern.exec(text);
          if (!found) return;
          waiting.delete(look);
          resolve(found[1] ?? found[0]);
        };
        waiting.add(look);
        look();
        void ended.then(() => reject(new Error(`${args.join(' ')} ended:\n${text}`)));
      }),
    close: async () => {
      child.kill('SIGTERM');
      await ended;
    },
  };
}
