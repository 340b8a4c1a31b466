/** Which store an address, or the options of a monitor, mean. */
import type { MonitorConfig } from '../config/monitor-settings.js';
import { ServingError } from '../errors.js';
import { HttpStore } from './http-store.js';
import { LocalStore } from './local-store.js';
import { maskedUrl } from './masked-url.js';
import type { RemoteStore } from './remote-store.js';

/**
 * Opens the store at an address: `http://`, `https://`, `file://`. Nothing is sent before it is asked for something.
 *
 * @throws SRV_BAD_CONFIG when no store has such addresses
 */
export function openStoreAt(address: string): RemoteStore {
  const protocol = URL.canParse(address) ? new URL(address).protocol : '';
  switch (protocol) {
    case 'http:':
    case 'https:':
      return new HttpStore(address);
    case 'file:':
      return new LocalStore();
    default:
      throw new ServingError(
        'SRV_BAD_CONFIG',
        `Expected an address that begins with http, https or file, got ${maskedUrl(address)}.`,
      );
  }
}

/** Opens the store that a monitor fetches from. */
export function openMonitorStore(config: MonitorConfig): RemoteStore {
  switch (config.type) {
    case 'general':
      return openStoreAt(withScheme(config.generalHost ?? '', 'http'));
    case 'local':
      return new LocalStore();
    case 'ftp':
    case 'hdfs':
    case 'afs':
      throw new ServingError('SRV_BAD_CONFIG', `The type ${config.type} is not there yet.`);
    default:
      return config.type satisfies never;
  }
}

function withScheme(host: string, scheme: string): string {
  return /^[a-z][a-z\d+.-]*:\/\//i.test(host) ? host : `${scheme}://${host}`;
}
