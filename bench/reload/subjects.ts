/** The models whose versions change under load: where their files lie and what they are asked. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { encodeBody } from '../../src/loadtest/request-body.js';
import { generateTensors } from '../../src/loadtest/request-tensors.js';
import { engineOptions } from '../contestants/engine-options.js';
import { answeredCtrRequests, ctrFiles } from '../ctr-subject.js';
import { denseBias, denseFile, denseInputs } from '../model-files.js';
import { type CheckedRequests, checkedRequests } from './checked-requests.js';
import { Publisher } from './publisher.js';

/** A model to be reloaded. */
export interface ReloadSubject {
  readonly requests: CheckedRequests;
  /** Makes the model's directory in a repository, without a version, and gives who publishes there. */
  publisherIn(repository: string): Promise<Publisher>;
}

/** The click model of examples/ctr with its table of a million rows, which all versions share. */
export async function ctrReloads(log: (line: string) => void): Promise<ReloadSubject> {
  const { table, modelFile } = await ctrFiles(1, log);
  const { bodies, answers } = await answeredCtrRequests();
  return {
    requests: checkedRequests('ctr', 'probability', bodies, answers),
    async publisherIn(repository) {
      const directory = join(repository, 'ctr');
      await mkdir(directory, { recursive: true });
      const embeddings = [{ table, ids: 'ids', slots: 26, target: 'embeddings' }];
      await writeFile(join(directory, 'model.json'), JSON.stringify({ embeddings }));
      return new Publisher({ directory, modelFile, bias: 'head_bias' });
    },
  };
}

/** A dense network of this width, one row a request. */
export async function denseReloads(name: string, width: number): Promise<ReloadSubject> {
  const modelFile = await denseFile(width);
  const inputs = [{ name: 'x', datatype: 'FP32', shape: [-1, denseInputs] }] as const;
  const tensors = generateTensors({ inputs }, { count: 64, rows: 1, shapes: {}, ranges: {}, seed: 11 });
  const session = await InferenceSession.create(modelFile, engineOptions);
  const bases: number[] = [];
  for (const { x } of tensors) {
    const { y } = await session.run({
      x: new Tensor('float32', x!.data as Float32Array, [1, denseInputs]),
    });
    bases.push(Number(y!.data[0]));
  }
  await session.release();
  const bodies = tensors.map((one) => encodeBody(one, 'json'));
  return {
    requests: checkedRequests(name, 'sum', bodies, bases),
    publisherIn: async (repository) =>
      new Publisher({ directory: join(repository, name), modelFile, bias: denseBias }),
  };
}
