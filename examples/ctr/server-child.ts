/** A server in a child process, for as long as the demo needs one. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { packageRoot } from './artefacts.js';

/** A running server. */
export interface ServerChild {
  readonly url: string;
  /** Asks it to drain, and waits for its end. */
  close(): Promise<void>;
}

/**
 * Serves a model on a free port of this machine.
 *
 * @param model the model's directory
 * @param name the name to serve it under
 * @throws Error with what the server wrote, when it ends before it listens
 */
export async function startServer(model: string, name: string): Promise<ServerChild> {
  const program = join(packageRoot, 'bin/onnx-serving.js');
  const args = [program, 'serve', '--model', model, '--name', name, '--port', '0'];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = once(child, 'close');
  let text = '';
  const url = await new Promise<string>((resolve, reject) => {
    const read = (part: Buffer): void => {
      text += part;
      const found = /Listening on (http:\S+)/.exec(text)?.[1];
      if (found) resolve(found);
    };
    child.stdout.on('data', read);
    child.stderr.on('data', read);
    child.once('error', reject);
    child.once('close', () => reject(new Error(`the server ended before it listened:\n${text}`)));
  });
  return {
    url,
    close: async () => {
      child.kill('SIGTERM');
      await ended;
    },
  };
}
