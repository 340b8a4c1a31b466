/**
 * AWS Signature Version 4 for S3: a request with the headers that prove who sends it.
 *
 * Own code rather than a library: a signature covers the path and the query as they are sent, so that one place must
 * encode both, and libraries decode and encode them again in ways of their own.
 */
import { createHash, createHmac } from 'node:crypto';

/** Who signs. */
export interface S3Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** Of temporary credentials. */
  readonly sessionToken?: string;
}

/** What is signed. */
export interface UnsignedRequest {
  readonly method: string;
  /** With the path as `encodeS3Path` and the query as `encodeS3Query` write them. */
  readonly url: URL;
  /** Names in lower case. All of them are signed, `host` too, which need not be given. */
  readonly headers: Readonly<Record<string, string>>;
  /** SHA-256 of the body in hex. */
  readonly bodySha256: string;
}

/** SHA-256 of nothing: the body of most requests. */
export const emptySha256 = createHash('sha256').digest('hex');

/**
 * The headers to send: those of the request, the time, the digest of the body, and the signature.
 *
 * @param at when it is sent; servers allow some minutes of difference
 */
export function signS3Request(
  request: UnsignedRequest,
  credentials: S3Credentials,
  { region, at, service = 's3' }: { readonly region: string; readonly at: Date; readonly service?: string },
): Record<string, string> {
  const time = at.toISOString().replaceAll(/[-:]|\.\d+/g, '');
  const day = time.slice(0, 8);
  const headers: Record<string, string> = {
    ...request.headers,
    host: request.url.host,
    'x-amz-content-sha256': request.bodySha256,
    'x-amz-date': time,
    ...(credentials.sessionToken === undefined ? {} : { 'x-amz-security-token': credentials.sessionToken }),
  };
  const names = Object.keys(headers).toSorted();
  const signedHeaders = names.join(';');
  const canonical = [
    request.method,
    request.url.pathname,
    request.url.search.slice(1),
    ...names.map((name) => `${name}:${headers[name]!.trim().replaceAll(/ +/g, ' ')}`),
    '',
    signedHeaders,
    request.bodySha256,
  ].join('\n');
  const scope = `${day}/${region}/${service}/aws4_request`;
  const text = ['AWS4-HMAC-SHA256', time, scope, createHash('sha256').update(canonical).digest('hex')].join(
    '\n',
  );
  const key = [day, region, service, 'aws4_request'].reduce<string | Buffer>(
    (secret, part) => createHmac('sha256', secret).update(part).digest(),
    `AWS4${credentials.secretAccessKey}`,
  );
  const signature = createHmac('sha256', key).update(text).digest('hex');
  const { accessKeyId } = credentials;
  headers.authorization = `AWS4-HMAC-SHA256 Credential=${accessKeyId}/${scope},SignedHeaders=${signedHeaders},Signature=${signature}`;
  return headers;
}

/** A key as the path of an address: everything but letters, digits and `-._~/` as %XX. */
export function encodeS3Path(key: string): string {
  return key.split('/').map(encodeAll).join('/');
}

/** A query in the order and the form that signatures ask for. */
export function encodeS3Query(query: Readonly<Record<string, string>>): string {
  return Object.entries(query)
    .map(([name, value]) => `${encodeAll(name)}=${encodeAll(value)}`)
    .toSorted()
    .join('&');
}

/** encodeURIComponent leaves `!'()*` as they are. */
function encodeAll(text: string): string {
  return encodeURIComponent(text).replaceAll(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}
