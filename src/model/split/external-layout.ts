import { type FileHandle, open } from 'node:fs/promises';
import { externalPath, placeOfTensor, tensorBytes } from './tensor-rows.js';
import type { WireTensor } from './wire-graph.js';
import { copySpan } from './wire-patch.js';

/** Large tensors start at a page, so that engines can map them. */
const pageBytes = 4096;
const smallAlignment = 64;
const largeTensorBytes = 65_536;

/** The tensors of a new file of external data: what comes from where, one behind the other. */
export class ExternalLayout {
  readonly #modelFile: string;
  readonly #places = new Map<string, { file: string; start: number; offset: number; length: number }>();
  #end = 0;

  constructor(modelFile: string) {
    this.#modelFile = modelFile;
  }

  /** Where a tensor will lie. Tensors that share a place go on sharing it. */
  place(tensor: WireTensor): { offset: number; length: number } {
    const { location, offset } = tensor.external!;
    const bytes = tensorBytes(tensor);
    // Types of less than a byte have no size here: what the file says is taken.
    const length = bytes > 0 ? bytes : (tensor.external?.length ?? 0);
    const file = externalPath(this.#modelFile, tensor.name, location);
    const key = `${location}\0${offset}\0${length}`;
    const known = this.#places.get(key);
    if (known) return known;
    if (bytes > 0) placeOfTensor(this.#modelFile, tensor);
    const alignment = length >= largeTensorBytes ? pageBytes : smallAlignment;
    const at = Math.ceil(this.#end / alignment) * alignment;
    const made = { file, start: offset, offset: at, length };
    this.#places.set(key, made);
    this.#end = at + length;
    return made;
  }

  /** Writes the file; none where nothing has been placed. */
  async write(path: string, signal?: AbortSignal): Promise<void> {
    if (this.#places.size === 0) return;
    const target = await open(path, 'wx');
    let from: { file: string; handle: FileHandle } | undefined;
    try {
      let written = 0;
      for (const { file, start, offset, length } of this.#places.values()) {
        if (offset > written) await target.writeFile(new Uint8Array(offset - written));
        if (from?.file !== file) {
          await from?.handle.close();
          from = undefined;
          from = { file, handle: await open(file, 'r') };
        }
        await copySpan(from.handle, { start, end: start + length }, target, signal);
        written = offset + length;
      }
      await target.sync();
    } finally {
      await from?.handle.close();
      await target.close();
    }
  }
}
