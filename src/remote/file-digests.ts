/** Digests in files: what `sha256sum` and `md5sum` print, beside a file or in a list. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { messageOf, ServingError } from '../errors.js';
import { throwIfAborted } from './abort.js';
import type { OfferedDigest } from './receive-file.js';

type Algorithm = OfferedDigest['algorithm'];

/** A digest and the file that it is of. */
export interface NamedDigest extends OfferedDigest {
  /** As the list has it: a path relative to the list. */
  readonly name: string;
}

/** The endings of files that hold the digest of the file which they are named after, best first. */
export const digestEndings = ['.sha256', '.sha512', '.sha1', '.md5'] as const;

const listNames = ['SHA256SUMS', 'SHA512SUMS', 'SHA1SUMS', 'MD5SUMS'];
/** A list of digests is text of this size at most. */
export const maxDigestBytes = 1 << 20;

const algorithmOfLength: Readonly<Record<number, Algorithm>> = {
  32: 'md5',
  40: 'sha1',
  64: 'sha256',
  128: 'sha512',
};

/**
 * The lines of a text that name a file with its digest, as `sha256sum` (`hex  name`) or `sha256sum --tag`
 * (`SHA256 (name) = hex`) prints them. Other lines are passed over: a done file may hold anything.
 *
 * @param source who says so, for messages
 */
export function parseDigestLines(text: string, source: string): readonly NamedDigest[] {
  return text.split(/\r?\n/).flatMap((line) => {
    const [, plainHex, plainName] = /^([\da-f]{32,128}) [ *](.+)$/i.exec(line) ?? [];
    const [, , taggedName, taggedHex] = /^([A-Z\d]+) \((.+)\) = ([\da-f]{32,128})$/i.exec(line) ?? [];
    const hex = (plainHex ?? taggedHex)?.toLowerCase();
    const name = plainName ?? taggedName;
    const algorithm = hex === undefined ? undefined : algorithmOfLength[hex.length];
    if (hex === undefined || name === undefined || algorithm === undefined) return [];
    return [{ algorithm, hex, source, name: name.replace(/^(\.\/)+/, '') }];
  });
}

/**
 * The digest in a file beside the file `name`: its first word.
 *
 * @throws SRV_REMOTE_DAMAGED where that is none
 */
export function parseDigestFile(text: string, name: string, ending: string): NamedDigest {
  const [tagged] = parseDigestLines(text, `${name}${ending}`);
  const hex = tagged?.hex ?? /^\s*([\da-f]+)\b/i.exec(text)?.[1]?.toLowerCase() ?? '';
  const algorithm = algorithmOfLength[hex.length];
  if (algorithm !== ending.slice(1)) {
    throw new ServingError(
      'SRV_REMOTE_DAMAGED',
      `${name}${ending}: expected a digest in hexadecimal as its first word, got ${JSON.stringify(text.slice(0, 80))}.`,
    );
  }
  return { algorithm: algorithm as Algorithm, hex, name, source: `${name}${ending}` };
}

/**
 * Compares a file of this machine with digests.
 *
 * @param label how messages call it
 * @throws SRV_REMOTE_DAMAGED when one differs
 */
export async function verifyFile(
  file: string,
  digests: readonly OfferedDigest[],
  label: string,
  options: VerifyOptions = {},
): Promise<void> {
  if (digests.length === 0) return;
  const hashes = digests.map((digest) => ({ digest, hash: createHash(digest.algorithm) }));
  try {
    for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) {
      throwIfAborted(options.signal);
      options.onBytes?.();
      for (const { hash } of hashes) hash.update(chunk as Buffer);
    }
  } catch (cause) {
    if (cause instanceof ServingError) throw cause;
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') {
      throw new ServingError('SRV_IO', `${file} cannot be read: ${messageOf(cause)}.`, { cause });
    }
    throw new ServingError(
      'SRV_REMOTE_DAMAGED',
      `${label}: ${digests[0]?.source} names it, but it is not there.`,
    );
  }
  for (const { digest, hash } of hashes) {
    const hex = hash.digest('hex');
    if (hex === digest.hex) continue;
    throw new ServingError(
      'SRV_REMOTE_DAMAGED',
      `${label}: ${digest.source} says ${digest.algorithm} ${digest.hex}, but the bytes have ${hex}.`,
    );
  }
}

/** Options of `verifyFile` and `verifyDirectory`. */
export interface VerifyOptions {
  readonly signal?: AbortSignal;
  /** Called now and then while bytes are read. */
  readonly onBytes?: () => void;
}

/**
 * Compares the files of a directory with the digests that lie in it: beside files (`model.onnx.sha256`), and in
 * `SHA256SUMS` and the like at its top. Resolves to the number of digests that were compared.
 *
 * @throws SRV_REMOTE_DAMAGED when one differs, or the file that it is of is missing
 */
export async function verifyDirectory(
  directory: string,
  label: string,
  options: VerifyOptions = {},
): Promise<number> {
  const names = await readdir(directory, { recursive: true, withFileTypes: true });
  const files = names
    .filter((entry) => entry.isFile())
    .map((entry) => relative(directory, join(entry.parentPath, entry.name)));
  let compared = 0;
  for (const file of files) {
    const digests = await digestsIn(directory, file, new Set(files), label);
    for (const digest of digests) {
      const of = join(dirname(file), digest.name);
      if (of.startsWith('..')) {
        throw new ServingError('SRV_REMOTE_DAMAGED', `${label}/${file}: ${digest.name} is outside of it.`);
      }
      await verifyFile(join(directory, of), [digest], `${label}/${of}`, options);
      compared += 1;
    }
  }
  return compared;
}

async function digestsIn(
  directory: string,
  file: string,
  files: ReadonlySet<string>,
  label: string,
): Promise<readonly NamedDigest[]> {
  const text = (): Promise<string> => readFile(join(directory, file), 'utf8');
  if (listNames.includes(file)) return parseDigestLines(await text(), `${label}/${file}`);
  const ending = digestEndings.find((one) => file.endsWith(one));
  if (ending === undefined || !files.has(file.slice(0, -ending.length))) return [];
  return [parseDigestFile(await text(), basename(file, ending), ending)];
}
