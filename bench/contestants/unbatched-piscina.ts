/** One task a request to a Piscina pool of one worker: the worker hop without merging. */
import { fileURLToPath } from 'node:url';
import { Piscina } from 'piscina';
import { announce, contestantFront, decodeRequest, encodeReply } from './oip-front.js';

const pool = new Piscina<{ shape: readonly number[]; data: Float32Array }, Float32Array>({
  filename: fileURLToPath(new URL('./unbatched-worker.js', import.meta.url)),
  workerData: process.argv[2]!,
  minThreads: 1,
  maxThreads: 1,
});
const app = contestantFront();

app.post('/v2/models/mlp/infer', async (request, reply) => {
  const headerLength = request.headers['inference-header-content-length'] as string | undefined;
  const { shape, data, wantsBinary } = decodeRequest(request.body as Buffer, headerLength);
  const { headers, body } = encodeReply(await pool.run({ shape, data }), wantsBinary);
  return reply.headers(headers).send(body);
});

await announce(app);
