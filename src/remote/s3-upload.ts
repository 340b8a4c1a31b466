/** Objects into a bucket: small ones in one request, large ones in parts. */
import { createHash } from 'node:crypto';
import { ServingError } from '../errors.js';
import type { HttpBody } from './http-client.js';
import type { S3Client } from './s3-client.js';

/** What is uploaded. */
export interface S3Upload {
  readonly body: HttpBody;
  /** SHA-256 of the whole, in hex; kept with the object. */
  readonly sha256: string;
  /** Only if there is no such object yet. */
  readonly ifAbsent?: boolean;
  /** Only if the object has this ETag. */
  readonly ifEtag?: string;
  /** Bytes from which on it goes up in parts, and the size of a part. @default 64 MiB */
  readonly partBytes?: number;
  readonly signal?: AbortSignal | undefined;
}

const defaultPartBytes = 64 << 20;
/** S3's limit. */
const maxParts = 10_000;

/** Writes the object `key`. After a failure there is what was there before. */
export async function putS3Object(client: S3Client, key: string, upload: S3Upload): Promise<void> {
  const { body, sha256, signal } = upload;
  const partBytes = Math.max(upload.partBytes ?? defaultPartBytes, Math.ceil(body.bytes / maxParts));
  const conditions: Record<string, string> = {
    ...(upload.ifAbsent ? { 'if-none-match': '*' } : {}),
    ...(upload.ifEtag === undefined ? {} : { 'if-match': upload.ifEtag }),
  };
  if (body.bytes > partBytes) {
    await putInParts(client, key, upload, partBytes, conditions);
    return;
  }
  const reply = await client.send({
    method: 'PUT',
    key,
    headers: { ...conditions, 'x-amz-meta-sha256': sha256 },
    body: { ...body, chunks: () => body.chunks(), sha256 },
    signal,
  });
  reply.discard();
}

async function putInParts(
  client: S3Client,
  key: string,
  { body, sha256, signal }: S3Upload,
  partBytes: number,
  conditions: Readonly<Record<string, string>>,
): Promise<void> {
  const begun = await client.document(
    { method: 'POST', key, query: { uploads: '' }, headers: { 'x-amz-meta-sha256': sha256 }, signal },
    'InitiateMultipartUploadResult',
  );
  const uploadId = begun.child('UploadId')?.text ?? '';
  try {
    const etags: string[] = [];
    for await (const part of partsOf(body, partBytes)) {
      const reply = await client.send({
        method: 'PUT',
        key,
        query: { partNumber: String(etags.length + 1), uploadId },
        body: {
          bytes: part.byteLength,
          sha256: createHash('sha256').update(part).digest('hex'),
          chunks: async function* () {
            yield part;
          },
        },
        signal,
      });
      reply.discard();
      etags.push(reply.headers.etag ?? '');
    }
    const list = etags.map(
      (etag, index) => `<Part><PartNumber>${index + 1}</PartNumber><ETag>${escaped(etag)}</ETag></Part>`,
    );
    const bytes = Buffer.from(`<CompleteMultipartUpload>${list.join('')}</CompleteMultipartUpload>`);
    await client.document(
      {
        method: 'POST',
        key,
        query: { uploadId },
        headers: { ...conditions, 'content-type': 'application/xml' },
        body: {
          bytes: bytes.byteLength,
          sha256: createHash('sha256').update(bytes).digest('hex'),
          chunks: async function* () {
            yield bytes;
          },
        },
        signal,
      },
      'CompleteMultipartUploadResult',
    );
  } catch (error) {
    await giveUp(client, key, uploadId);
    throw error;
  }
}

/** Parts that nobody completes would be paid for until a rule of the bucket removes them. */
async function giveUp(client: S3Client, key: string, uploadId: string): Promise<void> {
  try {
    const reply = await client.send({ method: 'DELETE', key, query: { uploadId }, alsoFine: [404] });
    reply.discard();
  } catch (error) {
    // The failure that led here is the one to tell.
    if (!(error instanceof ServingError)) throw error;
  }
}

/** A body in pieces of `partBytes`, the last one smaller. */
async function* partsOf(body: HttpBody, partBytes: number): AsyncGenerator<Uint8Array> {
  let part = Buffer.allocUnsafe(Math.min(partBytes, body.bytes));
  let filled = 0;
  let left = body.bytes;
  for await (const chunk of body.chunks()) {
    for (let at = 0; at < chunk.byteLength; ) {
      const taken = Math.min(part.byteLength - filled, chunk.byteLength - at);
      if (taken === 0) break;
      part.set(chunk.subarray(at, at + taken), filled);
      at += taken;
      filled += taken;
      if (filled < part.byteLength) continue;
      yield part;
      left -= filled;
      // A new one: the part before may still be on its way.
      part = Buffer.allocUnsafe(Math.min(partBytes, left));
      filled = 0;
    }
  }
  if (left > 0 || filled > 0) {
    throw new ServingError(
      'SRV_IO',
      `expected ${body.bytes} bytes to upload, read ${body.bytes - left + filled}.`,
    );
  }
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
}
