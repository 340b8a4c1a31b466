/** What one writes first: decode on the main thread, `session.run` on the main thread, encode. */
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { engineOptions } from './engine-options.js';
import { announce, contestantFront, decodeRequest, encodeReply } from './oip-front.js';

const session = await InferenceSession.create(process.argv[2]!, engineOptions);
const app = contestantFront();

app.post('/v2/models/mlp/infer', async (request, reply) => {
  const headerLength = request.headers['inference-header-content-length'] as string | undefined;
  const { shape, data, wantsBinary } = decodeRequest(request.body as Buffer, headerLength);
  const { y } = await session.run({ x: new Tensor('float32', data, shape) });
  const { headers, body } = encodeReply(y!.data as Float32Array, wantsBinary);
  return reply.headers(headers).send(body);
});

await announce(app);
