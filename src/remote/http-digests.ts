/** The digests of a file that HTTP has headers for. */
import type { IncomingHttpHeaders } from 'node:http';
import type { OfferedDigest } from './receive-file.js';

const byName: Readonly<Record<string, OfferedDigest['algorithm']>> = {
  'sha-256': 'sha256',
  'sha-512': 'sha512',
  sha: 'sha1',
  md5: 'md5',
};
const hexLengths: Readonly<Record<OfferedDigest['algorithm'], number>> = {
  md5: 32,
  sha1: 40,
  sha256: 64,
  sha512: 128,
};

/**
 * What `Repr-Digest` and `Content-Digest` (RFC 9530), `Digest` (RFC 3230) and `Content-MD5` say of a body that is sent
 * whole. An ETag is none: it may look like a digest and be something else. Algorithms that are not known, and values
 * that are no digest of that length, are passed over.
 */
export function offeredDigests(headers: IncomingHttpHeaders): readonly OfferedDigest[] {
  const digests: OfferedDigest[] = [];
  const add = (header: string, algorithm: OfferedDigest['algorithm'] | undefined, base64: string): void => {
    if (!algorithm) return;
    const hex = Buffer.from(base64, 'base64').toString('hex');
    if (hex.length === hexLengths[algorithm])
      digests.push({ algorithm, hex, source: `the header ${header}` });
  };
  for (const header of ['Repr-Digest', 'Content-Digest', 'Digest']) {
    for (const member of textOf(headers[header.toLowerCase()]).split(',')) {
      const [, name, value] = /^\s*([\w-]+)\s*=\s*:?([A-Za-z0-9+/]+={0,2}):?\s*$/.exec(member) ?? [];
      if (name !== undefined && value !== undefined) add(header, byName[name.toLowerCase()], value);
    }
  }
  const md5 = textOf(headers['content-md5']);
  if (md5 !== '') add('Content-MD5', 'md5', md5);
  return digests;
}

function textOf(header: string | readonly string[] | undefined): string {
  return typeof header === 'string' ? header : (header ?? []).join(',');
}
