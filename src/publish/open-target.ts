/** Which target the options of a publisher mean. */
import type { PublishConfig } from '../config/publish-settings.js';
import { ServingError } from '../errors.js';
import { maskedUrl } from '../remote/masked-url.js';
import { readS3Address } from '../remote/s3-place.js';
import { FileTarget } from './file-target.js';
import { FtpTarget, type FtpTargetAccess } from './ftp-target.js';
import { HadoopTarget } from './hadoop-target.js';
import { HttpTarget } from './http-target.js';
import type { PublishTarget } from './publish-target.js';
import { S3Target } from './s3-target.js';
import { WebHdfsTarget } from './webhdfs-target.js';

/**
 * Opens a target. Nothing is sent before it is asked for something.
 *
 * @param env where the credentials of buckets are
 */
export function openTarget(
  config: PublishConfig,
  env: Readonly<Record<string, string | undefined>> = process.env,
): PublishTarget {
  const { generalHost = '' } = config;
  switch (config.to) {
    case 'file':
      return new FileTarget();
    case 'http':
      return new HttpTarget(generalHost);
    case 's3':
      return new S3Target(readS3Address(generalHost, env));
    case 'ftp':
      return new FtpTarget(ftpAccess(config));
    case 'hdfs': {
      const { hadoopBin, fsName, fsUgi } = config;
      return hadoopBin === undefined
        ? new WebHdfsTarget(fsName, fsUgi.split(',')[0])
        : new HadoopTarget({ bin: hadoopBin, fsName, fsUgi });
    }
    default:
      return config.to satisfies never;
  }
}

/** `ftps` asks for TLS on the usual port, and begins with it on port 990. */
function ftpAccess({ ftpHost = '', ftpPort, ftpUsername, ftpPassword }: PublishConfig): FtpTargetAccess {
  const address = /^[a-z]+:\/\//i.test(ftpHost) ? ftpHost : `ftp://${ftpHost}`;
  const url = URL.canParse(address) ? new URL(address) : undefined;
  if (!url || !['ftp:', 'ftps:'].includes(url.protocol)) {
    throw new ServingError(
      'SRV_BAD_CONFIG',
      `ftp_host: expected a host, ftp://host or ftps://host, got ${maskedUrl(address)}.`,
    );
  }
  const port = url.port === '' ? ftpPort : Number(url.port);
  const username = ftpUsername === '' ? decodeURIComponent(url.username) : ftpUsername;
  return {
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port,
    ...(username === ''
      ? {}
      : { username, password: ftpPassword === '' ? decodeURIComponent(url.password) : ftpPassword }),
    ...(url.protocol === 'ftps:' ? { tls: port === 990 ? 'implicit' : 'explicit' } : {}),
  };
}
