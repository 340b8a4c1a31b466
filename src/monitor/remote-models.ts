/** Models whose place is an address: they are fetched into the cache, and fetched anew when they change. */
import { createHash } from 'node:crypto';
import { basename, join, posix } from 'node:path';
import { checkMonitorOptions, type MonitorConfig } from '../config/monitor-settings.js';
import type { ModelOption } from '../config/schema.js';
import { ServingError } from '../errors.js';
import { maskedUrl, placeOfAddress, unescaped } from '../remote/masked-url.js';
import type { Monitor } from './monitor.js';
import type { Monitors } from './monitors.js';

/** A model at an address. */
export interface RemoteModelOption<Policy> extends ModelOption {
  /** Which of its versions are wanted; absent: what its own settings say, else the highest. */
  readonly policy?: Policy | undefined;
}

/** What remote models work with. */
export interface RemoteModelsOptions<Policy> {
  /** Below which they are kept; what is there from before is served at once. */
  readonly directory: string;
  readonly intervalS: number;
  readonly monitors: Monitors;
  /** Which of the versions that are there a policy wants; without one, what the settings in the directory say. */
  readonly chooseVersions: (
    directory: string,
    policy: Policy | undefined,
    present: readonly number[],
  ) => Promise<ReadonlySet<number>>;
}

/** Files that are a model by themselves: they are there when they are, and change when their stamp does. */
const aloneEndings = ['.onnx', '.tar', '.tar.gz', '.tgz', '.zip'];
/** The file in a remote directory that its publisher writes last. */
const doneFile = 'fluid_time_file';

interface Followed<Policy> {
  readonly monitor: Monitor;
  policy: Policy | undefined;
}

/**
 * The models of a list, which may become another one: each has a place in the cache, with version directories, and a
 * monitor that fills it. A file is fetched when its ETag, or what its store has instead, changes; a directory when
 * `fluid_time_file` in it does; of a directory of version directories those that are wanted.
 */
export class RemoteModels<Policy> {
  readonly #options: RemoteModelsOptions<Policy>;
  readonly #followed = new Map<string, Followed<Policy>>();

  constructor(options: RemoteModelsOptions<Policy>) {
    this.#options = options;
  }

  /**
   * The directory of this machine that a model is fetched to, and its name, which no address tells.
   *
   * @throws SRV_BAD_CONFIG for an address that names no file and no directory, or that no store has
   */
  placedAt(model: ModelOption): { readonly path: string; readonly name: string } {
    const { monitors } = this.#options;
    const config = monitorOf(model, this.#options);
    const path = join(config.localPath, config.localModelName);
    // Making one finds what is wrong with the address.
    if (!this.#followed.has(path)) monitors.make(config);
    return { path, name: config.localModelName };
  }

  /**
   * Brings these models from now on, and those of before that are not among them no longer. What was fetched of them stays.
   *
   * @throws SRV_BAD_CONFIG when an address is none; then all is as before
   */
  follow(models: readonly RemoteModelOption<Policy>[]): void {
    const { monitors, chooseVersions } = this.#options;
    const next = new Map<string, Followed<Policy>>();
    for (const model of models) {
      const config = monitorOf(model, this.#options);
      const target = join(config.localPath, config.localModelName);
      const before = this.#followed.get(target) ?? next.get(target);
      const one: Followed<Policy> = before ?? {
        monitor: monitors.make(config, (present) => chooseVersions(target, one.policy, present)),
        policy: model.policy,
      };
      next.set(target, one);
    }
    for (const model of models) {
      const one = next.get(this.placedAt(model).path)!;
      const isAnother = JSON.stringify(one.policy) !== JSON.stringify(model.policy);
      one.policy = model.policy;
      if (isAnother) one.monitor.wake();
    }
    for (const [target, { monitor }] of this.#followed) {
      if (!next.has(target)) void monitors.end(target, monitor);
    }
    this.#followed.clear();
    for (const [target, one] of next) {
      this.#followed.set(target, one);
      monitors.begin(one.monitor);
    }
  }
}

function monitorOf(
  { path: address, name }: ModelOption,
  { directory, intervalS }: { readonly directory: string; readonly intervalS: number },
): MonitorConfig {
  const { host, path } = readAddress(address);
  if (path === '') {
    throw new ServingError(
      'SRV_BAD_CONFIG',
      `expected the address of a model, such as https://host/ranker.onnx or s3://bucket/ranker, got ${maskedUrl(address)}`,
    );
  }
  return monitorAt({
    address,
    host,
    path,
    name,
    intervalS,
    localPath: join(directory, placeName(address)),
  });
}

/** An address in two parts: what a monitor takes for its host, and the path in it, without a slash at its end. */
export function readAddress(address: string): { readonly host: string; readonly path: string } {
  const url = URL.canParse(address) ? new URL(address) : undefined;
  if (!url) {
    throw new ServingError(
      'SRV_BAD_CONFIG',
      `expected an address such as https://host/path or s3://bucket/path, got ${maskedUrl(address)}`,
    );
  }
  const { protocol, username, password, host, search } = url;
  const user = username === '' ? '' : `${username}${password === '' ? '' : `:${password}`}@`;
  return {
    host: `${protocol}//${user}${host}${search}`,
    path: unescaped(url.pathname, address).replace(/\/+$/, ''),
  };
}

/** What tells the place of one address in the cache from that of another. It stays when a password or a token is replaced. */
export function placeName(address: string): string {
  return createHash('sha256').update(placeOfAddress(address)).digest('hex').slice(0, 16);
}

/**
 * The monitor of the model at a path of a host.
 *
 * @throws SRV_BAD_CONFIG
 */
export function monitorAt({
  address,
  host,
  path,
  name,
  ...options
}: {
  /** What messages call it, once secrets are masked. */
  readonly address: string;
  readonly host: string;
  readonly path: string;
  readonly name: string | undefined;
  readonly intervalS: number;
  readonly localPath: string;
  readonly localTmpPath?: string;
}): MonitorConfig {
  const file = posix.basename(path);
  const ending = aloneEndings.find((one) => file.toLowerCase().endsWith(one));
  const checked = checkMonitorOptions({
    ...options,
    generalHost: host,
    remotePath: posix.dirname(path),
    remoteModelName: file,
    remoteDonefileName: ending === undefined ? `${file}/${doneFile}` : file,
    localModelName: name ?? (ending === undefined ? file : basename(file, file.slice(-ending.length))),
    layout: 'versions',
  });
  if ('config' in checked) return checked.config;
  throw new ServingError('SRV_BAD_CONFIG', `${maskedUrl(address)}: ${checked.problems.join('; ')}`);
}
