/** The places that the tests publish to, each with the options of both ends. */
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { MonitorOptions } from '../../src/config/monitor-settings.js';
import { type PublishOptions, resolvePublishConfig } from '../../src/config/publish-settings.js';
import { openTarget } from '../../src/publish/open-target.js';
import type { PublishTarget } from '../../src/publish/publish-target.js';
import { openStoreAt } from '../../src/remote/open-store.js';
import type { RemoteStore } from '../../src/remote/remote-store.js';
import { startPutServer } from '../support/put-server.js';
import { startPythonPeer } from '../support/python-peers.js';
import { startS3Server } from '../support/s3-server.js';

/** One kind of target. */
export interface TestTarget {
  readonly publish: PublishOptions;
  readonly monitor: MonitorOptions;
  readonly openTarget: (config: ReturnType<typeof resolvePublishConfig>) => PublishTarget;
  /** What the monitor is handed; absent: it opens its store itself. */
  readonly openStore?: () => RemoteStore;
  /** Whether a directory appears at once and takes what was there away. */
  readonly renames: boolean;
  /** Whether two publishers keep out of each other's way. */
  readonly locks: boolean;
  close(): Promise<void>;
}

/** Starts a target of each kind; `directory` is new and empty. */
export const targets: Readonly<Record<string, (directory: string) => Promise<TestTarget>>> = {
  'a directory': async (directory) => ({
    publish: { to: 'file', remotePath: join(directory, 'models') },
    monitor: { type: 'local', remotePath: join(directory, 'models') },
    openTarget,
    renames: true,
    locks: true,
    close: async () => {},
  }),
  'a WebDAV server': async (directory) => {
    mkdirSync(directory, { recursive: true });
    const peer = await startPythonPeer((port) => [
      ...['-m', 'wsgidav.server.server_cli', '--host', '127.0.0.1', '--port', String(port)],
      ...['--root', directory, '--auth', 'anonymous', '--server', 'cheroot', '--no-config', '-q'],
    ]);
    const place = { remotePath: '/deep/models', generalHost: `http://127.0.0.1:${peer.port}` };
    return {
      publish: { to: 'http', ...place },
      monitor: { type: 'general', ...place },
      openTarget,
      renames: true,
      locks: true,
      close: peer.close,
    };
  },
  'a web server that takes PUT alone': async (directory) => {
    mkdirSync(directory, { recursive: true });
    const server = await startPutServer(directory);
    const place = { remotePath: '/models', generalHost: server.address };
    return {
      publish: { to: 'http', ...place },
      monitor: { type: 'general', ...place },
      openTarget,
      renames: false,
      locks: false,
      close: server.close,
    };
  },
  'an FTP server': async (directory) => {
    mkdirSync(directory, { recursive: true });
    const peer = await startPythonPeer((port) => [
      ...['-m', 'pyftpdlib', '--interface', '127.0.0.1', '--port', String(port), '--write'],
      ...['--directory', directory, '--username', 'trainer', '--password', 'secret word'],
    ]);
    const place = {
      remotePath: '/models',
      ftpHost: '127.0.0.1',
      ftpPort: peer.port,
      ftpUsername: 'trainer',
      ftpPassword: 'secret word',
    };
    return {
      publish: { to: 'ftp', ...place },
      monitor: { type: 'ftp', ...place },
      openTarget,
      renames: true,
      locks: true,
      close: peer.close,
    };
  },
  'a bucket': async () => {
    const server = await startS3Server();
    const place = { remotePath: '/some/models', generalHost: 's3://models/base' };
    return {
      publish: { to: 's3', ...place },
      monitor: { type: 'general', ...place },
      openTarget: (config) => openTarget(config, server.env),
      openStore: () => openStoreAt(place.generalHost, server.env),
      renames: false,
      locks: true,
      close: server.close,
    };
  },
};

/** A target of an already started kind. */
export function openTestTarget(target: TestTarget): PublishTarget {
  return target.openTarget(resolvePublishConfig(target.publish));
}

/** The files below a directory with their texts, hidden ones and stamp files left out. */
export function filesOf(directory: string): Record<string, string> {
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true });
  return Object.fromEntries(
    entries
      .filter((entry) => entry.isFile() && entry.name !== 'fluid_time_file')
      .map((entry) => {
        const path = join(entry.parentPath, entry.name);
        return [path.slice(directory.length + 1), readFileSync(path, 'latin1')] as const;
      })
      .toSorted(([a], [b]) => (a < b ? -1 : 1)),
  );
}
