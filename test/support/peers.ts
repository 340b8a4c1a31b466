/** Servers of other projects that stores are tested against; `test/peers/install.sh` brings what they need. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { takeLock } from '../../src/file-lock.js';
import { makeDirectory } from '../../src/make-directory.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const peers = join(root, 'test/peers');
const installMs = 540_000;

/** A running server. */
export interface Peer {
  /** What it printed behind READY. */
  readonly facts: readonly string[];
  close(): Promise<void>;
}

/** Test files run side by side: one of them installs, the others wait for it. */
async function install(name: 'ftp' | 'hdfs'): Promise<string> {
  makeDirectory(join(root, '.peers'), 0o755);
  const unlock = await takeLock(join(root, `.peers/${name}.lock`), installMs);
  try {
    const { status, stderr } = spawnSync('bash', [join(peers, 'install.sh'), name], { encoding: 'utf8' });
    if (status !== 0) throw new Error(`test/peers/install.sh ${name} failed: ${stderr}`);
    return join(root, '.peers', name);
  } finally {
    unlock?.();
  }
}

async function start(command: string, args: readonly string[]): Promise<Peer> {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  let errors = '';
  child.stderr.on('data', (text: Buffer) => {
    errors = (errors + text.toString()).slice(-4000);
  });
  const ended = new Promise<void>((done) => child.once('close', () => done()));
  const facts = await new Promise<string[]>((resolve, reject) => {
    createInterface(child.stdout).on('line', (line) => {
      if (line.startsWith('READY ')) resolve(line.split(' ').slice(1));
    });
    child.once('error', reject);
    void ended.then(() => reject(new Error(`${command} ended before it was ready: ${errors}`)));
  });
  return { facts, close: () => endOf(child, ended) };
}

async function endOf(child: ChildProcess, ended: Promise<void>): Promise<void> {
  child.stdin?.end();
  const timer = setTimeout(() => child.kill('SIGKILL'), 10_000);
  await ended;
  clearTimeout(timer);
}

/** pyftpdlib on a directory, for that user and for anonymous ones. */
export async function startFtp(
  directory: string,
  user: string,
  password: string,
): Promise<Peer & { readonly port: number }> {
  const home = await install('ftp');
  const script = join(peers, 'ftp_server.py');
  const peer = await start(join(home, 'bin/python'), [script, directory, user, password]);
  return { ...peer, port: Number(peer.facts[0]) };
}

/** An HDFS of one name node and one data node. */
export interface HdfsPeer extends Peer {
  /** `hdfs://localhost:PORT` */
  readonly fsName: string;
  /** `localhost:PORT` of WebHDFS. */
  readonly httpHost: string;
  /** The `hadoop` program. */
  readonly hadoopBin: string;
}

/** Starts Hadoop's own small cluster. */
export async function startHdfs(): Promise<HdfsPeer> {
  const jars = await install('hdfs');
  const directory = mkdtempSync(join(tmpdir(), 'onnx-serving-hdfs-'));
  const args = [
    '-Xmx512m',
    '-XX:TieredStopAtLevel=1',
    '-cp',
    `${jars}/*`,
    join(peers, 'MiniHdfs.java'),
    directory,
  ];
  const peer = await start('java', args);
  const [port, httpHost] = peer.facts;
  return {
    ...peer,
    fsName: `hdfs://localhost:${port}`,
    httpHost: httpHost!,
    hadoopBin: join(peers, 'hadoop'),
    close: async () => {
      await peer.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** `python3 -m http.server` on a directory. */
export async function startPythonHttp(directory: string): Promise<Peer & { readonly address: string }> {
  const script = `
import http.server, sys, threading, os
os.chdir(sys.argv[1])
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
print('READY', server.server_address[1], flush=True)
server.serve_forever()
`;
  const peer = await start('python3', ['-c', script, directory]);
  return { ...peer, address: `http://127.0.0.1:${peer.facts[0]}` };
}
