/** Takes the same bytes as a Buffer and answers a fixed reply: what Fastify alone costs. */
import { announce, contestantFront, encodeReply } from './oip-front.js';

const replies = {
  json: encodeReply(Float32Array.of(0.5), false),
  binary: encodeReply(Float32Array.of(0.5), true),
};
const app = contestantFront();

app.post('/v2/models/mlp/infer', async (request, reply) => {
  const isBinary = 'inference-header-content-length' in request.headers;
  const { headers, body } = replies[isBinary ? 'binary' : 'json'];
  return reply.headers(headers).send(body);
});

await announce(app);
