/** Writing a matrix of 32-bit floats as a NumPy `.npy` file, row after row. */
import { type FileHandle, open } from 'node:fs/promises';

/** An open `.npy` file that rows are appended to. */
export class NpyWriter {
  readonly #file: FileHandle;

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  /** Creates the file, which must not be there, with the header of a [rows, dim] matrix. */
  static async create(path: string, rows: number, dim: number): Promise<NpyWriter> {
    const file = await open(path, 'wx');
    await file.writeFile(npyHeader(rows, dim));
    return new NpyWriter(file);
  }

  /** Appends whole rows. The array must not change until this resolves. */
  async append(values: Float32Array): Promise<void> {
    await this.#file.writeFile(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

/** The header of format version 1.0: its length is a multiple of 64. */
export function npyHeader(rows: number, dim: number): Uint8Array {
  const text = `{'descr': '<f4', 'fortran_order': False, 'shape': (${rows}, ${dim}), }`;
  const length = Math.ceil((10 + text.length + 1) / 64) * 64;
  const header = Buffer.alloc(length, ' ');
  header.write('\x93NUMPY\x01\x00', 'latin1');
  header.writeUInt16LE(length - 10, 8);
  header.write(text, 10, 'latin1');
  header[length - 1] = 0x0a;
  return header;
}
