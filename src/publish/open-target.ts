/** Which target the options of a publisher mean. */
import type { PublishConfig } from '../config/publish-settings.js';
import { ServingError } from '../errors.js';
import { readS3Address } from '../remote/s3-place.js';
import { FileTarget } from './file-target.js';
import { HttpTarget } from './http-target.js';
import type { PublishTarget } from './publish-target.js';
import { S3Target } from './s3-target.js';

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
    case 'hdfs':
      throw new ServingError('SRV_BAD_CONFIG', `The target ${config.to} is not there yet.`);
    default:
      return config.to satisfies never;
  }
}
