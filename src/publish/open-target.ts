/** Which target the options of a publisher mean. */
import type { PublishConfig } from '../config/publish-settings.js';
import { ServingError } from '../errors.js';
import { readFtpAddress } from '../remote/ftp-connection.js';
import { readS3Address } from '../remote/s3-place.js';
import { FileTarget } from './file-target.js';
import { FtpTarget } from './ftp-target.js';
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
      return openFtp(config);
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

function openFtp({ ftpHost = '', ftpPort, ftpUsername, ftpPassword }: PublishConfig): FtpTarget {
  const access = readFtpAddress(ftpHost, { port: ftpPort, username: ftpUsername, password: ftpPassword });
  if (access.directory === undefined) return new FtpTarget(access);
  throw new ServingError(
    'SRV_BAD_CONFIG',
    `ftp_host: expected a host, got one with the path ${access.directory}, which belongs into remote_path.`,
  );
}
