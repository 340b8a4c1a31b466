/**
 * Where a key goes: weighted rendezvous hashing. Every variant draws a time for the key, the sooner the larger its
 * weight, and the first one has it.
 *
 * Nothing is kept, so that servers side by side, and one before and after a restart, send a key to the same variant.
 * A draw depends on its own variant alone: raising one weight moves keys to that variant only, and as few as the new
 * shares ask for. Own code: packages hash strings into rings of points, whose shares are a few percent off.
 */

const low = 2 ** 32;

/** The first 53 bits of a hash of a text. */
export function hashText(text: string): number {
  let one = 0x9e3779b9;
  let two = 0x85ebca6b;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    one = Math.imul(one ^ unit, 0x01000193);
    one = (one << 13) | (one >>> 19);
    two = Math.imul(two ^ unit, 0x5bd1e995);
    two ^= two >>> 15;
  }
  return join(mix(one ^ text.length), mix(two ^ one));
}

/**
 * When a variant comes for a key; the least of all variants wins.
 *
 * @param key the hash of the key
 * @param variant the hash of the variant's name
 * @param weight above 0
 */
export function drawOf(key: number, variant: number, weight: number): number {
  const one = mix((key >>> 0) ^ (variant >>> 0));
  const two = mix(one ^ ((key / low) >>> 0) ^ Math.imul((variant / low) >>> 0, 0x27d4eb2f));
  // From 0 to 1, neither included: both have no logarithm to divide by.
  const uniform = (join(one, two) + 0.5) / 2 ** 53;
  return -Math.log(uniform) / weight;
}

function mix(bits: number): number {
  let mixed = bits;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}

function join(one: number, two: number): number {
  return (two >>> 11) * low + one;
}
