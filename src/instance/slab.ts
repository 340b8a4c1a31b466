import { ServingError } from '../errors.js';
import { createSlab, externalBuffersAllowed, releaseSlab, viewSlab } from '../native/binding.js';

/** One batch's piece of a slab. Offsets are bytes from the start of the slab and multiples of 64. */
export interface Slot {
  readonly slab: number;
  readonly offset: number;
  readonly bytes: number;
  /** The whole slab, as this thread sees it. */
  readonly buffer: ArrayBufferLike;
}

/**
 * What slabs are made of: addon memory that the engine reads in place, or, where V8 forbids ArrayBuffers over foreign
 * memory (Electron), SharedArrayBuffers, out of which the worker copies, because the engine refuses them.
 */
export type SlabMemory = 'addon' | 'shared';

interface Slab {
  readonly id: number;
  readonly bytes: number;
  readonly buffer: ArrayBufferLike;
  /** Bytes handed out so far; slots are cut from the front and recycled by size. */
  cut: number;
  /** Slots in use. */
  used: number;
}

const smallestSlot = 4 * 1024;
const commonSlab = 16 * 1024 * 1024;

/**
 * Hands out slots of addon memory that every worker thread sees.
 *
 * Sizes are rounded up to a power of two, so that a slot given back fits the next batch of its model. Memory is
 * taken slab by slab and bounded; slabs that stand empty are released when the bound is met.
 */
export class SlotAllocator {
  readonly maxBytes: number;
  readonly #memory: SlabMemory;
  #bytes = 0;
  #sharedSlabs = 0;
  readonly #slabs = new Map<number, Slab>();
  readonly #free = new Map<number, Slot[]>();

  /**
   * @param options.maxBytes bound of all slabs together
   * @param options.memory what slabs are made of; absent: addon memory where the runtime allows it
   */
  constructor(options: { readonly maxBytes: number; readonly memory?: SlabMemory | undefined }) {
    this.maxBytes = options.maxBytes;
    this.#memory = options.memory ?? (externalBuffersAllowed() ? 'addon' : 'shared');
  }

  /** Bytes of all slabs. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Takes a slot of at least `bytes`; the caller owns it until `give`.
   *
   * @returns undefined when the memory is in use by others now and will come back
   * @throws SRV_OUT_OF_MEMORY when the bound is too small for this slot alone
   */
  take(bytes: number): Slot | undefined {
    const size = slotSize(bytes);
    if (size > this.maxBytes) {
      throw new ServingError(
        'SRV_OUT_OF_MEMORY',
        `a batch needs ${size} bytes of slab memory; max_slab_bytes is ${this.maxBytes}`,
      );
    }
    const recycled = this.#free.get(size)?.pop();
    if (recycled) {
      this.#slabs.get(recycled.slab)!.used += 1;
      return recycled;
    }
    for (const slab of this.#slabs.values()) {
      if (slab.bytes - slab.cut >= size) return this.#cut(slab, size);
    }
    const slab = this.#open(size);
    return slab && this.#cut(slab, size);
  }

  /** Gives a slot back. */
  give(slot: Slot): void {
    const slab = this.#slabs.get(slot.slab);
    if (!slab) return;
    slab.used -= 1;
    let list = this.#free.get(slot.bytes);
    if (!list) {
      list = [];
      this.#free.set(slot.bytes, list);
    }
    list.push(slot);
  }

  /** Releases every slab. Slots still in use stay valid for who holds their buffer. */
  close(): void {
    for (const slab of this.#slabs.values()) this.#release(slab);
    this.#slabs.clear();
    this.#free.clear();
    this.#bytes = 0;
  }

  #cut(slab: Slab, bytes: number): Slot {
    const slot = { slab: slab.id, offset: slab.cut, bytes, buffer: slab.buffer };
    slab.cut += bytes;
    slab.used += 1;
    return slot;
  }

  #open(size: number): Slab | undefined {
    let bytes = Math.max(size, Math.min(commonSlab, this.maxBytes - this.#bytes));
    if (this.#bytes + bytes > this.maxBytes) {
      this.#releaseEmpty();
      if (this.#bytes + size > this.maxBytes) return undefined;
      bytes = Math.max(size, Math.min(commonSlab, this.maxBytes - this.#bytes));
    }
    const slab = this.#make(bytes);
    this.#slabs.set(slab.id, slab);
    this.#bytes += bytes;
    return slab;
  }

  #make(bytes: number): Slab {
    if (this.#memory === 'shared') {
      this.#sharedSlabs += 1;
      return { id: this.#sharedSlabs, bytes, buffer: new SharedArrayBuffer(bytes), cut: 0, used: 0 };
    }
    const id = createSlab(bytes);
    return { id, bytes, buffer: viewSlab(id), cut: 0, used: 0 };
  }

  #releaseEmpty(): void {
    for (const slab of [...this.#slabs.values()]) {
      if (slab.used > 0) continue;
      for (const [size, slots] of this.#free) {
        this.#free.set(
          size,
          slots.filter((slot) => slot.slab !== slab.id),
        );
      }
      this.#slabs.delete(slab.id);
      this.#bytes -= slab.bytes;
      this.#release(slab);
    }
  }

  #release(slab: Slab): void {
    if (this.#memory === 'addon') releaseSlab(slab.id);
  }
}

function slotSize(bytes: number): number {
  let size = smallestSlot;
  while (size < bytes) size *= 2;
  return size;
}
