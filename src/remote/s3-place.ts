/** Where a bucket is and who asks for it: what `s3://` and `oss://` addresses and the environment say together. */
import { ServingError } from '../errors.js';
import type { S3Credentials } from './s3-signature.js';

/** A bucket with all that a request to it needs. */
export interface S3Place {
  /** `s3://bucket`, as messages have it. */
  readonly label: string;
  readonly bucket: string;
  /** What stands behind the bucket in the address: `/models/ctr`, or nothing. */
  readonly path: string;
  readonly endpoint: URL;
  readonly region: string;
  /** Whether the bucket is the first part of the host's name, rather than of the path. */
  readonly isVirtualHost: boolean;
  /** Absent: requests are not signed, as for buckets that are open to everybody. */
  readonly credentials?: S3Credentials;
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Reads an address `s3://bucket/path` or `oss://bucket/path`. Endpoint, region and credentials come from the variables
 * that the AWS tools read (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`,
 * `AWS_DEFAULT_REGION`, `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`), those of `oss:` from the ones of Alibaba's
 * (`OSS_ACCESS_KEY_ID`, `OSS_ACCESS_KEY_SECRET`, `OSS_SESSION_TOKEN`, `OSS_REGION`, `OSS_ENDPOINT`). An endpoint of one's
 * own is asked as `endpoint/bucket`, unless `ONNX_SERVING_S3_ADDRESSING` is `virtual`; AWS and OSS as `bucket.endpoint`.
 *
 * @throws SRV_BAD_CONFIG
 */
export function readS3Address(address: string, env: Environment): S3Place {
  const [, scheme, bucket, path = ''] = /^(s3|oss):\/\/([^/?#@]+)(\/.*)?$/s.exec(address) ?? [];
  if (bucket === undefined || !/^[a-z0-9][a-z0-9._-]{1,254}$/i.test(bucket)) {
    throw new ServingError(
      'SRV_BAD_CONFIG',
      // What stands before an @ may be a password.
      `expected s3://bucket/path or oss://bucket/path, got ${JSON.stringify(address.replace(/\/\/.*@/s, '//***@'))}`,
    );
  }
  return scheme === 'oss' ? ossPlace(bucket, path, env) : awsPlace(bucket, path, env);
}

function awsPlace(bucket: string, path: string, env: Environment): S3Place {
  const region = env.AWS_REGION || env.AWS_DEFAULT_REGION || 'us-east-1';
  const own = env.AWS_ENDPOINT_URL_S3 || env.AWS_ENDPOINT_URL;
  const endpoint = endpointOf(
    own || `https://s3.${region}.amazonaws.com`,
    env.AWS_ENDPOINT_URL_S3 ? 'AWS_ENDPOINT_URL_S3' : 'AWS_ENDPOINT_URL',
  );
  const credentials = credentialsOf(env, 'AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', env.AWS_SESSION_TOKEN);
  return {
    label: `s3://${bucket}`,
    bucket,
    path,
    endpoint,
    region,
    // The certificate of AWS covers one label before its host.
    isVirtualHost: isVirtual(env, !own && !bucket.includes('.')),
    ...(credentials ? { credentials } : {}),
  };
}

function ossPlace(bucket: string, path: string, env: Environment): S3Place {
  const region = env.OSS_REGION || 'cn-hangzhou';
  const endpoint = endpointOf(env.OSS_ENDPOINT || `https://s3.oss-${region}.aliyuncs.com`, 'OSS_ENDPOINT');
  const credentials = credentialsOf(env, 'OSS_ACCESS_KEY_ID', 'OSS_ACCESS_KEY_SECRET', env.OSS_SESSION_TOKEN);
  return {
    label: `oss://${bucket}`,
    bucket,
    path,
    endpoint,
    region,
    isVirtualHost: isVirtual(env, /(^|\.)aliyuncs\.com$/.test(endpoint.hostname)),
    ...(credentials ? { credentials } : {}),
  };
}

function isVirtual(env: Environment, byDefault: boolean): boolean {
  const { ONNX_SERVING_S3_ADDRESSING: addressing = '' } = env;
  if (addressing === '') return byDefault;
  if (addressing === 'virtual' || addressing === 'path') return addressing === 'virtual';
  throw new ServingError(
    'SRV_BAD_CONFIG',
    `ONNX_SERVING_S3_ADDRESSING: expected virtual or path, got ${JSON.stringify(addressing)}`,
  );
}

function endpointOf(text: string, variable: string): URL {
  const full = /^[a-z]+:\/\//i.test(text) ? text : `https://${text}`;
  if (URL.canParse(full)) {
    const url = new URL(full);
    if (['http:', 'https:'].includes(url.protocol) && url.username === '' && url.search === '') return url;
  }
  throw new ServingError(
    'SRV_BAD_CONFIG',
    `${variable}: expected an address such as https://host:port, without a user or a query`,
  );
}

function credentialsOf(
  env: Environment,
  idName: string,
  secretName: string,
  sessionToken: string | undefined,
): S3Credentials | undefined {
  const accessKeyId = env[idName] || undefined;
  const secretAccessKey = env[secretName] || undefined;
  if (accessKeyId === undefined && secretAccessKey === undefined) return undefined;
  if (accessKeyId === undefined || secretAccessKey === undefined) {
    const [given, lacking] = accessKeyId === undefined ? [secretName, idName] : [idName, secretName];
    throw new ServingError(
      'SRV_BAD_CONFIG',
      `${given} is set, but ${lacking} is not: both are needed to sign`,
    );
  }
  return { accessKeyId, secretAccessKey, ...(sessionToken ? { sessionToken } : {}) };
}
