import { promisify } from 'node:util';
import { deflate, gzip } from 'node:zlib';

const deflaters = { gzip: promisify(gzip), deflate: promisify(deflate) };

/** Replies shorter than this many bytes are sent as they are: compressing them makes nobody faster. */
const minCompressBytes = 1024;

/** An encoding that replies may be sent in. */
export type ReplyEncoding = keyof typeof deflaters;

/**
 * The encoding that a client prefers, out of those we have; undefined for none.
 *
 * @param acceptEncoding the header as sent
 */
export function chooseEncoding(acceptEncoding: string | undefined): ReplyEncoding | undefined {
  if (acceptEncoding === undefined || acceptEncoding === '' || acceptEncoding === 'identity')
    return undefined;
  let best: ReplyEncoding | undefined;
  let bestWeight = 0;
  for (const part of acceptEncoding.toLowerCase().split(',')) {
    const [name, ...parameters] = part.split(';').map((piece) => piece.trim());
    const q = parameters.find((parameter) => parameter.startsWith('q='));
    const weight = q === undefined ? 1 : Number(q.slice(2));
    const encoding = name === '*' || name === 'x-gzip' ? 'gzip' : name;
    if ((encoding === 'gzip' || encoding === 'deflate') && weight > bestWeight) {
      best = encoding;
      bestWeight = weight;
    }
  }
  return best;
}

/** Whether a reply of this length is worth compressing. */
export function isWorthCompressing(bytes: number): boolean {
  return bytes >= minCompressBytes;
}

/** Compresses a reply. */
export async function compress(body: Buffer | string, encoding: ReplyEncoding): Promise<Buffer> {
  return (await deflaters[encoding](body, { level: 1 })) as Buffer;
}
