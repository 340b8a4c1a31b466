import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));
const sources = join(root, 'src');

interface Import {
  /** Importing file, relative to src. */
  readonly from: string;
  /** Imported file relative to src, or the package's name. */
  readonly to: string;
  readonly isTypeOnly: boolean;
}

function filesBelow(directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) return filesBelow(path);
    return entry.name.endsWith('.ts') ? [path] : [];
  });
}

function importsOf(file: string): Import[] {
  const text = readFileSync(file, 'utf8');
  const from = relative(sources, file);
  const statement =
    /(?:^|\n)\s*(import|export)(\s+type)?\s(?:[^'";]*?\sfrom\s)?['"]([^'"]+)['"]|import\(\s*['"]([^'"]+)['"]\s*\)/g;
  return [...text.matchAll(statement)].map((match) => {
    const target = match[3] ?? match[4]!;
    const clause = match[0];
    const names = /\{([^}]*)\}/.exec(clause)?.[1];
    const everyNameIsType =
      names?.split(',').every((name) => name.trim() === '' || name.trim().startsWith('type ')) ?? false;
    const to = target.startsWith('.')
      ? relative(sources, resolve(dirname(file), target)).replace(/\.js$/, '.ts')
      : target;
    return { from, to, isTypeOnly: match[2] !== undefined || everyNameIsType };
  });
}

const imports = filesBelow(sources).flatMap(importsOf);

/** What each room may import, beside itself and the leaves. DESIGN.md says the same in words. */
const rooms: Readonly<Record<string, readonly string[]>> = {
  cli: [
    'server',
    'runtime.ts',
    'config',
    'model',
    'warmup',
    'oip',
    'repository',
    'loadtest',
    'sparse',
    'monitor',
    'publish',
    'remote',
    'package-version.ts',
  ],
  'index.ts': ['server', 'runtime.ts', 'config', 'warmup', 'tensor', 'lifecycle', 'sparse'],
  'runtime.ts': [
    'native',
    'model-service.ts',
    'monitor',
    'traffic',
    'server',
    'model',
    'warmup',
    'batching',
    'instance',
    'repository',
    'lifecycle',
    'config',
    'tensor',
    'sparse',
  ],
  traffic: ['model', 'batching', 'config', 'tensor', 'lifecycle'],
  'model-service.ts': ['server', 'model', 'warmup', 'batching', 'config'],
  server: ['oip', 'tensor', 'native', 'config', 'lifecycle', 'package-version.ts'],
  oip: ['tensor', 'native'],
  warmup: ['oip', 'tensor', 'native', 'config', 'remote', 'protobuf-wire.ts'],
  loadtest: ['runtime.ts', 'tensor', 'config'],
  repository: ['config', 'lifecycle'],
  model: [
    'warmup',
    'oip',
    'protobuf-wire.ts',
    'batching',
    'instance',
    'lifecycle',
    'tensor',
    'native',
    'config',
    'repository',
    'sparse',
  ],
  sparse: ['tensor', 'native', 'config'],
  batching: ['instance', 'tensor'],
  instance: ['tensor', 'native', 'config', 'sparse'],
  lifecycle: [],
  monitor: ['remote', 'config', 'batching', 'native'],
  publish: ['monitor', 'remote', 'config', 'batching', 'model', 'repository', 'sparse'],
  remote: [],
  observe: ['config'],
  config: [],
  tensor: [],
  native: ['tensor'],
  'protobuf-wire.ts': [],
  'file-lock.ts': ['process-identity.ts'],
};
const leaves = ['errors.ts', 'make-directory.ts', 'process-identity.ts', 'file-lock.ts', 'observe'];

const roomOf = (path: string): string => (path.includes('/') ? path.split('/')[0]! : path);

