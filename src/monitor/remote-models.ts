/** Models whose place is an address: they are fetched into the cache, and fetched anew when they change. */
import { createHash } from 'node:crypto';
import { basename, join, posix } from 'node:path';
import { checkMonitorOptions, type MonitorConfig } from '../config/monitor-settings.js';
import { isAddress } from '../config/place.js';
import type { ModelOption, PlacedModel } from '../config/schema.js';
import { ServingError } from '../errors.js';
import { maskedUrl } from '../remote/masked-url.js';

/** What becomes of the models of a configuration. */
export interface PlacedModels {
  /** All of them, each at a place of this machine. */
  readonly models: readonly PlacedModel[];
  /** What brings those that lie elsewhere. */
  readonly monitors: readonly MonitorConfig[];
}

/** Files that are a model by themselves: they are there when they are, and change when their stamp does. */
const aloneEndings = ['.onnx', '.tar', '.tar.gz', '.tgz', '.zip'];
/** The file in a remote directory that its publisher writes last. */
const doneFile = 'fluid_time_file';

/**
 * Gives models at addresses a place in the cache, as version directories, and the monitors that fill it: a file is
 * fetched when its ETag, or what its store has instead, changes; a directory when `fluid_time_file` in it does.
 *
 * @param options.directory below which they are kept; what is there from before is served at once
 * @throws SRV_BAD_CONFIG for an address that names no file and no directory
 */
export function placeModels(
  models: readonly ModelOption[],
  options: { readonly directory: string; readonly intervalS: number },
): PlacedModels {
  const monitors: MonitorConfig[] = [];
  const placed = models.map((model) => {
    if (!isAddress(model.path)) return model;
    const monitor = monitorOf(model, options);
    monitors.push(monitor);
    const { localPath, localModelName: name } = monitor;
    return { path: join(localPath, name), name, address: maskedUrl(model.path) };
  });
  return { models: placed, monitors };
}

function monitorOf(
  { path: address, name }: ModelOption,
  { directory, intervalS }: { readonly directory: string; readonly intervalS: number },
): MonitorConfig {
  const url = URL.canParse(address) ? new URL(address) : undefined;
  const remote = decodeURIComponent(url?.pathname ?? '').replace(/\/+$/, '');
  if (!url || remote === '') {
    throw new ServingError(
      'SRV_BAD_CONFIG',
      `expected the address of a model, such as https://host/ranker.onnx or s3://bucket/ranker, got ${maskedUrl(address)}`,
    );
  }
  const file = posix.basename(remote);
  const ending = aloneEndings.find((one) => file.toLowerCase().endsWith(one));
  const checked = checkMonitorOptions({
    generalHost: `${url.protocol}//${url.username ? `${url.username}${url.password ? `:${url.password}` : ''}@` : ''}${url.host}${url.search}`,
    remotePath: posix.dirname(remote),
    remoteModelName: file,
    remoteDonefileName: ending === undefined ? `${file}/${doneFile}` : file,
    localPath: join(directory, createHash('sha256').update(address).digest('hex').slice(0, 16)),
    localModelName: name ?? (ending === undefined ? file : basename(file, file.slice(-ending.length))),
    layout: 'versions',
    intervalS,
  });
  if ('config' in checked) return checked.config;
  throw new ServingError('SRV_BAD_CONFIG', `${maskedUrl(address)}: ${checked.problems.join('; ')}`);
}
