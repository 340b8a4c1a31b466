import { hashIds, idHashes } from '../native/tables.js';

/** How texts become keys; the same words as in the `hash` of an embedding stage. */
export interface HashKeysOptions {
  readonly function: Exclude<(typeof idHashes)[number], 'none'>;
  /** 64 bits for xxh64, 32 for murmur3; the others have none. @default 0n */
  readonly seed?: bigint;
  /** The key is the remainder by this number; of python2, which is signed, as Python has it. @default none */
  readonly modulus?: number;
}

/** The keys that an embedding stage makes of texts: to build the table it gathers from, or to gather without it. */
export function hashKeys(texts: readonly string[], options: HashKeysOptions): BigUint64Array {
  const { seed = 0n, modulus = 0 } = options;
  const keys = new BigUint64Array(texts.length);
  hashIds(texts, idHashes.indexOf(options.function), seed, modulus, -1, 1, keys);
  return keys;
}