describe('the layers', () => {
  it('let every room import only what lies below it', () => {
    const breaches = imports
      .filter(({ from, to }) => to.endsWith('.ts') && roomOf(from) !== roomOf(to))
      .filter(({ from, to, isTypeOnly }) => {
        const allowed = rooms[roomOf(from)];
        if (leaves.slice(0, 3).includes(roomOf(from)) || allowed === undefined) return true;
        // Plain shapes of configuration entries and of the service are known to those who fill them.
        if (
          isTypeOnly &&
          ['config', 'tensor', 'server/service.ts', 'repository/layout.ts', 'batching/clock.ts'].some(
            (open) => to.startsWith(open),
          )
        ) {
          return false;
        }
        return ![...allowed, ...leaves].includes(roomOf(to));
      })
      .map(({ from, to }) => `${from} imports ${to}`);
    assert.deepEqual(breaches, []);
  });

  it('keep the server on the service interface: only types of it are known outside the server', () => {
    const breaches = imports
      .filter(({ from, to }) => to.startsWith('server/') && roomOf(from) !== 'server')
      .filter(({ from, to, isTypeOnly }) =>
        ['cli', 'index.ts'].includes(roomOf(from)) ? false : !(isTypeOnly && to === 'server/service.ts'),
      )
      .map(({ from, to }) => `${from} imports ${to}`);
    assert.deepEqual(breaches, []);
  });

  it('keep the worker side small, so that a worker starts fast and knows nothing of queues', () => {
    const reached = new Set<string>();
    const walk = (file: string): void => {
      if (reached.has(file)) return;
      reached.add(file);
      for (const { from, to, isTypeOnly } of imports) {
        if (from === file && to.endsWith('.ts') && !isTypeOnly) walk(to);
      }
    };
    walk('instance/worker.ts');
    const allowed =
      /^(instance\/(worker|predictor|file-print|stage-runner|messages|slab|thread-priority)|errors|tensor\/|native\/|sparse\/local-table)/;
    assert.deepEqual(
      [...reached].filter((file) => !allowed.test(file)),
      [],
    );
  });

  it('have no cycle of modules', () => {
    const graph = new Map<string, string[]>();
    for (const { from, to, isTypeOnly } of imports) {
      if (to.endsWith('.ts') && !isTypeOnly) graph.set(from, [...(graph.get(from) ?? []), to]);
    }
    const done = new Set<string>();
    const cycles: string[] = [];
    const walk = (file: string, path: readonly string[]): void => {
      if (path.includes(file)) {
        cycles.push([...path.slice(path.indexOf(file)), file].join(' -> '));
        return;
      }
      if (done.has(file)) return;
      for (const next of graph.get(file) ?? []) walk(next, [...path, file]);
      done.add(file);
    };
    for (const file of graph.keys()) walk(file, []);
    assert.deepEqual(cycles, []);
  });
});

describe('the doors', () => {
  const doors: Readonly<Record<string, readonly string[]>> = {
    piscina: ['instance/instance-group.ts'],
    'onnxruntime-node': ['instance/predictor.ts', 'model/prepare-process.ts'],
    fastify: ['server/'],
    commander: ['cli/'],
    'prom-client': ['observe/metrics.ts'],
    pino: ['observe/logger.ts', 'cli/log-output.ts'],
    yaml: ['config/'],
    'basic-ftp': ['remote/', 'publish/'],
    tar: ['remote/', 'publish/'],
    yauzl: ['remote/'],
    sax: ['remote/'],
  };
  for (const [dependency, allowed] of Object.entries(doors)) {
    it(`lead to ${dependency} from ${allowed.join(' and ')} alone`, () => {
      const breaches = imports
        .filter(({ to, isTypeOnly }) => to === dependency && !isTypeOnly)
        .map(({ from }) => from)
        .filter((from) => !allowed.some((door) => from.startsWith(door)));
      assert.deepEqual([...new Set(breaches)], []);
    });
  }

  it('lead to the addon from native/addon.ts alone', () => {
    const breaches = filesBelow(sources)
      .filter((file) => /\.node['"`]/.test(readFileSync(file, 'utf8')))
      .map((file) => relative(sources, file));
    assert.deepEqual(
      breaches.filter((file) => file !== 'native/addon.ts'),
      [],
    );
  });
});
