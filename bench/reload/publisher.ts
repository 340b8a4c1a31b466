import { copyFile, mkdir, open, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ByteSource, fieldString, readFields } from '../../src/protobuf-wire.js';
import { shiftOf } from './known-answers.js';

/** Says that a version is whole. */
const marker = '_SUCCESS';
/** Old version directories that stay. */
const keptVersions = 2;

// Numbers of the fields of ONNX's messages.
const graphField = 7;
const initializerField = 5;
const nameField = 8;
const rawDataField = 9;

/** Where a version comes from. */
export interface PublisherOptions {
  /** Directory of the model's versions. */
  readonly directory: string;
  /** The network without a shift. */
  readonly modelFile: string;
  /** Name of the constant of one FP32 that is shifted. */
  readonly bias: string;
}

/** A version that has appeared. */
export interface Published {
  readonly version: number;
  /** When it was renamed, ms since 1970. */
  readonly renamedAt: number;
}

/** Publishes versions of a model as one would: written aside, in place by one rename. */
export class Publisher {
  readonly #options: PublisherOptions;
  readonly #biasAt: number;
  readonly #bias: number;
  /** The last version that was written, and the last that was published. */
  #staged = 0;
  #published = 0;

  constructor(options: PublisherOptions) {
    this.#options = options;
    const { at, value } = floatConstant(options.modelFile, options.bias);
    this.#biasAt = at;
    this.#bias = value;
  }

  /**
   * Writes the next versions aside, and removes those that were served long ago.
   *
   * @param isMarked whether they have the file that says that they are whole @default false
   */
  async stage(count: number, { isMarked = false } = {}): Promise<void> {
    const { directory } = this.#options;
    await mkdir(directory, { recursive: true });
    for (const name of await readdir(directory)) {
      if (/^\d+$/.test(name) && Number(name) <= this.#published - keptVersions) {
        await rm(join(directory, name), { recursive: true });
      }
    }
    for (let i = 0; i < count; i++) await this.#write(++this.#staged, isMarked);
  }

  /** Puts the next of the staged versions in place. */
  async publish(): Promise<Published> {
    if (this.#published === this.#staged) throw new Error('no version was staged');
    const version = ++this.#published;
    const renamedAt = Date.now();
    await rename(this.#aside(version), join(this.#options.directory, String(version)));
    return { version, renamedAt };
  }

  #aside(version: number): string {
    return join(this.#options.directory, `.staging-${version}`);
  }

  async #write(version: number, isMarked: boolean): Promise<void> {
    const directory = this.#aside(version);
    await mkdir(directory);
    const path = join(directory, 'model.onnx');
    await copyFile(this.#options.modelFile, path);
    const bytes = Buffer.alloc(4);
    bytes.writeFloatLE(this.#bias + shiftOf(version));
    const file = await open(path, 'r+');
    try {
      await file.write(bytes, 0, 4, this.#biasAt);
      // Else the disk is written while answers are timed.
      await file.sync();
    } finally {
      await file.close();
    }
    if (isMarked) await writeFile(join(directory, marker), '');
  }
}

/** Where in a model file a constant of one FP32 lies, and what it is. */
function floatConstant(path: string, name: string): { readonly at: number; readonly value: number } {
  const source = ByteSource.ofFile(path);
  try {
    for (const graph of readFields(source)) {
      if (graph.number !== graphField) continue;
      for (const tensor of readFields(source, graph.start, graph.end)) {
        if (tensor.number !== initializerField) continue;
        const fields = [...readFields(source, tensor.start, tensor.end)];
        const named = fields.find(({ number }) => number === nameField);
        if (!named || fieldString(source, named) !== name) continue;
        const data = fields.find(({ number }) => number === rawDataField);
        if (data?.end !== data!.start + 4) throw new Error(`${path}: ${name} is not one FP32`);
        return { at: data.start, value: Buffer.from(source.bytes(data.start, data.end)).readFloatLE() };
      }
    }
  } finally {
    source.close();
  }
  throw new Error(`${path} has no constant ${name}`);
}
