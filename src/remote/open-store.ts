/** Which store an address, or the options of a monitor, mean. */
import type { MonitorConfig } from '../config/monitor-settings.js';
import { ServingError } from '../errors.js';
import { readFtpAddress } from './ftp-connection.js';
import { FtpStore } from './ftp-store.js';
import { HadoopStore } from './hadoop-store.js';
import { HttpStore } from './http-store.js';
import { LocalStore } from './local-store.js';
import { maskedUrl } from './masked-url.js';
import type { RemoteStore } from './remote-store.js';
import { readS3Address } from './s3-place.js';
import { S3Store } from './s3-store.js';
import { WebHdfsStore } from './webhdfs-store.js';

/**
 * Opens the store at an address: `http://`, `https://`, `ftp://`, `ftps://`, `webhdfs://`, `swebhdfs://`, `file://`,
 * `s3://`, `oss://`. Nothing is sent before it is asked for something.
 *
 * @param env where the credentials of buckets are
 * @throws SRV_BAD_CONFIG when no store has such addresses
 */
export function openStoreAt(
  address: string,
  env: Readonly<Record<string, string | undefined>> = process.env,
): RemoteStore {
  const url = URL.canParse(address) ? new URL(address) : undefined;
  switch (url?.protocol) {
    case 'http:':
    case 'https:':
      return new HttpStore(address);
    case 'ftp:':
    case 'ftps:':
      return new FtpStore(readFtpAddress(address));
    case 'webhdfs:':
    case 'swebhdfs:':
      return new WebHdfsStore(address);
    case 'file:':
      return new LocalStore();
    case 's3:':
    case 'oss:':
      return new S3Store(readS3Address(address, env));
    default:
      throw new ServingError(
        'SRV_BAD_CONFIG',
        `Expected an address that begins with http, https, ftp, ftps, webhdfs, swebhdfs, file, s3 or oss, got ${maskedUrl(address)}.`,
      );
  }
}

/** Opens the store that a monitor fetches from. @throws SRV_BAD_CONFIG when its address is none */
export function openMonitorStore(config: MonitorConfig): RemoteStore {
  const { generalHost = '', ftpHost = '', hadoopBin, fsName, fsUgi } = config;
  switch (config.type) {
    case 'general':
      return openStoreAt(withScheme(generalHost, 'http'));
    case 'local':
      return new LocalStore();
    case 'ftp': {
      const { ftpPort, ftpUsername, ftpPassword } = config;
      return new FtpStore(
        readFtpAddress(ftpHost, { port: ftpPort, username: ftpUsername, password: ftpPassword }),
      );
    }
    case 'hdfs':
    case 'afs':
      return hadoopBin === undefined
        ? new WebHdfsStore(fsName, fsUgi.split(',')[0])
        : new HadoopStore({ bin: hadoopBin, fsName, fsUgi });
    default:
      return config.type satisfies never;
  }
}

function withScheme(host: string, scheme: string): string {
  return /^[a-z][a-z\d+.-]*:\/\//i.test(host) ? host : `${scheme}://${host}`;
}
