/**
 * A server that reloads as one writes it first: Fastify, one worker thread that holds the session, and a new version
 * is loaded in that thread. Arguments: name of the model, directory of its versions.
 */
import { readdirSync, watch } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { WorkerReply, WorkerTask } from './naive-reload-worker.js';
import { announce, contestantFront } from './oip-front.js';

const pollMs = 1000;

const [model, directory] = process.argv.slice(2);
const worker = new Worker(fileURLToPath(new URL('./naive-reload-worker.js', import.meta.url)));
const waiting = new Map<number, { resolve(reply: WorkerReply): void; reject(error: Error): void }>();
let nextId = 0;
let asked = 0;
let ready = 0;

worker.on('message', (reply: WorkerReply) => {
  const task = waiting.get(reply.id);
  waiting.delete(reply.id);
  if (reply.error === undefined) task?.resolve(reply);
  else task?.reject(new Error(reply.error));
});

function ask(task: Omit<WorkerTask, 'id'>): Promise<WorkerReply> {
  return new Promise((resolve, reject) => {
    const id = nextId++;
    waiting.set(id, { resolve, reject });
    worker.postMessage({ ...task, id });
  });
}

/** Loads the newest version that is there, where it is not yet. */
async function look(): Promise<void> {
  const newest = Math.max(
    0,
    ...readdirSync(directory!)
      .filter((name) => /^\d+$/.test(name))
      .map(Number),
  );
  if (newest <= asked) return;
  asked = newest;
  await ask({ load: { version: newest, file: join(directory!, String(newest), 'model.onnx') } });
  ready = newest;
}

const app = contestantFront();

app.post(`/v2/models/${model}/infer`, async (request) => {
  const { inputs } = JSON.parse((request.body as Buffer).toString('utf8')) as {
    readonly inputs: readonly { readonly shape: readonly number[]; readonly data: readonly number[] }[];
  };
  const { shape, data } = inputs[0]!;
  const { version, rows } = await ask({ run: { shape, data: Float32Array.from(data) } });
  return {
    model_name: model,
    model_version: String(version),
    outputs: [{ name: 'y', datatype: 'FP32', shape: [rows!.length, 1], data: Array.from(rows!) }],
  };
});

app.get(`/v2/models/${model}/versions/:version/ready`, async (request, reply) => {
  const { version } = request.params as { readonly version: string };
  return reply.code(Number(version) === ready ? 200 : 503).send({ ready: Number(version) === ready });
});

const lookAndTell = (): void => {
  look().catch((error: unknown) => process.stderr.write(`${String(error)}\n`));
};
await look();
watch(directory!, lookAndTell);
setInterval(lookAndTell, pollMs);
await announce(app);
