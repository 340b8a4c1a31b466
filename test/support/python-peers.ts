/**
 * Servers of others that tests talk to and that come as Python packages: S3 (moto), FTP (pyftpdlib, with pyOpenSSL for TLS),
 * WebDAV (wsgidav).
 *
 * They lie in a virtual environment below node_modules, made on first use, or before by `npm run test:peers`.
 */
import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { takeLock } from '../../src/file-lock.js';

const packages = [
  'moto[server,s3]==5.2.5',
  'pyftpdlib==2.2.0',
  'pyOpenSSL==26.4.0',
  'wsgidav==4.4.0',
  'cheroot==11.1.2',
];
const installWaitMs = 600_000;

const run = promisify(execFile);

/** The Python that has the servers. */
export async function pythonWithPeers(): Promise<string> {
  const digest = createHash('sha256').update(packages.join('\n')).digest('hex').slice(0, 12);
  const caches = fileURLToPath(new URL('../../../node_modules/.cache/', import.meta.url));
  const place = join(caches, `python-peers-${digest}`);
  const python = join(place, 'bin/python');
  const marker = join(place, 'complete');
  if (existsSync(marker)) return python;
  mkdirSync(caches, { recursive: true });
  const release = await takeLock(`${place}.lock`, installWaitMs);
  if (!release) throw new Error(`another process holds ${place}.lock`);
  try {
    if (!existsSync(marker)) {
      await run('python3', ['-m', 'venv', '--clear', place]);
      await run(python, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', ...packages]);
      writeFileSync(marker, '');
    }
  } finally {
    release();
  }
  return python;
}

/** A server of others in a process of its own. */
export interface Peer {
  readonly port: number;
  close(): Promise<void>;
}

/**
 * Starts a server with Python on a free port and waits until it takes connections.
 *
 * @param args for Python, made of the port
 */
export async function startPythonPeer(
  args: (port: number) => readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Peer> {
  const python = await pythonWithPeers();
  const port = await freePort();
  const child = spawn(python, args(port), {
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  const keep = (part: Buffer): void => {
    said = (said + part.toString()).slice(-4000);
  };
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  const ended = once(child, 'close');
  while (!(await answers(port))) {
    if (child.exitCode !== null) throw new Error(`the peer ended before it listened:\n${said}`);
    await new Promise((done) => setTimeout(done, 50));
  }
  return {
    port,
    close: async () => {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

async function answers(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.stdout.write(`${await pythonWithPeers()}\n`);
}
