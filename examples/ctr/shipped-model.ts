/** The shipped files run in this process, without a server: what a server's answers are compared with. */
import { readFileSync } from 'node:fs';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { modelFile, rowsFile } from './artefacts.js';
import { denseColumns, slots } from './columns.js';
import type { ModelInput } from './model-input.js';
import { type Rows, unpackRows } from './rows-file.js';

const rowsPerRun = 1000;

/** The dense model in the engine, and the table in this process's memory. */
export class ShippedModel {
  readonly #session: InferenceSession;
  readonly #table: Rows;

  private constructor(session: InferenceSession, table: Rows) {
    this.#session = session;
    this.#table = table;
  }

  static async open(): Promise<ShippedModel> {
    const session = await InferenceSession.create(modelFile, { intraOpNumThreads: 1 });
    return new ShippedModel(session, unpackRows(readFileSync(rowsFile)));
  }

  /** The probability of a click for each row. */
  async predict(rows: readonly ModelInput[]): Promise<Float32Array> {
    const probabilities = new Float32Array(rows.length);
    for (let start = 0; start < rows.length; start += rowsPerRun) {
      probabilities.set(await this.#run(rows.slice(start, start + rowsPerRun)), start);
    }
    return probabilities;
  }

  async #run(rows: readonly ModelInput[]): Promise<Float32Array> {
    const { dim, values } = this.#table;
    const embeddings = new Float32Array(rows.length * slots * dim);
    const dense = new Float32Array(rows.length * denseColumns.length);
    rows.forEach((row, index) => {
      dense.set(row.dense, index * denseColumns.length);
      row.ids.forEach((id, slot) => {
        embeddings.set(values.subarray(id * dim, (id + 1) * dim), (index * slots + slot) * dim);
      });
    });
    const { ctr } = await this.#session.run({
      embeddings: new Tensor('float32', embeddings, [rows.length, slots, dim]),
      dense: new Tensor('float32', dense, [rows.length, denseColumns.length]),
    });
    return ctr!.data as Float32Array;
  }

  async close(): Promise<void> {
    await this.#session.release();
  }
}
