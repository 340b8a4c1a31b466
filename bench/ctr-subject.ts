/** The click model of examples/ctr with tables of different sizes: its files, requests and right answers. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { modelFile, rowsFile } from '../examples/ctr/artefacts.js';
import { ImpressionStream, seeds } from '../examples/ctr/generator.js';
import { exampleOf, type ModelInput } from '../examples/ctr/model-input.js';
import { type Rows, unpackRows } from '../examples/ctr/rows-file.js';
import { type BodyProtocol, encodeBody, type RequestBody } from '../src/loadtest/request-body.js';
import { npyHeader } from '../src/model/split/npy-file.js';
import { engineOptions } from './contestants/engine-options.js';
import type { HttpSubject } from './http-rounds.js';
import { paths } from './paths.js';
import { askForOne, difference } from './reply-check.js';
import { made, sparseCache } from './sparse/tables.js';

/** Ids of the sample; a larger table has its rows again and again, so that answers stay the same. */
const sampleIds = 1_000_001;
/** Enough of them that their rows are not all in the cache of the processor. */
const requests = 8192;
const checkedRequests = 8;

/** Files of the model with a table of some copies of the sample's rows. */
export interface CtrFiles {
  readonly copies: number;
  readonly rows: number;
  /** What `serve --model` takes. */
  readonly directory: string;
  readonly modelFile: string;
  readonly table: string;
  /** The rows as a NumPy file. */
  readonly rowsFile: string;
}

/** Makes the files where they are not there; 20 copies are 2.7 GB. */
export async function ctrFiles(copies: number, log: (line: string) => void): Promise<CtrFiles> {
  const npy = await made(join(sparseCache, `ctr-rows-x${copies}.npy`), (file) =>
    writeCopies(file, copies, log),
  );
  const table = join(sparseCache, `ctr-table-x${copies}`);
  if (!existsSync(join(table, '1'))) {
    log(`building a table of ${(copies * sampleIds) / 1e6} M rows`);
    await promisify(execFile)(process.execPath, [paths.cli, 'table', 'build', npy, '--output', table]);
  }
  const directory = join(sparseCache, `ctr-model-x${copies}`);
  await mkdir(directory, { recursive: true });
  await copyFile(modelFile, join(directory, 'model.onnx'));
  const embeddings = [{ table, ids: 'ids', slots: 26, target: 'embeddings' }];
  await writeFile(join(directory, 'model.json'), JSON.stringify({ name: 'ctr', embeddings }));
  return { copies, rows: copies * sampleIds, directory, modelFile, table, rowsFile: npy };
}

/** Requests of one row over all ids of a table, and the network's own answers to some of them. */
export async function ctrSubject(copies: number): Promise<HttpSubject> {
  const inputs = inputsOf(copies);
  const expected = await answersTo(inputs.slice(0, checkedRequests));
  const bodies = (protocol: BodyProtocol, count = requests): RequestBody[] =>
    inputs.slice(0, count).map((input) => encodeBody(tensorsOf(input), protocol));
  return {
    model: 'ctr',
    bodies,
    async check(url, protocol) {
      for (const [i, body] of bodies(protocol, checkedRequests).entries()) {
        const value = await askForOne(`${url}/v2/models/ctr/infer`, body, protocol, 'ctr');
        const wrong = typeof value === 'string' ? value : difference(value, expected[i]!);
        if (wrong) return `request ${i}: ${wrong}`;
      }
      return undefined;
    },
  };
}

/** Requests of the sample's table as JSON, and the network's own answer to each. */
export async function answeredCtrRequests(): Promise<{
  readonly bodies: readonly RequestBody[];
  readonly answers: readonly number[];
}> {
  const inputs = inputsOf(1);
  const bodies = inputs.map((input) => encodeBody(tensorsOf(input), 'json'));
  return { bodies, answers: await answersTo(inputs) };
}

function inputsOf(copies: number): ModelInput[] {
  const stream = new ImpressionStream(seeds.demo);
  return Array.from({ length: requests }, (_, request) => {
    const { ids, dense } = exampleOf(stream.next());
    // Another copy for each id, all of them in turn.
    return { ids: ids.map((id, slot) => id + sampleIds * ((request * ids.length + slot) % copies)), dense };
  });
}

function tensorsOf({ ids, dense }: ModelInput): Parameters<typeof encodeBody>[0] {
  return {
    ids: { datatype: 'INT64', shape: [1, ids.length], data: BigInt64Array.from(ids, BigInt) },
    dense: { datatype: 'FP32', shape: [1, dense.length], data: dense },
  };
}

async function answersTo(inputs: readonly ModelInput[]): Promise<number[]> {
  const { dim, values } = await sampleRows();
  const session = await InferenceSession.create(modelFile, engineOptions);
  const answers: number[] = [];
  for (const { ids, dense } of inputs) {
    const embeddings = new Float32Array(ids.length * dim);
    ids.forEach((id, slot) => {
      const at = (id % sampleIds) * dim;
      embeddings.set(values.subarray(at, at + dim), slot * dim);
    });
    const { ctr } = await session.run({
      embeddings: new Tensor('float32', embeddings, [1, ids.length, dim]),
      dense: new Tensor('float32', dense, [1, dense.length]),
    });
    answers.push(Number(ctr!.data[0]));
  }
  await session.release();
  return answers;
}

async function sampleRows(): Promise<Rows> {
  const rows = unpackRows(await readFile(rowsFile));
  if (rows.count !== sampleIds) throw new Error(`the sample has ${rows.count} rows; expected ${sampleIds}`);
  return rows;
}

/** The sample's rows some times over as a NumPy file, written piece by piece. */
async function writeCopies(path: string, copies: number, log: (line: string) => void): Promise<void> {
  log(`writing ${(copies * sampleIds) / 1e6} M rows of the click model`);
  const { count, dim, values } = await sampleRows();
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const file = await open(path, 'w');
  try {
    await file.write(npyHeader(copies * count, dim));
    for (let copy = 0; copy < copies; copy++) await file.write(bytes);
  } finally {
    await file.close();
  }
}
