/** The thread of naive-reload: one session, which a load replaces; whatever comes meanwhile waits. */
import { parentPort } from 'node:worker_threads';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { engineOptions } from './engine-options.js';

/** What the thread is asked: to load a version, or to run a request. */
export interface WorkerTask {
  readonly id: number;
  readonly load?: { readonly version: number; readonly file: string };
  readonly run?: { readonly shape: readonly number[]; readonly data: Float32Array };
}

/** Its answer, and by which version. */
export interface WorkerReply {
  readonly id: number;
  readonly version: number;
  readonly rows?: Float32Array;
  readonly error?: string;
}

let session: InferenceSession | undefined;
let version = 0;
let last: Promise<unknown> = Promise.resolve();

parentPort!.on('message', (task: WorkerTask) => {
  // One after the other: a request belongs to one session, and that is not released under it.
  last = last.then(async () => {
    try {
      parentPort!.postMessage(await work(task));
    } catch (error) {
      parentPort!.postMessage({ id: task.id, version, error: String(error) } satisfies WorkerReply);
    }
  });
});

async function work({ id, load, run }: WorkerTask): Promise<WorkerReply> {
  if (load) {
    const before = session;
    session = await InferenceSession.create(load.file, engineOptions);
    version = load.version;
    await before?.release();
  }
  if (!run) return { id, version };
  const { y } = await session!.run({ x: new Tensor('float32', run.data, run.shape) });
  return { id, version, rows: y!.data as Float32Array };
}
